//! strayd finds the records that strayed: a streaming anomaly detector for Kafka.
//!
//! It subscribes to a topic of feature vectors, scores each one by how badly a sparse autoencoder reconstructs it, goes
//! on learning while it runs, and publishes what is anomalous, with the reasons, to another topic.

pub mod batch;
pub mod decode;
pub mod record;
pub mod shutdown;

pub mod blas;
pub mod model;
pub mod preprocess;
pub mod sae;
pub mod score;
pub mod threshold;
pub mod train;
