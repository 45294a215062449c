//! The sparse autoencoder: forward pass, loss, gradients, Adam and the learner that puts them together.
//!
//! Generic over f32 (what runs) and f64 (what proves the gradients). Nothing here knows of raw values, records or
//! time; randomness is an argument. A new form is an arm of [`Kind`] and its lines in `activation.rs`.

mod activation;
mod adam;
mod autoencoder;
mod config;
mod gradient;
mod init;
mod learner;
mod real;

pub use activation::Kind;
pub use autoencoder::{Autoencoder, Forward};
pub use config::{Config, DecoderNorm, Shape};
pub use gradient::{Example, Gradient};
pub use init::{geometric_median, tied};
pub use learner::{Learner, NotFinite};
pub use real::Real;
