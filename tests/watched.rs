//! A real Prometheus scrapes the real daemon: every query of the dashboard and every alert is run against it.

mod support;

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use support::{Broker, Outgoing, Prometheus, Topics, wait_until};

/// Deadline of each wait; the machine may be busy with other tests.
const SOON: Duration = Duration::from_secs(60);

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect("it is shipped")
}

/// The dashboard's queries and those of its variables, with what Grafana would put in.
fn queries() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana/strayd.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().cloned().unwrap_or_default());
    let expressions = targets.map(|target| target["expr"].as_str().expect("an expression").to_owned());
    let variables = dashboard["templating"]["list"].as_array().expect("variables").iter().filter_map(|variable| {
        let inner = variable["definition"].as_str()?.strip_prefix("label_values(")?.strip_suffix(')')?;
        let (series, label) = inner.rsplit_once(", ")?;
        Some(format!("count by ({label}) ({series})"))
    });
    let filled = |text: String| text.replace("$__rate_interval", "5s").replace("$job", ".+").replace("$instance", ".+");
    expressions.chain(variables).map(filled).collect()
}

fn row(i: i64) -> Outgoing {
    let value = match i % 500 {
        200 => "[0, 0, 9000]".to_owned(),
        300 => "not json".to_owned(),
        _ => {
            let (a, b) = ((i as f64 / 7.3).sin(), (i as f64 / 31.7).sin());
            format!("[{a:.4}, {b:.4}, {:.4}]", a + b + 0.05 * (i as f64 / 0.618).sin())
        }
    };
    Outgoing::value(value).partition((i % 2) as i32)
}

#[test]
fn every_query_of_dashboard_and_alerts_runs_against_the_daemon() {
    let Some(broker) = Broker::get() else { return };
    let topics = Topics::new(broker, 2);
    broker.produce(&topics.features, (0..3000).map(row));
    let launch = topics.launch(broker);
    let Some(prometheus) = Prometheus::start(launch.admin(), &read("deploy/prometheus/strayd.rules.yml")) else {
        return;
    };
    let daemon = launch.start();
    daemon.wait_ready(SOON);
    broker.produce(&topics.features, (3000..5000).map(row));
    daemon.wait_metrics(SOON, "the records to be scored", |metrics| {
        metrics.sum("strayd_records_consumed_total", &[]) >= 2000.0
    });

    let finds = |query: &str| !prometheus.query(query).is_empty();
    let all = queries();
    assert!(all.len() > 50, "{} queries", all.len());
    for query in &all {
        wait_until(SOON, &format!("an answer to {query}"), || finds(query));
    }
    // Prometheus has loaded the rules, and nothing is wrong.
    assert!(finds("count(up)"));
    assert_eq!(prometheus.query("count(ALERTS{alertstate=\"firing\"}) or vector(0)"), [0.0]);
    assert_eq!(daemon.sigterm(SOON), 0);
}
