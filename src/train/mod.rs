//! Training rounds, pure: rows in, a fitted model out.
//!
//! [`fit`] makes a first model of a history that may hold anomalies, [`refit`] carries a champion on. Both hold rows out
//! for calibration, and both leave out of training *and* calibration what is anomalous: trimming alone is no defence
//! (MODEL 3.2). No clock, threads or I/O: the caller brings rows and a seed, and may stop a round between steps.

mod admission;
mod adopt;
mod calibrate;
mod config;
mod curve;
pub mod drift;
mod episodes;
mod fit;
mod gate;
mod holdout;
mod learn;
mod members;
mod opinions;
mod rescale;
mod round;
mod schedule;
mod selection;
pub mod tune;
mod validation;
pub mod watch;

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::sync::Arc;

use ndarray::{Array2, s};
use serde::Serialize;

pub use admission::Admission;
pub use adopt::adopt;
pub use config::Config;
pub use fit::fit;
pub use gate::{Check, Decision, Evidence, GateConfig, Outcome, judge, planted};
pub use holdout::{is_holdout, may_have_learnt};
pub use opinions::Opinions;
pub use rescale::rescale;
pub use round::{REFRESHED, Round, Start, refit, refresh};
pub use schedule::{Limits, Reason, Schedule, Signs, Trigger};
pub use selection::Selection;

use crate::model::{AdmissionScale, Lineage, Model, Reference, artifact};
use crate::preprocess::{Preprocessor, Schema};
use crate::record::RecordId;
use crate::sae::{self, Autoencoder};
use crate::score::{Cards, Members};
use crate::threshold::Calibration;
use crate::turn::give_way;

/// Raw rows of the history in time order.
#[derive(Clone, Debug)]
pub struct Rows {
    /// Raw values, `[rows, n_features]`, NaN where missing.
    pub values: Array2<f32>,
    /// Where each row came from, `[rows]`; decides which rows are held out.
    pub ids: Vec<RecordId>,
}

/// The part of a training that is running.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// A short training on everything, to find the worst rows.
    Trial,
    /// A training without the worst rows, to find which of them are ordinary after all.
    Clean,
    /// The training of the weights that are kept.
    Fresh,
    /// The readmission of ordinary rows, and a little training on them.
    Settle,
    /// An online round from a champion's weights.
    Round,
}

impl Stage {
    /// Its name in files and pictures.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trial => "trial",
            Self::Clean => "clean",
            Self::Fresh => "fresh",
            Self::Settle => "settle",
            Self::Round => "round",
        }
    }
}

/// How far a training is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// The part that is running.
    pub stage: Stage,
    /// Steps done in all parts.
    pub steps_done: u64,
    /// Steps of all parts.
    pub steps_total: u64,
    /// Loss of the last step: about the share of variance that is not explained.
    pub loss: f64,
}

/// Hears of progress and may stop the training.
pub type OnProgress<'a> = &'a mut dyn FnMut(Progress) -> ControlFlow<()>;

/// Everything of a model but its version and its time.
#[derive(Clone, Debug)]
pub struct Fitted {
    /// Features that it scores.
    pub schema: Arc<Schema>,
    /// Scaling of raw values.
    pub preprocessor: Preprocessor,
    /// Weights.
    pub autoencoder: Autoencoder<f32>,
    /// Location, scale and tail of its scores.
    pub calibration: Calibration,
    /// Memory and tails beside the autoencoder, if any.
    pub members: Option<Members>,
    /// What is usual of its residuals and latents.
    pub cards: Cards,
    /// How admission scores are standardised under it.
    pub admission: AdmissionScale,
    /// How the features of the held-out rows were distributed.
    pub reference: Reference,
    /// Held-out records since each latent last fired, `[n_latents]`.
    pub since_fired: Vec<u64>,
    /// Seed, counts and configuration are filled in; source, chunks, parent, champion and reason are the caller's.
    pub lineage: Lineage,
    /// What the training was like.
    pub report: Report,
    /// Rows that were given and not admitted.
    pub rejected: Vec<RecordId>,
    /// What each of the rows was used for.
    pub selection: Selection,
}

/// What a training was like.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// Rows that were given.
    pub n_rows: usize,
    /// Rows the weights were trained on.
    pub n_train: usize,
    /// Held-out rows that were admitted to calibration.
    pub n_holdout: usize,
    /// Rows that were admitted, held out or not.
    pub n_admitted: usize,
    /// Rows that were left out as anomalous or too little observed.
    pub n_dropped: usize,
    /// Steps that were taken.
    pub n_steps: u64,
    /// Loss of the last step.
    pub loss: f64,
    /// Share of the held-out admitted rows' variance that is explained.
    pub explained_variance: f64,
    /// Mean number of active latents on the same rows.
    pub latents_active_mean: f64,
    /// Share of latents that fired on none of them.
    pub latents_dead_ratio: f64,
}

/// Why a training gave no model.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TrainError {
    /// There are too few rows that can be scored.
    #[error("training needs at least {needed} rows with half their features observed, got {got}")]
    TooFewRows {
        /// Rows that can be scored.
        got: usize,
        /// Least number.
        needed: usize,
    },
    /// The rows have another width than the schema.
    #[error("rows have {got} values where the schema has {expected} features")]
    Width {
        /// Values of a row.
        got: usize,
        /// Features of the schema.
        expected: usize,
    },
    /// There is nothing to start from.
    #[error(transparent)]
    Start(#[from] sae::StartError),
    /// The caller stopped it.
    #[error("training was stopped")]
    Stopped,
    /// Loss or gradient stayed infinite.
    #[error("training does not converge: the loss was not finite {attempts} times, the last at step {step}")]
    NotFinite {
        /// Steps that were left out.
        attempts: u32,
        /// The last of them.
        step: u64,
    },
}

impl Rows {
    /// Joins values `[rows, n_features]` and their places; panics when there are not as many of both.
    pub fn new(values: Array2<f32>, ids: Vec<RecordId>) -> Self {
        assert_eq!(values.nrows(), ids.len(), "every row has a place");
        Self { values, ids }
    }

    /// The newest `n_max` of them; itself where there are no more.
    pub fn newest(&self, n_max: usize) -> Cow<'_, Self> {
        let Some(from) = self.len().checked_sub(n_max).filter(|from| *from > 0) else { return Cow::Borrowed(self) };
        Cow::Owned(Self::new(self.values.slice(s![from.., ..]).to_owned(), self.ids[from..].to_vec()))
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

impl Fitted {
    /// Keeps ids and labels of the latents that `parent` has too: after a round, or when a fresh fit takes its place.
    pub fn inherit(&mut self, parent: &Model) {
        self.lineage.next_latent = parent.cards.next_id;
        self.cards.inherit(self.autoencoder.w_dec.view(), (&parent.cards, parent.autoencoder.w_dec.view()));
    }

    /// Numbers the latents of a first model from `first` on.
    pub fn number_from(&mut self, first: u64) {
        self.lineage.next_latent = first;
        self.cards.number_from(first);
    }

    /// Makes it a model version.
    pub fn into_model(self, version: u64, trained_at_ms: i64) -> Model {
        let mut model = Model {
            version,
            hash: String::new(),
            trained_at_ms,
            schema: self.schema,
            preprocessor: self.preprocessor,
            autoencoder: self.autoencoder,
            calibration: self.calibration,
            members: self.members,
            cards: self.cards,
            admission: self.admission,
            reference: Some(self.reference),
            since_fired: self.since_fired,
            lineage: Lineage {
                report: serde_json::to_value(&self.report).expect("a report of plain values is always JSON"),
                ..self.lineage
            },
        };
        give_way();
        model.hash = artifact::hash(&model);
        give_way();
        model
    }
}
