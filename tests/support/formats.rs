//! A schema registry as a process, and records that confluent-kafka's own serialisers have written with it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::{free_port, python};

/// A schema registry in memory; it ends with this.
pub struct Registry {
    /// Where it listens.
    pub port: u16,
    child: Child,
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/formats").join(name)
}

impl Registry {
    /// Starts one on `port`, or on any, with further arguments; or nothing, and then the skip has been reported.
    pub fn start(port: Option<u16>, args: &[&str]) -> Option<Self> {
        let port = port.unwrap_or_else(free_port);
        let mut command = Command::new(python()?);
        command.arg(script("registry.py")).arg(port.to_string()).args(args);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("Python starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut line).expect("it says something");
        assert_eq!(line, "listening\n");
        Some(Self { port, child })
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = (self.child.kill(), self.child.wait());
    }
}

/// One record: its format, its payload, and the values that were put in.
pub struct Sample {
    /// Format.
    pub kind: String,
    /// Payload.
    pub payload: Vec<u8>,
    /// Values by name.
    pub values: Value,
}

/// Records written by confluent-kafka; `args` are the registry's address and credentials.
pub fn written(args: &[&str]) -> Vec<Sample> {
    let python = python().expect("it was there a moment ago");
    let output = Command::new(python).arg(script("write.py")).args(args).output().expect("Python starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let sample = |line: &str| {
        let document: Value = serde_json::from_str(line).expect("JSON");
        let hex = document["payload"].as_str().expect("digits");
        let byte = |i: usize| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).expect("digits");
        let kind = document["kind"].as_str().expect("a name").to_owned();
        Sample { kind, payload: (0..hex.len() / 2).map(byte).collect(), values: document["values"].clone() }
    };
    String::from_utf8(output.stdout).expect("text").lines().map(sample).collect()
}
