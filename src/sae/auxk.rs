//! The auxiliary loss that revives dead latents: they are asked to explain what the live ones leave over.
//!
//! MODEL 2.4 and 2.5; Gao et al., AuxK. Nothing flows through the residual, and b_dec is not added to the auxiliary
//! reconstruction. With a relu: without it fewer latents stay dead, but fewer atoms are found.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView2, ArrayViewMut2, s};

use super::autoencoder::fit_buffer;
use super::form::{Pass, each_row};
use super::gradient::{Example, Gradient};
use super::real::Real;
use super::residual::RowWeights;
use super::select::keep_largest;

/// Less residual than this is nothing to explain.
const RESIDUAL_MIN: f64 = 1e-12;

/// The buffers of the auxiliary loss; only dead latents are in them.
#[derive(Clone, Debug)]
pub(super) struct AuxK<F> {
    /// Which latents are dead, `[n_dead]`.
    dead: Vec<usize>,
    /// Their decoder rows, later the gradient there, `[n_dead, n_inputs]`.
    decoder: Array2<F>,
    /// Their code g, later the gradient there, `[rows, n_dead]`.
    code: Array2<F>,
    /// Gradient at the code, `[rows, n_dead]`.
    at_code: Array2<F>,
    /// Their reconstruction, later the gradient there, `[rows, n_inputs]`.
    recons: Array2<F>,
}

impl<F: Real> Default for AuxK<F> {
    fn default() -> Self {
        let none = || Array2::zeros((0, 0));
        Self { dead: Vec::new(), decoder: none(), code: none(), at_code: none(), recons: none() }
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
        let (one, zero) = (F::one(), F::zero());
        let rows = s![..batch.x.nrows(), ..];
        self.gather(pass, dead, batch.x.dim());
        let (n_dead, n_inputs) = self.decoder.dim();
        let k = (n_inputs / 2).max(pass.model.k).min(n_dead).max(1);
        let scale = pass.objective.aux * (n_dead as f64 / k as f64).min(1.0);
        let mut code = self.code.slice_mut(rows);
        each_row(&mut code, |row| keep_largest(row, k));
        let mut aux = self.recons.slice_mut(rows);
        general_mat_mul(one, &code, &self.decoder, zero, &mut aux);
        let (wanted, missed) = errors((batch, weights), recons, &mut aux);
        if wanted < RESIDUAL_MIN {
            return 0.0;
        }
        aux *= F::of(2.0 * scale / wanted);
        let mut at_code = self.at_code.slice_mut(rows);
        general_mat_mul(one, &aux, &self.decoder.t(), zero, &mut at_code);
        for ((mut at_pre, at_code), code) in at_pre.rows_mut().into_iter().zip(at_code.rows()).zip(code.rows()) {
            for ((&latent, &g), &code) in self.dead.iter().zip(at_code).zip(code) {
                at_pre[latent] += if code > zero { g } else { zero };
            }
        }
        general_mat_mul(one, &code.t(), &aux, zero, &mut self.decoder);
        for (&latent, row) in self.dead.iter().zip(self.decoder.rows()) {
            gradient.w_dec.row_mut(latent).scaled_add(one, &row);
        }
        scale * missed / wanted
    }

    /// Takes the dead latents' pre-activations and decoder rows.
    fn gather(&mut self, pass: &Pass<'_, F>, dead: &[bool], (n_rows, n_inputs): (usize, usize)) {
        self.dead.clear();
        self.dead.extend((0..dead.len()).filter(|&latent| dead[latent]));
        let n_dead = self.dead.len();
        fit_buffer(&mut self.code, n_rows, n_dead);
        fit_buffer(&mut self.at_code, n_rows, n_dead);
        fit_buffer(&mut self.recons, n_rows, n_inputs);
        if self.decoder.dim() != (n_dead, n_inputs) {
            self.decoder = Array2::zeros((n_dead, n_inputs));
        }
        for (&latent, mut row) in self.dead.iter().zip(self.decoder.rows_mut()) {
            row.assign(&pass.model.w_dec.row(latent));
        }
        for (mut code, pre) in self.code.rows_mut().into_iter().zip(pass.pre.rows()) {
            code.iter_mut().zip(&self.dead).for_each(|(code, &latent)| *code = pre[latent]);
        }
    }
}

/// Turns the reconstruction `aux` of what `recons` leaves over into half the gradient there; returns the squares of what
/// is left over and of what is still missed.
fn errors<F: Real>(
    (batch, weights): (&Example<'_, F>, &RowWeights),
    recons: ArrayView2<'_, F>,
    aux: &mut ArrayViewMut2<'_, F>,
) -> (f64, f64) {
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
    (wanted, missed)
}
