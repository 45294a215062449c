//! The oracle: a real Kafka, up to four replicas, numbered records and faults drawn at random; at the end every record has
//! ended in exactly one way, nothing was invented, and the faults have really happened.
//!
//! `STRAYD_ORACLE_SECONDS` (60), `STRAYD_ORACLE_SEED` (1) and `STRAYD_ORACLE_RATE` (1000 records a second) change a run;
//! `make test-long` runs it for ten minutes a mode. The same seed draws the same faults; their timing against the records
//! is the machine's. The model is fixed and the threshold has no state, so that what becomes of a record follows from it.

mod support;

#[path = "oracle/clock.rs"]
mod clock;
#[path = "oracle/disk.rs"]
mod disk;
#[path = "oracle/fleet.rs"]
mod fleet;
#[path = "oracle/ledger.rs"]
mod ledger;
#[path = "oracle/storm.rs"]
mod storm;
#[path = "oracle/stream.rs"]
mod stream;

use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use fleet::{Fleet, N_REPLICAS, WITH_CLOCK};
use ledger::{Ledger, Tally};
use storm::Storm;
use stream::{Class, Feeder, N_FEATURES, N_HISTORY, N_PARTITIONS, class_of};
use support::{Broker, Launch, Outgoing, Sensors, Topics, holds_within, unique};

const SOON: Duration = Duration::from_secs(60);
/// After the storm everything is settled within this time.
const LATER: Duration = Duration::from_secs(180);
/// Records after the storm, of which every single one must be counted, once.
const N_CALM: u64 = 1_000;
/// An anomaly that was scored so far from its own time was scored while the clock was off.
const OFF_CLOCK_MS: i64 = 30 * 60 * 1000;

/// A delivery guarantee: its name, its line of configuration, and whether a record may be seen twice.
struct Mode {
    name: &'static str,
    line: &'static str,
    once: bool,
}

/// Two storms at once would be one that nobody has drawn.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn exactly_once_loses_nothing_and_repeats_nothing_whatever_happens() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    oracle(&Mode { name: "exactly_once", line: "delivery = \"exactly_once\"", once: true });
}

#[test]
fn at_least_once_loses_nothing_whatever_happens() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    oracle(&Mode { name: "at_least_once", line: "", once: false });
}

fn setting(name: &str, default: f64) -> f64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

fn say(line: &str) {
    writeln!(std::io::stderr(), "{line}").expect("standard error can be written");
}

fn oracle(mode: &Mode) {
    let [seconds, rate] = [("STRAYD_ORACLE_SECONDS", 60.0), ("STRAYD_ORACLE_RATE", 1000.0)].map(|(k, v)| setting(k, v));
    let seed = setting("STRAYD_ORACLE_SEED", 1.0) as u64;
    say(&format!("oracle {}: seed {seed}, {seconds} s, {rate} records/s", mode.name));
    let Some(broker) = Broker::own_with_doors(N_REPLICAS) else { return };
    let topics = Topics::new(&broker, N_PARTITIONS as i32);
    let mut sensors = Sensors::new(N_FEATURES, seed);
    broker
        .produce(&topics.features, (0..N_HISTORY).map(|i| stream::history(i, &mut sensors)).collect::<Vec<Outgoing>>());
    broker.commit_ends(&topics.group, &topics.features);
    let models = model(&broker, &topics);
    let mut fleet = Fleet::new(&broker, &topics, mode.line, &models.dir().join("models"));
    drop(models);

    let mut storm = Storm::new(&broker, seed, &fleet);
    let feeder = Feeder::start(broker.brokers(), &topics.features, 0, rate, sensors);
    [0, 1, WITH_CLOCK].into_iter().for_each(|i| fleet.want(i));
    let began = Instant::now();
    until(Duration::from_secs_f64(seconds) * 3 + LATER, &mut fleet, "the storm to be over", |fleet| {
        storm.blow(fleet);
        began.elapsed().as_secs_f64() >= seconds && storm.has_shown_all(fleet)
    });
    let lasted = began.elapsed();
    storm.calm(&mut fleet);
    let (n_stormy, sensors) = feeder.stop();
    let began = Instant::now();
    fleet.off().into_iter().for_each(|i| fleet.want(i));
    until(LATER, &mut fleet, "everything to be settled", |_| is_settled(&broker, &topics));
    say(&format!("oracle {}: settled {:.1} s after the storm", mode.name, began.elapsed().as_secs_f64()));
    let n_sent = calm(&broker, &topics, &mut fleet, n_stormy, sensors);

    fleet.running().into_iter().for_each(|i| fleet.signal(i, libc::SIGTERM));
    until(SOON, &mut fleet, "all replicas to end", |fleet| fleet.off().len() == N_REPLICAS);
    let (tally, problems, ledger) = audit(&broker, &topics, n_sent, mode.once);
    report(mode, lasted, &tally, &ledger, &fleet, &storm);
    assert!(problems.is_empty(), "seed {seed}: {}", problems.join("\n"));
    assert_faults(&storm, &fleet, &ledger);
}

/// Looks after the replicas until a condition holds, and panics at the deadline.
#[track_caller]
fn until(deadline: Duration, fleet: &mut Fleet, what: &str, mut condition: impl FnMut(&mut Fleet) -> bool) {
    let held = holds_within(deadline, || {
        fleet.tend();
        condition(fleet)
    });
    assert!(held, "waited {deadline:?} in vain for: {what}\n{}{:#?}", fleet.says(), fleet.ends);
}

/// Makes the model that all replicas score by; its folder is the launch's.
fn model(broker: &Broker, topics: &Topics) -> Launch {
    let topics = Topics { group: unique("group"), ..topics.clone() };
    let names: Vec<String> = (0..N_FEATURES).map(|i| format!("\"s{i}\"")).collect();
    let launch = topics.launch(broker).set("threshold.kind", "quantile");
    let launch = launch.set("schema.features", &format!("[{}]", names.join(", ")));
    let launch = launch.set("history.rows_min", &N_HISTORY.to_string());
    let daemon = launch.start();
    daemon.wait_ready(SOON);
    assert_eq!(daemon.sigterm(SOON), 0);
    launch
}

/// Whether the group has committed the end of every partition.
fn is_settled(broker: &Broker, topics: &Topics) -> bool {
    let ends = broker.end_offsets(&topics.features);
    let committed = broker.committed(&topics.group, &topics.features);
    ends.iter().all(|(partition, end)| committed.get(partition).is_some_and(|found| found.offset == *end))
}

/// Sends a few records more to replicas that nobody disturbs: each is counted as what it is, once.
fn calm(broker: &Broker, topics: &Topics, fleet: &mut Fleet, first: u64, mut sensors: Sensors) -> u64 {
    let counted = |fleet: &Fleet| {
        let names = [("strayd_records_scored_total", ""), ("strayd_records_skipped_total", "tombstone")];
        let [scored, skipped] = names
            .map(|(name, reason)| fleet.sum(name, if reason.is_empty() { &[] } else { &[("reason", "tombstone")] }));
        Some([scored?, skipped?, fleet.sum("strayd_records_rejected_total", &[])?])
    };
    let mut since = Instant::now();
    until(LATER, fleet, "a group at rest", |fleet| {
        let n_owned = fleet.sum("strayd_partitions_assigned", &[]);
        if !(n_owned == Some(N_PARTITIONS as f64) && fleet.is_ready() && is_settled(broker, topics)) {
            since = Instant::now();
        }
        since.elapsed() > fleet::SESSION
    });
    let before = counted(fleet).expect("all of them answer");
    let last = first + N_CALM;
    broker.produce(&topics.features, (first..last).map(|n| stream::record(n, &mut sensors)).collect::<Vec<_>>());
    until(LATER, fleet, "the last records to be settled", |_| is_settled(broker, topics));
    let after = counted(fleet).expect("all of them answer");
    let n_of = |which: &[Class]| (first..last).filter(|&n| which.contains(&class_of(n))).count() as f64;
    let expected = [n_of(&[Class::Ordinary, Class::Anomalous]), n_of(&[Class::Tombstone]), n_of(&[Class::Bad])];
    let found: Vec<f64> = after.iter().zip(before).map(|(after, before)| after - before).collect();
    assert_eq!(found, expected, "scored, tombstones, rejected, as the metrics count them");
    last
}

/// Reads all topics back and closes the books.
fn audit(broker: &Broker, topics: &Topics, n_sent: u64, once: bool) -> (Tally, Vec<String>, Ledger) {
    let mut ledger = Ledger::new(&topics.features);
    let long = Duration::from_secs(300);
    broker.visit_to_end(&topics.features, long, |record| ledger.input(record));
    broker.visit_to_end(&topics.scores, long, |record| ledger.score(&record));
    broker.visit_to_end(&topics.anomalies, long, |record| ledger.anomaly(&record, OFF_CLOCK_MS));
    broker.visit_to_end(&topics.dead_letters, long, |record| ledger.dead_letter(&record));
    let (tally, problems) = ledger.close(n_sent, once);
    (tally, problems, ledger)
}

fn report(mode: &Mode, lasted: Duration, tally: &Tally, ledger: &Ledger, fleet: &Fleet, storm: &Storm<'_>) {
    let Tally { n_inputs, n_scored, n_anomalies, n_dead, n_tombstones, duplicates } = tally;
    let name = mode.name;
    let counts: Vec<String> = storm.counts.iter().map(|(what, n)| format!("{what} {n}")).collect();
    say(&format!("oracle {name}: {:.0} s of storm, {n_inputs} records", lasted.as_secs_f64()));
    say(&format!(
        "oracle {name}: {n_scored} scored, of which {n_anomalies} published; {n_dead} dead letters; {n_tombstones} tombstones"
    ));
    say(&format!(
        "oracle {name}: duplicates: {} scores, {} anomalies, {} dead letters; {} of them say something else",
        duplicates[0], duplicates[1], duplicates[2], ledger.n_differing
    ));
    say(&format!("oracle {name}: faults: {}; rebalances seen {}", counts.join(", "), fleet.n_rebalances()));
    let dropped: u64 = fleet.replicas.iter().map(|replica| replica.door.n_dropped()).sum();
    let held: u64 = fleet.replicas.iter().map(|replica| replica.door.n_held()).sum();
    say(&format!(
        "oracle {name}: {dropped} connections dropped, {held} chunks held, {} anomalies scored while the clock was off",
        ledger.n_off_clock
    ));
    for (end, n) in &fleet.ends {
        say(&format!("oracle {name}: ended {n} times: {end}"));
    }
    for why in &storm.missing {
        say(&format!("oracle {name}: not tried: {why}"));
    }
}

/// The faults have really happened.
fn assert_faults(storm: &Storm<'_>, fleet: &Fleet, ledger: &Ledger) {
    let n = |what: &str| storm.counts.iter().filter(|(name, _)| name.contains(what)).map(|(_, n)| n).sum::<u64>();
    for what in
        ["SIGKILL", "SIGSTOP", "broker", "network cut", "network held", "outputs held", "replica left", "registry"]
    {
        assert!(n(what) > 0, "no {what} in {:?}", storm.counts);
    }
    let killed = fleet.ends.iter().filter(|(end, _)| end.contains("signal: 9")).map(|(_, n)| n).sum::<u64>();
    assert!(killed > 0 && killed <= n("SIGKILL"), "{killed} were killed");
    assert!(fleet.n_rebalances() > 0.0);
    assert!(fleet.replicas.iter().any(|replica| replica.door.n_dropped() > 0));
    assert!(fleet.replicas.iter().any(|replica| replica.door.n_held() > 0));
    let has = |what: &str| !storm.missing.iter().any(|why| why.starts_with(what));
    assert!(!has("disk full") || n("disk full") > 0, "{:?}", storm.counts);
    assert!(!has("clock jump") || ledger.n_off_clock > 0, "{:?}", storm.counts);
}
