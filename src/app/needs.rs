//! What the daemon needs of the cluster, looked at once and one thing after the other: for `check` and `doctor`.

use std::time::Duration;

use super::schemas;
use crate::config::Config;
use crate::history::{Bound, History, TopicHistory};
use crate::kafka::check_compacted;
use crate::schema_registry::Schemas;
use crate::sink::KafkaSink;

/// How long a look at the output topics may take.
pub(super) const TOPICS_TIMEOUT: Duration = Duration::from_secs(5);

/// Something that the daemon needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Brokers, and the features topics.
    Input,
    /// The group's committed offsets.
    Group,
    /// The schema registry, where the format is read by one.
    SchemaRegistry,
    /// The output topics.
    Outputs,
    /// The registry's topic, where there is one.
    RegistryTopic,
}

impl Need {
    /// All of them, in the order in which one hangs on another.
    pub const ALL: [Self; 5] = [Self::Input, Self::Group, Self::SchemaRegistry, Self::Outputs, Self::RegistryTopic];

    /// Asks for it once.
    ///
    /// Errors: what is wrong, in words for the user.
    pub fn check(self, config: &Config) -> Result<(), String> {
        let extents = |bound| {
            let open = TopicHistory::new(&config.kafka, &config.input.topic, config.history.read_timeout);
            open?.extents(bound).map(drop)
        };
        match self {
            Self::Input => extents(Bound::Head),
            Self::Group => extents(Bound::Settled),
            Self::SchemaRegistry => check_schema_registry(config, &schemas(config)),
            Self::Outputs => {
                let sink = KafkaSink::new(&config.kafka, &config.output, "strayd-check");
                sink.map_err(|error| error.to_string())?.check_topics(TOPICS_TIMEOUT)
            }
            Self::RegistryTopic => {
                config.registry.topic.iter().try_for_each(|topic| check_compacted(&config.kafka, topic))
            }
        }
    }
}

/// Asks the brokers once for everything that the configuration names.
///
/// Errors: what is wrong, in words for the user.
pub fn check_cluster(config: &Config) -> Result<(), String> {
    Need::ALL.into_iter().try_for_each(|need| need.check(config))
}

/// Asks the schema registry whether it answers, where it is needed.
pub(super) fn check_schema_registry(config: &Config, schemas: &Schemas) -> Result<(), String> {
    let is_needed = config.decode.format.needs_registry() || config.output.format.schema().is_some();
    match schemas.registry().filter(|_| is_needed) {
        Some(registry) => registry.ping().map_err(|error| error.to_string()),
        None => Ok(()),
    }
}
