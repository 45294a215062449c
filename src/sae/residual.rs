//! The reconstruction loss of a batch and its gradient at the reconstruction.
//!
//! MODEL 2.4: L = Σ_b w_b Σ_j m_bj c_j ρ(x̂−x), w_b = s_b / Σ s_b·n_b, n_b = max(1, Σ_j m_bj c_j).

use ndarray::{ArrayView2, ArrayViewMut2};

use super::gradient::Example;
use super::lanes::{LANES, dot, slice, slice_mut, total};
use super::objective::{Loss, Objective};
use super::real::Real;
use crate::wide::wide;

/// How much each row of a batch counts.
#[derive(Clone, Debug, Default)]
pub(super) struct RowWeights {
    /// w_b: of a squared residual, `[rows]`.
    pub value: Vec<f64>,
    /// σ_b: of the row's latents, `[rows]`.
    pub share: Vec<f64>,
}

impl RowWeights {
    /// Takes in the weights of `batch`.
    pub(super) fn fill<F: Real>(&mut self, batch: &Example<'_, F>) {
        let columns = batch.column_weight;
        assert_eq!(columns.len(), batch.x.ncols(), "column_weight must be [n_inputs]");
        let mut values = 0.0;
        wide(
            #[inline(always)]
            || {
                let masks = slice(&batch.mask).chunks_exact(columns.len().max(1));
                for (mask, s) in masks.zip(batch.sample_weight) {
                    values += s.wide() * dot(mask, columns).wide().max(1.0);
                }
            },
        );
        let rows: f64 = batch.sample_weight.iter().map(|s| s.wide()).sum();
        for (weights, total) in [(&mut self.value, values), (&mut self.share, rows)] {
            weights.clear();
            weights.extend(batch.sample_weight.iter().map(|s| s.wide() / total.max(f64::MIN_POSITIVE)));
        }
    }
}

/// Adds part · 2 w_b m_bj c_j ρ′(x̂−x)/2 to `at_recons` and returns the loss, summed in f64; all `[rows, n_inputs]`.
pub(super) fn add_residuals<F: Real>(
    (batch, weights): (&Example<'_, F>, &RowWeights),
    recons: ArrayView2<'_, F>,
    (objective, part): (&Objective, f64),
    at_recons: &mut ArrayViewMut2<'_, F>,
) -> f64 {
    let (add, out) = (Residuals { batch, weights, recons: slice(&recons), part }, slice_mut(at_recons));
    match objective.loss {
        Loss::Mse => wide(
            #[inline(always)]
            || add.run(|e| (e.wide() * e.wide(), e), out),
        ),
        Loss::Huber => wide(
            #[inline(always)]
            || add.run(|e| objective.loss_of(e), out),
        ),
    }
}

/// What [`add_residuals`] reads.
struct Residuals<'a, 'b, F> {
    batch: &'a Example<'b, F>,
    weights: &'a RowWeights,
    recons: &'a [F],
    part: f64,
}

impl<F: Real> Residuals<'_, '_, F> {
    #[inline(always)]
    fn run(&self, loss_of: impl Fn(F) -> (f64, F), at_recons: &mut [F]) -> f64 {
        let (batch, n) = (self.batch, self.batch.x.ncols().max(1));
        let columns = batch.column_weight;
        let values = self.recons.chunks_exact(n).zip(slice(&batch.x).chunks_exact(n));
        let rows = at_recons.chunks_exact_mut(n).zip(values).zip(slice(&batch.mask).chunks_exact(n));
        let mut loss = 0.0;
        for (((out, (recons, x)), mask), w) in rows.zip(&self.weights.value) {
            let twice = F::of(2.0 * self.part * w);
            let mut sums = [0.0; LANES];
            let mut at = 0;
            // Full blocks have a length that the compiler knows.
            while at + LANES <= n {
                let block = at..at + LANES;
                let (e, c) =
                    ((&recons[block.clone()], &x[block.clone()], &mask[block.clone()]), &columns[block.clone()]);
                add_block(&loss_of, twice, (e, c), &mut out[block], &mut sums);
                at += LANES;
            }
            let (e, c) = ((&recons[at..], &x[at..], &mask[at..]), &columns[at..]);
            add_block(&loss_of, twice, (e, c), &mut out[at..], &mut sums);
            loss += w * total(sums);
        }
        loss
    }
}

/// What a residual is made of: reconstruction, row and mask.
type Parts<'a, F> = (&'a [F], &'a [F], &'a [F]);

#[inline(always)]
fn add_block<F: Real>(
    loss_of: &impl Fn(F) -> (f64, F),
    twice: F,
    ((recons, x, mask), columns): (Parts<'_, F>, &[F]),
    out: &mut [F],
    sums: &mut [f64; LANES],
) {
    let parts = recons.iter().zip(x).zip(mask).zip(columns);
    for ((out, sum), (((&recons, &x), &m), &c)) in out.iter_mut().zip(sums).zip(parts) {
        let (value, slope) = loss_of((recons - x) * m);
        *sum += c.wide() * value;
        *out += twice * c * slope;
    }
}
