//! What an administrator does to topics while a daemon runs: their settings are changed, they are deleted.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::KafkaResult;

use super::{Broker, wait_until};

const REQUEST_MAX: Duration = Duration::from_secs(20);

impl Broker {
    /// Gives a topic these settings and no others.
    #[track_caller]
    pub fn configure_topic(&self, name: &str, configs: &[(&str, &str)]) {
        let config = AlterConfig::new(ResourceSpecifier::Topic(name));
        let config = configs.iter().fold(config, |config, (key, value)| config.set(key, value));
        let done = answer(self.admin().alter_configs([&config], &options())).expect("the request is answered");
        done[0].as_ref().expect("the settings are right");
    }

    /// Deletes a topic, and waits until it is gone.
    #[track_caller]
    pub fn delete_topic(&self, name: &str) {
        let done = answer(self.admin().delete_topics(&[name], &options())).expect("the request is answered");
        done[0].as_ref().expect("the topic is there");
        wait_until(REQUEST_MAX, "the topic to be gone", || self.partitions(name).is_empty());
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        ClientConfig::new().set("bootstrap.servers", self.brokers()).create().expect("these settings are valid")
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(REQUEST_MAX)).request_timeout(Some(REQUEST_MAX))
}

fn answer<T>(request: impl Future<Output = KafkaResult<T>>) -> KafkaResult<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    runtime.block_on(request)
}
