//! A soak: a daemon with everything at its defaults, trained and retrained, at half of what it can do, for half an hour.
//! Resident memory, file descriptors and the 99th percentile of the latency stay where they are.
//!
//! `make test-long` runs it. `STRAYD_SOAK_SECONDS` (1800) is how long; `STRAYD_SOAK_RATE`, records a second, replaces the
//! half of the capacity, which is measured first.

mod support;

use std::fs;
use std::io::Write;
use std::time::{Duration, Instant};

use support::{Broker, Daemon, Extra, Metrics, Outgoing, Sensors, Topics, holds_within, to_json, unique};

const N_PARTITIONS: i32 = 4;
const N_FEATURES: usize = 16;
const N_HISTORY: usize = 20_000;
/// How long the capacity is measured, and how many records are sent at a time meanwhile, while as many may wait.
const CAPACITY: Duration = Duration::from_secs(20);
const N_AT_A_TIME: usize = 25_000;
/// One record in so many is grossly off.
const ONE_IN: usize = 1_000;
/// Different records that are sent again and again: making them would take more than scoring them.
const N_DIFFERENT: usize = 50_000;
const SOON: Duration = Duration::from_secs(120);
/// Records are sent when those of so long are due.
const BURST: Duration = Duration::from_millis(5);
/// The soak is looked at in so many parts; the first is the warm-up.
const N_WINDOWS: usize = 10;
/// What each partition keeps, bytes: half an hour's records needn't fit on the disk. Left to itself, the broker looks for what
/// it may drop every five minutes, by which time it has filled the page cache.
const RETENTION: [(&str, &str); 2] = [("retention.bytes", "200000000"), ("segment.bytes", "50000000")];
const RETENTION_CHECK: &str = "log.retention.check.interval.ms=5000";
/// Growth of resident memory over the soak that is still flat, as a share of it.
const GROWTH_MAX: f64 = 0.10;
/// File descriptors that may come and go: connections to the broker.
const FILES_MAX: f64 = 8.0;
/// A window's 99th percentile may be so many times the median of all windows, or at most this many seconds more.
const P99_RATIO_MAX: f64 = 2.0;
const P99_MORE_MAX: f64 = 0.05;

/// What was seen at one moment, about once a second.
struct Look {
    at: f64,
    rss_bytes: f64,
    n_files: f64,
    /// Processor time of the whole machine that nobody used, and all of it, in ticks since it started.
    idle: f64,
    ticks: f64,
}

#[test]
fn half_an_hour_at_half_of_capacity_is_flat() {
    let seconds = setting("STRAYD_SOAK_SECONDS").unwrap_or(1800.0);
    let extra = Extra { properties: RETENTION_CHECK.to_owned(), is_lasting: true, ..Extra::default() };
    let Some(broker) = Broker::own_with(&extra) else { return };
    let features = unique("features");
    broker.create_topic(&features, N_PARTITIONS, &RETENTION);
    let topics = Topics::reading(&broker, &features);
    let mut sensors = Sensors::new(N_FEATURES, 5);
    broker.produce(&features, (0..N_HISTORY).map(|i| outgoing(i, sensors.json())));
    let launch = topics.launch_default(&broker);
    let daemon = launch.start();
    daemon.wait_ready(SOON);
    let payloads = payloads(&mut sensors);

    let sender = broker.sender(&features);
    let send = |i: usize| sender.send(&outgoing(i, payloads[i % N_DIFFERENT].clone()));
    let (capacity, n_first) = capacity(&daemon, send);
    let rate = setting("STRAYD_SOAK_RATE").unwrap_or(capacity / 2.0);
    say(&format!(
        "soak: capacity {capacity:.0} records/s beside producer and broker; {rate:.0} records/s for {seconds} s"
    ));

    let (began, mut n_sent) = (Instant::now(), 0);
    let (mut looks, mut pages): (Vec<Look>, Vec<Metrics>) = (Vec::new(), vec![daemon.metrics()]);
    while began.elapsed().as_secs_f64() < seconds {
        let at = began.elapsed().as_secs_f64();
        while (n_sent as f64) < at * rate {
            send(n_sent);
            n_sent += 1;
        }
        if at >= looks.len() as f64 {
            looks.push(look(&daemon, at));
        }
        if at >= seconds * pages.len() as f64 / N_WINDOWS as f64 {
            pages.push(daemon.metrics());
        }
        let enough = n_sent as f64 + rate * BURST.as_secs_f64();
        assert!(holds_within(SOON, || began.elapsed().as_secs_f64() * rate >= enough), "time goes by");
    }
    pages.push(daemon.metrics());
    sender.finish();
    wait_scored(&daemon, n_first + n_sent);
    let n_rounds = daemon.metrics().sum("strayd_trainings_total", &[("result", "done")]);
    say(&format!("soak: {n_sent} records sent, {} scored, {n_rounds} trainings", n_scored(&daemon) - n_first));
    assert_eq!(daemon.sigterm(SOON), 0);
    judge(&looks, &pages, seconds);
}

fn setting(name: &str) -> Option<f64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

fn say(line: &str) {
    writeln!(std::io::stderr(), "{line}").expect("standard error can be written");
}

fn outgoing(i: usize, payload: String) -> Outgoing {
    Outgoing::value(payload).key(format!("key-{}", i % 100)).partition(i as i32 % N_PARTITIONS)
}

fn payloads(sensors: &mut Sensors) -> Vec<String> {
    let row = |i: usize, mut row: Vec<f64>| {
        row[i % N_FEATURES] += if i % ONE_IN == 17 { 30.0 } else { 0.0 };
        to_json(&row)
    };
    (0..N_DIFFERENT).map(|i| row(i, sensors.row())).collect()
}

fn n_scored(daemon: &Daemon) -> usize {
    daemon.metrics().sum("strayd_records_scored_total", &[]) as usize
}

fn wait_scored(daemon: &Daemon, n: usize) {
    assert!(holds_within(SOON, || n_scored(daemon) >= n), "{} of {n} records are scored", n_scored(daemon));
}

/// How many records a second are sent and scored when as many are sent as are scored, and how many were scored when that was
/// known.
fn capacity(daemon: &Daemon, send: impl Fn(usize)) -> (f64, usize) {
    let (n_before, began, mut n_sent) = (n_scored(daemon), Instant::now(), 0_usize);
    while began.elapsed() < CAPACITY {
        wait_scored(daemon, n_before + n_sent.saturating_sub(N_AT_A_TIME));
        (n_sent..n_sent + N_AT_A_TIME).for_each(&send);
        n_sent += N_AT_A_TIME;
    }
    wait_scored(daemon, n_before + n_sent);
    (n_sent as f64 / began.elapsed().as_secs_f64(), n_before + n_sent)
}

fn look(daemon: &Daemon, at: f64) -> Look {
    let files = fs::read_dir(format!("/proc/{}/fd", daemon.pid())).expect("the daemon runs");
    let (idle, ticks) = processor();
    Look { at, rss_bytes: daemon.rss_bytes().0 as f64, n_files: files.count() as f64, idle, ticks }
}

fn processor() -> (f64, f64) {
    let text = fs::read_to_string("/proc/stat").expect("Linux");
    let all = text.lines().next().expect("a line of all processors").split_whitespace().skip(1).take(8);
    let ticks: Vec<f64> = all.map(|n| n.parse().expect("a number")).collect();
    (ticks[3] + ticks[4], ticks.iter().sum())
}

/// The 99th percentile of the end-to-end latency between two pages, seconds, as a histogram tells it.
fn p99(before: &Metrics, after: &Metrics) -> f64 {
    let name = "strayd_end_to_end_latency_seconds_bucket";
    let count = |page: &Metrics, le: &str| page.sum(name, &[("le", le)]);
    let bounds: Vec<String> = after.with(name, &[]).map(|sample| sample.labels["le"].clone()).collect();
    let counts: Vec<f64> = bounds.iter().map(|le| count(after, le) - count(before, le)).collect();
    let wanted = 0.99 * counts.last().copied().unwrap_or(0.0);
    let i = counts.iter().position(|n| *n >= wanted).expect("the last bucket holds all");
    let bound = |i: usize| bounds[i].parse().unwrap_or(f64::INFINITY);
    let (low, n_low) = if i == 0 { (0.0, 0.0) } else { (bound(i - 1), counts[i - 1]) };
    if bound(i).is_infinite() { low } else { low + (bound(i) - low) * (wanted - n_low) / (counts[i] - n_low).max(1.0) }
}

/// Least squares: how much `value` grows in a second.
fn slope(looks: &[&Look], value: impl Fn(&Look) -> f64) -> f64 {
    let n = looks.len() as f64;
    let mean = |of: &dyn Fn(&Look) -> f64| looks.iter().map(|look| of(look)).sum::<f64>() / n;
    let (mean_at, mean_value) = (mean(&|look| look.at), mean(&value));
    let both = mean(&|look| (look.at - mean_at) * (value(look) - mean_value));
    both / mean(&|look| (look.at - mean_at).powi(2))
}

fn judge(looks: &[Look], pages: &[Metrics], seconds: f64) {
    const MIB: f64 = 1024.0 * 1024.0;
    let window = seconds / N_WINDOWS as f64;
    let mut p99s = Vec::new();
    for i in 0..N_WINDOWS {
        let inside = |look: &&Look| look.at >= window * i as f64 && look.at < window * (i + 1) as f64;
        let of: Vec<&Look> = looks.iter().filter(inside).collect();
        let mean = |value: &dyn Fn(&Look) -> f64| of.iter().map(|look| value(look)).sum::<f64>() / of.len() as f64;
        let (rss, files) = (mean(&|look| look.rss_bytes) / MIB, mean(&|look| look.n_files));
        p99s.push(p99(&pages[i], &pages[i + 1]));
        let [first, last] = [of[0], of[of.len() - 1]];
        let idle = 100.0 * (last.idle - first.idle) / (last.ticks - first.ticks).max(1.0);
        let rounds = |page: &Metrics| page.sum("strayd_trainings_total", &[("result", "done")]);
        say(&format!(
            "soak: window {i}: {rss:.1} MiB, {files:.1} files, p99 {:.1} ms, {} trainings, the machine {idle:.0} % idle",
            p99s[i] * 1e3,
            rounds(&pages[i + 1]) - rounds(&pages[i])
        ));
    }
    let warm: Vec<&Look> = looks.iter().filter(|look| look.at >= window).collect();
    let mean = warm.iter().map(|look| look.rss_bytes).sum::<f64>() / warm.len() as f64;
    let growth = slope(&warm, |look| look.rss_bytes) * (seconds - window);
    let files = slope(&warm, |look| look.n_files) * (seconds - window);
    let mut sorted = p99s[1..].to_vec();
    sorted.sort_by(f64::total_cmp);
    let (median, worst) = (sorted[sorted.len() / 2], sorted[sorted.len() - 1]);
    say(&format!(
        "soak: after the warm-up: memory {:.1} MiB, {:+.2} MiB by its slope; files {files:+.2}; p99 median {:.1} ms, worst {:.1} ms",
        mean / MIB,
        growth / MIB,
        median * 1e3,
        worst * 1e3
    ));
    assert!(growth <= GROWTH_MAX * mean, "resident memory grew by {growth:.0} bytes");
    assert!(files <= FILES_MAX, "{files} file descriptors more");
    assert!(worst <= (median * P99_RATIO_MAX).max(median + P99_MORE_MAX), "p99 is not flat: {p99s:?}");
}
