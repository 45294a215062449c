//! Loads what is shipped beside the program (unit, manifest, scrape) and holds it to the program. Rules and dashboards
//! have files of their own: alerts.rs, dashboards.rs.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use strayd::admin;
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
    for command in unit("ExecStart").into_iter().chain(unit("ExecStartPre")) {
        let words: Vec<&str> = command.split(' ').collect();
        let output = Command::new(env!("CARGO_BIN_EXE_strayd")).args([words[1], "--help"]).output().expect("it starts");
        assert!(output.status.success() && words[2..] == ["--config", "/etc/strayd/strayd.toml"], "{command}");
    }
}

#[test]
fn systemd_accepts_the_unit() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    // The program is looked for, so it is the built one here.
    let here = read("systemd/strayd.service").replace("/usr/bin/strayd", env!("CARGO_BIN_EXE_strayd"));
    let file = dir.path().join("strayd.service");
    fs::write(&file, here).expect("written");
    let file = file.display().to_string();
    let Some(verified) = tool("systemd-analyze", &["verify", "--man=no", &file]) else { return };
    assert_content(&verified);
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    assert!(!said.contains("strayd.service:"), "{said}");
    let security = tool("systemd-analyze", &["security", "--offline=yes", "--no-pager", "--threshold=15", &file]);
    assert_content(&security.expect("it was there a moment ago"));
}

#[test]
fn the_manifest_configures_the_daemon() {
    let documents = yaml("deploy/kubernetes/strayd.yaml");
    let toml = documents[0]["data"]["strayd.toml"].as_str().expect("the configuration");
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("strayd.toml");
    fs::write(&file, toml).expect("written");
    let pod = &documents[1]["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let environment: Vec<(String, String)> = container["env"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| (one["name"].as_str().unwrap().to_owned(), one["value"].as_str().expect("a text").to_owned()))
        .collect();
    let sources = Sources { file: Some(file), environment, overrides: vec![] };
    let config = Config::load(&sources).unwrap_or_else(|problems| panic!("{problems}"));

    assert!(!config.admin.listen.ip().is_loopback(), "probes come from outside");
    assert_eq!(container["ports"][0]["containerPort"], config.admin.listen.port());
    let port = &container["ports"][0]["name"];
    let probes = [("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")];
    for (probe, page) in probes {
        assert_eq!((&container[probe]["httpGet"]["path"], &container[probe]["httpGet"]["port"]), (&page.into(), port));
        assert!(admin::PAGES.contains(&page), "{page} is no page of the admin server");
    }
    let annotations = &documents[1]["spec"]["template"]["metadata"]["annotations"];
    assert_eq!(annotations["prometheus.io/port"], config.admin.listen.port().to_string());
    assert!(admin::PAGES.contains(&annotations["prometheus.io/path"].as_str().expect("a path")));
    let grace = Duration::from_secs(pod["terminationGracePeriodSeconds"].as_u64().expect("seconds"));
    assert!(grace > config.pipeline.shutdown_timeout + Duration::from_secs(10));

    let mounts = container["volumeMounts"].as_array().expect("a list");
    let mounted =
        |path: &Path| mounts.iter().any(|mount| path.starts_with(mount["mountPath"].as_str().expect("a path")));
    assert!(mounted(&config.registry.path), "the models must be on a volume, the root is read-only");
    let args: Vec<&str> = container["args"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    assert_eq!(args[..2], ["run", "--config"]);
    assert!(mounted(Path::new(args[2])) && args[2].ends_with("/strayd.toml"));
}

/// What the Pod Security Standard `restricted` asks for, and a little more.
#[test]
fn the_pod_is_restricted() {
    let documents = yaml("deploy/kubernetes/strayd.yaml");
    let pod = &documents[1]["spec"]["template"]["spec"];
    let container = &pod["containers"][0]["securityContext"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(container["allowPrivilegeEscalation"], false);
    assert_eq!(container["readOnlyRootFilesystem"], true);
    assert_eq!(container["capabilities"]["drop"][0], "ALL");
    for volume in pod["volumes"].as_array().expect("a list") {
        assert!(volume.get("configMap").is_some() || volume.get("emptyDir").is_some(), "{volume}");
    }
    let (selector, labels) = (&documents[1]["spec"]["selector"]["matchLabels"], &documents[1]["spec"]["template"]);
    for (key, value) in selector.as_object().expect("labels") {
        assert_eq!(&labels["metadata"]["labels"][key], value);
    }
    let image = pod["containers"][0]["image"].as_str().expect("an image");
    assert!(image.ends_with(concat!(":", env!("CARGO_PKG_VERSION"))), "{image} is not this version");
}

#[test]
fn prometheus_is_told_to_scrape_where_the_daemon_listens() {
    let scrape = &yaml("deploy/prometheus/prometheus.yml")[0]["scrape_configs"][0];
    assert_eq!(scrape["static_configs"][0]["targets"][0], defaults().admin.listen.to_string());
}
