//! strayd finds the records that strayed: a streaming anomaly detector for Kafka.
//!
//! It subscribes to a topic of feature vectors, scores each one by how badly a sparse autoencoder reconstructs it, goes
//! on learning while it runs, and publishes what is anomalous, with the reasons, to another topic.

pub mod batch;
pub mod cli;
pub mod record;
pub mod shutdown;
