//! What a configuration must satisfy beyond its types.

use std::time::Duration;

use super::{Problem, RawConfig};
use crate::kafka::Protocol;
use crate::preprocess::Wish;

/// librdkafka's default of `max.poll.interval.ms`.
const MAX_POLL_INTERVAL_MS: u64 = 300_000;

/// librdkafka settings that hold a secret; the pass-through is printed by `strayd check --json`.
const SECRETS: [&str; 6] = [
    "sasl.password",
    "sasl.oauthbearer.client.secret",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.password",
    "sasl.oauthbearer.config",
];

/// Everything that is wrong with `raw`.
pub fn problems(raw: &RawConfig) -> Vec<Problem> {
    let mut found = Found(Vec::new());
    found.names(raw);
    found.kafka(raw);
    found.pipeline(raw);
    found.model(raw);
    found.0
}

struct Found(Vec<Problem>);

impl Found {
    /// Adds a problem unless `holds`.
    fn need(&mut self, holds: bool, key: &str, message: impl FnOnce() -> String) {
        if !holds {
            self.0.push(Problem { key: key.into(), message: message() });
        }
    }

    fn names(&mut self, raw: &RawConfig) {
        self.need(!raw.detector.name.trim().is_empty(), "detector.name", || {
            "it is empty; give the detector a name".into()
        });
        self.need(!raw.input.topic.is_empty(), "input.topic", || "it is not set; name the topic of the vectors".into());
        let output = &raw.output;
        let outputs = [
            ("output.anomalies", Some(&output.anomalies)),
            ("output.scores", output.scores.as_ref()),
            ("output.incidents", output.incidents.as_ref()),
            ("output.dead_letters", Some(&output.dead_letters)),
            ("journal.commands", raw.journal.commands.as_ref()),
            ("journal.feedback", raw.journal.feedback.as_ref()),
        ];
        let is_read = match raw.input.topic.matcher() {
            Ok(is_read) => is_read,
            Err(error) => return self.need(false, "input.topic", || error),
        };
        let mut taken: Vec<(&str, &String)> = Vec::new();
        for (key, topic) in outputs.into_iter().filter_map(|(key, topic)| topic.map(|topic| (key, topic))) {
            self.need(!topic.is_empty(), key, || "it is empty; name a topic".into());
            self.need(topic.is_empty() || !is_read(topic), key, || {
                format!("`{topic}` is also read by input.topic; each needs a topic of its own")
            });
            if let Some((other, _)) = taken.iter().find(|(_, known)| *known == topic) {
                self.need(topic.is_empty(), key, || {
                    format!("`{topic}` is also {other}; each needs a topic of its own")
                });
            }
            taken.push((key, topic));
        }
        let wishes = &raw.schema.features;
        if let (false, Err(error)) = (wishes.is_empty(), Wish::check(wishes)) {
            self.need(false, "schema.features", || error.to_string());
        }
        let decode = &raw.decode;
        for (key, name) in [("decode.field", &decode.field), ("decode.time_field", &decode.time_field)] {
            self.need(name.as_deref() != Some(""), key, || "it is empty; leave it out or name a field".into());
        }
        self.need(decode.payload_bytes_max > 0, "decode.payload_bytes_max", || "0 would reject every record".into());
    }

    fn kafka(&mut self, raw: &RawConfig) {
        let kafka = &raw.kafka;
        self.need(!kafka.brokers.trim().is_empty(), "kafka.brokers", || "it is empty; name host:port".into());
        self.need(!kafka.group.is_empty(), "kafka.group", || "it is empty; name the consumer group".into());
        self.need(kafka.instance.as_deref() != Some(""), "kafka.instance", || {
            "it is empty; leave it out or name it".into()
        });
        let set = |key: &str| kafka.librdkafka.get(key).and_then(|value| value.parse::<u64>().ok());
        let poll_ms = set("max.poll.interval.ms").unwrap_or(MAX_POLL_INTERVAL_MS);
        let delivery = kafka.delivery_timeout;
        self.need(delivery < Duration::from_millis(poll_ms), "kafka.delivery_timeout", || {
            format!("{} must be less than max.poll.interval.ms ({poll_ms} ms)", humantime::format_duration(delivery))
        });
        let secs = kafka.session_timeout.as_secs();
        self.need((1..=1800).contains(&secs), "kafka.session_timeout", || {
            format!("{} must be from 1 s to 30 min", humantime::format_duration(kafka.session_timeout))
        });
        self.need(!kafka.commit_interval.is_zero(), "kafka.commit_interval", || "0 s would never commit".into());
        let sasl = matches!(kafka.security.protocol, Protocol::SaslPlaintext | Protocol::SaslSsl);
        self.need(!sasl || kafka.security.sasl_mechanism.is_some(), "kafka.security.sasl_mechanism", || {
            "it is not set; kafka.security.protocol wants PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512".into()
        });
        for key in ["enable.auto.offset.store", "enable.auto.commit", "group.id", "bootstrap.servers"] {
            self.need(!kafka.librdkafka.contains_key(key), &format!("kafka.librdkafka.\"{key}\""), || {
                "strayd sets it itself; overriding it would lose or repeat records".into()
            });
        }
        for key in SECRETS {
            self.need(!kafka.librdkafka.contains_key(key), &format!("kafka.librdkafka.\"{key}\""), || {
                "a secret is never written here; kafka.security.password_file and key_file name the files of secrets"
                    .into()
            });
        }
        if let Err(error) = kafka.client("check") {
            self.need(false, "kafka.security.password_file", || error.to_string());
        }
        let known = ["none", "gzip", "snappy", "lz4", "zstd"];
        let compression = &raw.output.compression;
        self.need(known.contains(&compression.as_str()), "output.compression", || {
            format!("`{compression}` is not one of {}", known.join(", "))
        });
    }

    fn pipeline(&mut self, raw: &RawConfig) {
        let pipeline = &raw.pipeline;
        let counts = [
            ("pipeline.lanes", pipeline.lanes, 256),
            ("pipeline.rows_max", pipeline.rows_max, 65_536),
            ("pipeline.inflight_max", pipeline.inflight_max, 65_536),
            ("history.rows_min", raw.history.rows_min, raw.history.rows),
            ("history.rows", raw.history.rows, 10_000_000),
            ("history.recent_rows", raw.history.recent_rows, 10_000_000),
            ("history.schema_rows", raw.history.schema_rows, 100_000),
            ("history.chunk_rows", raw.history.chunk_rows, raw.history.rows.max(1)),
            ("output.features_max", raw.output.features_max, 10_000),
            ("dead_letter.value_bytes_max", raw.dead_letter.value_bytes_max, 15_000_000),
            ("registry.keep", raw.registry.keep, 100_000),
        ];
        for (key, value, max) in counts {
            self.need((1..=max).contains(&value), key, || format!("{value} must be from 1 to {max}"));
        }
        let (drain, shutdown) = (pipeline.drain_timeout, pipeline.shutdown_timeout);
        self.need(drain < shutdown, "pipeline.drain_timeout", || {
            let [drain, shutdown] = [drain, shutdown].map(humantime::format_duration);
            format!("{drain} must be less than pipeline.shutdown_timeout ({shutdown})")
        });
        if let Err(error) = raw.log.level.parse::<tracing_subscriber::filter::Targets>() {
            self.need(false, "log.level", || format!("`{}` is not a level or a filter: {error}", raw.log.level));
        }
    }

    fn model(&mut self, raw: &RawConfig) {
        let sections = [
            ("model", raw.model.check()),
            ("training", raw.training.check()),
            ("threshold", raw.threshold.check()),
            ("incidents", raw.incidents.check()),
        ];
        for (section, checked) in sections {
            for problem in checked.err().into_iter().flatten() {
                let (key, message) = problem.split_once(' ').unwrap_or((&problem, ""));
                self.need(false, &format!("{section}.{key}"), || message.to_owned());
            }
        }
        for problem in raw.rules().err().into_iter().flatten() {
            let (key, message) = problem.split_once(' ').unwrap_or((&problem, ""));
            self.need(false, key, || message.to_owned());
        }
    }
}
