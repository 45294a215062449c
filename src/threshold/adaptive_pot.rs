//! The default: peaks over threshold on rolling standardised scores, with feedback on the rate of alerts.
//!
//! MODEL 4.2. Scores are standardised by the latest admitted ones, so drift of location and scale moves no threshold;
//! the tail of what is left is a generalised Pareto; feedback mends what both get wrong. Of what is flagged, one an
//! episode is learnt, no more than twice the target, and never whole: learning all of it lets a burst raise the
//! threshold over itself, learning none lets each removal lower it (5 to 22 times too many alerts). A shift for good is
//! confirmed once and then learnt. Limit: mild anomalies that are themselves twice the target are taken for ordinary.

use super::calibration::Calibration;
use super::location::Location;
use super::peaks::Peaks;
use super::ring::Ring;
use super::scores::Scores;
use super::{Carried, Config, Target, Threshold, Verdict, Z_MAX};

/// Gain of the feedback on ln α: one counted alert too many lowers α by a tenth.
const GAIN: f64 = 0.1;
/// How far feedback may move α from the target, as a factor.
const ALPHA_RANGE: f64 = 4.0;
/// Records between two looks at location and scale, and between two fits of the tail.
const LOCATE_EVERY: u32 = 32;
const FIT_EVERY: u32 = 64;
/// Scores that have a location and a scale.
const LOCATED_MIN: usize = 32;
/// Records without a flag after which a flagged one opens an episode.
const EPISODE_GAP: u32 = 64;
/// Records of an episode during which none is learnt for the tail once a second flag has come. Of a mild burst, one in
/// twenty is not flagged and lies just below the threshold: learnt, 150 of them in 20,000 scores raise it over the next
/// burst (recall .62 instead of .93). Beyond this the burst may be what is ordinary now.
const EPISODE_RECORDS: u32 = 1024;
/// Admissions that are earned per record, in units of the target, and the most that can be saved.
const TOKENS_PER_TARGET: f64 = 2.0;
const TOKENS_MAX: f64 = 10.0;
/// An admitted flag counts for no more than the score of this p-value.
const P_ADMITTED_MIN: f64 = 1e-5;
/// Rate of the moving average of flags, its level that means a shift, and records in a row at it that confirm one.
const SHIFT_RATE: f64 = 1.0 / 512.0;
const SHIFT_LEVEL: f64 = 0.5;
const SHIFT_RECORDS: u32 = 4096;
/// Latest scores that a shift is learnt from.
const RECENT: usize = 1024;
/// Share of them that may exceed the old tail; above it the shift has changed the shape, too, and the tail is learnt
/// anew. Without, a constant series that turns noisy would alert for ever.
const MISFIT_MAX: f64 = 0.05;
/// Least scale, in units of the model's, and least distance of the threshold from the median: equal scores have none,
/// and `f32` tells nothing finer. For large medians it is relative.
const SCALE_MIN: f64 = 1e-6;

/// State of one partition.
#[derive(Clone, Debug)]
pub struct AdaptivePot {
    q: f64,
    gain: f64,
    /// Range of ln α.
    ln_alpha_min: f64,
    ln_alpha_max: f64,
    /// Scores from which on the target can be told from chance.
    n_calibrating: usize,
    /// Admitted scores, for location and scale.
    location: Location,
    median: f64,
    scale: f64,
    /// Admitted standardised scores, for the tail.
    scores: Scores,
    scores_max: usize,
    peaks: Peaks,
    /// How many of the scores the calibration gave, how many came since, and whether its tail ended.
    n_calibrated: usize,
    n_admitted: usize,
    ended: bool,
    /// Latest scores, flagged or not.
    recent: Ring,
    ln_alpha: f64,
    /// The threshold in units of the input, and the standardised score that an admitted flag is cut to.
    z_at_alert: f64,
    admitted_max: f64,
    tokens: f64,
    n_unflagged: u32,
    /// Records since the episode opened, and whether a second flag has come in it.
    n_episode: u32,
    is_burst: bool,
    shift: f64,
    n_shifting: u32,
    n_judged: u32,
}

impl AdaptivePot {
    /// A state that begins on a model's calibration, for the target alert rate `q`.
    pub fn new(config: &Config, q: f64, calibration: &Calibration) -> Self {
        let ascending = calibration.tail.sorted();
        let clamped = |z: &f64| z.clamp(-Z_MAX, Z_MAX) as f32;
        let mut location = Location::new(ascending.len().max(1), ascending.iter().map(clamped));
        let (median, scale) = unit(&mut location);
        location = Location::new(config.location_window, ascending.iter().map(clamped));
        let scores_max = config.calibration_window;
        let standardised = ascending.iter().map(|z| ((f64::from(clamped(z)) - median) / scale) as f32);
        let scores = Peaks::window(scores_max, q, standardised);
        let mut state = Self {
            q,
            gain: if config.target == Target::AlertRate { GAIN } else { 0.0 },
            ln_alpha_min: (q / ALPHA_RANGE).ln(),
            ln_alpha_max: (q * ALPHA_RANGE).ln(),
            n_calibrating: (2.0 / q).min(scores_max as f64).ceil() as usize,
            location,
            median,
            scale,
            n_calibrated: scores.len(),
            n_admitted: 0,
            ended: calibration.tail.ended(),
            scores,
            scores_max,
            peaks: Peaks::new(),
            recent: Ring::new(RECENT, std::iter::empty()),
            ln_alpha: q.ln(),
            z_at_alert: 0.0,
            admitted_max: 0.0,
            tokens: TOKENS_MAX,
            n_unflagged: EPISODE_GAP,
            n_episode: 0,
            is_burst: false,
            shift: 0.0,
            n_shifting: 0,
            n_judged: 0,
        };
        state.fit();
        state
    }

    /// Standardised by the latest admitted scores.
    fn standardise(&self, z: f32) -> f64 {
        (f64::from(z) - self.median) / self.scale
    }

    fn locate(&mut self) {
        (self.median, self.scale) = unit(&mut self.location);
        self.place();
    }

    fn fit(&mut self) {
        let n_room = self.scores_max - self.n_calibrated;
        let n_left = self.n_calibrated.saturating_sub(self.n_admitted.saturating_sub(n_room));
        let ended = if self.ended { n_left as f64 / self.scores.len().max(1) as f64 } else { 0.0 };
        self.peaks.fit(&mut self.scores, self.q, ended);
        self.admitted_max = self.peaks.z_at(&self.scores, P_ADMITTED_MIN.min(self.q / 100.0));
        self.place();
    }

    /// Places the threshold at the present level. Between two looks the level moves by less than a hundredth at 1e-3.
    fn place(&mut self) {
        let z = self.peaks.z_at(&self.scores, self.ln_alpha.exp());
        self.z_at_alert = self.median + (self.scale * z).max(scale_min(self.median));
    }

    fn admit(&mut self, z: f32, standardised: f64) {
        let was_short = self.location.len() < LOCATED_MIN;
        self.location.push(z);
        self.scores.push(standardised as f32);
        self.n_admitted = self.n_admitted.saturating_add(1);
        if was_short && self.location.len() == LOCATED_MIN {
            // The first location of its own: the scores so far were standardised by the model's.
            (self.median, self.scale) = unit(&mut self.location);
            let known: Vec<f64> = self.location.values().iter().map(|z| self.standardise(*z)).collect();
            self.learn_anew(&known);
            self.fit();
        }
    }

    /// Learns from an ordinary record; from one amid a burst the location alone, and nothing while a shift is being
    /// confirmed: the few that aren't flagged would hide it.
    fn admit_unflagged(&mut self, z: f32, standardised: f64) {
        if self.shift > SHIFT_LEVEL {
            return;
        }
        if self.is_burst && self.n_episode < EPISODE_RECORDS {
            self.location.push(z);
        } else {
            self.admit(z, standardised);
        }
    }

    fn follow_episode(&mut self, flagged: bool) {
        self.n_episode = self.n_episode.saturating_add(1);
        if !flagged {
            self.n_unflagged = self.n_unflagged.saturating_add(1);
            self.is_burst &= self.n_unflagged < EPISODE_GAP;
            return;
        }
        if self.n_unflagged < EPISODE_GAP {
            self.is_burst = true;
        } else {
            self.n_episode = 0;
        }
        self.n_unflagged = 0;
    }

    /// Replaces the scores that the tail is of.
    fn learn_anew(&mut self, standardised: &[f64]) {
        self.scores.clear();
        standardised.iter().for_each(|z| self.scores.push(*z as f32));
        (self.n_calibrated, self.n_admitted, self.ended) = (0, 0, false);
    }

    /// Learns from a flagged record, or not. Returns whether it counts as an alert of the rate that is held.
    fn admit_flagged(&mut self, standardised: f64) -> bool {
        if self.n_unflagged < EPISODE_GAP || self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        let cut = standardised.min(self.admitted_max);
        self.admit((self.median + self.scale * cut) as f32, cut);
        true
    }

    /// Whether the record confirms a shift.
    fn is_shift(&mut self, flagged: bool) -> bool {
        self.shift += SHIFT_RATE * (f64::from(u8::from(flagged)) - self.shift);
        self.n_shifting = if self.shift > SHIFT_LEVEL { self.n_shifting + 1 } else { 0 };
        self.n_shifting >= SHIFT_RECORDS
    }

    /// Takes the latest scores for what is ordinary now.
    fn settle(&mut self) {
        self.location.clear();
        for z in self.recent.in_time() {
            self.location.push(z);
        }
        (self.median, self.scale) = unit(&mut self.location);
        let limit = self.peaks.z_at(&self.scores, self.q);
        let standardised: Vec<f64> = self.recent.in_time().map(|z| self.standardise(z)).collect();
        let n_beyond = standardised.iter().filter(|z| **z > limit).count();
        if n_beyond as f64 > MISFIT_MAX.max(2.0 * self.q) * standardised.len() as f64 {
            self.learn_anew(&standardised);
        }
        (self.tokens, self.shift, self.n_shifting) = (TOKENS_MAX, 0.0, 0);
        self.fit();
    }
}

/// Location and scale of a window; the model's own, 0 and 1, while it is too short to have any.
fn unit(window: &mut Location) -> (f64, f64) {
    if window.len() < LOCATED_MIN {
        return (0.0, 1.0);
    }
    let (median, mad) = window.median_and_mad();
    (median, mad.max(scale_min(median)))
}

fn scale_min(median: f64) -> f64 {
    SCALE_MIN * median.abs().max(1.0)
}

impl Threshold for AdaptivePot {
    fn judge(&mut self, z: f64) -> Verdict {
        let calibrating = self.scores.len() < self.n_calibrating;
        if z.is_nan() {
            return Verdict { calibrating, ..Verdict::of(1.0, z, self.z_at_alert) };
        }
        let stored = z.clamp(-Z_MAX, Z_MAX) as f32;
        let standardised = self.standardise(stored);
        let p_value = self.peaks.p_value(&self.scores, standardised);
        let mut verdict = Verdict { calibrating, ..Verdict::of(p_value, z, self.z_at_alert) };
        let flagged = verdict.anomalous;

        self.recent.push(stored);
        self.tokens = (self.tokens + TOKENS_PER_TARGET * self.q).min(TOKENS_MAX);
        let counted = flagged && self.admit_flagged(standardised);
        if !flagged {
            self.admit_unflagged(stored, standardised);
        }
        self.follow_episode(flagged);
        let moved = self.ln_alpha + self.gain * (self.q - f64::from(u8::from(counted)));
        self.ln_alpha = moved.clamp(self.ln_alpha_min, self.ln_alpha_max);

        verdict.shifted = self.is_shift(flagged);
        self.n_judged = (self.n_judged + 1) % FIT_EVERY;
        if verdict.shifted {
            self.settle();
        } else if self.n_judged == 0 {
            self.locate();
            self.fit();
        } else if self.n_judged.is_multiple_of(LOCATE_EVERY) {
            self.locate();
        } else if counted {
            self.place();
        }
        verdict
    }

    fn z_at_alert(&self) -> f64 {
        self.z_at_alert
    }

    fn z_at(&self, p: f64) -> f64 {
        self.median + self.scale * self.peaks.z_at(&self.scores, p)
    }

    fn carried(&self) -> Option<Carried> {
        Some(Carried { alpha: self.ln_alpha.exp(), tokens: self.tokens, shift: self.shift })
    }

    fn restore(&mut self, carried: &Carried) {
        // What was carried under another target, or was damaged on its way, is brought into range.
        let within =
            |value: f64, low: f64, high: f64, or: f64| if value.is_nan() { or } else { value.clamp(low, high) };
        self.ln_alpha = within(carried.alpha, self.q / ALPHA_RANGE, self.q * ALPHA_RANGE, self.q).ln();
        self.tokens = within(carried.tokens, 0.0, TOKENS_MAX, TOKENS_MAX);
        self.shift = within(carried.shift, 0.0, 1.0, 0.0);
        self.place();
    }
}

#[cfg(test)]
#[path = "adaptive_pot_tests.rs"]
mod tests;
