//! The daemon on a real Kafka, from the first model to SIGTERM: what goes in comes out, is counted, and is committed.

mod support;

use std::time::Duration;

use support::{Broker, Launch, Outgoing, promtool_check, unique, wait_until};

/// Deadline of each wait; the machine may be busy with other tests.
const SOON: Duration = Duration::from_secs(60);

/// Rows before the daemon starts, enough for a first model.
const N_HISTORY: i64 = 4_000;

/// Rows while it runs, those that can't be read included.
const N_LIVE: i64 = 1_000;

/// Row `i` of four features that follow two hidden ones; no chance in it.
fn row(i: i64) -> String {
    let wave = |period: f64| (i as f64 / period).sin();
    let (a, b) = (wave(7.3), wave(31.7));
    let noise = 0.05 * wave(0.618);
    format!("{{\"a\": {a:.4}, \"b\": {b:.4}, \"sum\": {:.4}, \"difference\": {:.4}}}", a + b + noise, a - b - noise)
}

/// Every hundredth row is far out, and every two hundredth after it can't be read.
fn live_row(i: i64) -> Outgoing {
    let value = match i % 200 {
        50 | 150 => "{\"a\": 0, \"b\": 0, \"sum\": 9000, \"difference\": -9000}".to_owned(),
        51 => "not json".to_owned(),
        _ => row(N_HISTORY + i),
    };
    Outgoing::value(value).key(format!("pump-{}", i % 5)).partition((i % 2) as i32)
}

#[test]
fn rows_go_in_and_anomalies_come_out() {
    let Some(broker) = Broker::get() else { return };
    let features = broker.new_topic("features", 2);
    let (anomalies, dead_letters) = (broker.new_topic("anomalies", 1), broker.new_topic("dead-letters", 1));
    let group = unique("strayd");
    broker.produce(&features, (0..N_HISTORY).map(|i| Outgoing::value(row(i)).partition((i % 2) as i32)));

    let launch = Launch::new(&format!(
        "[kafka]\nbrokers = \"{}\"\ngroup = \"{group}\"\n[input]\ntopic = \"{features}\"\n\
         [output]\nanomalies = \"{anomalies}\"\ndead_letters = \"{dead_letters}\"\n[training]\nenabled = false\n",
        broker.brokers()
    ));
    let daemon = launch.start();
    daemon.wait_ready(SOON);
    assert!(daemon.get("/healthz").is_some_and(|(status, _)| status == 200));
    assert!(daemon.get("/version").is_some_and(|(_, body)| body.contains(env!("CARGO_PKG_VERSION"))));

    broker.produce(&features, (0..N_LIVE).map(live_row));
    let n_bad = N_LIVE / 200;
    daemon.wait_metrics(SOON, "every live row to be scored or rejected", |metrics| {
        let scored = metrics.sum("strayd_records_scored_total", &[]);
        scored + metrics.sum("strayd_records_rejected_total", &[]) >= N_LIVE as f64
    });
    assert_eq!(daemon.metrics().sum("strayd_records_rejected_total", &[]), n_bad as f64);
    if let Some((_, page)) = daemon.get("/metrics") {
        assert_eq!(promtool_check(&page).unwrap_or_default(), "");
    }
    let ends = broker.end_offsets(&features);
    wait_until(SOON, "every offset to be committed", || {
        broker.committed(&group, &features).into_iter().map(|(p, c)| (p, c.offset)).eq(ends.clone())
    });
    assert_eq!(daemon.sigterm(SOON), 0);

    let bad = broker.consume_to_end(&dead_letters, SOON);
    assert_eq!(bad.len() as i64, n_bad);
    assert!(bad.iter().all(|record| record.value.as_deref() == Some(b"not json")));
    assert!(bad.iter().all(|record| record.header("strayd.error.reason").is_some()));
    let found = broker.consume_to_end(&anomalies, SOON);
    let far_out = found.iter().filter(|record| {
        let record = record.json();
        let offset = record["source"]["offset"].as_i64().expect("an offset");
        let partition = record["source"]["partition"].as_i64().expect("a partition");
        // Live row i is the (i / 2)th of its partition, after half of the history.
        let i = (offset - N_HISTORY / 2) * 2 + partition;
        assert!(record["score"]["ratio"].as_f64().expect("a ratio") > 1.0);
        matches!(i % 200, 50 | 150)
    });
    assert_eq!(far_out.count() as i64, N_LIVE / 100);
    assert!(found.iter().all(|record| record.header("ce_type") == Some("io.strayd.anomaly.v1")));
}
