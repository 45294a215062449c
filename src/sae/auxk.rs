//! The auxiliary loss that revives dead latents: they are asked to explain what the live ones leave over.
//!
//! MODEL 2.4 and 2.5; Gao et al., AuxK. Nothing flows through the residual, and b_dec is not added to the auxiliary
//! reconstruction. With a relu: without it fewer latents stay dead, but fewer atoms are found.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView2, ArrayViewMut2, s};

use super::autoencoder::fit_buffer;
use super::form::Pass;
use super::gradient::{Example, Gradient};
use super::real::Real;
use super::residual::RowWeights;
use super::select::keep_largest;

/// Less residual than this is nothing to explain.
const RESIDUAL_MIN: f64 = 1e-12;

/// The buffers of the auxiliary loss.
#[derive(Clone, Debug)]
pub(super) struct AuxK<F> {
    /// The dead latents' code g, `[rows, n_latents]`.
    code: Array2<F>,
    /// Its reconstruction, later the gradient there, `[rows, n_inputs]`.
    recons: Array2<F>,
}

impl<F: Real> Default for AuxK<F> {
    fn default() -> Self {
        Self { code: Array2::zeros((0, 0)), recons: Array2::zeros((0, 0)) }
    }
}

impl<F: Real> AuxK<F> {
    /// Adds the gradient at the pre-activations and at the decoder, and returns the loss.
    pub(super) fn add(
        &mut self,
        (batch, weights): (&Example<'_, F>, &RowWeights),
        (pass, recons): (&Pass<'_, F>, ArrayView2<'_, F>),
        dead: &[bool],
        at_pre: &mut ArrayViewMut2<'_, F>,
        gradient: &mut Gradient<F>,
    ) -> f64 {
        let (n_rows, n_inputs) = batch.x.dim();
        let n_dead = dead.iter().filter(|dead| **dead).count();
        let k = (n_inputs / 2).max(pass.model.k).min(n_dead).max(1);
        let scale = pass.objective.aux * (n_dead as f64 / k as f64).min(1.0);
        fit_buffer(&mut self.code, n_rows, dead.len());
        fit_buffer(&mut self.recons, n_rows, n_inputs);
        let mut code = self.code.slice_mut(s![..n_rows, ..]);
        for (mut code, pre) in code.rows_mut().into_iter().zip(pass.pre.rows()) {
            for ((code, &a), &dead) in code.iter_mut().zip(pre).zip(dead) {
                *code = if dead { a } else { F::zero() };
            }
            keep_largest(code.as_slice_mut().expect("the buffer is in standard layout"), k);
        }
        let mut aux = self.recons.slice_mut(s![..n_rows, ..]);
        general_mat_mul(F::one(), &code, &pass.model.w_dec, F::zero(), &mut aux);

        let (mut wanted, mut missed) = (0.0, 0.0);
        let rows = aux.rows_mut().into_iter().zip(recons.rows()).zip(batch.x.rows()).zip(batch.mask.rows());
        for ((((mut aux, recons), x), mask), w) in rows.zip(&weights.value) {
            let columns = x.iter().zip(mask).zip(batch.column_weight);
            for ((aux, &recons), ((&x, &m), &c)) in aux.iter_mut().zip(recons).zip(columns) {
                let residual = (x - recons) * m;
                let error = *aux * m - residual;
                wanted += w * c.wide() * residual.wide().powi(2);
                missed += w * c.wide() * error.wide().powi(2);
                *aux = F::of(*w) * c * error * m;
            }
        }
        if wanted < RESIDUAL_MIN {
            return 0.0;
        }
        aux *= F::of(2.0 * scale / wanted);
        general_mat_mul(F::one(), &code.t(), &aux, F::one(), &mut gradient.w_dec);
        let at_code = aux.dot(&pass.model.w_dec.t());
        ndarray::Zip::from(at_pre).and(&at_code).and(&code).for_each(|at, &g, &code| {
            if code > F::zero() {
                *at += g;
            }
        });
        scale * missed / wanted
    }
}
