//! Whether the stream is still what the model was calibrated on.
//!
//! MODEL 3.3. Scores are looked at as u = F(z), their place in the distribution of the held-out rows: raw scores have
//! tails that set off any such test (5 and 23 false drifts in 30,000 records against none), and limits grow with the
//! dependence of neighbours. One sign is not enough:
//! ADWIN must see the mean of u move, and features, u itself or clipped values must have left the reference. It decides
//! nothing about training, and reads no clock: the order of the records decides alone.

mod adwin;
mod dependence;
mod page_hinkley;
mod psi;

use std::collections::VecDeque;

use ndarray::ArrayView1;
use serde::{Deserialize, Serialize};

use self::adwin::{Adwin, Cut};
use self::dependence::Dependence;
use self::page_hinkley::PageHinkley;
use self::psi::psi;
use super::Rows;
use crate::model::Model;
use crate::preprocess::CLIP;

/// Probability of a false alarm of ADWIN, a test.
const DELTA: f64 = 1e-3;
/// Newest rows that are compared with the reference, and for which a change that ADWIN saw counts.
const RECENT: usize = 5000;
/// Fewest rows that say something about features.
const RECENT_MIN: usize = 500;
/// Population stability index at which a feature has drifted.
const PSI_LIMIT: f64 = 0.25;
/// Features that must have drifted: this share of all, and never more than this many.
const FEATURES: (f64, usize) = (0.1, 2);
/// Factor by which clipped inputs must have become more frequent, and the least share that they are measured against: a
/// reference has mostly none.
const CLIPPED: (f64, f64) = (5.0, 2e-4);
/// Mean of u after a change from which nearly every record is odder than 95 % of the reference: what was learnt no longer
/// holds.
const SHIFTED: f64 = 0.95;
/// Change of a feature's share of missing values that means another schema.
const MISSING: f64 = 0.5;

/// What has become of the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// What it was.
    #[default]
    None,
    /// It moves: a model that goes on from its weights follows.
    Gradual,
    /// It is another: a model begins afresh.
    Shift,
    /// A feature has come or gone.
    Schema,
}

impl Class {
    /// Its name in lineages and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gradual => "gradual",
            Self::Shift => "shift",
            Self::Schema => "schema",
        }
    }
}

/// What a look at the stream found; each number is a statistic over its limit, so that 1 is where drift begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// What has become of the stream.
    pub class: Class,
    /// All signs in one: drift from 1 on.
    pub statistic: f64,
    /// Difference of two means of u within ADWIN's window; 1 at least while a change that it saw is recent.
    pub adwin: f64,
    /// Sum of Page and Hinkley.
    pub page_hinkley: f64,
    /// Stability index of as many features as must have drifted.
    pub psi: f64,
    /// Share of clipped inputs.
    pub clipped: f64,
}

/// What is remembered of a recent row.
#[derive(Clone, Debug)]
struct Recent {
    /// Bin of each feature, `[n_features]`.
    bins: Box<[u8]>,
    n_clipped: u32,
}

/// Watches one model's stream.
#[derive(Clone, Debug)]
pub struct Drift {
    adwin: Adwin,
    page_hinkley: PageHinkley,
    dependence: Dependence,
    /// The last change that ADWIN saw, and rows since then.
    change: Option<(Cut, usize)>,
    recent: VecDeque<Recent>,
    /// Recent rows in each bin of each feature, `[n_features][n_bins]`.
    counts: Vec<Vec<u32>>,
    n_clipped: u64,
    /// Whether the schema's change has been told.
    schema_told: bool,
}

impl Drift {
    /// Watches the stream of `model` from now on.
    pub fn new(model: &Model) -> Self {
        let reference = model.reference.as_ref();
        let n_features = reference.map_or(0, crate::model::Reference::n_features);
        let counts = (0..n_features).map(|i| vec![0; reference.map_or(0, |reference| reference.counts(i).len())]);
        Self {
            adwin: Adwin::new(DELTA),
            page_hinkley: PageHinkley::default(),
            dependence: Dependence::default(),
            change: None,
            recent: VecDeque::new(),
            counts: counts.collect(),
            n_clipped: 0,
            schema_told: false,
        }
    }

    /// Takes the stream's next rows in their order. Rows with too little observed to be scored count for features only.
    pub fn observe(&mut self, model: &Model, rows: &Rows) {
        model.score_all(rows.values.view(), |first, workspace| {
            for (i, (inputs, z)) in workspace.x().rows().into_iter().zip(workspace.z()).enumerate() {
                self.remember(model, rows.values.row(first + i), inputs);
                if z.is_nan() {
                    continue;
                }
                self.follow(place(model.calibration.tail.sorted(), *z));
            }
        });
    }

    /// Takes the place of the next score among those of the reference.
    fn follow(&mut self, u: f64) {
        self.page_hinkley.add(u);
        self.adwin.add(u);
        let ends_block = self.dependence.add(u);
        let cut = self.dependence.factor().filter(|_| ends_block).and_then(|factor| self.adwin.test(factor));
        self.change = match (cut, self.change) {
            (Some(cut), _) => Some((cut, 0)),
            (None, Some((cut, n))) if n < RECENT => Some((cut, n + 1)),
            (None, _) => None,
        };
    }

    /// Says what has become of the stream. Drift is told once: then the tests begin anew, and only a further change is
    /// drift again.
    pub fn look(&mut self, model: &Model) -> Finding {
        let mut finding = self.finding(model);
        let schema = !self.schema_told && self.schema_changed(model);
        finding.class = match () {
            () if schema => Class::Schema,
            () if finding.statistic < 1.0 => Class::None,
            () if self.change.is_some_and(|(cut, _)| cut.after >= SHIFTED) => Class::Shift,
            () => Class::Gradual,
        };
        self.schema_told |= schema;
        if finding.class != Class::None {
            self.adwin = Adwin::new(DELTA);
            self.page_hinkley = PageHinkley::default();
            self.change = None;
        }
        finding
    }

    fn finding(&self, model: &Model) -> Finding {
        let seen = if self.change.is_some() { 1.0 } else { 0.0 };
        let adwin = self.adwin.ratio().max(seen);
        let page_hinkley = self.dependence.factor().map_or(0.0, |factor| self.page_hinkley.ratio(factor));
        let (psi, clipped) = (self.psi(model), self.clipped(model));
        let statistic = adwin.min(page_hinkley.max(psi).max(clipped));
        Finding { class: Class::None, statistic, adwin, page_hinkley, psi, clipped }
    }

    /// Notes the bins of a row's features, and forgets the oldest row.
    fn remember(&mut self, model: &Model, raw: ArrayView1<'_, f32>, inputs: ArrayView1<'_, f32>) {
        let Some(reference) = &model.reference else { return };
        let bin = |(feature, value): (usize, &f32)| u8::try_from(reference.bin(feature, *value)).unwrap_or(u8::MAX);
        let bins: Box<[u8]> = raw.iter().enumerate().map(bin).collect();
        let row = Recent { bins, n_clipped: n_clipped(inputs) };
        self.n_clipped += u64::from(row.n_clipped);
        for (counts, bin) in self.counts.iter_mut().zip(&row.bins) {
            counts[usize::from(*bin)] += 1;
        }
        self.recent.push_back(row);
        if self.recent.len() > RECENT
            && let Some(row) = self.recent.pop_front()
        {
            self.n_clipped -= u64::from(row.n_clipped);
            for (counts, bin) in self.counts.iter_mut().zip(&row.bins) {
                counts[usize::from(*bin)] -= 1;
            }
        }
    }

    /// The stability index, over its limit, of the feature that decides: as many have drifted at least as far as must.
    fn psi(&self, model: &Model) -> f64 {
        let Some(reference) = model.reference.as_ref().filter(|_| self.recent.len() >= RECENT_MIN) else { return 0.0 };
        let mut of_features: Vec<f64> =
            self.counts.iter().enumerate().map(|(i, recent)| psi(reference.counts(i), recent)).collect();
        of_features.sort_by(|a, b| b.total_cmp(a));
        let needed = ((of_features.len() as f64 * FEATURES.0).ceil() as usize).clamp(1, FEATURES.1);
        of_features.get(needed - 1).map_or(0.0, |index| index / PSI_LIMIT)
    }

    /// How often inputs are clipped, over the limit.
    fn clipped(&self, model: &Model) -> f64 {
        let Some(reference) = model.reference.as_ref().filter(|_| self.recent.len() >= RECENT_MIN) else { return 0.0 };
        let share = self.n_clipped as f64 / (self.recent.len() * model.preprocessor.n_inputs()) as f64;
        share / (CLIPPED.0 * reference.clipped_share().max(CLIPPED.1))
    }

    /// Whether a feature has begun or ceased to have values.
    fn schema_changed(&self, model: &Model) -> bool {
        let Some(reference) = model.reference.as_ref().filter(|_| self.recent.len() >= RECENT_MIN) else {
            return false;
        };
        let missing = |counts: &[u32]| {
            let n: u32 = counts.iter().sum();
            counts.last().map_or(0.0, |missing| f64::from(*missing) / f64::from(n.max(1)))
        };
        let moved = |(i, recent): (usize, &Vec<u32>)| (missing(recent) - missing(reference.counts(i))).abs() > MISSING;
        self.counts.iter().enumerate().any(moved)
    }
}

/// The place of `z` among ascending scores, 0 to 1; what is equal counts half.
fn place(sorted: &[f64], z: f64) -> f64 {
    if sorted.is_empty() {
        return 0.5;
    }
    let below = sorted.partition_point(|known| *known < z);
    let at_most = sorted.partition_point(|known| *known <= z);
    (below + at_most) as f64 / (2 * sorted.len()) as f64
}

/// Inputs of a row that were cut at ±50 standard deviations.
pub(super) fn n_clipped(inputs: ArrayView1<'_, f32>) -> u32 {
    inputs.iter().map(|x| u32::from(f64::from(x.abs()) >= CLIP)).sum()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
