//! What a configuration must satisfy beyond its types.

use std::time::Duration;

use super::{Problem, RawConfig};
use crate::decode::Format;
use crate::kafka::TRANSACTION_TIMEOUT;
use crate::preprocess::Wish;

/// librdkafka's default of `max.poll.interval.ms`.
const MAX_POLL_INTERVAL_MS: u64 = 300_000;

/// librdkafka settings that hold a secret; the pass-through is printed by `strayd check --json`.
const SECRETS: [&str; 9] = [
    "sasl.password",
    "sasl.oauthbearer.client.secret",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.password",
    "sasl.oauthbearer.config",
    "sasl.oauthbearer.assertion.private.key.passphrase",
    "sasl.oauthbearer.assertion.private.key.pem",
    "enable.sasl.oauthbearer.unsecure.jwt", // tokens that nobody signed
];

/// Everything that is wrong with `raw`.
pub fn problems(raw: &RawConfig) -> Vec<Problem> {
    let mut found = Found(Vec::new());
    found.names(raw);
    found.formats(raw);
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
            ("registry.topic", raw.registry.topic.as_ref()),
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
        let journals = [("journal.commands", &raw.journal.commands), ("journal.feedback", &raw.journal.feedback)];
        for (key, journal) in journals {
            self.need(raw.registry.topic.is_none() || journal.is_some(), key, || {
                "it is not set; with registry.topic replicas share what people say, too: name a topic".into()
            });
        }
        let wishes = &raw.schema.features;
        if let (false, Err(error)) = (wishes.is_empty(), Wish::check(wishes)) {
            self.need(false, "schema.features", || error.to_string());
        }
        let decode = &raw.decode;
        for (key, name) in [("decode.field", &decode.field), ("decode.time_field", &decode.time_field)] {
            self.need(name.as_deref() != Some(""), key, || "it is empty; leave it out or name a field".into());
        }
        self.need(decode.delimiter.is_ascii() && !"\r\n\"".contains(decode.delimiter), "decode.delimiter", || {
            format!("{:?} is not an ASCII character other than a quote and the ends of lines", decode.delimiter)
        });
        let (is_csv, is_packed) = (decode.format == Format::Csv, decode.format == Format::Packed);
        self.need(is_csv || decode.columns.is_empty(), "decode.columns", || "it is for decode.format = \"csv\"".into());
        self.need(!(is_csv || is_packed) || decode.field.is_none(), "decode.field", || {
            format!("decode.format = \"{}\" has no fields inside fields", decode.format.name())
        });
        let has_names = !is_packed && (!is_csv || !decode.columns.is_empty());
        let wants_names = decode.time_field.is_some() || !decode.passthrough.is_empty();
        self.need(has_names || !wants_names, "decode.time_field", || {
            "it and decode.passthrough want a format with names (csv has them with decode.columns)".into()
        });
        self.need(decode.payload_bytes_max > 0, "decode.payload_bytes_max", || "0 would reject every record".into());
    }

    /// What needs the schema registry.
    fn formats(&mut self, raw: &RawConfig) {
        let (input, output) = (raw.decode.format, raw.output.format);
        let formats = [
            ("decode.format", input.name(), input.needs_registry()),
            ("output.format", output.name(), output.schema().is_some()),
        ];
        for (key, name, needs_registry) in formats {
            self.need(!needs_registry || raw.schema_registry.url.is_some(), "schema_registry.url", || {
                format!("it is not set, and {key} = \"{name}\" needs it")
            });
        }
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
        let every = kafka.commit_interval();
        self.need(!every.is_zero(), "kafka.commit_interval", || "0 s would never commit".into());
        let is_short = !kafka.is_exactly_once() || every * 2 <= TRANSACTION_TIMEOUT;
        self.need(is_short, "kafka.commit_interval", || {
            let timeout = humantime::format_duration(TRANSACTION_TIMEOUT);
            format!(
                "{} is more than half the {timeout} after which the broker aborts a transaction",
                humantime::format_duration(every)
            )
        });
        for (key, message) in kafka.security.problems() {
            self.need(false, key, || message);
        }
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
            ("schema_registry", raw.schema_registry.check()),
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
