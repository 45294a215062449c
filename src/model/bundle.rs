//! The model itself, and scoring by it.
//!
//! DESIGN idea 1. Scoring takes `&self`, writes to a workspace and allocates nothing after warm-up. A model never
//! changes; a threshold's state lives elsewhere.

use std::sync::Arc;

use ndarray::{Array2, ArrayView1, ArrayView2, Axis, s};

use super::lineage::Lineage;
use super::reference::Reference;
use super::workspace::Workspace;
use crate::preprocess::{Preprocessor, Schema};
use crate::record::{Value, rfc3339};
use crate::sae::Autoencoder;
use crate::score::{Cards, Evidence, Explanation, Members, mean_squared_residuals};
use crate::threshold::Calibration;
use crate::turn::give_way;

/// Characters of the hash that records show.
const SHORT: usize = 12;

/// Rows of a batch where there are many: a fraction of a millisecond's work by the default model.
pub const BATCH_ROWS: usize = 64;

/// One immutable model version.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// Version, from 1, unique in its registry.
    pub version: u64,
    /// SHA-256 over tensors and configuration, hexadecimal: equal for models that score alike.
    pub hash: String,
    /// When the training ended, milliseconds since the Unix epoch.
    pub trained_at_ms: i64,
    /// Features that it scores.
    pub schema: Arc<Schema>,
    /// Scaling of raw values, frozen.
    pub preprocessor: Preprocessor,
    /// Weights.
    pub autoencoder: Autoencoder<f32>,
    /// Location, scale and tail of its scores on held-out rows.
    pub calibration: Calibration,
    /// Memory and tails beside the autoencoder; `None`: it scores alone.
    pub members: Option<Members>,
    /// What is usual of its residuals and latents.
    pub cards: Cards,
    /// How admission scores are standardised under this model.
    pub admission: AdmissionScale,
    /// How the features of the held-out rows were distributed; none in files before 1.3.
    pub reference: Option<Reference>,
    /// Records since each latent last fired, `[n_latents]`, counted over held-out rows.
    pub since_fired: Vec<u64>,
    /// What it was made from.
    pub lineage: Lineage,
}

/// The units of the admission score ln mean_j r_j²/(v_j + .05·v̄): see `train`.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdmissionScale {
    /// v_j: mean squared residual of each input on held-out admitted rows, `[n_inputs]`.
    pub variance: Vec<f64>,
    /// Median of the admission score on the same rows.
    pub location: f64,
    /// 1.4826 times its median absolute deviation.
    pub scale: f64,
    /// Its 95th percentile on the same rows, standardised: where the admission threshold starts.
    pub z95: f64,
}

/// The topic's schema is not the one that the model was fitted on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("model {version} does not fit the topic: {difference}")]
pub struct SchemaMismatch {
    /// Version of the model.
    pub version: u64,
    /// Which feature differs.
    pub difference: String,
}

impl Model {
    /// The first characters of the hash, for records and logs.
    pub fn short_hash(&self) -> &str {
        self.hash.get(..SHORT).unwrap_or(&self.hash)
    }

    /// When the training ended, RFC 3339.
    pub fn trained_at(&self) -> String {
        rfc3339(self.trained_at_ms)
    }

    /// Number of raw values in a row.
    pub fn n_features(&self) -> usize {
        self.schema.n_features()
    }

    /// Refuses a topic whose schema differs.
    ///
    /// # Errors
    /// Says which feature differs.
    pub fn check_schema(&self, topic: &Schema) -> Result<(), SchemaMismatch> {
        let version = self.version;
        self.schema.difference(topic).map_or(Ok(()), |difference| Err(SchemaMismatch { version, difference }))
    }

    /// Refuses names that aren't the model's features in order.
    ///
    /// # Errors
    /// Says which name differs.
    pub fn check_names(&self, names: &[&str]) -> Result<(), SchemaMismatch> {
        let version = self.version;
        self.schema.difference_of_names(names).map_or(Ok(()), |difference| Err(SchemaMismatch { version, difference }))
    }

    /// Scores raw rows `[rows, n_features]` (NaN is missing) into `workspace`.
    ///
    /// Panics when the rows have another number of features than the schema.
    pub fn score(&self, raw: ArrayView2<'_, f32>, workspace: &mut Workspace) {
        let (n_rows, n_inputs) = (raw.nrows(), self.preprocessor.n_inputs());
        for buffer in [&mut workspace.x, &mut workspace.mask] {
            if buffer.nrows() < n_rows || buffer.ncols() != n_inputs {
                *buffer = Array2::zeros((n_rows, n_inputs));
            }
        }
        let mut x = workspace.x.slice_mut(s![..n_rows, ..]);
        let mut mask = workspace.mask.slice_mut(s![..n_rows, ..]);
        workspace.counts = self.preprocessor.transform(raw, x.view_mut(), mask.view_mut());
        self.autoencoder.forward(x.view(), mask.view(), &mut workspace.forward);
        let (recons, weights) = (workspace.forward.recons(), self.preprocessor.column_weights());
        mean_squared_residuals(x.view(), recons, mask.view(), weights, &mut workspace.raw);
        if let Some(members) = &self.members {
            members.measure(x.view(), mask.view(), weights, &mut workspace.members);
            members.combine(&workspace.members, &mut workspace.raw);
        }
        workspace.z.clear();
        workspace.z.extend(workspace.raw.iter().map(|raw| self.calibration.z(*raw)));
    }

    /// Scores any number of raw rows `[rows, n_features]`, a batch at a time, and hands each batch over with the place of its
    /// first row: batches bound the memory, and between two of them the thread gives way.
    ///
    /// Panics when the rows have another number of features than the schema.
    pub fn score_all(&self, raw: ArrayView2<'_, f32>, mut on_batch: impl FnMut(usize, &Workspace)) {
        let mut workspace = Workspace::new();
        for (i, batch) in raw.axis_chunks_iter(Axis(0), BATCH_ROWS).enumerate() {
            self.score(batch, &mut workspace);
            on_batch(i * BATCH_ROWS, &workspace);
            give_way();
        }
    }

    /// How many of the raw rows `[rows, n_features]` have a p-value of at most `p` under the model's calibration.
    pub fn flagged(&self, raw: ArrayView2<'_, f32>, p: f64) -> usize {
        let mut n = 0;
        self.score_all(raw, |_, workspace| {
            n += workspace.z().iter().filter(|z| self.calibration.tail.p_value(**z) <= p).count();
        });
        n
    }

    /// What the model expects of row `row` of the batch that `workspace` holds: its reconstruction as people read it,
    /// `[n_features]`.
    ///
    /// Panics when the workspace holds no such row of this model.
    pub fn expected(&self, workspace: &Workspace, row: usize) -> Vec<Value> {
        let [_, _, recons] = workspace.row(row);
        let recons = recons.to_vec();
        (0..self.n_features()).map(|i| self.preprocessor.expected(&self.schema, i, &recons)).collect()
    }

    /// Explains row `row` of the batch that `workspace` holds, by its `top_n` features and patterns; `actual` are the
    /// row's raw values `[n_features]`.
    ///
    /// Panics when the workspace holds no such row of this model.
    pub fn explain(&self, actual: ArrayView1<'_, f32>, workspace: &Workspace, row: usize, top_n: usize) -> Explanation {
        let [x, mask, recons] = workspace.row(row);
        let (schema, preprocessor) = (&self.schema, &self.preprocessor);
        let expected = self.expected(workspace, row);
        let actual = actual.iter().enumerate().map(|(i, raw)| preprocessor.actual(schema, i, *raw));
        let actual: Vec<Option<Value>> = actual.collect();
        let latents = workspace.forward.latents().slice_move(s![row, ..]);
        let (weights, columns) = (preprocessor.column_weights(), preprocessor.columns());
        let residual = |j: usize| f64::from(weights[j]) * f64::from((x[j] - recons[j]) * mask[j]).powi(2);
        let residuals: Vec<f64> = (0..x.len()).map(residual).collect();
        let parts = match &self.members {
            Some(members) => members.attribute(x, mask, weights, &residuals),
            None => residuals,
        };
        let (parts, actual, expected) = (&parts, &actual, &expected);
        let evidence = Evidence { x, mask, recons, latents, weights, parts, columns, actual, expected };
        let names: Vec<&str> = self.schema.names().collect();
        Explanation::new(&evidence, &self.cards, &names, top_n)
    }
}
