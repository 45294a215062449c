//! Holds the dashboards to the rules of Grafana's dashboard linter, to their source, and to the metrics that there are.
//!
//! The rules are those of <https://github.com/grafana/dashboard-linter>, as far as they concern Prometheus. Types are
//! checked by tests/ops/dashboards.sh against `@grafana/schema`, expressions by tests/watched.rs against a Prometheus.

mod support;

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::{Value, json};

use strayd::telemetry::Metrics;
use support::{alerts, dashboards, metrics_of, panels, rules, shipped, shipped_text, skip, targets};

const SELECTOR: &str = r#"job=~"$job", instance=~"$instance""#;

/// Ids of Grafana's units (`@grafana/data`, valueFormats/categories) that are used here.
const UNITS: [&str; 8] = ["short", "percentunit", "s", "dtdurations", "bytes", "Bps", "cps", "recps"];

/// What breaks the linter's rules in a dashboard, one line each.
fn broken(dashboard: &Value) -> Vec<String> {
    let mut broken = broken_frame(dashboard);
    let (mut ids, mut titles) = (BTreeSet::new(), BTreeSet::new());
    for panel in panels(dashboard) {
        let title = panel["title"].as_str().unwrap_or_default().to_owned();
        if title.is_empty() || !ids.insert(panel["id"].as_u64()) || !titles.insert(title.clone()) {
            broken.push(format!("{title}: a panel has a title and an id of its own"));
        }
        broken.extend(broken_panel(&panel).into_iter().map(|why| format!("{title}: {why}")));
    }
    broken.extend(broken_places(dashboard));
    broken
}

/// The rules for what stands around the panels.
fn broken_frame(dashboard: &Value) -> Vec<String> {
    let mut broken = Vec::new();
    let mut must = |holds: bool, what: &str| {
        if !holds {
            broken.push(what.to_owned());
        }
    };
    must(dashboard["editable"] == false, "editable must be false");
    must(dashboard["id"].is_null() && dashboard["uid"].is_string(), "the uid is fixed, the id is Grafana's");
    let said = |field: &str| dashboard[field].as_str().is_some_and(|text| !text.is_empty());
    must(said("title") && said("description"), "a dashboard has a title and a description");
    let link = &dashboard["links"][0];
    let leads_on = link["type"] == "dashboards" && link["includeVars"] == true && link["keepTime"] == true;
    must(leads_on && link["tags"] == json!(["strayd"]), "it links to the others and takes variables and time along");
    must(
        dashboard["tags"].as_array().is_some_and(|tags| tags.contains(&json!("strayd"))),
        "the others find it by its tag",
    );
    let variables = dashboard["templating"]["list"].as_array().expect("variables");
    let names: Vec<&str> = variables.iter().filter_map(|variable| variable["name"].as_str()).collect();
    must(names.starts_with(&["datasource", "job", "instance"]), "datasource, job and instance are variables");
    must(variables[0]["type"] == "datasource" && variables[0]["query"] == "prometheus", "the data source is chosen");
    for variable in &variables[1..] {
        let query = variable["type"] == "query" && variable["datasource"]["uid"] == "${datasource}";
        must(query && variable["refresh"] == 2, "a variable follows the time range");
        must(variable["multi"] == true && variable["allValue"] == ".+", "a variable takes several values, or all");
    }
    broken
}

/// The rules for one panel.
fn broken_panel(panel: &Value) -> Vec<String> {
    let mut broken = Vec::new();
    if panel["description"].as_str().is_none_or(str::is_empty) {
        broken.push("no description".to_owned());
    }
    if panel["type"] == "text" {
        return broken;
    }
    if panel["datasource"]["uid"] != "${datasource}" {
        broken.push("its data source is not the chosen one".to_owned());
    }
    if !UNITS.contains(&panel["fieldConfig"]["defaults"]["unit"].as_str().unwrap_or_default()) {
        broken.push(format!("{} is no unit", panel["fieldConfig"]["defaults"]["unit"]));
    }
    if panel["fieldConfig"]["defaults"]["custom"]["drawStyle"] == "bars" && panel["interval"] != "1m" {
        broken.push("bars without a shortest step show one event several times".to_owned());
    }
    let all = panel["targets"].as_array().cloned().unwrap_or_default();
    if all.is_empty() || all.iter().any(|target| target["datasource"]["uid"] != "${datasource}") {
        broken.push("no target, or one with a data source of its own".to_owned());
    }
    let refs: BTreeSet<String> = all.iter().map(|target| target["refId"].to_string()).collect();
    if refs.len() != all.len() {
        broken.push("two targets have one refId".to_owned());
    }
    broken.extend(targets(panel).iter().flat_map(|expression| broken_expression(expression)));
    broken
}

/// The rules for one expression.
fn broken_expression(expression: &str) -> Vec<String> {
    let mut broken = Vec::new();
    if expression.matches(&format!("{{{SELECTOR}")).count() != expression.matches('{').count() {
        broken.push(format!("{expression}: a selector without job and instance"));
    }
    // Longer windows are said in the panel's words; a rate that is drawn takes Grafana's own.
    let windows = expression.split('[').skip(1).filter_map(|rest| rest.split(']').next());
    for window in windows.filter(|window| !["$__rate_interval", "5m", "15m", "1h", "1d"].contains(window)) {
        broken.push(format!("{expression}: [{window}] is neither $__rate_interval nor a window that is explained"));
    }
    for (at, _) in expression.match_indices("_total{") {
        let start = expression[..at].rfind(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).map_or(0, |at| at + 1);
        let before = &expression[..start];
        if !["rate(", "increase("].iter().any(|function| before.ends_with(function)) {
            broken.push(format!("{expression}: a counter outside rate and increase"));
        }
    }
    for name in metrics_of(expression) {
        match Metrics::DECLARED.iter().find(|metric| metric.name == name) {
            None => broken.push(format!("{expression}: nobody declares {name}")),
            Some(metric) if metric.kind() == "counter" && !name.ends_with("_total") => {
                broken.push(format!("{name}: a counter ends in _total"));
            }
            Some(_) => {}
        }
    }
    broken
}

/// Panels that lie over each other or beside the grid.
fn broken_places(dashboard: &Value) -> Vec<String> {
    let mut taken = BTreeSet::new();
    let mut broken = Vec::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        let at = |key: &str| panel["gridPos"][key].as_u64().expect("a place");
        let cells = (at("y")..at("y") + at("h")).flat_map(|y| (at("x")..at("x") + at("w")).map(move |x| (x, y)));
        if cells.filter(|cell| cell.0 >= 24 || !taken.insert(*cell)).count() > 0 {
            broken.push(format!("{} lies over another panel or beside the grid", panel["title"]));
        }
    }
    broken
}

#[test]
fn the_dashboards_keep_the_linters_rules() {
    let all = dashboards();
    let uids: Vec<&str> = all.iter().filter_map(|(_, dashboard)| dashboard["uid"].as_str()).collect();
    assert_eq!(uids, ["strayd-detection", "strayd-kafka", "strayd-model", "strayd-overview"]);
    for (file, dashboard) in &all {
        assert_eq!(broken(dashboard), [""; 0], "{file}");
        assert!(panels(dashboard).len() >= 10, "{file}");
    }
}

/// Changes one thing of a dashboard and names what must be found.
#[track_caller]
fn assert_bites(path: &str, value: Value, expected: &str) {
    let mut dashboard = dashboards().pop().expect("there are dashboards").1;
    let panel = dashboard["panels"].as_array().expect("panels").iter().position(|p| p["type"] == "stat").expect("one");
    let path = path.replace("PANEL", &format!("/panels/{panel}"));
    *dashboard.pointer_mut(&path).unwrap_or_else(|| panic!("there is no {path}")) = value;
    let found = broken(&dashboard);
    assert!(found.iter().any(|line| line.contains(expected)), "{path} gives {found:?}");
}

#[test]
fn each_rule_finds_what_it_is_for() {
    assert_bites("/editable", json!(true), "editable");
    assert_bites("/templating/list/1/refresh", json!(1), "follows the time range");
    assert_bites("/links/0/keepTime", json!(false), "links to the others");
    assert_bites("PANEL/title", json!(""), "a title");
    assert_bites("PANEL/description", json!(""), "no description");
    assert_bites("PANEL/datasource/uid", json!("mine"), "data source");
    assert_bites("PANEL/targets", json!([]), "no target");
    assert_bites("PANEL/fieldConfig/defaults/unit", json!("records"), "no unit");
    assert_bites("PANEL/gridPos/x", json!(21), "lies over");
    let expression = |text: &str| json!(text.replace('@', SELECTOR));
    let path = "PANEL/targets/0/expr";
    assert_bites(path, expression("sum(strayd_model_loaded{instance=\"a\"})"), "without job and instance");
    assert_bites(path, expression("rate(strayd_records_scored_total{@}[2m])"), "neither $__rate_interval");
    assert_bites(path, expression("sum(strayd_records_scored_total{@})"), "outside rate");
    assert_bites(path, expression("strayd_model_lodaed{@}"), "nobody declares");
}

#[test]
fn the_dashboards_are_what_their_source_makes() {
    let script = shipped("deploy/grafana/generate.py");
    let Ok(out) = Command::new("python3").arg(script).arg("--check").output() else {
        return skip("python3 is not installed");
    };
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn every_metric_is_on_a_dashboard_or_in_an_alert() {
    let all = dashboards();
    let shown = all.iter().flat_map(|(_, dashboard)| panels(dashboard)).flat_map(|panel| targets(&panel));
    let ruled = rules().into_iter().map(|rule| rule["expr"].as_str().expect("an expression").to_owned());
    let used: BTreeSet<String> = shown.chain(ruled).flat_map(|expression| metrics_of(&expression)).collect();
    let unseen: Vec<&str> =
        Metrics::DECLARED.iter().map(|metric| metric.name).filter(|name| !used.contains(*name)).collect();
    assert_eq!(unseen, [""; 0], "nobody looks at these");
    assert!(alerts().len() > 20);
}

#[test]
fn what_grafana_is_provisioned_with_fits_together() {
    let read = |path: &str| -> Value { serde_norway::from_str(&shipped_text(path)).expect("YAML") };
    let source = &read("deploy/grafana/provisioning/datasources/prometheus.yaml")["datasources"][0];
    assert_eq!((&source["type"], &source["isDefault"]), (&json!("prometheus"), &json!(true)));
    let scrape = &read("deploy/prometheus/prometheus.yml")["global"]["scrape_interval"];
    assert_eq!(&source["jsonData"]["timeInterval"], scrape, "$__rate_interval is four scrapes long");
    let provider = &read("deploy/grafana/provisioning/dashboards/strayd.yaml")["providers"][0];
    assert_eq!((&provider["type"], &provider["allowUiUpdates"]), (&json!("file"), &json!(false)));
    assert!(provider["options"]["path"].as_str().is_some_and(|path| path.starts_with('/')));
}
