//! Proves on a real Kafka that batches keep what a poll for each message promises: nothing lost, nothing handed over
//! twice in one assignment, nothing of a partition that has left, a start that was moved, and an end that comes.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use strayd::kafka::{self, BatchConsumer, Inlet};
use strayd::record::{NextOffset, Partition, Topic};
use strayd::source::{self, Assigned, Assignment, KafkaSource, Polled, Position, Source, lane_settings};
use support::{Broker, Outgoing, holds_within, unique, wait_until};

const SOON: Duration = Duration::from_secs(60);
const N_PARTITIONS: i32 = 6;
const ROWS_MAX: usize = 100;

/// What a member of the group has been given: by partition, where its assignment began and where reading goes on.
#[derive(Default)]
struct Held {
    owned: Mutex<BTreeMap<Partition, Owned>>,
    /// Records before the settled offset at which reading is to start.
    rewind: i64,
    /// Times that partitions came or left.
    n_moves: AtomicUsize,
}

struct Owned {
    settled: i64,
    next: Option<i64>,
}

impl Assignment for Held {
    fn assigned(&self, partitions: &[Assigned]) -> Vec<NextOffset> {
        self.n_moves.fetch_add(1, Ordering::Relaxed);
        let mut owned = self.owned.lock().expect("no panic under this lock");
        for assigned in partitions {
            let settled = assigned.settled.unwrap_or(0);
            assert!(owned.insert(assigned.partition, Owned { settled, next: None }).is_none(), "{assigned:?} twice");
        }
        let rewound = partitions.iter().filter(|_| self.rewind > 0);
        rewound.map(|a| NextOffset { partition: a.partition, offset: a.settled.unwrap_or(0) - self.rewind }).collect()
    }

    fn revoked(&self, partitions: &[Partition], lost: bool) -> Result<Vec<Position>, String> {
        assert!(!lost, "{partitions:?} are lost");
        self.n_moves.fetch_add(1, Ordering::Relaxed);
        let mut owned = self.owned.lock().expect("no panic under this lock");
        let leaving = partitions.iter().map(|partition| (*partition, owned.remove(partition).expect("it was ours")));
        // What is rewound is settled already.
        let read = leaving.filter(|(_, owned)| owned.next.is_some_and(|next| next > owned.settled));
        Ok(read.filter_map(|(partition, owned)| Some(position(partition, owned.next?))).collect())
    }
}

fn position(partition: Partition, offset: i64) -> Position {
    Position { next: NextOffset { partition, offset }, metadata: String::new() }
}

/// A member of the group that settles what it reads.
struct Member {
    source: KafkaSource,
    held: Arc<Held>,
}

impl Member {
    fn new(broker: &Broker, group: &str, topic: &str, rewind: i64) -> Self {
        Self::called(None, broker, group, topic, rewind)
    }

    /// A member with a name of its own.
    fn called(instance: Option<&str>, broker: &Broker, group: &str, topic: &str, rewind: i64) -> Self {
        let librdkafka = [("topic.metadata.refresh.interval.ms".to_owned(), "500".to_owned())].into();
        let (brokers, group, instance) = (broker.brokers().into(), group.into(), instance.map(str::to_owned));
        let client = kafka::Config { brokers, group, instance, librdkafka, ..kafka::Config::default() };
        let config = source::Config { topic: topic.into(), ..source::Config::default() };
        let held = Arc::new(Held { rewind, ..Held::default() });
        let listener = Arc::clone(&held) as Arc<dyn Assignment>;
        Self { source: KafkaSource::subscribe(&client, &config, 0, listener, None).expect("valid settings"), held }
    }

    fn n_owned(&self) -> usize {
        self.held.owned.lock().expect("no panic under this lock").len()
    }

    /// Reads a batch into `seen`, and holds each record to be the next one of a partition that is ours.
    fn step(&mut self, seen: &mut Vec<(Partition, i64)>) -> usize {
        self.step_by(ROWS_MAX, seen)
    }

    fn step_by(&mut self, rows_max: usize, seen: &mut Vec<(Partition, i64)>) -> usize {
        let held = &self.held;
        let polled = self.source.poll(rows_max, Duration::from_millis(20), &mut |raw| {
            let mut owned = held.owned.lock().expect("no panic under this lock");
            let id = raw.id;
            let owned = owned.get_mut(&id.partition).unwrap_or_else(|| panic!("{id:?} came after its partition left"));
            assert_eq!(id.offset, owned.next.unwrap_or(owned.settled - held.rewind), "in partition {}", id.partition);
            owned.next = Some(id.offset + 1);
            seen.push((id.partition, id.offset));
        });
        let read: Vec<Position> = {
            let owned = self.held.owned.lock().expect("no panic under this lock");
            let read = owned.iter().filter(|(_, owned)| owned.next.is_some_and(|next| next > owned.settled));
            read.filter_map(|(partition, owned)| Some(position(*partition, owned.next?))).collect()
        };
        assert_eq!(self.source.store(&read), Ok(0));
        match polled.expect("the broker answers") {
            Polled::Records(n) => n,
            Polled::End => unreachable!("a topic has no end"),
        }
    }
}

fn context() -> kafka::Context {
    kafka::Context::new(&kafka::Config::default(), "group", "topic")
}

fn produce(broker: &Broker, topic: &str, n: i32) {
    broker.produce(topic, (0..n).map(|i| Outgoing::value(i.to_le_bytes()).partition(i % N_PARTITIONS)));
}

/// Runs `act` in a thread of its own, and panics when it isn't over in time.
fn within<T: Send + 'static>(deadline: Duration, what: &str, act: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, over) = mpsc::sync_channel(1);
    thread::spawn(move || done.send(act()));
    over.recv_timeout(deadline).unwrap_or_else(|error| panic!("{what}: {error}"))
}

#[test]
fn members_that_come_and_go_under_load_lose_nothing_and_read_nothing_twice() {
    const N_ROUNDS: usize = 3;
    const N_PRODUCED: i32 = 12_000;
    let Some(broker) = Broker::get() else { return };
    let (topic, group) = (broker.new_topic("features", N_PARTITIONS), unique("group"));
    let mut seen = Vec::new();
    let mut stayer = Member::new(broker, &group, &topic, 0);
    for _ in 0..N_ROUNDS {
        produce(broker, &topic, N_PRODUCED);
        wait_until(SOON, "the first member reads", || stayer.step(&mut seen) > 0);
        let mut guest = Member::new(broker, &group, &topic, 0);
        wait_until(SOON, "both own partitions, and the second one reads", || {
            stayer.step(&mut seen);
            guest.step(&mut seen) > 0 && guest.n_owned() + stayer.n_owned() == N_PARTITIONS as usize
        });
        produce(broker, &topic, N_PRODUCED);
        for _ in 0..20 {
            stayer.step(&mut seen);
            guest.step(&mut seen);
        }
        guest.source.close();
        drop(guest);
    }
    let n_produced = N_ROUNDS * 2 * N_PRODUCED as usize;
    let mut read_on = |seen: &mut Vec<_>| (0..50).for_each(|_| _ = stayer.step(seen));
    let is_all = holds_within(SOON, || {
        read_on(&mut seen);
        seen.len() >= n_produced
    });
    assert!(is_all, "{} of {n_produced} records were read", seen.len());
    assert_eq!(stayer.n_owned(), N_PARTITIONS as usize);
    // Every member settled what it had read before it gave a partition away: each record was read once.
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), n_produced);
    assert_eq!(seen.len(), n_produced);
    stayer.source.close();
    drop(stayer);
    let ends = broker.end_offsets(&topic);
    let committed = broker.committed(&group, &topic);
    let committed: BTreeMap<i32, i64> = committed.into_iter().map(|(partition, at)| (partition, at.offset)).collect();
    assert_eq!(committed, ends);
}

#[test]
fn a_start_that_was_moved_holds_in_every_assignment() {
    let Some(broker) = Broker::get() else { return };
    let (topic, group) = (broker.new_topic("features", N_PARTITIONS), unique("group"));
    produce(broker, &topic, 600);
    broker.commit_ends(&group, &topic);
    produce(broker, &topic, 600);
    for round in 0..2 {
        // The step asserts that each partition begins ten records before what is settled.
        let mut member = Member::new(broker, &group, &topic, 10);
        let mut seen = Vec::new();
        let n_expected = N_PARTITIONS as usize * if round == 0 { 110 } else { 10 };
        wait_until(SOON, "the rewound records come", || {
            member.step(&mut seen);
            seen.len() >= n_expected
        });
        assert_eq!(seen.len(), n_expected);
        member.source.close();
    }
}

#[test]
fn a_rebalance_amid_rewinding_repeats_nothing_and_skips_nothing() {
    const N_REWOUND: i64 = 400;
    let Some(broker) = Broker::get() else { return };
    let (topic, group) = (broker.new_topic("features", N_PARTITIONS), unique("group"));
    produce(broker, &topic, 6_000);
    broker.commit_ends(&group, &topic);
    produce(broker, &topic, 600);
    let (mut seen, mut of_guest) = (Vec::new(), Vec::new());
    let mut stayer = Member::new(broker, &group, &topic, N_REWOUND);
    wait_until(SOON, "the rewind is under way", || stayer.step_by(7, &mut seen) > 0);
    let mut guest = Member::new(broker, &group, &topic, N_REWOUND);
    let n_live = |seen: &[(Partition, i64)]| seen.iter().filter(|(_, offset)| *offset >= 1_000).count();
    wait_until(SOON, "both have rewound and read on", || {
        stayer.step_by(7, &mut seen);
        guest.step_by(7, &mut of_guest);
        guest.n_owned() > 0 && n_live(&seen) + n_live(&of_guest) >= 600
    });
    let live: Vec<_> = seen.iter().chain(&of_guest).filter(|(_, offset)| *offset >= 1_000).collect();
    assert_eq!((live.len(), live.iter().collect::<BTreeSet<_>>().len()), (600, 600));
    stayer.source.close();
    guest.source.close();
}

/// Commits `offset` for every partition.
fn commit(broker: &Broker, group: &str, topic: &str, offset: i64) {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker.brokers())
        .set("group.id", group)
        .create()
        .expect("valid settings");
    let mut list = TopicPartitionList::new();
    for partition in 0..N_PARTITIONS {
        list.add_partition_offset(topic, partition, Offset::Offset(offset)).expect("a valid offset");
    }
    consumer.commit(&list, CommitMode::Sync).expect("committed");
}

fn admin(broker: &Broker) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", broker.brokers()).create().expect("valid settings")
}

fn wait_for<T>(answer: impl Future<Output = KafkaResult<T>>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    runtime.block_on(answer).expect("the request is answered")
}

#[test]
fn a_committed_offset_that_has_left_the_topic_is_moved_to_the_oldest_record_and_the_loss_is_counted() {
    let Some(broker) = Broker::get() else { return };
    let (topic, group) = (broker.new_topic("features", N_PARTITIONS), unique("group"));
    produce(broker, &topic, 600);
    commit(broker, &group, &topic, 10);
    let mut before = TopicPartitionList::new();
    for partition in 0..N_PARTITIONS {
        before.add_partition_offset(&topic, partition, Offset::Offset(50)).expect("a valid offset");
    }
    wait_for(admin(broker).delete_records(&before, &AdminOptions::new()));
    // The step asserts that each partition begins where the assignment says.
    let mut member = Member::new(broker, &group, &topic, 0);
    let mut seen = Vec::new();
    wait_until(SOON, "what is left", || {
        member.step(&mut seen);
        seen.len() >= 300
    });
    assert_eq!((seen.len(), seen.iter().map(|(_, offset)| *offset).min()), (300, Some(50)));
    assert_eq!((member.source.take_lost(), member.source.take_lost()), (240, 0));
    member.source.close();
    drop(member);

    // As after a topic was made anew.
    commit(broker, &group, &topic, 10_000);
    let mut member = Member::new(broker, &group, &topic, 0);
    seen.clear();
    wait_until(SOON, "everything again", || {
        member.step(&mut seen);
        seen.len() >= 300
    });
    assert_eq!((seen.len(), member.source.take_lost()), (300, 0), "nothing of the new topic is lost");
    member.source.close();
}

#[test]
fn a_named_member_that_comes_back_takes_its_partitions_without_moving_others() {
    let Some(broker) = Broker::get() else { return };
    let (topic, group) = (broker.new_topic("features", N_PARTITIONS), unique("group"));
    let named = |name| Member::called(Some(name), broker, &group, &topic, 0);
    let (mut stayer, mut leaver) = (named("stayer"), named("leaver"));
    let half = N_PARTITIONS as usize / 2;
    wait_until(SOON, "each has half", || {
        stayer.step(&mut Vec::new());
        leaver.step(&mut Vec::new());
        stayer.n_owned() == half && leaver.n_owned() == half
    });
    let n_moves = stayer.held.n_moves.load(Ordering::Relaxed);
    leaver.source.close();
    drop(leaver);
    let mut back = named("leaver");
    wait_until(SOON, "it has its half again", || {
        stayer.step(&mut Vec::new());
        back.step(&mut Vec::new());
        back.n_owned() == half
    });
    assert_eq!((stayer.n_owned(), stayer.held.n_moves.load(Ordering::Relaxed)), (half, n_moves));
}

#[test]
fn partitions_that_are_added_and_topics_that_match_later_are_read_from_their_beginning() {
    let Some(broker) = Broker::get() else { return };
    let stem = unique("plant");
    let [first, second] = ["a", "b"].map(|name| format!("{stem}-{name}"));
    broker.create_topic(&first, 1, &[]);
    broker.produce(&first, (0..10).map(|_| Outgoing::value("x").partition(0)));
    let mut member = Member::new(broker, &unique("group"), &format!("^{stem}-.$"), 0);
    let mut seen = Vec::new();
    let mut until = |n: usize| {
        wait_until(SOON, "records", || {
            member.step(&mut seen);
            seen.len() >= n
        });
    };
    until(10);
    wait_for(admin(broker).create_partitions([&NewPartitions::new(&first, 2)], &AdminOptions::new()));
    wait_until(SOON, "the new partition", || broker.partitions(&first).len() == 2);
    broker.produce(&first, (0..10).map(|_| Outgoing::value("x").partition(1)));
    until(20);
    broker.create_topic(&second, 1, &[]);
    broker.produce(&second, (0..10).map(|_| Outgoing::value("x").partition(0)));
    until(30);
    let at = |name: &str, number| Partition { topic: Topic::named(name), number };
    let places = [at(&first, 0), at(&first, 1), at(&second, 0)];
    let expected: BTreeSet<_> = places.iter().flat_map(|place| (0..10).map(|offset| (*place, offset))).collect();
    assert_eq!((seen.len(), seen.into_iter().collect::<BTreeSet<_>>()), (30, expected));
    let lagging: BTreeSet<Partition> = member.source.lags().into_iter().map(|(partition, _)| partition).collect();
    assert_eq!(lagging, places.into());
    member.source.close();
}

#[test]
fn a_member_that_waits_for_records_answers_the_group() {
    let Some(broker) = Broker::get() else { return };
    let (topic, group) = (broker.new_topic("features", 2), unique("group"));
    let mut first = Member::new(broker, &group, &topic, 0);
    wait_until(SOON, "the first member owns all", || first.step(&mut Vec::new()) == 0 && first.n_owned() == 2);
    let mut second = Member::new(broker, &group, &topic, 0);
    let waiter = thread::spawn(move || {
        let polled = first.source.poll(ROWS_MAX, SOON * 5, &mut |_| ());
        assert_eq!(polled, Ok(Polled::Records(1)));
        first
    });
    // Only a rebalance callback that runs inside the other one's wait gives a partition away.
    wait_until(SOON, "the second member gets its share", || second.step(&mut Vec::new()) == 0 && second.n_owned() == 1);
    let theirs = i32::from(second.held.owned.lock().expect("no panic under this lock").contains_key(&0.into()));
    let began = Instant::now();
    broker.produce(&topic, [Outgoing::value("x").partition(theirs)]);
    let first = waiter.join().expect("the waiter reads");
    assert!(began.elapsed() < SOON, "a record at rest waited {:?}", began.elapsed());
    drop((first, second));
}

fn all_of(topic: &str) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for partition in 0..N_PARTITIONS {
        list.add_partition_offset(topic, partition, Offset::Beginning).expect("a valid offset");
    }
    list
}

fn reader(broker: &Broker, topic: &str) -> BatchConsumer<kafka::Context> {
    let client = kafka::Config { brokers: broker.brokers().into(), ..kafka::Config::default() };
    let settings = lane_settings(&client, 0).expect("no secret");
    let reader = BatchConsumer::new(&settings, context(), &Inlet::default()).expect("valid settings");
    reader.assign(&all_of(topic)).expect("the list is valid");
    reader
}

#[test]
fn a_consumer_with_unread_messages_ends() {
    let Some(broker) = Broker::get() else { return };
    let topic = broker.new_topic("features", N_PARTITIONS);
    produce(broker, &topic, 60_000);
    let unread = reader(broker, &topic);
    within(SOON, "one that was never read", move || drop(unread));
    let mut reading = reader(broker, &topic);
    assert!(holds_within(SOON, || reading.take(ROWS_MAX, Duration::from_millis(100), |_| ()).unwrap() == ROWS_MAX));
    within(SOON, "one with a queue that is full", move || drop(reading));
    let mut failing = reader(broker, &topic);
    let panicked = catch_unwind(AssertUnwindSafe(|| failing.take(ROWS_MAX, SOON, |_| panic!("on purpose"))));
    assert!(panicked.is_err());
    assert!(failing.take(ROWS_MAX, SOON, |_| ()).unwrap() > 0, "what is behind a panic is gone, the rest comes");
    within(SOON, "one that was left by a panic", move || drop(failing));
    let mut member = Member::new(broker, &unique("group"), &topic, 0);
    wait_until(SOON, "a member reads", || member.step(&mut Vec::new()) > 0);
    within(SOON, "one that never said goodbye", move || drop(member));
}

#[test]
fn an_inlet_serves_one_consumer() {
    let settings = lane_settings(&kafka::Config::default(), 0).unwrap();
    let inlet = Inlet::default();
    let first = BatchConsumer::new(&settings, context(), &inlet).unwrap();
    assert!(BatchConsumer::new(&settings, context(), &inlet).is_err());
    let other = BatchConsumer::new(&settings, context(), &Inlet::default()).unwrap();
    let strayed = catch_unwind(AssertUnwindSafe(|| inlet.forward(other.consumer(), &all_of("features"))));
    assert!(strayed.is_err());
    inlet.forward(first.consumer(), &all_of("features"));
}

#[test]
fn a_message_comes_with_all_that_it_has() {
    let Some(broker) = Broker::get() else { return };
    let topic = broker.new_topic("features", N_PARTITIONS);
    let full = Outgoing::value("value").key("key").header("a", "1").header("b", "2").partition(0);
    let full = Outgoing { timestamp_ms: Some(1_700_000_000_000), ..full };
    let bare = Outgoing { partition: Some(0), ..Outgoing::default() };
    broker.produce(&topic, [full, bare]);
    let mut reader = reader(broker, &topic);
    let mut seen = Vec::new();
    wait_until(SOON, "both records", || {
        let taken = reader.take(ROWS_MAX, Duration::from_millis(100), |message| {
            let mut headers = Vec::new();
            message.each_header(&mut |name, value| headers.push(format!("{name}={:?}", value.map(<[u8]>::to_vec))));
            let [key, payload] = [message.key(), message.payload()].map(|bytes| bytes.map(<[u8]>::to_vec));
            seen.push((message.offset(), key, payload, message.time_ms(), headers));
        });
        taken.unwrap();
        seen.len() == 2
    });
    let headers = vec!["a=Some([49])".to_owned(), "b=Some([50])".to_owned()];
    assert_eq!(seen[0], (0, Some(b"key".to_vec()), Some(b"value".to_vec()), Some(1_700_000_000_000), headers));
    let (offset, key, payload, time_ms, headers) = &seen[1];
    assert_eq!((*offset, key, payload, headers.len()), (1, &None, &None, 0));
    assert!(time_ms.is_some_and(|time_ms| time_ms > 1_700_000_000_000), "{time_ms:?}");
}

#[test]
fn neither_aborted_records_nor_markers_are_handed_over() {
    let Some(broker) = Broker::get() else { return };
    let topic = broker.new_topic("features", N_PARTITIONS);
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", broker.brokers())
        .set("transactional.id", unique("transaction"))
        .create()
        .unwrap();
    producer.init_transactions(SOON).unwrap();
    for round in 0..3 {
        producer.begin_transaction().unwrap();
        for _ in 0..2 {
            producer.send(BaseRecord::<(), str>::to(&topic).payload("x").partition(0)).unwrap();
        }
        producer.flush(SOON).unwrap();
        if round == 1 { producer.abort_transaction(SOON) } else { producer.commit_transaction(SOON) }.unwrap();
    }
    let mut reader = reader(broker, &topic);
    let mut offsets = Vec::new();
    wait_until(SOON, "the committed records", || {
        reader.take(ROWS_MAX, Duration::from_millis(100), |message| offsets.push(message.offset())).unwrap();
        offsets.len() >= 4
    });
    assert_eq!(offsets, [0, 1, 6, 7]);
}
