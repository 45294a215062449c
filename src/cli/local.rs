//! The pipeline over a table instead of a topic: the same lane and the same trainer, fed from memory, one step at a
//! time, so that `eval` and `score` judge what `run` would do.

use std::sync::Arc;

use super::file_config;
use super::table::Table;
use crate::app;
use crate::config::{Config, RawConfig};
use crate::history::{Head, TableHistory};
use crate::model::Model;
use crate::pipeline::Shared;
use crate::pipeline::inflight::Settling;
use crate::pipeline::lane::{Lane, Step};
use crate::pipeline::trainer::{Ticked, Trainer};
use crate::record::Topics;
use crate::registry::MemoryRegistry;
use crate::shutdown::Shutdown;
use crate::sink::{Channel, MemorySink, Sink};
use crate::source::{MemorySource, Stored};
use crate::telemetry::Metrics;
use crate::telemetry::health::Health;

/// Rows scored between two looks at the trainer; rounds fall on multiples of it.
pub const ROWS_MAX: usize = 64;

/// A lane and its trainer over a table.
pub struct Local {
    /// What they share.
    pub shared: Shared,
    lane: Lane,
    trainer: Trainer,
    sink: Arc<MemorySink>,
    head: Head,
    n_reached: usize,
}

impl Local {
    /// A pipeline whose history is `history`, and which scores `rows` of `table` after it.
    pub fn new(config: &Config, name: &str, table: &Table, history: &[usize], rows: &[usize]) -> anyhow::Result<Self> {
        let mut raw: RawConfig = file_config(config, table.format());
        raw.input.topic = Topics::one(name);
        raw.output.scores = Some("scores".into());
        raw.schema.features = table.wishes(&config.schema.features)?;
        raw.pipeline.rows_max = ROWS_MAX;
        raw.history.rows_min = raw.history.rows_min.min(history.len().max(1));
        raw.history.rows = raw.history.rows.max(raw.history.rows_min);
        // A replay has no clock: looks and rounds come by records alone.
        raw.training.retrain_gap = std::time::Duration::ZERO;
        raw.training.drift_interval = std::time::Duration::ZERO;
        raw.training.drift_gap = std::time::Duration::ZERO;
        let config = Config::check(raw)?;

        let payloads = table.payloads();
        let ordered: Vec<Vec<u8>> = history.iter().chain(rows).map(|&row| payloads[row].clone()).collect();
        let records = ordered[history.len()..].iter().enumerate().map(|(i, payload)| Stored {
            time_ms: i as i64,
            payload: Some(payload.clone()),
            ..Stored::default()
        });
        let shared = app::shared(&config, Arc::new(Metrics::new()), Health::new(1));
        let sink = Arc::new(MemorySink::default());
        let settling = Arc::new(Settling::new(Arc::clone(&sink) as Arc<dyn Sink>, config.pipeline.drain_timeout, 0));
        let source = MemorySource::new(records.collect()).starting_at(history.len() as i64);
        let lane = Lane::new(0, shared.clone(), Box::new(source), Arc::clone(&sink) as Arc<dyn Sink>, settling);
        let head = Head::default();
        head.advance_to(history.len() as i64);
        let table = TableHistory::new(name, Arc::new(ordered), head.clone());
        let mut settings = app::settings(&config);
        // There is no lane beside it to leave the core to.
        settings.trainer.cpu_share = 1.0;
        let trainer = Trainer::new(
            shared.clone(),
            Box::new(table),
            Box::new(MemoryRegistry::default()),
            settings,
            Shutdown::default(),
        );
        Ok(Self { shared, lane, trainer, sink, head, n_reached: history.len() })
    }

    /// Makes a trained model score, instead of training one.
    pub fn use_model(&self, model: Model) {
        self.shared.cell.swap(Arc::new(model));
    }

    /// Lets the trainer do what is due.
    pub fn train(&mut self) -> anyhow::Result<Ticked> {
        Ok(self.trainer.tick()?)
    }

    /// Scores the next rows and hands what was published to `take`. Returns the number of rows, none at the end.
    pub fn step(
        &mut self,
        take: &mut dyn FnMut(Channel, &[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<Option<usize>> {
        let step = self.lane.step()?;
        for sent in self.sink.take() {
            take(sent.channel, &sent.value)?;
        }
        match step {
            Step::End => Ok(None),
            Step::Idle => anyhow::bail!("there is no model to score with"),
            Step::Read(n) => {
                self.n_reached += n;
                self.head.advance_to(self.n_reached as i64);
                Ok(Some(n))
            }
        }
    }
}
