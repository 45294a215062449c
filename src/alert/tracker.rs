//! The incidents of one partition, by key.
//!
//! Time passes by the partition's own newest event time. Keys that have gone quiet are looked after before each record
//! and once a batch, so that what is said of an incident, and in which order, does not depend on where batches end. While most records of the partition are flagged, whatever their keys, they make one incident of the partition.
//!
//! However many keys come, at most `open_max` are remembered, and no record costs a walk over them: they stand in order of
//! age and of rest, too.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::incident::{Cause, Event, Flagged, Incident, IncidentConfig, Kind, Seen, Summary};
use crate::threshold::Severity;

/// Rate of the moving average of flags, a record; that of the threshold's own test for a shift (MODEL 4.2.6).
const FLAG_RATE: f64 = 1.0 / 512.0;
/// Average above which the incidents of a partition become one.
const FLAG_SHARE_MAX: f64 = 0.5;
/// Bytes of all keys that are remembered: 6 kB for each of 10,000. Beyond it the oldest go.
const KEY_BYTES_MAX: usize = 64 << 20;
/// The key of a partition's own incident: an empty key counts as none.
const PARTITION: &[u8] = &[];

/// What is remembered of one key.
#[derive(Debug)]
struct Entity {
    /// The key itself, which the orders share.
    key: Arc<[u8]>,
    /// Offset of the record that made it worth remembering.
    since: i64,
    /// The last 64 records, newest lowest: 1 flagged.
    flags: u64,
    /// Quiet records since the last restless one.
    n_quiet: u64,
    /// Newest event time of a restless record, milliseconds since the epoch.
    restless_ms: i64,
    incident: Option<Incident>,
}

/// The incidents of one partition.
#[derive(Debug)]
pub struct Tracker {
    config: IncidentConfig,
    entities: HashMap<Arc<[u8]>, Entity>,
    /// Keys by the offset since which they are remembered.
    by_age: BTreeSet<(i64, Arc<[u8]>)>,
    /// Keys by the time of their newest restless record.
    by_rest: BTreeSet<(i64, Arc<[u8]>)>,
    n_key_bytes: usize,
    n_open: usize,
    newest_ms: i64,
    /// No key is due before this event time.
    due_ms: i64,
    flag_share: f64,
    flagged_offset: i64,
    is_merged: bool,
}

impl Tracker {
    /// A tracker of a partition of which nothing is known.
    pub fn new(config: IncidentConfig) -> Self {
        Self {
            config,
            entities: HashMap::new(),
            by_age: BTreeSet::new(),
            by_rest: BTreeSet::new(),
            n_key_bytes: 0,
            n_open: 0,
            newest_ms: i64::MIN,
            due_ms: i64::MAX,
            flag_share: 0.0,
            flagged_offset: 0,
            is_merged: false,
        }
    }

    /// Goes on with other settings; incidents that are open stay open until these close them.
    pub fn adopt(&mut self, config: &IncidentConfig) {
        if *config != self.config {
            self.config = config.clone();
            // Deadlines have moved: the next sweep finds them anew.
            self.due_ms = i64::MIN;
        }
    }

    /// Whether an ordinary record means anything to the tracker; if not it need not be shown.
    pub fn is_active(&self) -> bool {
        !self.entities.is_empty()
    }

    /// Number of open incidents.
    pub fn n_open(&self) -> usize {
        self.n_open
    }

    /// Takes the partition's next record. Returns the incident that it belongs to; what changed is added to `events`.
    pub fn observe(&mut self, seen: &Seen<'_>, events: &mut Vec<Event>) -> Option<Summary> {
        // A confirmed shift is told of even where its last record is not flagged itself.
        let told = Flagged { severity: Severity::Low, features: &[] };
        let flagged = seen.flagged.or(seen.shifted.then_some(told));
        // What is due goes before anything else, as if a batch had ended here.
        self.sweep(events);
        if self.entities.is_empty() {
            flagged?;
            // Starts anew, so that one time far ahead does not close every later incident at once.
            self.newest_ms = seen.time_ms;
        }
        self.newest_ms = self.newest_ms.max(seen.time_ms);
        if flagged.is_some() {
            self.count_flag(seen.id.offset);
            if !self.is_merged && (self.flag_share > FLAG_SHARE_MAX || seen.shifted) {
                self.merge(seen, events);
            }
        }
        let key = if self.is_merged { PARTITION } else { seen.key.unwrap_or(PARTITION) };
        self.expire(key, events);
        match flagged {
            Some(flagged) => self.flag(key, seen, flagged, events),
            None => {
                self.pass(key, seen, events);
                None
            }
        }
    }

    /// Closes what has been quiet for long enough; once a batch.
    pub fn sweep(&mut self, events: &mut Vec<Event>) {
        if self.newest_ms <= self.due_ms {
            return;
        }
        let due = self.by_rest.iter().take_while(|(restless_ms, _)| self.newest_ms > self.deadline(*restless_ms));
        let mut due: Vec<(i64, Arc<[u8]>)> = due.map(|(_, key)| (self.entities[key].since, Arc::clone(key))).collect();
        due.sort_unstable();
        for (_, key) in due {
            self.expire(&key, events);
        }
        self.due_ms = self.by_rest.first().map_or(i64::MAX, |(restless_ms, _)| self.deadline(*restless_ms));
    }

    /// Event time after which a key is forgotten whose newest restless record is of `restless_ms`.
    fn deadline(&self, restless_ms: i64) -> i64 {
        restless_ms.saturating_add(ms(self.config.close_time))
    }

    /// Forgets a key whose time is over.
    fn expire(&mut self, key: &[u8], events: &mut Vec<Event>) {
        if let Some(entity) = self.entities.get(key)
            && self.newest_ms > self.deadline(entity.restless_ms)
        {
            let deadline = self.deadline(entity.restless_ms);
            self.forget(key, Cause::Time, deadline, events);
        }
    }

    fn flag(&mut self, key: &[u8], seen: &Seen<'_>, flagged: Flagged<'_>, events: &mut Vec<Event>) -> Option<Summary> {
        if !self.entities.contains_key(key) {
            self.make_room(key.len(), seen.time_ms, events);
            self.remember(key, seen);
        }
        let config = &self.config;
        let entity = self.entities.get_mut(key).expect("it is remembered by now");
        let gap_ms = seen.time_ms.saturating_sub(entity.restless_ms);
        let joins = entity.n_quiet <= config.gap_records && gap_ms <= ms(config.gap_time);
        entity.flags = entity.flags << 1 | 1;
        entity.stir(seen.time_ms, &mut self.by_rest);
        self.due_ms = self.due_ms.min(entity.restless_ms.saturating_add(ms(config.close_time)));
        if let Some(incident) = entity.incident.as_mut().filter(|_| joins) {
            if incident.join(seen, flagged) {
                events.push(incident.tell(seen.time_ms));
            }
            return Some(incident.summary());
        }
        if let Some(over) = entity.incident.take() {
            self.n_open -= 1;
            events.push(over.close(Cause::Gap, seen.time_ms));
        }
        let among = entity.flags & window(config.n);
        if among.count_ones() < config.m && !self.is_merged {
            return None;
        }
        let kind = match (seen.shifted, key) {
            (true, _) => Kind::Shift,
            (false, PARTITION) => Kind::Partition,
            (false, _) => Kind::Entity,
        };
        let incident = entity.incident.insert(Incident::new(seen, flagged, key, kind));
        self.n_open += 1;
        events.push(incident.tell(seen.time_ms));
        Some(incident.summary())
    }

    /// Remembers a key from this record on.
    fn remember(&mut self, key: &[u8], seen: &Seen<'_>) {
        let (key, since, restless_ms): (Arc<[u8]>, _, _) = (key.into(), seen.id.offset, seen.time_ms);
        self.by_age.insert((since, Arc::clone(&key)));
        self.by_rest.insert((restless_ms, Arc::clone(&key)));
        self.n_key_bytes += key.len();
        let entity = Entity { key: Arc::clone(&key), since, flags: 0, n_quiet: 0, restless_ms, incident: None };
        self.entities.insert(key, entity);
    }

    /// A record that is not flagged.
    fn pass(&mut self, key: &[u8], seen: &Seen<'_>, events: &mut Vec<Event>) {
        let Some(entity) = self.entities.get_mut(key) else { return };
        entity.flags <<= 1;
        if seen.restless {
            entity.stir(seen.time_ms, &mut self.by_rest);
        } else {
            entity.n_quiet += 1;
        }
        let is_over = match entity.incident {
            Some(_) => entity.n_quiet >= self.config.close_records,
            None => entity.flags & window(self.config.n) == 0,
        };
        if is_over {
            self.forget(key, Cause::Records, seen.time_ms, events);
        }
    }

    /// Forgets a key, and closes its incident.
    fn forget(&mut self, key: &[u8], cause: Cause, time_ms: i64, events: &mut Vec<Event>) {
        let Some(entity) = self.entities.remove(key) else { return };
        self.n_key_bytes -= key.len();
        self.by_age.remove(&(entity.since, Arc::clone(&entity.key)));
        self.by_rest.remove(&(entity.restless_ms, entity.key));
        if let Some(incident) = entity.incident {
            self.n_open -= 1;
            events.push(incident.close(cause, time_ms));
        }
        if self.is_merged && key == PARTITION {
            self.is_merged = false;
            self.flag_share = 0.0;
        }
    }

    /// Makes room for one more key, of so many bytes.
    fn make_room(&mut self, n_bytes: usize, time_ms: i64, events: &mut Vec<Event>) {
        let is_full = |tracker: &Self| {
            let too_long = tracker.n_key_bytes + n_bytes > KEY_BYTES_MAX && !tracker.entities.is_empty();
            tracker.entities.len() >= tracker.config.open_max || too_long
        };
        if !is_full(self) {
            return;
        }
        // What is due anyway goes first: whether a batch has ended in between must not matter.
        self.sweep(events);
        // More than one only after the bound has been lowered, or for a long key.
        while is_full(self) {
            let (_, oldest) = self.by_age.first().cloned().expect("at least one key is allowed");
            self.forget(&oldest, Cause::Displaced, time_ms, events);
        }
    }

    /// Makes all incidents one of the partition; one without a key goes on as it.
    fn merge(&mut self, seen: &Seen<'_>, events: &mut Vec<Event>) {
        let others: Vec<Arc<[u8]>> = self.by_age.iter().map(|(_, key)| Arc::clone(key)).collect();
        for key in others.iter().filter(|key| &***key != PARTITION) {
            self.forget(key, Cause::Merged, seen.time_ms, events);
        }
        self.is_merged = true;
    }

    /// Counts a flagged record; the ones since the last were not, as their offsets tell.
    fn count_flag(&mut self, offset: i64) {
        let n = offset.saturating_sub(self.flagged_offset).clamp(1, 1 << 20);
        self.flag_share = self.flag_share * (1.0 - FLAG_RATE).powi(n as i32) + FLAG_RATE;
        self.flagged_offset = offset;
    }
}

impl Entity {
    /// Notes a restless record.
    fn stir(&mut self, time_ms: i64, by_rest: &mut BTreeSet<(i64, Arc<[u8]>)>) {
        self.n_quiet = 0;
        if time_ms > self.restless_ms {
            by_rest.remove(&(self.restless_ms, Arc::clone(&self.key)));
            self.restless_ms = time_ms;
            by_rest.insert((time_ms, Arc::clone(&self.key)));
        }
    }
}

/// The lowest `n` bits, `n` from 1 to 64.
fn window(n: u32) -> u64 {
    u64::MAX >> (64 - n)
}

fn ms(time: std::time::Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
