//! Loads everything that is shipped beside the program (units, dashboard, rules) and holds it to the program.

mod support;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use strayd::config::{Config, Sources};
use strayd::telemetry::Metrics;

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

fn panels() -> Vec<Value> {
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana/strayd.json")).expect("JSON");
    dashboard["panels"].as_array().expect("panels").iter().filter(|panel| panel["type"] != "row").cloned().collect()
}

fn rules() -> Vec<Value> {
    let file = &yaml("deploy/prometheus/strayd.rules.yml")[0];
    file["groups"]
        .as_array()
        .expect("groups")
        .iter()
        .flat_map(|group| group["rules"].as_array().expect("rules").clone())
        .collect()
}

fn expressions() -> Vec<String> {
    let of_panels = panels().into_iter().flat_map(|panel| panel["targets"].as_array().expect("targets").clone());
    let all = of_panels.chain(rules()).map(|one| one["expr"].as_str().expect("an expression").to_owned());
    all.collect()
}

/// The metrics that an expression names, histograms without their suffix.
fn metrics_of(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let histogram = |word: &str| {
        let stem = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| word.strip_suffix(suffix));
        stem.filter(|stem| Metrics::DECLARED.iter().any(|m| m.name == *stem && m.kind() == "histogram"))
            .map(str::to_owned)
    };
    words.filter(|w| w.starts_with("strayd_")).map(|w| histogram(w).unwrap_or_else(|| w.to_owned())).collect()
}

#[test]
fn dashboard_and_rules_use_the_metrics_that_there_are_and_all_of_them() {
    let used: BTreeSet<String> = expressions().iter().flat_map(|expression| metrics_of(expression)).collect();
    let declared: BTreeSet<String> = Metrics::DECLARED.iter().map(|metric| metric.name.to_owned()).collect();
    assert_eq!(used.difference(&declared).collect::<Vec<_>>(), [""; 0], "nobody declares these");
    assert_eq!(declared.difference(&used).collect::<Vec<_>>(), [""; 0], "nobody looks at these");
}

#[test]
fn the_dashboard_keeps_the_linters_rules() {
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana/strayd.json")).expect("JSON");
    assert_eq!(
        (&dashboard["uid"], &dashboard["id"], &dashboard["editable"]),
        (&"strayd".into(), &Value::Null, &false.into())
    );
    let variables: Vec<&str> =
        dashboard["templating"]["list"].as_array().unwrap().iter().filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(variables, ["datasource", "job", "instance"]);
    let mut ids = BTreeSet::new();
    let mut titles = BTreeSet::new();
    for panel in panels() {
        let title = panel["title"].as_str().expect("a title").to_owned();
        assert!(ids.insert(panel["id"].as_u64()) && titles.insert(title.clone()), "{title} stands twice");
        assert!(panel["description"].as_str().is_some_and(|text| !text.is_empty()), "{title} has no description");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        let has_unit = panel["fieldConfig"]["defaults"]["unit"].is_string() || panel["type"] == "heatmap";
        assert!(has_unit, "{title} has no unit");
        for target in panel["targets"].as_array().expect("targets") {
            let expression = target["expr"].as_str().expect("an expression");
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            let n_selectors = expression.matches("{job=~\"$job\", instance=~\"$instance\"").count();
            assert_eq!(n_selectors, expression.matches('{').count(), "{title}: {expression}");
            for counter in Metrics::DECLARED.iter().filter(|metric| metric.kind() == "counter") {
                let bare = expression
                    .match_indices(&format!("{}{{", counter.name))
                    .any(|(at, _)| !expression[..at].ends_with("rate(") && !expression[..at].ends_with("increase("));
                assert!(!bare, "{title}: {} outside rate or increase", counter.name);
            }
        }
    }
}

#[test]
fn every_alert_says_how_bad_it_is_and_what_to_do() {
    let guide = read("docs/OPERATING.md");
    for rule in rules() {
        let name = rule["alert"].as_str().expect("a name");
        assert!(["warning", "critical"].contains(&rule["labels"]["severity"].as_str().expect("a severity")), "{name}");
        for annotation in ["summary", "description"] {
            assert!(
                rule["annotations"][annotation].as_str().is_some_and(|text| !text.is_empty()),
                "{name}: {annotation}"
            );
        }
        assert!(guide.contains(&format!("| `{name}` |")), "docs/OPERATING.md doesn't say what to do at {name}");
    }
}

#[test]
fn prometheus_accepts_rules_and_configuration() {
    let config = path("deploy/prometheus/prometheus.yml").display().to_string();
    let Some(checked) = tool("promtool", &["check", "config", &config]) else { return };
    assert_content(&checked);
    let scrape = &yaml("deploy/prometheus/prometheus.yml")[0]["scrape_configs"][0];
    assert_eq!(scrape["job_name"], "strayd", "the rules name the job");
    assert_eq!(scrape["static_configs"][0]["targets"][0], defaults().admin.listen.to_string());
}

/// A healthy daemon for three hours, one sample a minute, as promtool writes series.
const HEALTHY: [(&str, &str); 18] = [
    ("up{job=\"strayd\", instance=\"a\"}", "1x180"),
    ("strayd_model_loaded{job=\"strayd\", instance=\"a\"}", "1x180"),
    ("strayd_lane_alive{job=\"strayd\", instance=\"a\", lane=\"0\"}", "1x180"),
    ("strayd_trainer_alive{job=\"strayd\", instance=\"a\"}", "1x180"),
    ("strayd_start_time_seconds{job=\"strayd\", instance=\"a\"}", "1x180"),
    ("strayd_lane_last_progress_timestamp_seconds{job=\"strayd\", instance=\"a\", lane=\"0\"}", "1+60x180"),
    ("strayd_consumer_lag_records{job=\"strayd\", instance=\"a\", topic=\"t\", partition=\"0\"}", "20000x180"),
    ("strayd_records_consumed_total{job=\"strayd\", instance=\"a\"}", "0+6000x180"),
    ("strayd_records_scored_total{job=\"strayd\", instance=\"a\"}", "0+6000x180"),
    ("strayd_records_rejected_total{job=\"strayd\", instance=\"a\", reason=\"malformed\"}", "0+6x180"),
    ("strayd_anomalies_total{job=\"strayd\", instance=\"a\", severity=\"low\"}", "0+6x180"),
    ("strayd_alerts_suppressed_total{job=\"strayd\", instance=\"a\", reason=\"rate_limit\"}", "0x180"),
    ("strayd_produce_errors_total{job=\"strayd\", instance=\"a\", reason=\"anomalies\"}", "0x180"),
    ("strayd_trainings_total{job=\"strayd\", instance=\"a\", result=\"failed\"}", "1x180"),
    ("strayd_trainings_total{job=\"strayd\", instance=\"a\", result=\"done\"}", "0+1x180"),
    ("strayd_model_age_seconds{job=\"strayd\", instance=\"a\"}", "600x180"),
    ("strayd_promotions_stopped{job=\"strayd\", instance=\"a\"}", "0x180"),
    ("strayd_config_last_reload_successful{job=\"strayd\", instance=\"a\"}", "1x180"),
];

/// What makes each alert fire: a metric, and the samples that it has instead.
const TROUBLE: [(&str, &str, &str); 16] = [
    ("StraydDown", "up", "0x180"),
    ("StraydNotReady", "strayd_model_loaded", "0x180"),
    ("StraydNotReady", "strayd_lane_alive", "0x180"),
    ("StraydRestarting", "strayd_start_time_seconds", "1+300x180"),
    ("StraydLaneStuck", "strayd_lane_last_progress_timestamp_seconds", "60x180"),
    ("StraydLaneStuck", "strayd_trainer_alive", "0x180"),
    ("StraydLagGrowing", "strayd_consumer_lag_records", "0+500x180"),
    ("StraydRejects", "strayd_records_rejected_total", "0+100x180"),
    ("StraydProduceErrors", "strayd_produce_errors_total", "0+1x180"),
    ("StraydTrainingFails", "strayd_trainings_total{job=\"strayd\", instance=\"a\", result=\"failed\"}", "0+1x180"),
    ("StraydModelStale", "strayd_model_age_seconds", "80000+60x180"),
    ("StraydPromotionsStopped", "strayd_promotions_stopped", "1x180"),
    ("StraydConfigReloadFailed", "strayd_config_last_reload_successful", "0x180"),
    ("StraydAlertRateJump", "strayd_anomalies_total", "0+300x180"),
    ("StraydRateLimited", "strayd_alerts_suppressed_total", "0+1x180"),
    ("StraydDown", "up{job=\"strayd\", instance=\"a\"}", "_x180"),
];

/// One case of `promtool test rules`: the healthy series with one replaced, and how many alerts of a name fire.
fn case(trouble: Option<(&str, &str)>, alerts: &str, n: usize) -> String {
    let mut text = "  - interval: 1m\n    input_series:\n".to_owned();
    for (series, samples) in HEALTHY {
        let name = series.split('{').next().expect("a series has a name");
        let samples = trouble.filter(|(metric, _)| [name, series].contains(metric)).map_or(samples, |(_, said)| said);
        writeln!(text, "      - series: '{series}'\n        values: '{samples}'").expect("a string takes every write");
    }
    let expression = format!("count(ALERTS{{alertstate=\"firing\"{alerts}}}) or vector(0)");
    let sample = format!("[{{labels: '{{}}', value: {n}}}]");
    writeln!(
        text,
        "    promql_expr_test:\n      - expr: '{expression}'\n        eval_time: 170m\n        exp_samples: {sample}"
    )
    .expect("a string takes every write");
    text
}

#[test]
fn each_alert_fires_at_its_trouble_and_none_in_health() {
    let fired: BTreeSet<&str> = TROUBLE.iter().map(|(alert, ..)| *alert).collect();
    let all: Vec<Value> = rules();
    let named: BTreeSet<&str> = all.iter().filter_map(|rule| rule["alert"].as_str()).collect();
    assert_eq!(fired, named, "each alert has its trouble here");
    let rules = path("deploy/prometheus/strayd.rules.yml");
    let mut text = format!("rule_files: ['{}']\nevaluation_interval: 1m\ntests:\n", rules.display());
    text.push_str(&case(None, "", 0));
    for (alert, metric, samples) in TROUBLE {
        text.push_str(&case(Some((metric, samples)), &format!(", alertname=\"{alert}\""), 1));
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("rules.test.yml");
    fs::write(&file, text).expect("written");
    let Some(tested) = tool("promtool", &["test", "rules", &file.display().to_string()]) else { return };
    assert_content(&tested);
}
