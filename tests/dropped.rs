//! Proves on a real Kafka that a member which its group has dropped, and which then reads again what it did not commit, takes
//! up nothing that another member reads by now.

mod support;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use strayd::kafka;
use strayd::record::{NextOffset, Partition};
use strayd::source::{self, Assigned, Assignment, KafkaSource, Position, Source};
use support::{Broker, Door, Outgoing, Way, unique, wait_until};

const SOON: Duration = Duration::from_secs(60);
/// The least that a broker allows.
const SESSION: Duration = Duration::from_secs(6);

/// What a member is told of partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    Assigned(usize),
    Revoked { n: usize, lost: bool },
}

#[derive(Default)]
struct Listener(Mutex<Vec<Told>>);

impl Listener {
    fn told(&self) -> Vec<Told> {
        self.0.lock().expect("no panic under this lock").clone()
    }

    fn n_owned(&self) -> usize {
        self.told().iter().fold(0, |n_owned, told| match told {
            Told::Assigned(n) => n_owned + n,
            Told::Revoked { n, .. } => n_owned - n,
        })
    }
}

impl Assignment for Listener {
    fn assigned(&self, partitions: &[Assigned]) -> Vec<NextOffset> {
        self.0.lock().expect("no panic under this lock").push(Told::Assigned(partitions.len()));
        Vec::new()
    }

    fn revoked(&self, partitions: &[Partition], lost: bool) -> Result<Vec<Position>, String> {
        self.0.lock().expect("no panic under this lock").push(Told::Revoked { n: partitions.len(), lost });
        Ok(Vec::new())
    }
}

struct Member {
    source: KafkaSource,
    listener: Arc<Listener>,
}

impl Member {
    fn new(brokers: &str, group: &str, topic: &str) -> Self {
        let client = kafka::Config {
            brokers: brokers.to_owned(),
            group: group.to_owned(),
            session_timeout: SESSION,
            ..kafka::Config::default()
        };
        let config = source::Config { topic: topic.into(), ..source::Config::default() };
        let listener = Arc::new(Listener::default());
        let told = Arc::clone(&listener) as Arc<dyn Assignment>;
        Self { source: KafkaSource::subscribe(&client, &config, 0, told, None).expect("valid settings"), listener }
    }

    /// Polls once; returns how many records came.
    fn poll(&mut self) -> usize {
        let mut n = 0;
        // A broker that doesn't answer is what the test makes.
        let _ = self.source.poll(100, Duration::from_millis(20), &mut |_| n += 1);
        n
    }
}

#[test]
fn a_rebalance_that_waits_to_be_served_comes_before_what_is_read_again() {
    let Some(broker) = Broker::own_with_doors(1) else { return };
    let (port, target) = broker.doors()[0].clone();
    let door = Door::new(port, &target);
    let (topic, group) = (broker.new_topic("features", 2), unique("group"));
    let produce = || broker.produce(&topic, (0..200).map(|i: i32| Outgoing::value(i.to_le_bytes()).partition(i % 2)));
    let mut dropped = Member::new(&format!("127.0.0.1:{port}"), &group, &topic);
    let mut heir = Member::new(broker.brokers(), &group, &topic);
    wait_until(SOON, "a partition for each, and records", || {
        produce();
        let n = dropped.poll().min(heir.poll());
        (dropped.listener.n_owned(), heir.listener.n_owned()) == (1, 1) && n > 0
    });

    // Nobody polls it meanwhile, as in a lane that waits for its outputs: what the group tells it waits, too.
    door.set(Way::Held);
    let since = Instant::now();
    wait_until(SOON, "the heir to have both", || {
        heir.poll();
        heir.listener.n_owned() == 2 && since.elapsed() > SESSION * 3 / 2
    });
    door.set(Way::Open);
    wait_until(SOON, "what is committed", || dropped.source.rewind().is_ok());
    let n_told = dropped.listener.told().len();
    let mut n_read = 0;
    wait_until(SOON, "the rebalance", || {
        produce();
        n_read += dropped.poll();
        dropped.listener.told().len() > n_told
    });
    assert_eq!(dropped.listener.told()[n_told], Told::Revoked { n: 1, lost: true });
    assert_eq!(n_read, 0, "nothing is read of a partition that the heir reads");
    wait_until(SOON, "a partition for each again", || {
        heir.poll();
        dropped.poll();
        (dropped.listener.n_owned(), heir.listener.n_owned()) == (1, 1)
    });
}
