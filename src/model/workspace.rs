//! The reused buffers of scoring, and what the last batch gave.
//!
//! A lane owns one workspace for its whole life; it fits any model and allocates only when rows or sizes grow.

use ndarray::{Array2, ArrayView1, ArrayView2, s};

use crate::preprocess::Counts;
use crate::sae::Forward;
use crate::score::MemberScores;

/// Buffers and results of [`Model::score`](super::Model::score).
#[derive(Clone, Debug, Default)]
pub struct Workspace {
    pub(super) x: Array2<f32>,
    pub(super) mask: Array2<f32>,
    pub(super) forward: Forward<f32>,
    pub(super) raw: Vec<f64>,
    pub(super) members: MemberScores,
    pub(super) z: Vec<f64>,
    pub(super) counts: Counts,
}

impl Workspace {
    /// Makes an empty workspace.
    pub fn new() -> Self {
        Self::default()
    }

    /// Rows of the last batch.
    pub fn n_rows(&self) -> usize {
        self.raw.len()
    }

    /// Raw score of each row: mean squared standardised residual, judged by all members; NaN where under half the row is observed.
    pub fn raw(&self) -> &[f64] {
        &self.raw
    }

    /// Standardised score of each row; NaN where under half the row is observed.
    pub fn z(&self) -> &[f64] {
        &self.z
    }

    /// Missing and clipped values of the last batch.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Rows of the last batch that had too little observed to be scored.
    pub fn rows_insufficient(&self) -> u64 {
        self.raw.iter().filter(|raw| raw.is_nan()).count() as u64
    }

    /// Standardised values, `[rows, n_inputs]`.
    pub fn x(&self) -> ArrayView2<'_, f32> {
        self.x.slice(s![..self.n_rows(), ..])
    }

    /// 1 where a value was observed, `[rows, n_inputs]`.
    pub fn mask(&self) -> ArrayView2<'_, f32> {
        self.mask.slice(s![..self.n_rows(), ..])
    }

    /// Reconstructions, `[rows, n_inputs]`.
    pub fn recons(&self) -> ArrayView2<'_, f32> {
        self.forward.recons()
    }

    /// Latents, `[rows, n_latents]`.
    pub fn latents(&self) -> ArrayView2<'_, f32> {
        self.forward.latents()
    }

    /// Latents of one row of the batch, `[n_latents]`.
    ///
    /// Panics when there is no such row.
    pub fn latents_of(&self, row: usize) -> ArrayView1<'_, f32> {
        self.latents().slice_move(s![row, ..])
    }

    /// Mean number of active latents of a row; 0 for an empty batch.
    pub fn latents_active_mean(&self) -> f64 {
        let n_active = self.latents().iter().filter(|f| **f != 0.0).count();
        n_active as f64 / self.n_rows().max(1) as f64
    }

    /// Squared residuals of the last batch, and squared distances from each input's batch mean, summed over observed
    /// values: explained variance is 1 − first/second, and sums of several batches add up.
    pub fn variance_sums(&self) -> (f64, f64) {
        let (x, mask, recons) = (self.x(), self.mask(), self.recons());
        let column = |j: usize| -> (f64, f64) {
            let observed = || x.column(j).into_iter().zip(mask.column(j)).filter(|(_, m)| **m > 0.0);
            let sum = |of: fn(f64) -> f64| observed().map(|(x, _)| of(f64::from(*x))).sum::<f64>();
            let total = sum(|x| x * x) - sum(|x| x).powi(2) / observed().count().max(1) as f64;
            let residuals = x.column(j).into_iter().zip(recons.column(j)).zip(mask.column(j));
            (residuals.map(|((x, r), m)| f64::from((x - r) * m).powi(2)).sum(), total)
        };
        (0..x.ncols()).map(column).fold((0.0, 0.0), |sums, column| (sums.0 + column.0, sums.1 + column.1))
    }

    /// A row's evidence: standardised values, mask and reconstruction.
    pub(super) fn row(&self, row: usize) -> [ArrayView1<'_, f32>; 3] {
        [self.x.row(row), self.mask.row(row), self.forward.recons().slice_move(s![row, ..])]
    }
}
