//! The reconstruction loss of a batch and its gradient at the reconstruction.
//!
//! MODEL 2.4: L = Σ_b w_b Σ_j m_bj c_j ρ(x̂−x), w_b = s_b / Σ s_b·n_b, n_b = max(1, Σ_j m_bj c_j).

use ndarray::{ArrayView1, ArrayView2, ArrayViewMut2};

use super::gradient::Example;
use super::objective::Objective;
use super::real::Real;

/// How much each row of a batch counts.
pub(super) struct RowWeights {
    /// w_b: of a squared residual, `[rows]`.
    pub value: Vec<f64>,
    /// σ_b: of the row's latents, `[rows]`.
    pub share: Vec<f64>,
}

impl RowWeights {
    pub(super) fn new<F: Real>(batch: &Example<'_, F>) -> Self {
        assert_eq!(batch.column_weight.len(), batch.x.ncols(), "column_weight must be [n_inputs]");
        let columns = ArrayView1::from(batch.column_weight);
        let n_observed = |mask: ArrayView1<'_, F>| mask.dot(&columns).wide().max(1.0);
        let s: Vec<f64> = batch.sample_weight.iter().map(|s| s.wide()).collect();
        let values: f64 = batch.mask.rows().into_iter().zip(&s).map(|(mask, s)| s * n_observed(mask)).sum();
        let rows: f64 = s.iter().sum();
        let of = |total: f64| s.iter().map(|s| s / total.max(f64::MIN_POSITIVE)).collect();
        Self { value: of(values), share: of(rows) }
    }
}

/// Adds part · 2 w_b m_bj c_j ρ′(x̂−x)/2 to `at_recons` and returns the loss, summed in f64; all `[rows, n_inputs]`.
pub(super) fn add_residuals<F: Real>(
    (batch, weights): (&Example<'_, F>, &RowWeights),
    recons: ArrayView2<'_, F>,
    (objective, part): (&Objective, f64),
    at_recons: &mut ArrayViewMut2<'_, F>,
) -> f64 {
    let mut loss = 0.0;
    let rows = at_recons.rows_mut().into_iter().zip(recons.rows()).zip(batch.x.rows()).zip(batch.mask.rows());
    for ((((mut out, recons), x), mask), w) in rows.zip(&weights.value) {
        let twice = F::of(2.0 * part * w);
        let mut sum = 0.0;
        let columns = x.iter().zip(mask).zip(batch.column_weight);
        for ((out, &recons), ((&x, &m), &c)) in out.iter_mut().zip(recons).zip(columns) {
            let (value, slope) = objective.loss_of((recons - x) * m);
            sum += c.wide() * value;
            *out += twice * c * slope;
        }
        loss += w * sum;
    }
    loss
}
