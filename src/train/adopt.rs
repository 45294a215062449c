//! A calibration for weights that came from outside.
//!
//! An imported autoencoder reconstructs and can't judge: what is usual of its residuals and latents is measured here, on
//! rows of the caller's. None of them was trained on, as far as we can know; still the held-out fifth sets the threshold,
//! so that later rounds measure on the same records. It never changes a weight.

use std::sync::Arc;

use super::calibrate::{Material, calibrate};
use super::fit::{Pass, ROWS_MIN, readmit, usable};
use super::holdout::is_holdout;
use super::{Fitted, Rows, Selection, TrainError};
use crate::preprocess::{Preprocessor, Schema};
use crate::sae::Autoencoder;
use crate::score::MembersConfig;

/// Measures everything that standardises and explains the scores of `autoencoder` on `rows`, less those that are grossly
/// anomalous under it.
///
/// # Errors
/// When there are too few rows that can be scored, or they don't fit the schema.
pub fn adopt(
    schema: Arc<Schema>,
    preprocessor: Preprocessor,
    autoencoder: Autoencoder<f32>,
    rows: &Rows,
) -> Result<Fitted, TrainError> {
    let n_features = rows.values.ncols();
    if n_features != schema.n_features() {
        return Err(TrainError::Width { got: n_features, expected: schema.n_features() });
    }
    let usable = usable(rows.values.view());
    let n_usable = usable.iter().filter(|usable| **usable).count();
    if n_usable < ROWS_MIN {
        return Err(TrainError::TooFewRows { got: n_usable, needed: ROWS_MIN });
    }
    let held: Vec<bool> = rows.ids.iter().map(|id| is_holdout(*id)).collect();
    let pass = Pass { preprocessor, autoencoder, loss: 0.0 };
    let admitted = readmit(&pass.log_scores(rows), &usable, &held);
    let (selection, members) = (Selection::of_history(admitted), MembersConfig::default());
    let material = Material { rows, selection: &selection, members: &members, parent: None };
    Ok(calibrate(schema, pass.preprocessor, pass.autoencoder, material))
}
