//! A real Prometheus scrapes the real daemon under load: every query of the dashboards and every rule finds data in it.

mod support;

use std::time::{Duration, Instant};

use support::{
    Broker, Daemon, Outgoing, Prometheus, RULES, Topics, dashboards, panels, rules, shipped_text, targets, wait_until,
};

/// Deadline of each wait; the machine may be busy with other tests.
const SOON: Duration = Duration::from_secs(60);
/// Records that are produced before each look at what is still unanswered, so that rates are not of an idle daemon.
const LOAD: i64 = 300;

/// What Grafana puts in for its variables, with every value chosen. `window` is that of a rate.
fn filled(expression: &str, window: &str) -> String {
    let variables = ["$job", "$instance", "$topic"];
    let text = expression.replace("$__rate_interval", window);
    variables.iter().fold(text, |text, variable| text.replace(variable, ".+"))
}

/// The expressions of every panel and every annotation.
fn shown() -> Vec<String> {
    let mut all = Vec::new();
    for (_, dashboard) in dashboards() {
        all.extend(panels(&dashboard).iter().flat_map(targets).map(|expression| filled(&expression, "5s")));
        let annotations = dashboard["annotations"]["list"].as_array().expect("annotations").iter();
        // An annotation stands where something happened; over all of the test something has.
        all.extend(annotations.map(|one| filled(one["target"]["expr"].as_str().expect("an expression"), "1h")));
    }
    all
}

/// Series and label of every variable that asks for `label_values(SERIES, LABEL)`.
fn variables() -> Vec<(String, String)> {
    let of = |dashboard: &serde_json::Value| dashboard["templating"]["list"].as_array().expect("variables").clone();
    let all = dashboards().into_iter().flat_map(move |(_, dashboard)| of(&dashboard));
    let asked = all.filter_map(|variable| {
        let inner = variable["query"]["query"].as_str()?.strip_prefix("label_values(")?.strip_suffix(')')?;
        let (series, label) = inner.rsplit_once(", ").expect("a series and a label");
        Some((filled(series, ""), label.to_owned()))
    });
    asked.collect()
}

/// What the rules look at: the expressions that are recorded, and every selector of an alert by itself, since an alert
/// that is quiet finds nothing.
fn ruled() -> Vec<String> {
    let mut all = Vec::new();
    for rule in rules() {
        let expression = rule["expr"].as_str().expect("an expression");
        if rule["record"].is_string() {
            all.push(expression.to_owned());
            continue;
        }
        let mut rest = expression;
        while let Some(at) = ["strayd_", "process_", "instance", "up{"].iter().filter_map(|name| rest.find(name)).min()
        {
            let name_end = rest[at..].find(|c: char| !(c.is_ascii_alphanumeric() || "_:".contains(c)));
            let name_end = name_end.map_or(rest.len(), |length| at + length);
            let is_selected = rest[name_end..].starts_with('{');
            let end =
                if is_selected { name_end + rest[name_end..].find('}').expect("it closes") + 1 } else { name_end };
            if rest[at..end] != *"instance" {
                all.push(rest[at..end].to_owned());
            }
            rest = &rest[end..];
        }
    }
    all
}

/// Row `i`: two features and their sum, now and then an anomaly, a missing value, or no record at all.
fn row(i: i64) -> Outgoing {
    let value = match i % 500 {
        200 => "[0, 0, 9000]".to_owned(),
        300 => "not json".to_owned(),
        400 => "[0.5, null, 0.5]".to_owned(),
        _ => {
            let (a, b) = ((i as f64 / 7.3).sin(), (i as f64 / 31.7).sin());
            format!("[{a:.4}, {b:.4}, {:.4}]", a + b + 0.05 * (i as f64 / 0.618).sin())
        }
    };
    Outgoing::value(value).partition((i % 2) as i32).key(format!("pump-{}", i % 8))
}

/// Keeps the daemon busy until every query has found a number; what finds none in time fails the test.
fn answer_all(queries: Vec<String>, prometheus: &Prometheus, mut load: impl FnMut()) {
    let (since, mut open) = (Instant::now(), queries);
    while !open.is_empty() {
        load();
        open.retain(|query| !prometheus.query(query).iter().any(|value| value.is_finite()));
        assert!(since.elapsed() < SOON, "{} queries find no data:\n{}", open.len(), open.join("\n"));
    }
}

#[test]
fn every_query_of_dashboards_and_rules_finds_data_of_the_daemon_under_load() {
    let Some(broker) = Broker::get() else { return };
    let topics = Topics::new(broker, 2);
    broker.produce(&topics.features, (0..3000).map(row));
    let launch = topics.launch_default(broker).set("output.scores", &topics.scores);
    let launch =
        launch.set("history.recent_rows", "2000").set("training.retrain_gap", "0s").set("training.cpu_share", "1.0");
    let Some(prometheus) = Prometheus::start(launch.admin(), &shipped_text(RULES)) else { return };
    let daemon = launch.start();
    daemon.wait_ready(SOON);

    let (shown, ruled, variables) = (shown(), ruled(), variables());
    assert!(shown.len() > 80 && ruled.len() > 40 && variables.len() == 10, "{shown:?} {ruled:?} {variables:?}");
    let since = Instant::now();
    let n_queries = shown.len() + ruled.len() + variables.len();
    let mut next = 3000;
    answer_all(shown.into_iter().chain(ruled).collect(), &prometheus, || {
        broker.produce(&topics.features, (next..next + LOAD).map(row));
        next += LOAD;
    });
    for (series, label) in &variables {
        assert!(!prometheus.label_values(series, label).is_empty(), "label_values({series}, {label})");
    }
    println!("{n_queries} queries found data, {next} records, {:.1} s", since.elapsed().as_secs_f64());
    rules_are_loaded_and_quiet(&prometheus);
    is_read_again(&daemon, &prometheus, next - 3000);
    assert_eq!(daemon.sigterm(SOON), 0);
    wait_until(SOON, "Prometheus to miss it", || prometheus.query("up{job=\"strayd\"}") == [0.0]);
}

/// Prometheus evaluates the rules, and finds nothing wrong.
fn rules_are_loaded_and_quiet(prometheus: &Prometheus) {
    wait_until(SOON, "a recorded series", || !prometheus.query("instance:strayd_records_consumed:rate5m").is_empty());
    let firing = prometheus.query("count(ALERTS{alertstate=\"firing\", severity=\"critical\"}) or vector(0)");
    assert_eq!(firing, [0.0], "nothing critical is wrong with a daemon that works");
}

/// What Prometheus knows in the end is what the daemon counted.
fn is_read_again(daemon: &Daemon, prometheus: &Prometheus, n_sent: i64) {
    daemon.wait_metrics(SOON, "every record to be read", |metrics| {
        metrics.sum("strayd_records_consumed_total", &[]) >= n_sent as f64
    });
    wait_until(SOON, "the same count in Prometheus", || {
        prometheus.query("sum(strayd_records_consumed_total)") == [n_sent as f64]
    });
}
