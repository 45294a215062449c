//! strayd finds the records that strayed: a streaming anomaly detector for Kafka.
//!
//! It subscribes to a topic of feature vectors, scores each one by how badly a sparse autoencoder reconstructs it, goes
//! on learning while it runs, and publishes what is anomalous, with the reasons, to another topic.
//!
//! ```text
//! features topic ─► source ─► decode ─► batch ─► preprocess ─► sae ─► score ─► threshold ─► sink ─► anomalies topic
//!                     │          └─ reject ─────────────────────────────────────────────► sink ─► dead-letter topic
//!                     └ offsets settle only after every delivery of the batch is acknowledged
//!
//! history (same topic, by offset) ─► train ─► registry ─► model cell (swap)
//! ```
//!
//! The modules below stand in reading order: first what a record is, then what is computed of it, then the world
//! outside, then the loops, and last what puts it all together. `docs/ARCHITECTURE.md` is a newcomer's map, and
//! `tests/architecture.rs` holds the code to it.

pub mod batch;
pub mod record;
pub mod shutdown;
pub mod turn;

#[expect(unsafe_code, reason = "four calls into OpenBLAS; each says why it is sound")]
pub mod blas;
pub mod decode;
pub mod preprocess;
pub mod sae;
pub mod score;
pub mod threshold;

pub mod alert;
pub mod model;
pub mod train;
pub mod wide;

pub mod history;
pub mod journal;
pub mod kafka;
pub mod registry;
pub mod schema_registry;
pub mod sink;
pub mod source;

pub mod admin;
pub mod pipeline;
pub mod telemetry;

pub mod app;
pub mod cli;
pub mod config;
