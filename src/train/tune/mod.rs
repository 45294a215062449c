//! The search for a better configuration of the autoencoder, without labels or with them. Pure: rows and a seed in, a
//! choice with its evidence out.
//!
//! MODEL 5, and with the care that its measurements ask for: the lowest reconstruction error chooses the model that
//! reconstructs anomalies, too (Spearman −.28 with the true AUROC), no label-free criterion beat a good default by much,
//! and the best of them was stability (+.38): do two seeds rank held-out rows alike? So candidates must pass gates, the
//! most stable one is taken, and the default stays unless that is clearly better. After Ma, Zhao, Zhang and Akoglu,
//! arXiv 2104.01422, who found internal criteria no better than chance and consensus the least bad.

mod measure;
mod search;
mod space;

use serde::Serialize;

pub use measure::Bench;
pub use search::search;
pub use space::candidates;

use super::{Config, TrainError};

/// Lead in the criterion that a candidate needs over the default; ties keep the default.
pub const LEAD_MIN: f64 = 0.02;
/// Candidates this close in the criterion count as equal: the smaller one wins.
pub const TIE: f64 = 0.01;
/// Seeds of each candidate at each rung.
pub const SEEDS: [u64; 3] = [2, 2, 3];
/// Share of the steps at each rung: a third of the candidates climbs.
pub const STEPS: [f64; 3] = [1.0 / 9.0, 1.0 / 3.0, 1.0];

/// What one training of one candidate gave on the validation rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    /// Score of each validation row, `[rows]`.
    pub scores: Vec<f64>,
    /// Share of their variance that is explained, without the worst rows.
    pub explained_variance: f64,
    /// Mean number of active latents.
    pub latents_active_mean: f64,
    /// Share of the latents that none of them activates, 0 to 1.
    pub latents_dead_ratio: f64,
    /// Mean squared residual, without the worst rows.
    pub loss: f64,
    /// AUROC against rows some of whose values come from another row.
    pub auc_swapped: f64,
    /// AUROC against rows with a shifted value.
    pub auc_shifted: f64,
    /// Average precision, if there are labels.
    pub average_precision: Option<f64>,
}

/// The same over the seeds of a rung.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// J: mean pairwise Spearman correlation of the scores across seeds, −1 to 1.
    pub stability: f64,
    /// Mean of the explained variances.
    pub explained_variance: f64,
    /// Mean number of active latents.
    pub latents_active_mean: f64,
    /// Mean share of dead latents.
    pub latents_dead_ratio: f64,
    /// Mean loss.
    pub loss: f64,
    /// Mean AUROC against swapped values.
    pub auc_swapped: f64,
    /// Mean AUROC against shifted values.
    pub auc_shifted: f64,
    /// Mean average precision, if there are labels.
    pub average_precision: Option<f64>,
}

/// What a choice is made by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Criterion {
    /// Agreement of the seeds; there are no labels.
    Stability,
    /// Average precision against the labels.
    AveragePrecision,
}

/// A candidate and what became of it.
#[derive(Clone, Debug, Serialize)]
pub struct Candidate {
    /// Its configuration.
    pub config: Config,
    /// Latents, for the rows at hand.
    pub n_latents: usize,
    /// Active latents of a row, as configured.
    pub k: usize,
    /// Rungs that it was measured at, 0 to 3.
    pub rungs: usize,
    /// What the last of them gave; none if no training succeeded.
    pub summary: Option<Summary>,
    /// Why it was dropped, if a gate or a failure dropped it.
    pub dropped: Option<String>,
    /// Whether no candidate of the last rung or the default explains more with fewer active latents.
    pub pareto: bool,
}

/// The end of a search.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// What the choice was made by.
    pub criterion: Criterion,
    /// The default, measured like a candidate.
    pub default: Candidate,
    /// The candidates in the order in which they were drawn; a learning rate that was tried at the end comes last.
    pub candidates: Vec<Candidate>,
    /// Place of the chosen candidate; none: the default stays.
    pub chosen: Option<usize>,
}

impl Outcome {
    /// The chosen candidate, or the default.
    pub fn choice(&self) -> &Candidate {
        self.chosen.map_or(&self.default, |chosen| &self.candidates[chosen])
    }
}

/// One training that is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Trial<'a> {
    /// The configuration, at full length.
    pub config: &'a Config,
    /// Share of its steps, 0 to 1.
    pub share: f64,
    /// Seed.
    pub seed: u64,
}

/// Trains and measures; the search knows nothing else of models.
pub type Measure<'a> = &'a mut dyn FnMut(Trial<'_>) -> Result<Measured, TrainError>;
