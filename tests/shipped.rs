//! Loads what is shipped beside the program (units, scrape) and holds it to the program. Rules and dashboards have files
//! of their own: alerts.rs, dashboards.rs.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use strayd::config::{Config, Sources};

use support::skip;

fn path(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(file: &str) -> String {
    fs::read_to_string(path(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The documents of a YAML file.
fn yaml(file: &str) -> Vec<Value> {
    let text = read(file);
    let documents = serde_norway::Deserializer::from_str(&text);
    documents.map(|one| Value::deserialize(one).unwrap_or_else(|error| panic!("{file}: {error}"))).collect()
}

/// What a tool says, or nothing and a SKIPPED line where it isn't installed.
fn tool(program: &str, args: &[&str]) -> Option<Output> {
    let output = Command::new(program).args(args).output();
    if output.is_err() {
        skip(&format!("{program} is not installed"));
    }
    output.ok()
}

#[track_caller]
fn assert_content(output: &Output) {
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}

/// The values of a key of the unit.
fn unit(key: &str) -> Vec<String> {
    let text = read("systemd/strayd.service");
    let values = text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    values.map(str::to_owned).collect()
}

fn defaults() -> Config {
    let overrides = vec![("input.topic".to_owned(), "t".to_owned())];
    Config::load(&Sources { overrides, ..Sources::default() }).expect("the defaults are right")
}

#[test]
fn the_unit_gives_the_daemon_the_time_it_takes() {
    let seconds = |key: &str| humantime::parse_duration(&unit(key)[0]).expect("a time");
    assert!(seconds("TimeoutStopSec") > defaults().pipeline.shutdown_timeout + Duration::from_secs(10));
    assert!(seconds("WatchdogSec") < Duration::from_millis(strayd::telemetry::health::STUCK_AFTER_MS as u64));
    // READY comes with the first model, and that waits for its history.
    assert_eq!((unit("Type")[0].as_str(), unit("TimeoutStartSec")[0].as_str()), ("notify", "infinity"));
    assert_eq!(unit("StateDirectory"), ["strayd"]);
    assert_eq!(unit("ExecReload"), ["/bin/kill -HUP $MAINPID"]);
    for command in unit("ExecStart").into_iter().chain(unit("ExecStartPre")) {
        let words: Vec<&str> = command.split(' ').collect();
        let output = Command::new(env!("CARGO_BIN_EXE_strayd")).args([words[1], "--help"]).output().expect("it starts");
        assert!(output.status.success() && words[2..] == ["--config", "/etc/strayd/strayd.toml"], "{command}");
    }
}

#[test]
fn systemd_accepts_the_units() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    for (unit, instance) in [("strayd.service", "strayd.service"), ("strayd@.service", "strayd@pumps.service")] {
        // The program is looked for, so it is the built one here.
        let here = read(&format!("systemd/{unit}")).replace("/usr/bin/strayd", env!("CARGO_BIN_EXE_strayd"));
        let file = dir.path().join(instance);
        fs::write(&file, here).expect("written");
        let file = file.display().to_string();
        let Some(verified) = tool("systemd-analyze", &["verify", "--man=no", &file]) else { return };
        assert_content(&verified);
        let said = String::from_utf8_lossy(&verified.stderr).into_owned();
        assert!(!said.contains("strayd"), "{said}");
        let security = tool("systemd-analyze", &["security", "--offline=yes", "--no-pager", "--threshold=15", &file]);
        assert_content(&security.expect("it was there a moment ago"));
    }
}

#[test]
fn the_template_is_the_unit_with_names_of_its_own() {
    // Comments aside: what one unit does, every instance does.
    let lines = |file: &str| -> Vec<String> {
        let text = read(file);
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    };
    let mut expected: Vec<String> = lines("systemd/strayd.service")
        .into_iter()
        .map(|line| {
            let line = line.replace("/etc/strayd/strayd.toml", "/etc/strayd/%i.toml");
            let line = line.replace("StateDirectory=strayd", "StateDirectory=strayd-%i");
            let line = line.replace("%S/strayd", "%S/strayd-%i");
            if line.starts_with("Description=") { line + ": %i" } else { line }
        })
        .collect();
    let environment = expected.iter().position(|line| line.starts_with("EnvironmentFile=")).expect("there is a file");
    expected.insert(environment + 1, "EnvironmentFile=-/etc/default/strayd-%i".into());
    assert_eq!(lines("systemd/strayd@.service"), expected);
}

#[test]
fn the_environment_file_and_the_credentials_name_keys_that_there_are() {
    let text = [read("systemd/strayd.default"), read("systemd/credentials.conf")].concat();
    let lines = text.lines().map(|line| line.trim_start_matches('#').trim_start_matches("Environment="));
    let environment: Vec<(String, String)> = lines
        .filter_map(|line| line.starts_with("STRAYD__").then(|| line.split_once('=')).flatten())
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    assert_eq!(environment.len(), 6, "{environment:?}");
    let overrides = vec![("input.topic".to_owned(), "t".to_owned())];
    let loaded = Config::load(&Sources { environment, overrides, ..Sources::default() });
    // The secrets are not here, which is all that may be wrong.
    let problems = loaded.expect_err("there is no credential here");
    let keys: Vec<&str> = problems.0.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["kafka.security.password_file"], "{problems}");
}

#[test]
fn prometheus_is_told_to_scrape_where_the_daemon_listens() {
    let scrape = &yaml("deploy/prometheus/prometheus.yml")[0]["scrape_configs"][0];
    assert_eq!(scrape["static_configs"][0]["targets"][0], defaults().admin.listen.to_string());
}

#[test]
fn the_bill_of_materials_lists_what_is_linked() {
    let Some(output) = tool("python3", &[&path("deploy/sbom.py").display().to_string()]) else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let document: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&document["bomFormat"], &document["specVersion"]), (&"CycloneDX".into(), &"1.5".into()));
    assert_eq!(document["metadata"]["component"]["version"], env!("CARGO_PKG_VERSION"));
    let lock: toml::Table = toml::from_str(&read("Cargo.lock")).expect("TOML");
    let locked = lock["package"].as_array().expect("packages");
    let components = document["components"].as_array().expect("a list");
    for component in components {
        let is_it = |package: &&toml::Value| {
            let same = |key: &str| package[key].as_str() == component[key].as_str();
            same("name")
                && same("version")
                && package["checksum"].as_str() == component["hashes"][0]["content"].as_str()
        };
        assert!(locked.iter().any(|package| is_it(&package)), "Cargo.lock doesn't fix {component}");
        assert!(component["licenses"][0]["expression"].is_string(), "{component} has no licence");
        assert_eq!(component["bom-ref"], component["purl"]);
    }
    let names: Vec<&str> = components.iter().filter_map(|component| component["name"].as_str()).collect();
    let manifest: toml::Table = toml::from_str(&read("Cargo.toml")).expect("TOML");
    for name in manifest["dependencies"].as_table().expect("a table").keys() {
        assert!(names.contains(&name.as_str()), "{name} is linked");
    }
    for name in manifest["dev-dependencies"].as_table().expect("a table").keys() {
        assert!(!names.contains(&name.as_str()) || name == "proc-macro2", "{name} is only tested with");
    }
    for name in ["rdkafka-sys", "openssl-sys", "serde_core"] {
        assert!(names.contains(&name), "{name} is linked, though another crate asks for it");
    }
}
