//! The weights a training starts from.
//!
//! MODEL 2.7: unit decoder rows in random directions, the encoder its transpose (tied start: recovery .998 against
//! .903 with independent weights), b_dec at the geometric median of the rows. Randomness is an argument.

use ndarray::{Array1, Array2, ArrayView2, Axis, s};
use rand::Rng;
use rand_distr::{Distribution, StandardNormal, Uniform};

use super::Kind;
use super::autoencoder::Autoencoder;
use super::config::{Config, Shape};
use super::layers::Layer;
use super::pca::pca;
use crate::turn::give_way;

/// Rows that the start of b_dec is taken from.
const MEDIAN_ROWS: usize = 4096;

/// Why there is nothing to start from.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum StartError {
    /// Unbounded latents, as many as inputs, copy whatever comes.
    #[error(
        "model.sae.k is {k} with {n_inputs} inputs: topk with as many active latents as inputs reconstructs anomalies, \
         too; make it smaller or set model.sae.allow_large_k"
    )]
    LargeK {
        /// Active latents.
        k: usize,
        /// Inputs.
        n_inputs: usize,
    },
    /// The eigenvalues of the covariance were not found.
    #[error("the principal components can't be computed: {0}")]
    Components(String),
}

/// Makes the autoencoder that a training on standardised rows `x` under `mask`, both `[rows, n_inputs]`, starts from.
///
/// # Errors
/// When the configuration does not fit the number of inputs.
pub fn start(
    config: &Config,
    x: ArrayView2<'_, f32>,
    mask: ArrayView2<'_, f32>,
    rng: &mut impl Rng,
) -> Result<Autoencoder<f32>, StartError> {
    if config.kind == Kind::Pca {
        return pca(x, mask, config.pca_variance).map_err(|error| StartError::Components(error.to_string()));
    }
    let shape = config.shape(x.ncols());
    let Shape { k, n_inputs, n_latents } = shape;
    if config.kind == Kind::Topk && k >= n_inputs && n_inputs > 1 && !config.allow_large_k {
        return Err(StartError::LargeK { k, n_inputs });
    }
    let stride = x.nrows().div_ceil(MEDIAN_ROWS).max(1);
    let b_dec = geometric_median(x.slice(s![..;stride, ..]));
    let w_dec = unit_rows((n_latents, n_inputs), rng);
    let mut hidden = Vec::with_capacity(config.hidden.len());
    let mut before = n_inputs;
    for &n_units in &config.hidden {
        hidden.push(Layer { weight: he_uniform((before, n_units), rng), bias: Array1::zeros(n_units) });
        before = n_units;
    }
    let w_enc = if hidden.is_empty() {
        w_dec.t().as_standard_layout().into_owned()
    } else {
        unit_rows((n_latents, before), rng).t().as_standard_layout().into_owned()
    };
    let mut model = Autoencoder::zeros(config.kind, shape);
    model.threshold.fill(config.threshold as f32);
    Ok(Autoencoder { activation: config.activation(), hidden, w_enc, w_dec, b_dec, ..model })
}

/// Rows of length 1 in random directions.
fn unit_rows(shape: (usize, usize), rng: &mut impl Rng) -> Array2<f32> {
    let mut rows: Array2<f32> = Array2::from_shape_simple_fn(shape, || StandardNormal.sample(rng));
    for mut row in rows.axis_iter_mut(Axis(0)) {
        let length: f32 = row.dot(&row);
        row /= length.sqrt().max(1e-8);
    }
    rows
}

/// He et al.: uniform within ±√(6/n_before), which keeps the variance from layer to layer.
fn he_uniform((n_before, n_units): (usize, usize), rng: &mut impl Rng) -> Array2<f32> {
    let limit = (6.0 / n_before as f32).sqrt();
    let within = Uniform::new_inclusive(-limit, limit).expect("the limit is finite and above 0");
    Array2::from_shape_simple_fn((n_before, n_units), || within.sample(rng))
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
        give_way();
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

    fn started(config: &Config, n_inputs: usize) -> Result<Autoencoder<f32>, StartError> {
        let rows = Array2::from_shape_fn((40, n_inputs), |(i, j)| ((i * 3 + j * 5) % 7) as f32 - 3.0);
        start(config, rows.view(), Array2::ones(rows.dim()).view(), &mut ChaCha8Rng::seed_from_u64(1))
    }

    #[test]
    fn the_start_is_tied_with_unit_rows() {
        let start = started(&Config::default(), 3).unwrap();
        assert_eq!(start.w_enc, start.w_dec.t());
        assert!(start.w_dec.rows().into_iter().all(|row| (row.dot(&row) - 1.0).abs() < 1e-6));
    }

    #[test]
    fn every_form_starts_with_shapes_that_fit() {
        for kind in Kind::ALL {
            let config = Config { kind, hidden: vec![7, 4], ..Config::default() };
            let model = started(&config, 9).unwrap();
            let sizes: Vec<_> = model.hidden.iter().map(|layer| layer.weight.dim()).collect();
            let (shape, deep) = (model.shape(), kind != Kind::Pca);
            assert_eq!(sizes, if deep { vec![(9, 7), (7, 4)] } else { vec![] }, "{kind:?}");
            assert_eq!(model.w_enc.dim(), (if deep { 4 } else { 9 }, shape.n_latents), "{kind:?}");
            assert_eq!(model.threshold.len(), if kind == Kind::Jumprelu { shape.n_latents } else { 0 });
        }
    }

    #[test]
    fn unbounded_latents_as_many_as_inputs_are_refused_unless_forced() {
        let config = Config { kind: Kind::Topk, k: Some(4), ..Config::default() };
        assert_eq!(started(&config, 4), Err(StartError::LargeK { k: 4, n_inputs: 4 }));
        assert!(started(&Config { allow_large_k: true, ..config }, 4).is_ok());
        assert!(started(&Config::default(), 4).is_ok(), "bounded latents may be many");
    }

    #[test]
    fn the_geometric_median_ignores_an_outlier() {
        let median = geometric_median(array![[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1e6, 1e6]].view());
        assert!(median.iter().all(|v| (0.4..1.1).contains(v)), "{median}");
    }
}
