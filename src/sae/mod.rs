//! The autoencoder: forward pass, loss, gradients, Adam and the learner that puts them together.
//!
//! Generic over f32 (what runs) and f64 (what proves the gradients). Nothing here knows of raw values, records or
//! time; randomness is an argument. A new form is a file with its `Form` and its arms of [`Kind`] below.

mod adam;
mod autoencoder;
mod auxk;
mod batchtopk;
mod config;
mod dense;
mod entries;
mod form;
mod gradient;
mod init;
mod jumprelu;
mod lanes;
mod layers;
mod learner;
mod objective;
mod pca;
mod real;
mod relu;
mod residual;
mod sat_topk;
mod select;
mod sigmoid;
mod sparse;
mod topk;

use serde::{Deserialize, Serialize};

pub use autoencoder::{Autoencoder, Forward};
pub use config::{Config, DecoderNorm, Method, Shape};
pub use gradient::{Example, Gradient};
pub use init::{StartError, geometric_median, start};
pub use layers::{Activation, LEAK, Layer};
pub use learner::{Learner, NotFinite, Pace};
pub use objective::{L0Form, Loss, Objective};
pub use pca::pca;
pub use real::Real;

/// The form of the latents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// TopK of tanh(relu(a)): the default, best on streams.
    #[default]
    SatTopk,
    /// TopK of relu(a): unbounded latents, for reading dictionaries.
    Topk,
    /// The largest of a batch's relu(a).
    Batchtopk,
    /// relu(a) under an L1 penalty.
    Relu,
    /// sigmoid(a) with mean activations held low: the classical sparse autoencoder.
    Sigmoid,
    /// a above a learnt threshold.
    Jumprelu,
    /// Not sparse: the traditional autoencoder.
    Dense,
    /// Principal components, in closed form.
    Pca,
}

impl Kind {
    /// Every form, the default first.
    pub const ALL: [Self; 8] =
        [Self::SatTopk, Self::Topk, Self::Batchtopk, Self::Relu, Self::Sigmoid, Self::Jumprelu, Self::Dense, Self::Pca];

    /// Name in configuration and in `cfg.json`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SatTopk => "sat_topk",
            Self::Topk => "topk",
            Self::Batchtopk => "batchtopk",
            Self::Relu => "relu",
            Self::Sigmoid => "sigmoid",
            Self::Jumprelu => "jumprelu",
            Self::Dense => "dense",
            Self::Pca => "pca",
        }
    }

    fn form<F: Real>(self) -> &'static dyn form::Form<F> {
        match self {
            Self::SatTopk => &sat_topk::SatTopk,
            Self::Topk => &topk::Topk,
            Self::Batchtopk => &batchtopk::BatchTopk,
            Self::Relu => &relu::Relu,
            Self::Sigmoid => &sigmoid::Sigmoid,
            Self::Jumprelu => &jumprelu::JumpRelu,
            Self::Dense => &dense::Dense,
            Self::Pca => &pca::Pca,
        }
    }
}
