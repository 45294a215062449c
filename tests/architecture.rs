//! Holds the code to the plan in docs/ARCHITECTURE.md: layers, places, sizes and tidiness; and shows that each rule bites.

#[path = "architecture/facts.rs"]
mod facts;
#[path = "architecture/rules.rs"]
mod rules;

use std::fs;
use std::path::Path;

use rules::{Source, broken};

/// The rooms of the package.
const ROOMS: [&str; 6] = ["benches", "config", "deploy", "src", "systemd", "tests"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below a folder of the package, by its path from the root; what isn't text is left out.
fn files(folder: &str) -> Vec<Source> {
    let Ok(entries) = fs::read_dir(root().join(folder)) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.expect("the folder can be read");
        let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
        if entry.file_type().expect("the file has a type").is_dir() {
            found.extend(files(&path));
        } else if let Ok(text) = fs::read_to_string(entry.path()) {
            found.push(Source { path, text });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// What a single file of this content would break, apart from not being declared anywhere.
fn broken_by(path: &str, text: &str) -> Vec<String> {
    let source = Source { path: path.to_owned(), text: format!("//! A file.\n{text}") };
    broken(&[source]).into_iter().filter(|line| !line.ends_with("no module declares it")).collect()
}

#[track_caller]
fn assert_bites(path: &str, text: &str, expected: &str) {
    let found = broken_by(path, text);
    assert!(found.iter().any(|line| line.contains(expected)), "{path} with {text:?} gives {found:?}");
}

#[track_caller]
fn assert_passes(path: &str, text: &str) {
    assert_eq!(broken_by(path, text), [""; 0], "{path} with {text:?}");
}

#[test]
fn the_code_keeps_the_rules() {
    let code = ["src", "tests", "benches"].into_iter().flat_map(files);
    let code: Vec<Source> = code.filter(|source| source.path.ends_with(".rs")).collect();
    assert!(code.iter().any(|source| source.path == "src/lib.rs"));
    let broken = broken(&code);
    assert!(broken.is_empty(), "{} rules are broken:\n{}", broken.len(), broken.join("\n"));
}

#[test]
fn every_room_is_a_known_one() {
    let entries = fs::read_dir(root()).expect("the root can be read").map(|entry| entry.expect("an entry"));
    let folders = entries.filter(|entry| entry.file_type().expect("a type").is_dir());
    let names = folders.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let known = |name: &str| ROOMS.contains(&name) || name.starts_with('.') || ["docs", "target"].contains(&name);
    let strangers: Vec<String> = names.filter(|name| !known(name)).collect();
    assert!(strangers.is_empty(), "folders at the top that nobody planned: {strangers:?}");
}

#[test]
fn every_room_holds_something() {
    let empty: Vec<&str> = ROOMS.into_iter().filter(|room| files(room).is_empty()).collect();
    assert!(empty.is_empty(), "nothing in {empty:?}");
}

#[test]
fn a_file_opens_with_what_it_is_for() {
    let bare = Source { path: "src/record.rs".to_owned(), text: "struct A;\n".to_owned() };
    assert!(broken(&[bare])[0].contains("opens with //!"));
    assert_passes("src/record.rs", "struct A;\n");
}

#[test]
fn files_and_functions_have_their_walls() {
    assert_passes("src/record.rs", &"// line\n".repeat(499));
    assert_bites("src/record.rs", &"// line\n".repeat(500), "501 lines, 500 are the wall");
    let function = |n: usize| format!("fn long() {{\n{}}}\n", "    let _ = 1;\n".repeat(n - 2));
    assert_passes("src/record.rs", &function(70));
    assert_bites("src/record.rs", &function(71), "fn long has 71 lines");
    assert_bites("src/record.rs", &format!("struct A;\nimpl A {{\n{}}}\n", function(71)), "fn long has 71 lines");
    assert_bites("src/record.rs", &format!("trait A {{\n{}}}\n", function(71)), "fn long has 71 lines");
    assert_bites("tests/x.rs", &format!("#[test]\n{}", function(71)), "fn long has 71 lines");
}

#[test]
fn unwrap_is_for_tests() {
    assert_bites("src/record.rs", "fn a() { b().unwrap(); }\n", "src/record.rs:2: unwrap outside tests");
    assert_bites("src/record.rs", "fn a() { assert!(b().unwrap()); }\n", "unwrap outside tests");
    assert_passes("src/record.rs", "fn a() { b().unwrap_or(1); b().expect(\"a reason\"); }\n");
    assert_passes("src/record.rs", "#[cfg(test)]\nmod tests { fn a() { b().unwrap(); assert!(b().unwrap()); } }\n");
    assert_passes("src/record.rs", "#[test]\nfn a() { b().unwrap(); }\n");
    assert_bites("src/record.rs", "#[cfg(not(test))]\nfn a() { b().unwrap(); }\n", "unwrap outside tests");
    assert_passes("tests/x.rs", "fn a() { b().unwrap(); }\n");
}

#[test]
fn a_test_module_in_a_file_of_its_own_is_test_code() {
    let source = |path: &str, text: &str| Source { path: path.to_owned(), text: format!("//! A file.\n{text}") };
    let lib = source("src/lib.rs", "mod decode;\n");
    let tests = source("src/decode/json_tests.rs", "use crate::sink::Sink;\nfn a() { b().unwrap(); }\n");
    let family = |attribute| source("src/decode/mod.rs", &format!("{attribute}\nmod json_tests;\n"));
    assert_eq!(broken(&[lib.clone(), family("#[cfg(test)]"), tests.clone()]), [""; 0]);
    assert_eq!(broken(&[lib.clone(), family(""), tests.clone()]).len(), 2);
    let beside = source("src/decode/mod.rs", "#[cfg(test)]\n#[path = \"json_tests.rs\"]\nmod tests;\n");
    assert_eq!(broken(&[lib, beside, tests]), [""; 0]);
}

#[test]
fn a_file_is_declared_by_a_module() {
    let lost = Source { path: "src/decode/lost.rs".to_owned(), text: "//! A file.\n".to_owned() };
    assert_eq!(broken(&[lost]), ["src/decode/lost.rs: no module declares it"]);
}

#[test]
fn work_is_finished() {
    for call in ["todo!()", "unimplemented!(\"x\")", "dbg!(1)", "assert_eq!(1, dbg!(1))"] {
        assert_bites("src/record.rs", &format!("fn a() {{ {call}; }}\n"), "is unfinished work");
        assert_bites("tests/x.rs", &format!("fn a() {{ {call}; }}\n"), "is unfinished work");
    }
}

#[test]
fn nobody_imports_from_above() {
    assert_bites("src/decode/json.rs", "use crate::sink::Sink;\n", "decode (layer 1) may not use sink (layer 3)");
    assert_bites("src/decode/json.rs", "use crate::{record::RecordId, sink};\n", "may not use sink");
    assert_bites("src/decode/json.rs", "fn a(b: crate::sink::Sink) {}\n", "may not use sink");
    assert_bites("src/decode/json.rs", "use super::super::sink;\n", "may not use sink");
    assert_bites("src/decode/mod.rs", "use super::sink;\n", "may not use sink");
    assert_bites("src/decode/json.rs", "fn a() { assert!(crate::sink::is_open()); }\n", "may not use sink");
    assert_bites("src/model/cell.rs", "use crate::registry::Registry;\n", "may not use registry");
    assert_bites("src/sink/mod.rs", "use crate::telemetry::Lane;\n", "sink (layer 3) may not use telemetry (layer 4)");
    assert_bites("src/pipeline/lane.rs", "use crate::config::Config;\n", "may not use config");
    assert_bites("src/record.rs", "use crate::batch::Batch;\n", "record (layer 0) may not use batch (layer 0)");
    assert_passes("src/decode/json.rs", "use super::Decoder;\nuse crate::record::RecordId;\nuse crate::batch;\n");
    assert_passes("src/decode/json.rs", "#[cfg(test)]\nmod tests { use crate::sink::Sink; }\n");
    assert_passes("src/main.rs", "use strayd::cli;\nuse strayd::{app, sink::Sink};\n");
    assert_passes("src/pipeline/lane.rs", "use crate::{sink::Sink, telemetry::Lane, sae};\n");
}

#[test]
fn siblings_of_one_layer_keep_apart() {
    assert_bites("src/source/kafka.rs", "use crate::sink::Sink;\n", "source (layer 3) may not use sink (layer 3)");
    assert_bites("src/kafka.rs", "use crate::source::Source;\n", "kafka (layer 3) may not use source");
    assert_bites("src/score/mod.rs", "use crate::sae::Autoencoder;\n", "score (layer 1) may not use sae (layer 1)");
    assert_bites("src/model/mod.rs", "use crate::train::Round;\n", "model (layer 2) may not use train (layer 2)");
    assert_bites("src/telemetry/mod.rs", "use crate::pipeline::Lane;\n", "may not use pipeline");
    assert_bites("src/pipeline/lane.rs", "use crate::kafka::Settings;\n", "pipeline (layer 4) may not use kafka");
    assert_passes("src/source/kafka.rs", "use crate::kafka::{self, Settings};\n");
    assert_passes("src/train/mod.rs", "use crate::model::Model;\n");
    assert_passes("src/cli/run.rs", "use crate::app;\nuse crate::config::Config;\n");
}

#[test]
fn a_module_at_the_top_has_a_layer() {
    assert_bites("src/utils.rs", "struct A;\n", "module utils has no layer");
}

#[test]
fn the_pure_layers_touch_nothing() {
    for text in [
        "use std::time::Instant;\n",
        "use std::time::{Duration, SystemTime};\n",
        "use std::time::*;\n",
        "use std::{fs, io::Read};\n",
        "use std::thread;\n",
        "use std::time;\nfn a() { time::Instant::now(); }\n",
        "fn a() { std::env::var(\"A\"); }\n",
        "fn a() { tracing::info!(\"x\"); }\n",
        "use prometheus::Counter;\n",
        "use tokio::sync::mpsc;\n",
        "use rdkafka::Message;\n",
        "fn a() { rand::rng(); }\n",
        "use jiff::Timestamp;\nfn a() { Timestamp::now(); }\n",
    ] {
        assert_bites("src/train/gate.rs", text, "in layer 2: what it gives comes as an argument");
    }
    assert_passes("src/train/gate.rs", "use std::time::Duration;\nuse jiff::Timestamp;\nuse rand::Rng;\n");
    assert_passes("src/model/artifact.rs", "use std::fs;\n");
    assert_bites("src/model/bundle.rs", "use std::fs;\n", "std::fs in layer 2");
    assert_passes("src/pipeline/lane.rs", "use std::time::Instant;\nuse tracing::info;\n");
}

#[test]
fn kafka_is_spoken_in_its_places() {
    for path in ["src/source/mod.rs", "src/pipeline/lane.rs", "src/app.rs", "src/cli/run.rs", "src/admin/kafka.rs"] {
        assert_bites(path, "use rdkafka::ClientConfig;\n", "outside kafka.rs and the files kafka and topic");
    }
    for path in [
        "src/kafka.rs",
        "src/source/kafka.rs",
        "src/history/topic.rs",
        "src/source/kafka/rebalance.rs",
        "src/cli/demo/mod.rs",
    ] {
        assert_passes(path, "use rdkafka::ClientConfig;\n");
    }
}

#[test]
fn threads_start_in_two_places() {
    for text in [
        "fn a() { std::thread::spawn(b); }\n",
        "use std::thread;\nfn a() { thread::Builder::new(); }\n",
        "use std::thread::Builder as Maker;\nfn a() { Maker::new(); }\n",
        "fn a() { std::thread::scope(b); }\n",
    ] {
        assert_bites("src/admin/mod.rs", text, "outside app and pipeline");
        assert_passes("src/app.rs", text);
        assert_passes("src/pipeline/trainer.rs", text);
        assert_passes("src/cli/demo/mod.rs", text);
    }
    assert_passes("src/admin/mod.rs", "use std::thread::JoinHandle;\n");
}
