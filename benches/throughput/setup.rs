//! What is measured: how many features, which model, which format, and the daemon's configuration for it.
//!
//! Every other key has its default, so that what is measured is what runs. Rows follow three hidden factors with a
//! tenth of noise around 20, three decimals each; they are a function of their seed.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ndarray::Array2;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use serde::{Deserialize, Serialize};

use strayd::config::{Config, RawConfig};
use strayd::decode::Format;
use strayd::model::Model;
use strayd::preprocess::Schema;
use strayd::record::RecordId;
use strayd::registry::{self, Directory, Registry};
use strayd::source::Start;
use strayd::{decode, kafka, sink, train};

/// Rows that a model is trained on: enough for its default number of steps.
const N_TRAINING: usize = 4_000;
/// Different records of a stream, which then repeat.
pub const N_DISTINCT: usize = 20_000;

/// Features, model and format.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Setup {
    /// Name in tables.
    pub name: String,
    /// Features of a record, D.
    pub n_features: usize,
    /// Latents, M; none: the default.
    pub n_latents: Option<usize>,
    /// Active latents of a record, k; none: the default.
    pub k: Option<usize>,
    /// Remembered rows; 0: the autoencoder scores alone.
    pub memory_rows: usize,
    /// Format of the records.
    pub format: Format,
}

impl Setup {
    /// 64 latents of which 8 are active, alone: the prototype's.
    pub fn small(format: Format) -> Self {
        let name = format!("small, {}", name_of(format));
        Self { name, n_features: 32, n_latents: Some(64), k: Some(8), memory_rows: 0, format }
    }

    /// The default model for `n_features`: M = 4·D, k = D, a memory of 512 rows, tails.
    pub fn default_model(n_features: usize, format: Format) -> Self {
        let name = format!("default, {}", name_of(format));
        Self { name, n_features, n_latents: None, k: None, memory_rows: 512, format }
    }

    /// How the model is made.
    pub fn model_config(&self) -> train::Config {
        let mut config = train::Config::default();
        config.sae.n_latents = self.n_latents;
        config.sae.k = self.k;
        config.members.memory_rows = self.memory_rows;
        config
    }

    /// D/M/k.
    pub fn shape(&self) -> String {
        let shape = self.model_config().sae.shape(self.n_features);
        format!("{}/{}/{}", shape.n_inputs, shape.n_latents, shape.k)
    }

    /// Names of the features.
    pub fn names(&self) -> Vec<String> {
        (0..self.n_features).map(|i| format!("s{i}")).collect()
    }

    /// Rows `[n_rows, n_features]` of the stream; another `seed` gives other rows of the same machine.
    pub fn rows(&self, n_rows: usize, seed: u64) -> Array2<f32> {
        let normal = |seed: u64, shape| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            Array2::from_shape_simple_fn(shape, || rng.sample::<f32, _>(StandardNormal))
        };
        let machine = normal(0, (3, self.n_features));
        let noise = 0.1 * normal(2 * seed + 2, (n_rows, self.n_features));
        let values = normal(2 * seed + 1, (n_rows, 3)).dot(&machine) + noise + 20.0;
        values.mapv(|value| (value * 1000.0).round() / 1000.0)
    }

    /// The records' payloads.
    pub fn payloads(&self, n_rows: usize) -> Vec<Vec<u8>> {
        let names = self.names();
        let of_row = |row: ndarray::ArrayView1<'_, f32>| match self.format {
            Format::Packed => row.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Format::Json => {
                let field = |(name, value): (&String, &f32)| format!("\"{name}\":{value:.3}");
                let fields: Vec<String> = names.iter().zip(row).map(field).collect();
                format!("{{{}}}", fields.join(",")).into_bytes()
            }
        };
        self.rows(n_rows, 7).rows().into_iter().map(of_row).collect()
    }

    /// Trains the model on other rows of the same stream.
    pub fn train(&self, config: &train::Config) -> Model {
        let schema = Arc::new(Schema::new(self.names()).expect("the names differ"));
        let ids = (0..N_TRAINING as i64).map(|offset| RecordId { partition: 0.into(), offset }).collect();
        let rows = train::Rows::new(self.rows(N_TRAINING, 1), ids);
        let fitted = train::fit(schema, &rows, config, 0, &mut |_| ControlFlow::Continue(()));
        fitted.expect("the rows can be learnt").into_model(1, 0)
    }

    /// Trains the model by a few steps: what it costs doesn't depend on what it has learnt.
    pub fn train_briefly(&self) -> Model {
        let mut config = self.model_config();
        (config.trial_steps, config.steps, config.sae.batch_rows) = (5, 5, 512);
        self.train(&config)
    }

    /// Trains the model and makes it the current one of a registry in `folder`.
    pub fn register(&self, folder: &Path) -> anyhow::Result<()> {
        let mut registry = Directory::new(&registry::Config { path: folder.to_owned(), ..Default::default() });
        let model = if self.n_features > 64 { self.train_briefly() } else { self.train(&self.model_config()) };
        registry.store(&model)?;
        registry.promote(1)?;
        Ok(())
    }
}

fn name_of(format: Format) -> &'static str {
    match format {
        Format::Json => "JSON",
        Format::Packed => "raw f32",
    }
}

/// One daemon's place in the world.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Place {
    /// Bootstrap address.
    pub brokers: String,
    /// Features topic.
    pub topic: String,
    /// Anomalies topic.
    pub anomalies: String,
    /// Dead-letter topic.
    pub dead_letters: String,
    /// Consumer group.
    pub group: String,
    /// Directory of the models.
    pub registry: PathBuf,
}

impl Place {
    /// How the cluster is reached.
    pub fn kafka(&self) -> kafka::Config {
        kafka::Config { brokers: self.brokers.clone(), group: self.group.clone(), ..Default::default() }
    }

    /// The daemon's configuration, to be changed further and then checked.
    pub fn raw_config(&self, setup: &Setup, lanes: usize) -> RawConfig {
        let mut raw = RawConfig {
            kafka: self.kafka(),
            decode: decode::Config { format: setup.format, ..Default::default() },
            model: setup.model_config(),
            output: sink::Config {
                anomalies: self.anomalies.clone(),
                dead_letters: self.dead_letters.clone(),
                ..Default::default()
            },
            registry: registry::Config { path: self.registry.clone(), ..Default::default() },
            ..Default::default()
        };
        raw.input.topic = self.topic.as_str().into();
        raw.input.start = Start::Earliest;
        raw.training.enabled = false;
        raw.pipeline.lanes = lanes;
        raw.admin.listen = ([127, 0, 0, 1], 0).into();
        raw
    }
}

/// Checks a configuration of ours.
pub fn checked(raw: RawConfig) -> anyhow::Result<Config> {
    Ok(Config::check(raw)?)
}
