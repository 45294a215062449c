//! The immutable model: fitted, stored and swapped whole.
//!
//! Schema, preprocessor, autoencoder, calibration and lineage travel together, so that no score is ever judged by
//! another model's calibration. Only `artifact.rs` touches files; nothing here knows threads or the clock.

pub mod artifact;
pub mod features;
pub mod interchange;

mod bundle;
mod cell;
pub mod document;
mod lineage;
mod reference;
mod tensors;
mod workspace;

pub use artifact::ArtifactError;
pub use bundle::{AdmissionScale, BATCH_ROWS, Model, SchemaMismatch};
pub use cell::{ModelCell, Thresholds};
pub use lineage::{Chunk, Curve, Feedback, Lineage, Span, join_spans};
pub use reference::Reference;
pub use workspace::Workspace;
