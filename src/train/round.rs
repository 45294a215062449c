//! An online round: a champion's weights carried on by what it finds ordinary.
//!
//! MODEL 3.3: the champion scores the newest rows in order and admits; its weights go on for 60 steps on the newest 1024
//! admitted rows that are not held out, with moments at zero and the scaler frozen; then everything that standardises
//! scores is measured anew. It never decides whether the result replaces the champion.

use ndarray::Axis;
use serde::{Deserialize, Serialize};

use super::admission::Admission;
use super::calibrate::{Material, Standardised, calibrate};
use super::config::Config;
use super::curve::Recorder;
use super::fit::{Pass, afresh};
use super::holdout::is_holdout;
use super::learn::{Plan, TrainingRows, learn, rng};
use super::rescale::{can_rescale, has_moved, rescale};
use super::{Fitted, OnProgress, Opinions, Rows, Selection, Stage, TrainError};
use crate::model::{Model, Span, join_spans};
use crate::preprocess::Preprocessor;
use crate::sae::Autoencoder;
use crate::turn::give_way;

/// Fewest admitted rows that a round trains on.
const ROWS_MIN: usize = 32;

/// Where a round's weights start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// From the weights of the parent.
    #[default]
    Warm,
    /// From nothing, with a new scaler: after a shift, with many dead latents, and now and then against weights that
    /// have become unable to learn.
    Fresh,
}

/// Reason of a version that [`refresh`] made.
pub const REFRESHED: &str = "refreshed";

/// What a round is made of.
#[derive(Clone, Copy, Debug)]
pub struct Round<'a> {
    /// The model that scores: it says which rows are admitted, and is never changed.
    pub champion: &'a Model,
    /// The challenger of an earlier round that neither won nor did harm, whose weights go on; none: the champion's.
    pub challenger: Option<&'a Model>,
    /// The newest rows in time order; of more than `config.rows_max` the newest are taken.
    pub rows: &'a Rows,
    /// Where the weights start.
    pub start: Start,
    /// What people have said of single rows; none where nobody has.
    pub opinions: Option<&'a Opinions>,
    /// Seed of the round.
    pub seed: u64,
}

impl<'a> Round<'a> {
    /// A round that goes on from the champion itself.
    pub fn warm(champion: &'a Model, rows: &'a Rows, seed: u64) -> Self {
        Self { champion, challenger: None, rows, start: Start::Warm, opinions: None, seed }
    }

    /// The model whose weights go on.
    pub fn parent(&self) -> &'a Model {
        self.challenger.unwrap_or(self.champion)
    }
}

/// What a round trained.
struct Trained {
    preprocessor: Preprocessor,
    autoencoder: Autoencoder<f32>,
    loss: f64,
    n_steps: u64,
    /// Whether its scores are in the parent's units.
    same_units: bool,
}

/// Trains a challenger on what the champion admits of the rows.
///
/// # Errors
/// When too few rows are admitted, they don't fit the schema, the caller stops it, or it does not converge.
pub fn refit(
    round: Round<'_>,
    admission: &mut Admission,
    config: &Config,
    progress: OnProgress<'_>,
) -> Result<Fitted, TrainError> {
    let Round { champion, rows, seed, .. } = round;
    let parent = round.parent();
    if rows.values.ncols() != champion.n_features() {
        return Err(TrainError::Width { got: rows.values.ncols(), expected: champion.n_features() });
    }
    let newest = rows.newest(config.rows_max);
    let opinions = round.opinions.cloned().unwrap_or_else(|| Opinions::none(champion.n_features()));
    let joined = opinions.joined(newest.as_ref());
    let rows = &joined;
    let round = Round { rows, ..round };
    give_way();
    let selection = Selection::new(champion, rows, &opinions, admission, config);
    let (admitted, told) = (&selection.admitted, &selection.told);
    let mut train: Vec<usize> = (0..rows.len()).rev().filter(|&i| admitted[i] && !is_holdout(rows.ids[i])).collect();
    if round.start == Start::Warm {
        train.truncate(config.round_rows);
    }
    let (new, read) = (Span::around(train.iter().map(|&i| rows.ids[i])), Span::around(newest.ids.iter().copied()));
    train.extend(repeated(told, config.round_rows));
    if train.len() < ROWS_MIN {
        return Err(TrainError::TooFewRows { got: train.len(), needed: ROWS_MIN });
    }
    let mut recorder = Recorder::default();
    let progress: OnProgress<'_> = &mut |report| {
        recorder.hear(&report);
        progress(report)
    };
    let trained = match round.start {
        Start::Warm => go_on(&round, &train, config, progress)?,
        Start::Fresh => start_afresh(&round, admitted, config, progress)?,
    };
    let parent_of_units = trained.same_units.then_some(parent);
    let material = Material { rows, selection: &selection, members: &config.members, parent: parent_of_units };
    let mut fitted = calibrate(champion.schema.clone(), trained.preprocessor, trained.autoencoder, material);
    fitted.inherit(parent);
    fitted.report.n_train = train.len();
    fitted.report.n_steps = trained.n_steps;
    fitted.report.loss = trained.loss;
    fitted.lineage.seed = seed;
    fitted.lineage.curves = recorder.curves();
    fitted.lineage.parent = Some(parent.version);
    fitted.lineage.champion = Some(champion.version);
    fitted.lineage.n_rows_train = train.len() as u64;
    fitted.lineage.learnt = join_spans(&parent.lineage.learnt, &new, &read);
    fitted.lineage.config = serde_json::to_value(config).expect("a configuration of plain values is always JSON");
    Ok(fitted)
}

/// The rows that people have called ordinary, each as often as makes them a sixteenth of a round: a few rows among a
/// thousand would not be learnt.
fn repeated(told: &[bool], round_rows: usize) -> Vec<usize> {
    const PART: usize = 16;
    const TIMES_MAX: usize = 32;
    let rows: Vec<usize> = (0..told.len()).filter(|&i| told[i]).collect();
    let times = (round_rows / PART / rows.len().max(1)).clamp(1, TIMES_MAX);
    rows.repeat(times)
}

/// Measures everything anew that standardises the champion's scores, and fills its memory with the newest admitted of
/// `rows`, of which a round has made this `selection`; the weights stay.
///
/// A champion that is kept for many rounds must follow the stream in this: else it admits ever less of it, and no
/// challenger can be trained or judged on what the stream has become.
pub fn refresh(champion: &Model, rows: &Rows, selection: &Selection, config: &Config) -> Fitted {
    let members = &config.members;
    let material = Material { rows, selection, members, parent: Some(champion) };
    let Selection { admitted, told, .. } = selection;
    let (preprocessor, autoencoder) = (champion.preprocessor.clone(), champion.autoencoder.clone());
    let mut fitted = calibrate(champion.schema.clone(), preprocessor, autoencoder, material);
    fitted.inherit(champion);
    let (report, lineage) = (&champion.lineage.report, &champion.lineage);
    fitted.report.loss = report["loss"].as_f64().unwrap_or(f64::NAN);
    fitted.lineage.seed = lineage.seed;
    fitted.lineage.parent = Some(champion.version);
    fitted.lineage.champion = Some(champion.version);
    fitted.lineage.n_rows_train = lineage.n_rows_train;
    // What is remembered is as near to itself as what is learnt.
    let remembered = (0..rows.len()).rev().filter(|&i| admitted[i] && !told[i] && !is_holdout(rows.ids[i]));
    let new = Span::around(remembered.take(members.memory_rows).map(|i| rows.ids[i]));
    let untold = (0..rows.len()).filter(|&i| !told[i]).map(|i| rows.ids[i]);
    fitted.lineage.learnt = join_spans(&lineage.learnt, &new, &Span::around(untold));
    fitted.lineage.config = serde_json::to_value(config).expect("a configuration of plain values is always JSON");
    fitted
}

/// Trains the parent's weights on, under a new scaler where a scale has moved.
fn go_on(round: &Round<'_>, train: &[usize], config: &Config, progress: OnProgress<'_>) -> Result<Trained, TrainError> {
    let parent = round.parent();
    let raw = round.rows.values.select(Axis(0), train);
    let mut autoencoder = parent.autoencoder.clone();
    let mut preprocessor = parent.preprocessor.clone();
    let mut same_units = true;
    if config.rescale && can_rescale(&autoencoder, config) {
        let fitted = Preprocessor::fit(&parent.schema, raw.view(), raw.view());
        if has_moved(&preprocessor, &fitted) {
            autoencoder = rescale(&autoencoder, &preprocessor, &fitted);
            (preprocessor, same_units) = (fitted, false);
        }
    }
    let standardised = Standardised::new(&preprocessor, raw.view());
    give_way();
    let steps = config.round_steps;
    let plan = Plan { stage: Stage::Round, steps, steps_before: 0, steps_total: steps, lr: config.round_lr, trim: 0.0 };
    let training = TrainingRows {
        x: standardised.x.view(),
        mask: standardised.mask.view(),
        column_weight: preprocessor.column_weights(),
    };
    let mut rng = rng(round.seed, parent.version.wrapping_add(16));
    let loss = learn(&mut autoencoder, training, &config.sae, plan, &mut rng, progress)?;
    Ok(Trained { preprocessor, autoencoder, loss, n_steps: steps, same_units })
}

/// Trains new weights on the admitted rows.
fn start_afresh(
    round: &Round<'_>,
    admitted: &[bool],
    config: &Config,
    progress: OnProgress<'_>,
) -> Result<Trained, TrainError> {
    let mut n_steps = 0;
    let progress: OnProgress<'_> = &mut |report| {
        n_steps = report.steps_done;
        progress(report)
    };
    let Round { champion, rows, seed, .. } = *round;
    let pass = afresh(&champion.schema, rows, admitted, config, seed, progress)?;
    let Pass { preprocessor, autoencoder, loss } = pass;
    Ok(Trained { preprocessor, autoencoder, loss, n_steps, same_units: false })
}
