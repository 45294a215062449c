//! An online round: a champion's weights carried on by what it finds ordinary.
//!
//! MODEL 3.3: the champion scores the newest rows in order and admits; its weights go on for 60 steps on the newest 1024
//! admitted rows that are not held out, with moments at zero and the scaler frozen; then everything that standardises
//! scores is measured anew. It never decides whether the result replaces the champion.

use ndarray::{Axis, s};

use super::admission::Admission;
use super::calibrate::{Material, Standardised, calibrate};
use super::config::Config;
use super::curve::Recorder;
use super::holdout::is_holdout;
use super::learn::{Plan, TrainingRows, learn, rng};
use super::{Fitted, OnProgress, Rows, Stage, TrainError, episodes};
use crate::model::{Model, Span, join_spans};

/// Fewest admitted rows that a round trains on.
const ROWS_MIN: usize = 32;

/// Carries `champion` on with `rows`, the newest in time order; of more than `config.rows_max` the newest are taken.
///
/// # Errors
/// When too few rows are admitted, they don't fit the schema, the caller stops it, or it does not converge.
pub fn refit(
    champion: &Model,
    rows: &Rows,
    admission: &mut Admission,
    config: &Config,
    seed: u64,
    progress: OnProgress<'_>,
) -> Result<Fitted, TrainError> {
    if rows.values.ncols() != champion.n_features() {
        return Err(TrainError::Width { got: rows.values.ncols(), expected: champion.n_features() });
    }
    let newest;
    let rows = if rows.len() > config.rows_max {
        let from = rows.len() - config.rows_max;
        newest = Rows::new(rows.values.slice(s![from.., ..]).to_owned(), rows.ids[from..].to_vec());
        &newest
    } else {
        rows
    };
    let admitted = admission.decide(champion, rows, config);
    let mut train: Vec<usize> = (0..rows.len()).rev().filter(|&i| admitted[i] && !is_holdout(rows.ids[i])).collect();
    train.truncate(config.round_rows);
    if train.len() < ROWS_MIN {
        return Err(TrainError::TooFewRows { got: train.len(), needed: ROWS_MIN });
    }
    let raw = rows.values.select(Axis(0), &train);
    let standardised = Standardised::new(&champion.preprocessor, raw.view());
    let mut autoencoder = champion.autoencoder.clone();
    let steps = config.round_steps;
    let plan = Plan { stage: Stage::Round, steps, steps_before: 0, steps_total: steps, lr: config.round_lr, trim: 0.0 };
    let training = TrainingRows {
        x: standardised.x.view(),
        mask: standardised.mask.view(),
        column_weight: champion.preprocessor.column_weights(),
    };
    let mut recorder = Recorder::default();
    let mut rng = rng(seed, champion.version.wrapping_add(16));
    let loss = learn(&mut autoencoder, training, &config.sae, plan, &mut rng, &mut |report| {
        recorder.hear(&report);
        progress(report)
    })?;

    let preprocessor = champion.preprocessor.clone();
    let countable = episodes::countable(champion, rows);
    let material = Material {
        rows,
        admitted: &admitted,
        countable: &countable,
        members: &config.members,
        champion: Some(champion),
    };
    let mut fitted = calibrate(champion.schema.clone(), preprocessor, autoencoder, material);
    fitted.inherit(champion);
    fitted.report.n_train = train.len();
    fitted.report.n_steps = steps;
    fitted.report.loss = loss;
    fitted.lineage.seed = seed;
    fitted.lineage.curves = recorder.curves();
    fitted.lineage.parent = Some(champion.version);
    fitted.lineage.champion = Some(champion.version);
    fitted.lineage.n_rows_train = train.len() as u64;
    let (new, read) = (Span::around(train.iter().map(|&i| rows.ids[i])), Span::around(rows.ids.iter().copied()));
    fitted.lineage.learnt = join_spans(&champion.lineage.learnt, &new, &read);
    fitted.lineage.config = serde_json::to_value(config).expect("a configuration of plain values is always JSON");
    Ok(fitted)
}
