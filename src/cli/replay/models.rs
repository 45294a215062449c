//! Which model judges which offsets of a replay.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};

use super::outputs::Outputs;
use super::span::Span;
use crate::config::Config;
use crate::model::Model;
use crate::pipeline::Shared;
use crate::pipeline::replay::{Course, Era};
use crate::registry::{Registry, Versions, load_labelled};

/// The models of a replay, each loaded once.
pub struct Models {
    registry: Versions,
    /// The one that was asked for.
    chosen: Option<Arc<Model>>,
    /// The one that scores now.
    current: Option<u64>,
    loaded: BTreeMap<u64, Arc<Model>>,
}

impl Models {
    /// The models of the registry, or the one that is `asked` for by its version or its directory.
    ///
    /// Errors: the registry can't be read, or what is asked for isn't there.
    pub fn new(asked: Option<&str>, config: &Config) -> anyhow::Result<Self> {
        let registry = Versions::look(&config.registry, &config.kafka)?;
        let mut models = Self { chosen: None, current: registry.current()?, registry, loaded: BTreeMap::new() };
        models.chosen = match asked.map(|asked| (asked, asked.parse::<u64>())) {
            None => None,
            Some((_, Ok(version))) => Some(models.load(version)?),
            Some((directory, Err(_))) => {
                let model = Arc::new(load_labelled(Path::new(directory)).context("--model")?);
                models.loaded.insert(model.version, Arc::clone(&model));
                Some(model)
            }
        };
        Ok(models)
    }

    /// Who judges a span: the model that was asked for, else whoever judged it then.
    ///
    /// Errors: there is no model, or a version that judged is not kept.
    pub fn course(&mut self, span: &Span, outputs: &Outputs, notes: &mut Vec<String>) -> anyhow::Result<Course> {
        let Span { live, oldest, .. } = *span;
        let course = |eras| Course { live, oldest, eras };
        if let Some(model) = &self.chosen {
            return Ok(course(vec![Era { from: live.start, model: Arc::clone(model) }]));
        }
        let (eras, unknown) = outputs.eras(live.partition);
        for gap in unknown {
            notes.push(format!(
                "partition {}, offsets {} to {}: no output says which version judged them; the one before is taken \
                 (output.scores would tell)",
                gap.partition,
                gap.start,
                gap.end - 1
            ));
        }
        if eras.is_empty() {
            let current =
                self.current.context("there is no model yet; the daemon trains the first one when it starts")?;
            notes.push(format!(
                "partition {}: no output says which version judged it; the current one, {current}, is taken",
                live.partition
            ));
            return Ok(course(vec![Era { from: live.start, model: self.load(current)? }]));
        }
        let load = |(from, version)| Ok(Era { from, model: self.load(version)? });
        eras.into_iter().map(load).collect::<anyhow::Result<_>>().map(course)
    }

    fn load(&mut self, version: u64) -> anyhow::Result<Arc<Model>> {
        if let Some(model) = self.loaded.get(&version) {
            return Ok(Arc::clone(model));
        }
        let Ok(model) = self.registry.load(version) else {
            bail!(
                "model version {version} is not to be had (registry.keep removes old ones); `strayd models list` shows what is \
                 there, --model names one"
            );
        };
        let model = Arc::new(model);
        self.loaded.insert(version, Arc::clone(&model));
        Ok(model)
    }

    /// The versions that have judged.
    pub fn used(&self) -> Vec<u64> {
        self.loaded.keys().copied().collect()
    }

    /// The target alert rate of the newest of them.
    pub fn target(&self, shared: &Shared) -> Option<f64> {
        self.loaded.last_key_value().map(|(_, model)| shared.target(model))
    }
}
