//! The rules of the house, as tables and as functions that return what breaks them.
//!
//! The layers are those of docs/ARCHITECTURE.md. A rule never fixes or prints anything.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::{self, Declared, Facts};

/// Lines of a file with its tests: what can be proofread in one sitting.
const FILE_LINES_MAX: usize = 500;

/// Lines of a function from its name to its closing brace: a screen.
const FUNCTION_LINES_MAX: usize = 70;

/// Every module at the top, and its layer: it may use what is below.
const LAYERS: [&[&str]; 6] = [
    &["record", "batch", "shutdown", "turn", "blas", "wide"],
    &["decode", "preprocess", "sae", "score", "threshold"],
    &["model", "train", "alert"],
    &["source", "sink", "history", "journal", "registry", "schema_registry", "kafka"],
    &["pipeline", "admin", "telemetry"],
    &["config", "app", "cli", "main"],
];

/// Who may use whom within one layer. In layer 5 everybody may.
const SIDEWAYS: [(&str, &str); 9] = [
    ("batch", "record"), // a row knows where its record stands
    ("train", "model"),  // a round makes a model
    ("source", "kafka"), // shared client settings, as for the next three
    ("sink", "kafka"),
    ("history", "kafka"),
    ("journal", "kafka"),
    ("registry", "kafka"),
    ("pipeline", "telemetry"), // who works, counts
    ("admin", "telemetry"),    // and who shows, reads
];

/// Downward edges that are forbidden all the same: layer 4 knows its parts by their traits.
const NEVER: [(&str, &str); 3] = [("pipeline", "kafka"), ("admin", "kafka"), ("telemetry", "kafka")];

/// What layers 0 to 2 never touch: I/O, clocks, threads, logs, metrics, Kafka, chance; with the files that may.
const PURE: [(&str, &[&str]); 19] = [
    ("std::time::Instant", &["src/shutdown.rs"]), // a sleep with a deadline is what the token is for
    ("std::time::SystemTime", &[]),
    ("std::thread", &["src/turn.rs"]),       // it gives its turn away, and starts none
    ("std::fs", &["src/model/artifact.rs"]), // a model is stored as files; its bytes are made elsewhere
    ("std::net", &[]),
    ("std::env", &[]),
    ("std::process", &["src/model/artifact.rs"]), // its temporary folders bear the process id
    ("std::io::stdin", &[]),
    ("std::io::stdout", &[]),
    ("std::io::stderr", &[]),
    ("tracing", &[]),
    ("prometheus", &[]),
    ("tokio", &[]),
    ("rdkafka", &[]),
    ("rand::rng", &[]),
    ("rand::random", &[]),
    ("jiff::Timestamp::now", &[]),
    ("jiff::Zoned::now", &[]),
    ("indicatif", &[]),
];

/// What starts a thread.
const SPAWNING: [&str; 3] = ["std::thread::spawn", "std::thread::Builder", "std::thread::scope"];

/// Macros that mean unfinished work.
const UNFINISHED: [&str; 3] = ["todo", "unimplemented", "dbg"];

/// A file of the package.
#[derive(Clone, Debug)]
pub struct Source {
    /// Path from the package's root, with `/`.
    pub path: String,
    /// What is in it.
    pub text: String,
}

impl Source {
    /// The file's module path below the crate's root, `["decode", "json"]`; nothing for `lib.rs` and outside `src`.
    fn module(&self) -> Vec<&str> {
        let Some(inner) = self.path.strip_prefix("src/") else { return Vec::new() };
        let inner = inner.strip_suffix(".rs").unwrap_or(inner);
        let inner = inner.strip_suffix("/mod").unwrap_or(inner);
        if inner == "lib" { Vec::new() } else { inner.split('/').collect() }
    }
}

/// Returns what breaks the rules in these files, one line each.
pub fn broken(sources: &[Source]) -> Vec<String> {
    let mut broken = Vec::new();
    let tests = test_files(sources);
    let mut declared = BTreeSet::new();
    for source in sources {
        let is_test = !source.path.starts_with("src/") || tests.contains(&source.path);
        match facts::read(&source.text, &source.module(), is_test) {
            Ok(facts) => {
                broken.extend(broken_in(source, &facts));
                declared.extend(facts.modules.iter().flat_map(|module| module_files(&source.path, module)));
            }
            Err(error) => broken.push(format!("{}: can't be read: {error}", source.path)),
        }
    }
    for Source { path, .. } in sources.iter().filter(|source| source.path.starts_with("src/")) {
        if !["src/lib.rs", "src/main.rs"].contains(&path.as_str()) && !declared.contains(path) {
            broken.push(format!("{path}: no module declares it"));
        }
    }
    broken
}

/// The files of modules that are declared under `#[cfg(test)]`.
fn test_files(sources: &[Source]) -> BTreeSet<String> {
    let files = |source: &Source| {
        let facts = facts::read(&source.text, &source.module(), false).unwrap_or_default();
        let tests = facts.modules.into_iter().filter(|module| module.is_test);
        tests.flat_map(|module| module_files(&source.path, &module)).collect::<Vec<_>>()
    };
    sources.iter().flat_map(files).collect()
}

/// The places where `mod name;` in this file may lead.
fn module_files(path: &str, Declared { name, path: explicit, .. }: &Declared) -> Vec<String> {
    let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
    if let Some(explicit) = explicit {
        return vec![format!("{folder}/{explicit}")];
    }
    let folder = match file {
        "mod.rs" | "lib.rs" | "main.rs" => folder.to_owned(),
        other => format!("{folder}/{}", other.trim_end_matches(".rs")),
    };
    vec![format!("{folder}/{name}.rs"), format!("{folder}/{name}/mod.rs")]
}

fn broken_in(source: &Source, facts: &Facts) -> Vec<String> {
    let Source { path, text } = source;
    let mut broken = Vec::new();
    if !text.starts_with("//!") {
        broken.push(format!("{path}:1: a file opens with //! and says what it is for"));
    }
    let n_lines = text.lines().count();
    if n_lines > FILE_LINES_MAX {
        broken.push(format!("{path}: {n_lines} lines, {FILE_LINES_MAX} are the wall"));
    }
    for (function, n_lines) in facts.functions.iter().filter(|(_, n_lines)| *n_lines > FUNCTION_LINES_MAX) {
        let (name, line) = (&function.name, function.line);
        broken.push(format!("{path}:{line}: fn {name} has {n_lines} lines, {FUNCTION_LINES_MAX} fit a screen"));
    }
    broken.extend(facts.unwraps.iter().map(|line| format!("{path}:{line}: unwrap outside tests: say why with expect")));
    for call in facts.macros.iter().filter(|call| UNFINISHED.contains(&call.name.as_str())) {
        broken.push(format!("{path}:{}: {}! is unfinished work", call.line, call.name));
    }
    if let Some(&module) = source.module().first() {
        broken.extend(broken_edges(path, module, facts));
        broken.extend(broken_bans(path, module, facts));
    }
    broken
}

/// Edges between the modules at the top that the table of layers doesn't have.
fn broken_edges(path: &str, module: &str, facts: &Facts) -> Vec<String> {
    let layers = layers();
    let Some(&layer) = layers.get(module) else {
        return vec![format!("{path}: module {module} has no layer in tests/architecture/rules.rs")];
    };
    let mut broken = Vec::new();
    for named in &facts.paths {
        let Some(used) = named.name.strip_prefix("crate::").and_then(|rest| rest.split("::").next()) else { continue };
        // What isn't a module is something that lib.rs itself holds, which no layer forbids.
        let Some(&used_layer) = layers.get(used) else { continue };
        let sideways = used_layer == layer && (layer == 5 || SIDEWAYS.contains(&(module, used)));
        let downward = used_layer < layer && !NEVER.contains(&(module, used));
        if used != module && !sideways && !downward {
            let line = named.line;
            broken.push(format!("{path}:{line}: {module} (layer {layer}) may not use {used} (layer {used_layer})"));
        }
    }
    broken.dedup();
    broken
}

/// Names that have their places, found elsewhere.
fn broken_bans(path: &str, module: &str, facts: &Facts) -> Vec<String> {
    let layer = layers().get(module).copied().unwrap_or(5);
    let is_demo = path == "src/cli/demo.rs" || path.starts_with("src/cli/demo/");
    let mut broken = Vec::new();
    for named in &facts.paths {
        let mut ban = |why: &str| broken.push(format!("{path}:{}: {} {why}", named.line, named.name));
        let pure = PURE.iter().find(|(banned, files)| is_within(&named.name, banned) && !files.contains(&path));
        if layer <= 2 && pure.is_some() {
            ban(&format!("in layer {layer}: what it gives comes as an argument"));
        }
        if is_within(&named.name, "rdkafka") && !is_demo && !speaks_kafka(path) {
            ban("outside kafka.rs and the files kafka and topic");
        }
        let spawns = SPAWNING.iter().any(|name| is_within(&named.name, name));
        if spawns && !is_demo && !["app", "pipeline"].contains(&module) {
            ban("outside app and pipeline, which alone start threads");
        }
    }
    broken.dedup();
    broken
}

/// Whether a file is one that knows Kafka: `kafka.rs`, or `kafka` or `topic` in a family.
fn speaks_kafka(path: &str) -> bool {
    let mut parts = path.trim_end_matches(".rs").split('/').skip(1);
    let family = parts.next().unwrap_or_default();
    family == "kafka"
        || LAYERS[3].contains(&family) && parts.next().is_some_and(|file| file == "kafka" || file == "topic")
}

/// Whether a path is `banned` or below it, or brings it in with a `*`.
fn is_within(path: &str, banned: &str) -> bool {
    let below = path.strip_prefix(banned).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    let all = path.strip_suffix('*').is_some_and(|above| !above.is_empty() && banned.starts_with(above));
    below || all
}

fn layers() -> BTreeMap<&'static str, usize> {
    let pairs = LAYERS.iter().enumerate().flat_map(|(layer, modules)| modules.iter().map(move |m| (*m, layer)));
    pairs.collect()
}
