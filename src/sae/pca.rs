//! `pca`: principal components as a linear autoencoder, in closed form.
//!
//! MODEL 2.12: the fewest components that reach a share of the variance, at most D − 1. It is the baseline: same struct,
//! same score path. Nothing is learnt by steps.

use ndarray::{Array1, Array2, ArrayView2, ArrayViewMut2, Axis, s};
use ndarray_linalg::error::LinalgError;
use ndarray_linalg::{Eigh, UPLO};

use super::Kind;
use super::autoencoder::Autoencoder;
use super::config::Shape;
use super::form::{Form, Pass, Stage};
use super::gradient::Gradient;
use super::real::Real;

pub(super) struct Pca;

impl<F: Real> Form<F> for Pca {
    fn activate(&self, _: &Autoencoder<F>, _: &mut ArrayViewMut2<'_, F>, _: Stage) {}

    fn backward(&self, _: &Pass<'_, F>, _: &mut ArrayViewMut2<'_, F>, _: &mut Gradient<F>) {}
}

/// Principal components of standardised rows `x` under `mask`, both `[rows, n_inputs]`, that reach `share` of the
/// variance; missing values count as their column's mean.
///
/// Each component's largest loading is positive, so that equal rows give equal components.
///
/// # Errors
/// When the eigenvalues can't be found.
pub fn pca(x: ArrayView2<'_, f32>, mask: ArrayView2<'_, f32>, share: f64) -> Result<Autoencoder<f32>, LinalgError> {
    let n_inputs = x.ncols();
    let n_observed = mask.mapv(f64::from).sum_axis(Axis(0));
    let sum = (&x * &mask).mapv(f64::from).sum_axis(Axis(0));
    let mean: Array1<f64> = sum / n_observed.mapv(|n| n.max(1.0));
    let centred = (x.mapv(f64::from) - &mean) * mask.mapv(f64::from);
    let covariance: Array2<f64> = centred.t().dot(&centred) / x.nrows().max(1) as f64;
    let (variances, vectors) = covariance.eigh(UPLO::Lower)?;

    let total: f64 = variances.iter().map(|v| v.max(0.0)).sum();
    let most = n_inputs.saturating_sub(1).max(1);
    let mut reached = 0.0;
    let n_kept = variances.iter().rev().take_while(|variance| {
        let goes_on = reached < share * total;
        reached += variance.max(0.0);
        goes_on
    });
    let n_latents = n_kept.count().clamp(1, most);
    // Ascending eigenvalues: the last columns come first.
    let mut w_dec = vectors.slice(s![.., ..;-1]).t().slice(s![..n_latents, ..]).mapv(|v| v as f32);
    for mut row in w_dec.rows_mut() {
        let largest = row.iter().fold(0.0_f32, |largest, v| if v.abs() > largest.abs() { *v } else { largest });
        row *= if largest < 0.0 { -1.0 } else { 1.0 };
    }
    let w_dec = w_dec.as_standard_layout().into_owned();
    Ok(Autoencoder {
        w_enc: w_dec.t().as_standard_layout().into_owned(),
        w_dec,
        b_dec: mean.mapv(|v| v as f32),
        ..Autoencoder::zeros(Kind::Pca, Shape { n_inputs, n_latents, k: n_latents })
    })
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;
    use crate::sae::Forward;

    #[test]
    fn two_inputs_that_go_together_have_one_component() {
        let x = array![[1.0_f32, 2.0, 0.0], [2.0, 4.0, 0.1], [3.0, 6.0, -0.1], [4.0, 8.0, 0.0]];
        let mask = Array2::ones(x.dim());
        let model = pca(x.view(), mask.view(), 0.9).unwrap();
        assert_eq!(model.shape(), Shape { n_inputs: 3, n_latents: 1, k: 1 });
        let row = model.w_dec.row(0);
        assert!((row[1] / row[0] - 2.0).abs() < 1e-2 && row[1] > 0.0, "{row}");
        let mut forward = Forward::default();
        model.forward(x.view(), mask.view(), &mut forward);
        let error = (&forward.recons() - &x).iter().fold(0.0_f32, |most, e| most.max(e.abs()));
        assert!(error < 0.11, "{error}");
    }

    #[test]
    fn components_are_orthonormal_and_capped_below_the_inputs() {
        let x = Array2::from_shape_fn((50, 5), |(i, j)| ((i * 7 + j * j * 3 + i * j) % 11) as f32);
        let model = pca(x.view(), Array2::ones(x.dim()).view(), 1.0).unwrap();
        assert_eq!(model.shape().n_latents, 4);
        let gram = model.w_dec.dot(&model.w_dec.t());
        assert!((gram - Array2::<f32>::eye(4)).iter().all(|v| v.abs() < 1e-5));
    }

    #[test]
    fn constant_and_unobserved_rows_have_a_model() {
        for fill in [0.0, 1.0] {
            let model = pca(Array2::ones((4, 3)).view(), Array2::from_elem((4, 3), fill).view(), 0.9).unwrap();
            assert!(model.w_dec.iter().chain(&model.b_dec).all(|v| v.is_finite()));
        }
    }
}
