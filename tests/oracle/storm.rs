//! Faults, drawn at random from a seed: a deck of cards is shuffled and dealt, and shuffled again when it is used up, so
//! that every kind comes. A fault that lasts is taken back after a drawn time; meanwhile others come on top.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::clock;
use super::fleet::{Fleet, N_REPLICAS, ON_SMALL_DISK, SESSION, WITH_CLOCK};
use crate::support::{Broker, Door, Way};

/// One kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Card {
    /// SIGKILL.
    Kill,
    /// SIGSTOP, and SIGCONT before the session is over, or after it: a zombie wakes.
    Stop,
    /// SIGKILL of the broker, and a start on the same data.
    Broker,
    /// One replica's connections are dropped, or everybody's.
    Cut,
    /// Connections stay, nothing passes; at times beyond the session.
    Hold,
    /// Little passes.
    Slow,
    /// A producer's connection is held while the group's commits pass, and then its replica is killed: what was settled before
    /// its output was acknowledged would be lost.
    Outputs,
    /// A replica joins.
    Come,
    /// A replica leaves, by SIGTERM.
    Go,
    /// The clock is set an hour forth or back, and back again.
    Clock,
    /// Not a byte can be written, then there is room again.
    Disk,
    /// Where the models should be there is something else.
    Registry,
}

/// How often each comes in a deck.
const DECK: [(Card, usize); 12] = [
    (Card::Kill, 3),
    (Card::Stop, 2),
    (Card::Broker, 1),
    (Card::Cut, 2),
    (Card::Hold, 1),
    (Card::Slow, 1),
    (Card::Outputs, 2),
    (Card::Come, 2),
    (Card::Go, 2),
    (Card::Clock, 1),
    (Card::Disk, 1),
    (Card::Registry, 1),
];

/// Seconds that the clock is set off.
const CLOCK_OFF: i64 = 3600;
/// Anomalies that the replica flags before its clock is set right again: with fewer, nothing might show that it was off.
const N_OFF_CLOCK: f64 = 3.0;

/// What takes a fault back.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Undo {
    Continue(usize),
    Open(usize),
    KillAndOpen(usize),
    Start,
    /// The anomalies that the replica had flagged before.
    Clock(f64),
    Empty,
    GiveBack(usize),
}

/// The faults of one run.
pub struct Storm<'a> {
    broker: &'a Broker,
    rng: ChaCha8Rng,
    deck: Vec<Card>,
    n_decks: usize,
    next: Instant,
    undo: Vec<(Instant, Undo)>,
    /// What was done, and seen to be done, by kind.
    pub counts: BTreeMap<&'static str, u64>,
    /// Kinds that this machine can't have, and why.
    pub missing: Vec<&'static str>,
}

impl<'a> Storm<'a> {
    /// A storm that begins soon.
    pub fn new(broker: &'a Broker, seed: u64, fleet: &Fleet) -> Self {
        let mut missing = Vec::new();
        if fleet.disk.is_none() {
            missing.push("disk full: mounting a small disk takes root");
        }
        if fleet.replicas[WITH_CLOCK].clock.is_none() {
            missing.push("clock jump: there is no C compiler");
        }
        let rng = ChaCha8Rng::seed_from_u64(seed);
        let (deck, undo, counts) = (Vec::new(), Vec::new(), BTreeMap::new());
        Self { broker, rng, deck, n_decks: 0, next: Instant::now(), undo, counts, missing }
    }

    /// Whether a whole deck has been dealt, no clock is off, and the doors have done what they were told: a replica that
    /// had been killed had nothing to hold.
    pub fn has_shown_all(&self, fleet: &Fleet) -> bool {
        let is_dealt = self.n_decks > 1 || (self.n_decks == 1 && self.deck.is_empty());
        let has_any = |n: fn(&Door) -> u64| fleet.replicas.iter().any(|replica| n(&replica.door) > 0);
        let is_off = self.is_on(|undo| matches!(undo, Undo::Clock(_)));
        is_dealt && !is_off && has_any(Door::n_dropped) && has_any(Door::n_held)
    }

    /// Takes back what is over, and deals a card when it is time.
    pub fn blow(&mut self, fleet: &mut Fleet) {
        self.take_back(fleet, false);
        if Instant::now() < self.next {
            return;
        }
        if self.deck.is_empty() {
            self.deck = DECK.iter().flat_map(|(card, n)| std::iter::repeat_n(*card, *n)).collect();
            self.deck.shuffle(&mut self.rng);
            self.n_decks += 1;
        }
        let card = self.deck.pop().expect("it has just been filled");
        if !self.play(card, fleet) {
            // It can't be played now: somewhere later in the deck it can.
            let at = self.rng.random_range(0..=self.deck.len());
            self.deck.insert(at, card);
        }
        self.next = Instant::now() + self.seconds(0.3, 3.0);
    }

    /// Takes everything back.
    pub fn calm(&mut self, fleet: &mut Fleet) {
        self.take_back(fleet, true);
    }

    fn seconds(&mut self, from: f64, to: f64) -> Duration {
        Duration::from_secs_f64(self.rng.random_range(from..to))
    }

    fn count(&mut self, what: &'static str) -> bool {
        *self.counts.entry(what).or_default() += 1;
        true
    }

    fn later(&mut self, from: f64, to: f64, undo: Undo) {
        let at = Instant::now() + self.seconds(from, to);
        self.undo.push((at, undo));
    }

    fn is_on(&self, which: impl Fn(&Undo) -> bool) -> bool {
        self.undo.iter().any(|(_, undo)| which(undo))
    }

    /// Whether the fault happened; if not, it can't happen as things stand.
    fn play(&mut self, card: Card, fleet: &mut Fleet) -> bool {
        let running = fleet.running();
        let going: Vec<usize> = running.iter().copied().filter(|&i| !fleet.replicas[i].is_stopped).collect();
        let one = going.choose(&mut self.rng).copied();
        match (card, one) {
            (Card::Kill, _) if !running.is_empty() => {
                let i = *running.choose(&mut self.rng).expect("one runs");
                fleet.signal(i, libc::SIGKILL);
                self.count("SIGKILL")
            }
            (Card::Stop, Some(i)) => self.stop(i, fleet),
            (Card::Broker, _) if !self.is_on(|undo| *undo == Undo::Start) => {
                self.broker.kill9();
                self.later(0.5, 3.0, Undo::Start);
                self.count("broker killed and started")
            }
            (Card::Cut, Some(i)) => {
                let all = self.rng.random_bool(0.3);
                let doors = if all { (0..N_REPLICAS).collect() } else { vec![i] };
                self.shut(&doors, Way::Cut, (1.0, 6.0), fleet)
            }
            (Card::Hold, Some(i)) => self.shut(&[i], Way::Held, (2.0, 9.0), fleet),
            (Card::Slow, Some(i)) => self.shut(&[i], Way::Slow, (2.0, 5.0), fleet),
            (Card::Outputs, Some(i)) if !self.is_shut(i) => {
                fleet.replicas[i].door.set(Way::OutputsHeld);
                self.later(1.5, 4.0, Undo::KillAndOpen(i));
                self.count("outputs held, then SIGKILL")
            }
            (Card::Come, _) => match fleet.off().choose(&mut self.rng) {
                Some(&i) => {
                    fleet.want(i);
                    self.count("replica came")
                }
                None => self.play(Card::Go, fleet),
            },
            (Card::Go, Some(i)) if running.len() > 1 => {
                fleet.signal(i, libc::SIGTERM);
                self.count("replica left by SIGTERM")
            }
            (Card::Go, _) => !fleet.off().is_empty() && self.play(Card::Come, fleet),
            (Card::Clock, _) => self.set_clock(fleet),
            (Card::Disk, _) => self.fill(fleet),
            (Card::Registry, Some(i)) => self.take_registry(i, fleet),
            _ => false,
        }
    }

    fn stop(&mut self, i: usize, fleet: &mut Fleet) -> bool {
        fleet.signal(i, libc::SIGSTOP);
        let session = SESSION.as_secs_f64();
        if self.rng.random_bool(0.5) {
            self.later(session + 1.0, session + 3.0, Undo::Continue(i));
            return self.count("SIGSTOP beyond the session");
        }
        self.later(0.5, session / 2.0, Undo::Continue(i));
        self.count("SIGSTOP within the session")
    }

    fn is_shut(&self, i: usize) -> bool {
        self.is_on(|undo| matches!(undo, Undo::Open(of) | Undo::KillAndOpen(of) if *of == i))
    }

    fn shut(&mut self, doors: &[usize], way: Way, (from, to): (f64, f64), fleet: &Fleet) -> bool {
        if doors.iter().any(|&i| self.is_shut(i)) {
            return false;
        }
        for &i in doors {
            fleet.replicas[i].door.set(way);
            self.later(from, to, Undo::Open(i));
        }
        self.count(match way {
            Way::Cut if doors.len() > 1 => "network cut for all",
            Way::Cut => "network cut for one",
            Way::Held => "network held",
            _ => "network slow",
        })
    }

    fn set_clock(&mut self, fleet: &mut Fleet) -> bool {
        let Some(file) = &fleet.replicas[WITH_CLOCK].clock else { return true };
        if self.is_on(|undo| matches!(undo, Undo::Clock(_))) {
            return false;
        }
        let off = if self.rng.random_bool(0.5) { CLOCK_OFF } else { -CLOCK_OFF };
        clock::set(file, off);
        let before = fleet.n_flagged(WITH_CLOCK).unwrap_or(0.0);
        if fleet.off().contains(&WITH_CLOCK) {
            fleet.want(WITH_CLOCK);
        }
        self.later(5.0, 8.0, Undo::Clock(before));
        self.count(if off > 0 { "clock an hour forth" } else { "clock an hour back" })
    }

    fn fill(&mut self, fleet: &mut Fleet) -> bool {
        let Some(disk) = &fleet.disk else { return true };
        if self.is_on(|undo| *undo == Undo::Empty) {
            return false;
        }
        disk.fill();
        assert!(disk.is_full());
        if fleet.off().contains(&ON_SMALL_DISK) {
            fleet.want(ON_SMALL_DISK);
        }
        self.later(4.0, 8.0, Undo::Empty);
        self.count("disk full")
    }

    fn take_registry(&mut self, i: usize, fleet: &Fleet) -> bool {
        let models = fleet.models(i);
        let is_full = i == ON_SMALL_DISK && self.is_on(|undo| *undo == Undo::Empty);
        if is_full || self.is_on(|undo| matches!(undo, Undo::GiveBack(_))) {
            return false;
        }
        fs::rename(&models, models.with_extension("away")).expect("the temporary folder can be written");
        fs::write(&models, "not a folder").expect("the temporary folder can be written");
        self.later(2.0, 5.0, Undo::GiveBack(i));
        self.count("registry away")
    }

    fn take_back(&mut self, fleet: &mut Fleet, all: bool) {
        let now = Instant::now();
        let due: Vec<Undo> = self.undo.extract_if(.., |(at, _)| all || *at <= now).map(|(_, undo)| undo).collect();
        for undo in due {
            match undo {
                Undo::Continue(i) if fleet.replicas[i].is_stopped => fleet.signal(i, libc::SIGCONT),
                Undo::Continue(_) => {} // it was killed while it stood still
                Undo::Open(i) => fleet.replicas[i].door.set(Way::Open),
                Undo::KillAndOpen(i) => {
                    if fleet.running().contains(&i) {
                        fleet.signal(i, libc::SIGKILL);
                    }
                    fleet.replicas[i].door.set(Way::Open);
                }
                Undo::Start => self.broker.start_again(),
                Undo::Clock(before) if !all && !has_flagged(fleet, before) => {
                    // It may have stood still, been killed or been told to leave meanwhile.
                    if fleet.off().contains(&WITH_CLOCK) {
                        fleet.want(WITH_CLOCK);
                    }
                    self.later(0.5, 1.0, undo);
                }
                Undo::Clock(_) => clock::set(fleet.replicas[WITH_CLOCK].clock.as_ref().expect("it was set"), 0),
                Undo::Empty => fleet.disk.as_ref().expect("it was filled").empty(),
                Undo::GiveBack(i) => {
                    let models = fleet.models(i);
                    fs::remove_file(&models).expect("it is a file");
                    fs::rename(models.with_extension("away"), &models).expect("the temporary folder can be written");
                }
            }
        }
    }
}

/// Whether the replica whose clock is off has flagged enough since; one that was started again counts from none.
fn has_flagged(fleet: &Fleet, before: f64) -> bool {
    fleet.n_flagged(WITH_CLOCK).is_some_and(|now| now >= before + N_OFF_CLOCK || (N_OFF_CLOCK..before).contains(&now))
}
