//! From raw feature values to the standardised inputs of the autoencoder, and back.
//!
//! A preprocessor belongs to one model version and is frozen with it: a scaler that follows the stream under fixed
//! weights changes what those weights mean. It never looks at labels, time or other records of a batch.

mod scaler;
mod schema;

pub use scaler::{CLIP, Counts, Preprocessor, Scaler};
pub use schema::{Feature, Kind, Schema, SchemaError};
