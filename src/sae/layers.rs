//! The hidden layers before the code: weights and activations.
//!
//! MODEL 2.3: h_l = φ(h_{l−1}W_l + b_l), h_0 = u. None by default: with a linear encoder each latent is one readable
//! direction on both sides.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array1, Array2, ArrayView2, ArrayViewMut2, Axis, Zip, s};
use serde::{Deserialize, Serialize};

use super::autoencoder::fit_buffer;
use super::form::each_row;
use super::real::Real;

/// Slope of `leaky_relu` below 0.
pub const LEAK: f64 = 0.01;

/// The activation of hidden layers, and of the code of `dense`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// max(z, 0).
    Relu,
    /// z above 0, 0.01·z below.
    LeakyRelu,
    /// tanh(z).
    Tanh,
    /// z·sigmoid(z).
    #[default]
    Silu,
    /// 1/(1 + e^−z).
    Sigmoid,
}

impl Activation {
    /// Applies it to every entry of `row`.
    pub(super) fn apply<F: Real>(self, row: &mut [F]) {
        let zero = F::zero();
        match self {
            Self::Relu => row.iter_mut().for_each(|z| *z = if *z > zero { *z } else { zero }),
            Self::LeakyRelu => row.iter_mut().for_each(|z| *z = if *z > zero { *z } else { *z * F::of(LEAK) }),
            Self::Tanh => F::squash(row),
            Self::Silu => row.iter_mut().for_each(|z| *z *= logistic(*z)),
            Self::Sigmoid => row.iter_mut().for_each(|z| *z = logistic(*z)),
        }
    }

    /// Derivative at `z`, where the activation is `h`.
    fn slope<F: Real>(self, z: F, h: F) -> F {
        let (one, zero) = (F::one(), F::zero());
        match self {
            Self::Relu => {
                if z > zero {
                    one
                } else {
                    zero
                }
            }
            Self::LeakyRelu => {
                if z > zero {
                    one
                } else {
                    F::of(LEAK)
                }
            }
            Self::Tanh => one - h * h,
            Self::Silu => {
                let g = logistic(z);
                g + z * g * (one - g)
            }
            Self::Sigmoid => h * (one - h),
        }
    }

    /// Turns the gradient at activations `h` into the gradient at `z`, in place; all `[rows, n]`.
    pub(super) fn backward<F: Real>(
        self,
        z: ArrayView2<'_, F>,
        h: ArrayView2<'_, F>,
        gradient: &mut ArrayViewMut2<'_, F>,
    ) {
        Zip::from(gradient).and(z).and(h).for_each(|g, &z, &h| *g *= self.slope(z, h));
    }
}

fn logistic<F: Real>(z: F) -> F {
    F::one() / (F::one() + (-z).exp())
}

/// Weights of one layer, or a gradient or moment in their shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer<F = f32> {
    /// `[n_before, n_units]`.
    pub weight: Array2<F>,
    /// `[n_units]`.
    pub bias: Array1<F>,
}

impl<F: Real> Layer<F> {
    /// All zeros, in the shape of `other`.
    pub(super) fn zeros(other: &Self) -> Self {
        Self { weight: Array2::zeros(other.weight.dim()), bias: Array1::zeros(other.bias.dim()) }
    }
}

/// The buffers of one layer's pass: z, φ(z) before dropout, φ(z) after it.
#[derive(Clone, Debug)]
pub(super) struct Units<F> {
    pre: Array2<F>,
    plain: Array2<F>,
    out: Array2<F>,
}

impl<F: Real> Units<F> {
    /// Buffers that hold nothing yet.
    pub(super) fn new() -> Self {
        let none = || Array2::zeros((0, 0));
        Self { pre: none(), plain: none(), out: none() }
    }

    /// The layer's output, `[n_rows, n_units]`.
    pub(super) fn out(&self, n_rows: usize) -> ArrayView2<'_, F> {
        self.out.slice(s![..n_rows, ..])
    }

    /// Computes the layer from `input` `[rows, n_before]`; `scale` `[rows, n_units]` is dropout's.
    pub(super) fn forward(
        &mut self,
        layer: &Layer<F>,
        activation: Activation,
        input: ArrayView2<'_, F>,
        scale: Option<&Array2<F>>,
    ) {
        let (n_rows, n_units) = (input.nrows(), layer.bias.len());
        for buffer in [&mut self.pre, &mut self.plain, &mut self.out] {
            fit_buffer(buffer, n_rows, n_units);
        }
        let mut pre = self.pre.slice_mut(s![..n_rows, ..]);
        pre.assign(&layer.bias);
        general_mat_mul(F::one(), &input, &layer.weight, F::one(), &mut pre);
        let mut plain = self.plain.slice_mut(s![..n_rows, ..]);
        plain.assign(&pre);
        each_row(&mut plain, |row| activation.apply(row));
        let mut out = self.out.slice_mut(s![..n_rows, ..]);
        out.assign(&plain);
        if let Some(scale) = scale {
            out *= &scale.slice(s![..n_rows, ..]);
        }
    }

    /// Writes the layer's gradient and returns that of its input, `[rows, n_before]`, from that of its output.
    pub(super) fn backward(
        &self,
        layer: &Layer<F>,
        activation: Activation,
        (input, scale): (ArrayView2<'_, F>, Option<&Array2<F>>),
        mut at_out: Array2<F>,
        gradient: &mut Layer<F>,
    ) -> Array2<F> {
        let rows = s![..input.nrows(), ..];
        if let Some(scale) = scale {
            at_out *= &scale.slice(rows);
        }
        activation.backward(self.pre.slice(rows), self.plain.slice(rows), &mut at_out.view_mut());
        general_mat_mul(F::one(), &input.t(), &at_out, F::zero(), &mut gradient.weight);
        gradient.bias.assign(&at_out.sum_axis(Axis(0)));
        at_out.dot(&layer.weight.t())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn activations_have_their_values() {
        let of = |activation: Activation| {
            let mut row = [-1.0_f64, 0.0, 2.0];
            activation.apply(&mut row);
            row.map(|h| (h * 1e4).round() / 1e4)
        };
        assert_eq!(of(Activation::Relu), [0.0, 0.0, 2.0]);
        assert_eq!(of(Activation::LeakyRelu), [-0.01, 0.0, 2.0]);
        assert_eq!(of(Activation::Tanh), [-0.7616, 0.0, 0.964]);
        assert_eq!(of(Activation::Silu), [-0.2689, 0.0, 1.7616]);
        assert_eq!(of(Activation::Sigmoid), [0.2689, 0.5, 0.8808]);
    }

    #[test]
    fn huge_values_stay_finite_in_both_directions() {
        for activation in
            [Activation::Relu, Activation::LeakyRelu, Activation::Tanh, Activation::Silu, Activation::Sigmoid]
        {
            for z in [-1e30_f32, 1e30] {
                let mut row = [z];
                activation.apply(&mut row);
                assert!(row[0].is_finite() && activation.slope(z, row[0]).is_finite(), "{activation:?} of {z}");
            }
        }
    }
}
