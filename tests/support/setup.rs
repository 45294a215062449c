//! The topics of one daemon, and a launch that is configured for them.

use super::{Broker, Launch, unique};

/// The topics and the group of one daemon.
#[derive(Clone, Debug)]
pub struct Topics {
    /// Features topic.
    pub features: String,
    /// Anomalies topic.
    pub anomalies: String,
    /// Scores topic.
    pub scores: String,
    /// Dead-letter topic.
    pub dead_letters: String,
    /// Consumer group.
    pub group: String,
}

impl Topics {
    /// Makes the topics; `n_partitions` are those of the features topic.
    #[track_caller]
    pub fn new(broker: &Broker, n_partitions: i32) -> Self {
        Self::reading(broker, &broker.new_topic("features", n_partitions))
    }

    /// Makes output topics and a group of their own for a features topic that exists.
    #[track_caller]
    pub fn reading(broker: &Broker, features: &str) -> Self {
        Self {
            features: features.to_owned(),
            anomalies: broker.new_topic("anomalies", 2),
            scores: broker.new_topic("scores", 4),
            dead_letters: broker.new_topic("dead-letters", 1),
            group: unique("group"),
        }
    }

    /// A daemon on these topics that scores every record to the scores topic and keeps its first model.
    pub fn launch(&self, broker: &Broker) -> Launch {
        let Self { features, anomalies, scores, dead_letters, group } = self;
        Launch::new(&format!(
            "[kafka]\nbrokers = \"{}\"\ngroup = \"{group}\"\n[input]\ntopic = \"{features}\"\n\
             [output]\nanomalies = \"{anomalies}\"\nscores = \"{scores}\"\ndead_letters = \"{dead_letters}\"\n\
             [training]\nenabled = false\n",
            broker.brokers()
        ))
    }
}
