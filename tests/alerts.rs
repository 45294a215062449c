//! Holds the rules to the program and to promtool: each alert has a case in which it alone fires, a near miss in which
//! none does, its labels, and a page that says what to do.

mod support;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::process::{Command, Output};

use serde_json::Value;

use strayd::telemetry::Metrics;
use support::{RULES, alerts, metrics_of, rules, shipped, shipped_text, skip};

/// A daemon without trouble for three hours, one sample a minute, as promtool writes series. `@` is its place.
const HEALTHY: [(&str, &str); 36] = [
    ("up{@}", "1x180"),
    ("strayd_build_info{@, version=\"0\"}", "1x180"),
    ("strayd_model_loaded{@}", "1x180"),
    ("strayd_start_time_seconds{@}", "1x180"),
    ("strayd_lane_alive{@, lane=\"0\"}", "1x180"),
    ("strayd_lane_last_progress_timestamp_seconds{@, lane=\"0\"}", "1+60x180"),
    ("strayd_trainer_alive{@}", "1x180"),
    ("process_resident_memory_bytes{@}", "300000000x180"),
    ("process_open_fds{@}", "60x180"),
    ("process_max_fds{@}", "1024x180"),
    ("strayd_config_last_reload_successful{@}", "1x180"),
    ("strayd_partitions_assigned{@}", "4x180"),
    ("strayd_rebalances_total{@}", "2x180"),
    ("strayd_consumer_lag_records{@, topic=\"t\", partition=\"0\"}", "500x180"),
    ("strayd_records_consumed_total{@}", "0+6000x180"),
    ("strayd_records_scored_total{@}", "0+6000x180"),
    ("strayd_records_rejected_total{@, reason=\"malformed\"}", "0+6x180"),
    ("strayd_records_skipped_total{@, reason=\"insufficient\"}", "0+6x180"),
    ("strayd_end_to_end_latency_seconds_bucket{@, le=\"0.5\"}", "0+5990x180"),
    ("strayd_end_to_end_latency_seconds_bucket{@, le=\"60\"}", "0+6000x180"),
    ("strayd_end_to_end_latency_seconds_bucket{@, le=\"+Inf\"}", "0+6000x180"),
    ("strayd_produce_errors_total{@, reason=\"anomalies\"}", "0x180"),
    ("strayd_output_wait_seconds_total{@}", "0+1x180"),
    ("strayd_registry_errors_total{@}", "1x180"),
    ("strayd_target_alert_rate{@}", "0.001x180"),
    ("strayd_anomalies_total{@, severity=\"low\"}", "0+6x180"),
    ("strayd_alerts_suppressed_total{@, reason=\"rate_limit\"}", "0x180"),
    ("strayd_p_value_bucket{@, le=\"0.01\"}", "0+60x180"),
    ("strayd_p_value_count{@}", "0+6000x180"),
    ("strayd_model_age_seconds{@}", "600x180"),
    ("strayd_trainings_total{@, result=\"failed\"}", "1x180"),
    ("strayd_promotions_total{@, result=\"kept\"}", "0x60 1x120"),
    ("strayd_promotions_stopped{@}", "0x180"),
    ("strayd_canary_recall_ratio{@}", "0.8x180"),
    ("strayd_drifts_total{@}", "0x180"),
    ("strayd_latents_dead_ratio{@}", "0.1x180"),
];

/// Series that stand in for those of the same metric, or are added.
type Series<'a> = &'a [(&'a str, &'a str)];

const READ: &str = "strayd_records_consumed_total{@}";
const REJECTS: &str = "strayd_records_rejected_total{@, reason=\"malformed\"}";
const SKIPS: &str = "strayd_records_skipped_total{@, reason=\"insufficient\"}";
const REJECTED: &str = "strayd_promotions_total{@, result=\"rejected\"}";
const ROLLED_BACK: &str = "strayd_promotions_total{@, result=\"rolled_back\"}";
const LOW: &str = "strayd_anomalies_total{@, severity=\"low\"}";
const QUICK: &str = "strayd_end_to_end_latency_seconds_bucket{@, le=\"0.5\"}";
const LAG: &str = "strayd_consumer_lag_records{@, topic=\"t\", partition=\"0\"}";
const TURN: &str = "strayd_lane_last_progress_timestamp_seconds{@, lane=\"0\"}";
const LANE: &str = "strayd_lane_alive{@, lane=\"0\"}";

/// What makes each alert fire, and what is close to it and doesn't.
const CASES: [(&str, Series<'_>, Series<'_>); 31] = [
    ("StraydDown", &[("up{@}", "1x60 0x120")], &[("up{@}", "1x168 0 0 0")]),
    ("StraydAbsent", &[("up{@}", "_x180")], &[("up{@}", "1x160 _x5 1x15")]),
    ("StraydNotReady", &[("strayd_model_loaded{@}", "0x180")], &[("strayd_model_loaded{@}", "1x160 0x20")]),
    (
        "StraydRestarting",
        &[("strayd_start_time_seconds{@}", "1+300x180")],
        &[("strayd_start_time_seconds{@}", "1x150 2x10 3x20")],
    ),
    ("StraydLaneDead", &[(LANE, "0x180")], &[(LANE, "0x180"), ("strayd_model_loaded{@}", "1x158 0x22")]),
    ("StraydLaneStuck", &[(TURN, "60x180")], &[(TURN, "1+60x168 10081x12")]),
    (
        "StraydTrainerDead",
        &[("strayd_trainer_alive{@}", "0x180")],
        &[("strayd_trainer_alive{@}", "0x180"), ("strayd_model_loaded{@}", "1x158 0x22")],
    ),
    (
        "StraydMemoryHigh",
        &[("process_resident_memory_bytes{@}", "2100000000x180")],
        &[("process_resident_memory_bytes{@}", "1900000000x180")],
    ),
    ("StraydFilesShort", &[("process_open_fds{@}", "900x180")], &[("process_open_fds{@}", "800x180")]),
    (
        "StraydConfigReloadFailed",
        &[("strayd_config_last_reload_successful{@}", "1x60 0x120")],
        &[("strayd_config_last_reload_successful{@}", "1x60 0x100 1x20")],
    ),
    (
        "StraydNoRecords",
        &[(READ, "0+6000x100 600000x80"), (REJECTS, "0x180"), (SKIPS, "0x180")],
        &[
            (READ, "0+6000x100 600000x80"),
            (REJECTS, "0x180"),
            (SKIPS, "0x180"),
            ("strayd_partitions_assigned{@}", "0x180"),
        ],
    ),
    ("StraydLagGrowing", &[(LAG, "0+500x180")], &[(LAG, "20000x180")]),
    (
        "StraydRejects",
        &[("strayd_records_rejected_total{@, reason=\"wrong_type\"}", "0+70x180")],
        &[("strayd_records_rejected_total{@, reason=\"wrong_type\"}", "0+50x180")],
    ),
    ("StraydSkips", &[(SKIPS, "0+400x180")], &[("strayd_records_skipped_total{@, reason=\"tombstone\"}", "0+400x180")]),
    (
        "StraydRebalancing",
        &[("strayd_rebalances_total{@}", "0+1x180")],
        &[("strayd_rebalances_total{@}", "2x150 8x30")],
    ),
    ("StraydLatencyHigh", &[(QUICK, "0+5000x180")], &[(QUICK, "0+5980x180")]),
    (
        "StraydProduceErrors",
        &[("strayd_produce_errors_total{@, reason=\"anomalies\"}", "0x165 1x15")],
        &[("strayd_produce_errors_total{@, reason=\"anomalies\"}", "0x100 1x80")],
    ),
    (
        "StraydOutputStalled",
        &[("strayd_output_wait_seconds_total{@}", "0+50x180")],
        &[("strayd_output_wait_seconds_total{@}", "0+20x180")],
    ),
    ("StraydAlertRateJump", &[(LOW, "0+100x180")], &[(LOW, "0+100x180"), ("strayd_target_alert_rate{@}", "0.01x180")]),
    ("StraydAlertRateZero", &[(LOW, "5x180")], &[(LOW, "5x180"), ("strayd_target_alert_rate{@}", "0.00001x180")]),
    (
        "StraydCalibrationOff",
        &[("strayd_p_value_bucket{@, le=\"0.01\"}", "0+200x180")],
        &[("strayd_p_value_bucket{@, le=\"0.01\"}", "0+150x180")],
    ),
    (
        "StraydRateLimited",
        &[("strayd_alerts_suppressed_total{@, reason=\"rate_limit\"}", "0+1x180")],
        &[("strayd_alerts_suppressed_total{@, reason=\"maintenance\"}", "0+1x180")],
    ),
    (
        "StraydModelStale",
        &[("strayd_model_age_seconds{@}", "80000+60x180")],
        &[("strayd_model_age_seconds{@}", "80000+60x180"), ("strayd_records_scored_total{@}", "7x180")],
    ),
    (
        "StraydTrainingFails",
        &[("strayd_trainings_total{@, result=\"failed\"}", "0x150 4x30")],
        &[("strayd_trainings_total{@, result=\"failed\"}", "0x150 1x30")],
    ),
    (
        "StraydRegistryFails",
        &[("strayd_registry_errors_total{@}", "0+1x180")],
        &[("strayd_registry_errors_total{@}", "0x165 1x15")],
    ),
    (
        "StraydPromotionsRejected",
        &[(REJECTED, "0x30 1x30 2x30 3x90"), ("strayd_promotions_total{@, result=\"kept\"}", "0x180")],
        &[(REJECTED, "0x30 1x30 2x30 3x90")],
    ),
    ("StraydRolledBack", &[(ROLLED_BACK, "0x150 1x30")], &[(ROLLED_BACK, "0x90 1x90")]),
    ("StraydPromotionsStopped", &[("strayd_promotions_stopped{@}", "1x180")], &[(ROLLED_BACK, "0x90 1x90")]),
    (
        "StraydCanaryRecallLow",
        &[("strayd_canary_recall_ratio{@}", "0.8x5 0.3x175")],
        &[("strayd_canary_recall_ratio{@}", "0.8x5 0.5x175")],
    ),
    ("StraydDrift", &[("strayd_drifts_total{@}", "0 1 2 3 4x177")], &[("strayd_drifts_total{@}", "0x90 2x90")]),
    (
        "StraydDeadLatents",
        &[("strayd_latents_dead_ratio{@}", "0.6x180")],
        &[("strayd_latents_dead_ratio{@}", "0.45x180")],
    ),
];

/// The input series of a case: the healthy ones, with those of `changed` in their place.
fn input(changed: Series<'_>) -> String {
    let is_changed = |series: &str| changed.iter().any(|(other, _)| *other == series);
    let kept = HEALTHY.iter().filter(|(series, _)| !is_changed(series));
    kept.chain(changed).fold(String::new(), |mut text, (series, samples)| {
        let series = series.replace('@', "job=\"strayd\", instance=\"a\"");
        writeln!(text, "      - series: '{series}'\n        values: '{samples}'").expect("a string takes every write");
        text
    })
}

/// Runs `promtool test rules` on cases, each its series and what is asked of them; nothing where it isn't installed.
fn promtool(cases: &[(Series<'_>, String)]) -> Option<Output> {
    let mut text = format!("rule_files: ['{}']\nevaluation_interval: 2m\ntests:\n", shipped(RULES).display());
    for (changed, asked) in cases {
        write!(text, "  - interval: 1m\n    input_series:\n{}{asked}", input(changed)).expect("as above");
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("rules.test.yml");
    fs::write(&file, text).expect("written");
    tool(&["test", "rules", &file.display().to_string()])
}

fn tool(args: &[&str]) -> Option<Output> {
    let output = Command::new("promtool").args(args).output();
    if output.is_err() {
        skip("promtool is not installed");
    }
    output.ok()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// Asks which alerts fire after 170 minutes: this one alone, or none.
fn only(alert: Option<&str>) -> String {
    let of = |name: &str| format!("[{{labels: '{{alertname=\"{name}\"}}', value: 1}}]");
    let samples = alert.map_or("[]".to_owned(), of);
    format!(
        "    promql_expr_test:\n      - expr: 'count by (alertname) (ALERTS{{alertstate=\"firing\"}})'\n        \
         eval_time: 170m\n        exp_samples: {samples}\n"
    )
}

#[test]
fn each_alert_fires_alone_at_its_trouble_and_not_at_a_near_miss() {
    let tested: Vec<&str> = CASES.iter().map(|(alert, ..)| *alert).collect();
    let all = alerts();
    let named: Vec<&str> = all.iter().filter_map(|rule| rule["alert"].as_str()).collect();
    let sorted = |names: &[&str]| names.iter().map(ToString::to_string).collect::<BTreeSet<String>>();
    assert_eq!(sorted(&tested), sorted(&named), "each alert has its case here");
    let mut cases = vec![(&[] as Series<'_>, only(None))];
    for (alert, trouble, near) in CASES {
        assert_ne!(trouble, near, "{alert}");
        cases.push((trouble, only(Some(alert))));
        // A near miss of one alert may be what another is for.
        cases.push((near, format!(
            "    promql_expr_test:\n      - expr: 'ALERTS{{alertstate=\"firing\", alertname=\"{alert}\"}}'\n        \
             eval_time: 170m\n        exp_samples: []\n"
        )));
    }
    let Some(tested) = promtool(&cases) else { return };
    assert!(tested.status.success(), "{}", said(&tested));
}

/// promtool shows what fires only where it wasn't expected, so nothing is expected here.
#[test]
fn what_each_alert_says_is_rendered_whole() {
    let asked = |alert: &str| format!("    alert_rule_test: [{{eval_time: 170m, alertname: {alert}}}]\n");
    let cases: Vec<(Series<'_>, String)> = CASES.iter().map(|&(alert, trouble, _)| (trouble, asked(alert))).collect();
    let Some(tested) = promtool(&cases) else { return };
    let said = said(&tested);
    for (alert, ..) in CASES {
        let shown = said.split("alertname: ").find(|part| part.starts_with(&format!("{alert}, time")));
        let got = shown.and_then(|part| part.split("got:").nth(1)).unwrap_or_else(|| panic!("{alert}: {said}"));
        assert!(got.contains("instance=\"a\"") || alert == "StraydAbsent", "{got}");
        let (_, annotations) = got.split_once("Annotations:").expect("an alert has annotations");
        for annotation in ["summary=", "description=", "runbook_url="] {
            assert!(annotations.contains(annotation), "{alert} has no {annotation} {got}");
        }
        for wrong in ["<no value>", "<error", "{{", "  strayd", "strayd  ", "Lane  ", "NaN"] {
            assert!(!annotations.contains(wrong), "{wrong} in {got}");
        }
    }
}

#[test]
fn promtool_finds_nothing_wrong_with_rules_and_configuration() {
    let file = shipped(RULES).display().to_string();
    let Some(checked) = tool(&["check", "rules", "--lint=all", "--lint-fatal", &file]) else { return };
    assert!(checked.status.success(), "{}", said(&checked));
    let config = shipped("deploy/prometheus/prometheus.yml").display().to_string();
    let checked = tool(&["check", "config", &config]).expect("it was there a moment ago");
    assert!(checked.status.success(), "{}", said(&checked));
    let config: Value = serde_norway::from_str(&shipped_text("deploy/prometheus/prometheus.yml")).expect("YAML");
    assert_eq!(config["scrape_configs"][0]["job_name"], "strayd", "the rules look for it");
}

#[test]
fn every_alert_has_its_labels_and_a_page() {
    let index = shipped_text("docs/runbooks/README.md");
    let mut pages = BTreeSet::from(["README.md".to_owned()]);
    for rule in alerts() {
        let name = rule["alert"].as_str().expect("a name");
        let severity = rule["labels"]["severity"].as_str().expect("a severity");
        assert!(["warning", "critical"].contains(&severity), "{name}: {severity}");
        for annotation in ["summary", "description"] {
            let text = rule["annotations"][annotation].as_str().unwrap_or_default();
            assert!(text.len() > 20, "{name}: {annotation}");
        }
        let page = format!("{name}.md");
        assert_eq!(rule["annotations"]["runbook_url"], format!("docs/runbooks/{page}"));
        let text = shipped_text(&format!("docs/runbooks/{page}"));
        assert!(text.starts_with(&format!("# {name}\n")), "{page}");
        for heading in ["## What it means", "## Look here first", "## Cures"] {
            let body = text.split(&format!("{heading}\n")).nth(1).and_then(|rest| rest.split("\n## ").next());
            assert!(body.is_some_and(|body| body.trim().len() > 40), "{page}: {heading}");
        }
        assert!(index.contains(&format!("| [{name}]({page}) | {severity} |")), "the index lacks {name}, {severity}");
        pages.insert(page);
    }
    let entries = fs::read_dir(shipped("docs/runbooks")).expect("there are runbooks");
    let found: BTreeSet<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    assert_eq!(found, pages, "a page for each alert, and none besides");
}

#[test]
fn rules_name_metrics_that_there_are_and_every_recording_is_used() {
    let rules = rules();
    let expressions: Vec<&str> = rules.iter().map(|rule| rule["expr"].as_str().expect("an expression")).collect();
    let used: BTreeSet<String> = expressions.iter().flat_map(|expression| metrics_of(expression)).collect();
    let declared: BTreeSet<String> = Metrics::DECLARED.iter().map(|metric| metric.name.to_owned()).collect();
    assert_eq!(used.difference(&declared).collect::<Vec<_>>(), [""; 0], "nobody declares these");
    for record in rules.iter().filter_map(|rule| rule["record"].as_str()) {
        let parts: Vec<&str> = record.split(':').collect();
        assert!(parts.len() == 3 && parts[1].starts_with("strayd_"), "{record} is not level:metric:operation");
        assert!(expressions.iter().any(|expression| expression.contains(record)), "nobody uses {record}");
    }
    let recorded = |name: &str| rules.iter().any(|rule| rule["record"] == *name);
    for word in expressions.iter().flat_map(|e| e.split(|c: char| !(c.is_alphanumeric() || "_:".contains(c)))) {
        assert!(!word.contains(":strayd_") || recorded(word), "nobody records {word}");
    }
}
