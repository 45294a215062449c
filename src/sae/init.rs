//! The weights a training starts from.
//!
//! MODEL 2.7: unit decoder rows in random directions, the encoder its transpose (tied start: recovery .998 against
//! .903 with independent weights), b_dec at the geometric median of the rows. Randomness is an argument.

use ndarray::{Array1, Array2, ArrayView2, Axis};
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};

use super::activation::Kind;
use super::autoencoder::Autoencoder;
use super::config::Shape;

/// Makes an autoencoder with tied unit rows, zero `b_enc` and the given `b_dec` `[n_inputs]`.
pub fn tied(kind: Kind, shape: Shape, b_dec: Array1<f32>, rng: &mut impl Rng) -> Autoencoder<f32> {
    let mut w_dec = Array2::from_shape_simple_fn((shape.n_latents, shape.n_inputs), || StandardNormal.sample(rng));
    for mut row in w_dec.axis_iter_mut(Axis(0)) {
        let length: f32 = row.dot(&row);
        row /= length.sqrt().max(1e-8);
    }
    let w_enc = w_dec.t().as_standard_layout().into_owned();
    Autoencoder { kind, k: shape.k, w_enc, b_enc: Array1::zeros(shape.n_latents), w_dec, b_dec }
}

/// The point with the least sum of distances to the rows of `x` `[rows, n_inputs]`, by Weiszfeld's iteration.
///
/// Missing values are 0 in standardised rows and count as that.
pub fn geometric_median(x: ArrayView2<'_, f32>) -> Array1<f32> {
    const ITERATIONS_MAX: usize = 100;
    const TOLERANCE: f64 = 1e-5;
    let Some(mean) = x.mapv(f64::from).mean_axis(Axis(0)) else { return Array1::zeros(x.ncols()) };
    let mut median = mean;
    for _ in 0..ITERATIONS_MAX {
        let mut next = Array1::<f64>::zeros(x.ncols());
        let mut total = 0.0;
        for row in x.rows() {
            let distance = row.iter().zip(&median).map(|(&x, &y)| (f64::from(x) - y).powi(2)).sum::<f64>().sqrt();
            let weight = 1.0 / distance.max(1e-6);
            next.zip_mut_with(&row, |next, &x| *next += weight * f64::from(x));
            total += weight;
        }
        next /= total;
        let moved = (&next - &median).mapv(|d| d * d).sum().sqrt();
        median = next;
        if moved < TOLERANCE {
            break;
        }
    }
    median.mapv(|v| v as f32)
}

#[cfg(test)]
mod tests {
    use ndarray::array;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn the_start_is_tied_with_unit_rows() {
        let shape = Shape { n_inputs: 3, n_latents: 5, k: 2 };
        let start = tied(Kind::SatTopk, shape, Array1::zeros(3), &mut ChaCha8Rng::seed_from_u64(1));
        assert_eq!(start.w_enc, start.w_dec.t());
        assert!(start.w_dec.rows().into_iter().all(|row| (row.dot(&row) - 1.0).abs() < 1e-6));
    }

    #[test]
    fn the_geometric_median_ignores_an_outlier() {
        let median = geometric_median(array![[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1e6, 1e6]].view());
        assert!(median.iter().all(|v| (0.4..1.1).contains(v)), "{median}");
    }
}
