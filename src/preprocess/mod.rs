//! From raw feature values to the standardised inputs of the autoencoder, and back.
//!
//! A feature becomes one input or several, by its kind. A preprocessor belongs to one model version and is frozen with
//! it: a scaler that follows the stream under fixed weights changes what those weights mean. It never looks at labels,
//! time or other records of a batch.

mod encoding;
mod kind;
mod preprocessor;
mod scaler;
mod schema;

pub use kind::{CATEGORIES_MAX, Kind, KindName, Wish, WishedKind};
pub use preprocessor::{Counts, Preprocessor};
pub use scaler::{CLIP, Scaler};
pub use schema::{Feature, Schema, SchemaError};
