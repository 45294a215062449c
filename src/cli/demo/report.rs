//! The count at the demo's end: which faults were found, how soon, and how often the alarm was false.
//!
//! An anomaly is true when its record lies in the window of a fault of its own pump, and false everywhere else, an
//! unknown record included. It must never give strayd the benefit of a doubt that the baseline doesn't get.

use std::collections::HashMap;

use serde::Serialize;

use super::baseline::{self, Scores};
use super::faults::Fault;
use super::plant::{Reading, key};
use crate::record::RecordId;

/// What an anomaly turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// The first anomaly in the window of the fault with this id.
    Found(usize),
    /// One more anomaly in the window of the fault with this id.
    Again(usize),
    /// Outside every window.
    False,
    /// An anomaly of this record has been counted already: a repeated delivery.
    Repeated,
    /// The record's delivery isn't known yet; it is judged when it is.
    Pending,
}

/// Counts what is sent, delivered and published.
#[derive(Debug)]
pub struct Tally {
    faults: Vec<Fault>,
    /// Index of the first live reading.
    start: usize,
    /// Seconds at which each live reading was sent `[live readings]`.
    sent_seconds: Vec<f64>,
    /// Scores of the z-score alarm `[live readings]`.
    plant_wide: Vec<f64>,
    own_pump: Vec<f64>,
    delivered: HashMap<RecordId, usize>,
    /// Seconds at which the first anomaly of each record came.
    anomalies: HashMap<RecordId, f64>,
    pending: Vec<(RecordId, f64)>,
    n_repeated: u64,
    n_false: u64,
    /// Seconds at which the first anomaly of each fault came `[faults]`.
    found_seconds: Vec<Option<f64>>,
}

/// What the run itself knows.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// Records that the daemon scored in the live part.
    pub records_scored: u64,
    /// Seconds that the live part took.
    pub live_seconds: f64,
    /// Seconds from the start to the first model that can alert.
    pub first_model_seconds: f64,
    /// Share of records that the detector was told to alert on.
    pub target_alert_rate: f64,
}

/// The demo's result, as its last line with `--json`.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Faults whose whole window was sent.
    pub faults_injected: usize,
    /// Of these, the ones with an anomaly in their window.
    pub faults_found: usize,
    /// Anomaly records outside every fault's window.
    pub false_alerts: u64,
    /// Records scored in the live part.
    pub records_scored: u64,
    /// Records scored a second.
    pub records_per_second: f64,
    /// Seconds from the start to the first model that can alert.
    pub first_model_seconds: f64,
    /// Median seconds from a fault's first reading to its first anomaly; null when none was found.
    pub median_detect_seconds: Option<f64>,
    /// Faults that the per-sensor z-score alarm finds with as many alerts.
    pub baseline_faults_found: usize,
    /// Share of records that the detector was told to alert on.
    pub target_alert_rate: f64,
    /// Twice the target plus three.
    pub false_alerts_allowed: f64,
    /// Anomaly records, each counted once.
    pub anomalies: usize,
    /// Anomaly records that came more than once.
    pub anomalies_repeated: u64,
}

impl Tally {
    /// Starts counting for a live part that begins at index `start`.
    pub fn new(faults: Vec<Fault>, start: usize) -> Self {
        let found_seconds = vec![None; faults.len()];
        Self {
            faults,
            start,
            sent_seconds: Vec::new(),
            plant_wide: Vec::new(),
            own_pump: Vec::new(),
            delivered: HashMap::new(),
            anomalies: HashMap::new(),
            pending: Vec::new(),
            n_repeated: 0,
            n_false: 0,
            found_seconds,
        }
    }

    /// Counts a live reading that is sent at `seconds`; they come in order, none left out.
    pub fn sent(&mut self, reading: &Reading, scores: Scores, seconds: f64) {
        assert_eq!(reading.index, self.start + self.sent_seconds.len(), "live readings are counted in order");
        self.sent_seconds.push(seconds);
        self.plant_wide.push(scores.plant_wide);
        self.own_pump.push(scores.own_pump);
    }

    /// Notes where the reading with `index` stands in the topic. An anomaly that was waiting for it is judged.
    pub fn delivered(&mut self, id: RecordId, index: usize) {
        self.delivered.insert(id, index);
        if let Some(place) = self.pending.iter().position(|(pending, _)| *pending == id) {
            let (_, seconds) = self.pending.swap_remove(place);
            self.judge(index, seconds);
        }
    }

    /// Counts an anomaly of the record `id`, received at `seconds`.
    pub fn anomaly(&mut self, id: RecordId, seconds: f64) -> Judged {
        if self.anomalies.contains_key(&id) {
            self.n_repeated += 1;
            return Judged::Repeated;
        }
        self.anomalies.insert(id, seconds);
        if let Some(&index) = self.delivered.get(&id) {
            return self.judge(index, seconds);
        }
        self.pending.push((id, seconds));
        Judged::Pending
    }

    fn judge(&mut self, index: usize, seconds: f64) -> Judged {
        let Some(fault) = self.faults.iter().find(|fault| fault.covers(index)) else {
            self.n_false += 1;
            return Judged::False;
        };
        let found = &mut self.found_seconds[fault.id];
        let first = found.is_none();
        *found = Some(found.map_or(seconds, |before| before.min(seconds)));
        if first { Judged::Found(fault.id) } else { Judged::Again(fault.id) }
    }

    /// The planned faults.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// Faults whose whole window has been sent.
    fn injected(&self) -> impl Iterator<Item = &Fault> {
        let end = self.start + self.sent_seconds.len();
        self.faults.iter().filter(move |fault| fault.end <= end)
    }

    /// Seconds from a fault's first reading to its first anomaly.
    fn detect_seconds(&self, fault: &Fault) -> Option<f64> {
        let sent = self.sent_seconds.get(fault.start - self.start)?;
        Some((self.found_seconds[fault.id]? - sent).max(0.0))
    }

    /// What the z-score alarm finds with as many alerts `[faults]`: the better of its two forms.
    fn baseline_found(&self) -> Vec<bool> {
        let n_alerts = self.anomalies.len();
        let forms = [&self.plant_wide, &self.own_pump];
        let [one, other] = forms.map(|scores| baseline::found(scores, self.start, &self.faults, n_alerts));
        let count = |found: &[bool]| self.injected().filter(|fault| found[fault.id]).count();
        if count(&one) >= count(&other) { one } else { other }
    }

    /// Sums up.
    pub fn summary(&self, run: &Run) -> Summary {
        let mut seconds: Vec<f64> = self.injected().filter_map(|fault| self.detect_seconds(fault)).collect();
        seconds.sort_by(f64::total_cmp);
        let baseline_found = self.baseline_found();
        Summary {
            faults_injected: self.injected().count(),
            faults_found: seconds.len(),
            false_alerts: self.n_false + self.pending.len() as u64,
            records_scored: run.records_scored,
            records_per_second: thousandths(run.records_scored as f64 / run.live_seconds.max(1e-3)),
            first_model_seconds: thousandths(run.first_model_seconds),
            median_detect_seconds: median(&seconds).map(thousandths),
            baseline_faults_found: self.injected().filter(|fault| baseline_found[fault.id]).count(),
            target_alert_rate: run.target_alert_rate,
            false_alerts_allowed: thousandths(2.0 * run.target_alert_rate * run.records_scored as f64 + 3.0),
            anomalies: self.anomalies.len(),
            anomalies_repeated: self.n_repeated,
        }
    }

    /// One line a fault: what it was, its size, whether one sensor shows it, who found it.
    pub fn table(&self) -> String {
        let baseline_found = self.baseline_found();
        let mut table = format!(
            "{:>2}  {:<18} {:<7}  {:<31} {:>6}  {:>8}  {:<10} {:<14} {}\n",
            "#", "fault", "pump", "sensors", "size σ", "single z", "one sensor", "strayd", "z-score alarm"
        );
        for fault in self.injected() {
            let by_strayd = self.detect_seconds(fault).map_or("-".into(), |seconds| format!("after {seconds:.2} s"));
            let more = fault.sensors.len() - 1;
            let first = super::sensors::SENSORS[fault.sensors[0]].name;
            let sensors = if more == 0 { first.to_owned() } else { format!("{first} and {more} more") };
            table.push_str(&format!(
                "{:>2}  {:<18} {:<7}  {sensors:<31} {:>6.1}  {:>8.1}  {:<10} {by_strayd:<14} {}\n",
                fault.id + 1,
                fault.kind.name(),
                key(fault.pump),
                fault.size_sigma,
                fault.peak_z,
                if fault.kind.is_visible() { "visible" } else { "invisible" },
                if baseline_found[fault.id] { "found" } else { "-" },
            ));
        }
        table
    }
}

impl Summary {
    /// The summary for people.
    pub fn to_text(&self) -> String {
        let share = |n: usize| 100.0 * n as f64 / self.faults_injected.max(1) as f64;
        let median = self.median_detect_seconds.map_or("-".into(), |seconds| format!("{seconds:.2} s"));
        format!(
            "faults found   strayd {} of {} ({:.0} %), median {median} after the first faulty reading\n\
             \x20              per-sensor z-score alarm {} of {} ({:.0} %) with the same {} alerts\n\
             false alerts   {} of {} records ({:.1} expected at a target rate of {}, {:.0} allowed)\n\
             speed          {:.0} records/s, first model after {:.1} s\n",
            self.faults_found,
            self.faults_injected,
            share(self.faults_found),
            self.baseline_faults_found,
            self.faults_injected,
            share(self.baseline_faults_found),
            self.anomalies,
            self.false_alerts,
            self.records_scored,
            self.target_alert_rate * self.records_scored as f64,
            self.target_alert_rate,
            self.false_alerts_allowed.floor(),
            self.records_per_second,
            self.first_model_seconds,
        )
    }
}

fn median(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    Some(if sorted.len().is_multiple_of(2) { f64::midpoint(sorted[middle - 1], upper) } else { upper })
}

fn thousandths(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::super::faults::Live;
    use super::super::plant::{N_PUMPS, Plant};
    use super::super::schedule::{Plan, plan};
    use super::*;

    const RUN: Run =
        Run { records_scored: 20_000, live_seconds: 20.0, first_model_seconds: 4.2, target_alert_rate: 5e-4 };

    /// A whole live part sent one reading a millisecond; the reading's index is its offset.
    fn sent() -> (Tally, Vec<Fault>) {
        let mut plant = Plant::new(4);
        let history = plant.history(1200);
        let baseline = baseline::Baseline::fit(&history);
        let faults = plan(&plant, &Plan { n_records: 20_000, rate: 1000.0, seed: 4 });
        let mut live = Live::new(plant, faults.clone());
        let mut tally = Tally::new(faults.clone(), live.start());
        for place in 0..20_000 {
            let reading = live.reading();
            tally.sent(&reading, baseline.score(&reading), f64::from(place) / 1000.0);
            tally.delivered(at(reading.index), reading.index);
        }
        (tally, faults)
    }

    fn at(index: usize) -> RecordId {
        RecordId { partition: 0.into(), offset: index as i64 }
    }

    #[test]
    fn anomaly_in_the_window_finds_the_fault_and_others_are_false() {
        let (mut tally, faults) = sent();
        let fault = &faults[0];
        let start_seconds = (fault.start - 1200) as f64 / 1000.0;
        assert_eq!(tally.anomaly(at(fault.start + N_PUMPS), start_seconds + 0.5), Judged::Found(0));
        assert_eq!(tally.anomaly(at(fault.start), start_seconds + 0.6), Judged::Again(0));
        assert_eq!(tally.anomaly(at(fault.start), start_seconds + 0.7), Judged::Repeated);
        assert_eq!(tally.anomaly(at(fault.start + 1), start_seconds + 0.5), Judged::False, "another pump");
        assert_eq!(tally.anomaly(at(fault.end - 1 + N_PUMPS), start_seconds + 0.8), Judged::False, "too late");
        let summary = tally.summary(&RUN);
        assert_eq!((summary.faults_found, summary.false_alerts, summary.anomalies_repeated), (1, 2, 1));
        assert_eq!(summary.median_detect_seconds, Some(0.5));
        assert_eq!(summary.faults_injected, faults.len());
        assert!((summary.false_alerts_allowed - 23.0).abs() < 1e-9);
        assert!(tally.table().contains("after 0.50 s"));
        assert!(summary.to_text().contains(&format!("strayd 1 of {}", faults.len())));
    }

    #[test]
    fn anomaly_before_its_delivery_is_judged_later_and_false_when_never_delivered() {
        let mut plant = Plant::new(4);
        plant.history(1200);
        let faults = plan(&plant, &Plan { n_records: 20_000, rate: 1000.0, seed: 4 });
        let start = faults[0].start;
        let mut tally = Tally::new(faults, 1200);
        assert_eq!(tally.anomaly(at(start), 3.0), Judged::Pending);
        assert_eq!(tally.summary(&RUN).false_alerts, 1);
        tally.delivered(at(start), start);
        assert_eq!(tally.summary(&RUN).false_alerts, 0);
        assert_eq!(tally.summary(&RUN).faults_injected, 0, "nothing has been sent");
    }

    #[test]
    fn summary_has_the_promised_keys() {
        let (tally, _) = sent();
        let json = serde_json::to_value(tally.summary(&RUN)).unwrap();
        for name in [
            "faults_injected",
            "faults_found",
            "false_alerts",
            "records_scored",
            "records_per_second",
            "first_model_seconds",
            "median_detect_seconds",
        ] {
            assert!(json.get(name).is_some(), "{name}");
        }
        assert_eq!(json["records_per_second"], 1000.0);
        assert!(json["median_detect_seconds"].is_null());
    }
}
