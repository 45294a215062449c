//! What a client is, for its callbacks: where it authenticates, and how an error of a missing right names the right and
//! its cure.

use std::error::Error;
use std::sync::Arc;

use rdkafka::client::OAuthToken;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::{Config, Security, explain};

/// Something that a principal has rights on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right<'a> {
    /// To read a topic. It includes describing it.
    ReadTopic(&'a str),
    /// To write to a topic. It includes describing it.
    WriteTopic(&'a str),
    /// To be in a consumer group, and to ask for its offsets.
    ReadGroup(&'a str),
    /// To make a topic.
    CreateTopic(&'a str),
    /// To see how a topic is set up.
    DescribeTopicConfigs(&'a str),
    /// To write under the transactional ids of a consumer group, which all begin with its name and a dot.
    WriteTransactions(&'a str),
}

impl Right<'_> {
    /// The options of `kafka-acls --add` that grant it, and what it is in words.
    fn grant(&self) -> (String, String) {
        let topic = |operation: &str, name: &str| {
            (format!("--operation {operation} --topic {name}"), format!("{operation} on topic `{name}`"))
        };
        match self {
            Self::ReadTopic(name) => topic("Read", name),
            Self::WriteTopic(name) => topic("Write", name),
            Self::CreateTopic(name) => topic("Create", name),
            Self::DescribeTopicConfigs(name) => topic("DescribeConfigs", name),
            Self::ReadGroup(name) => (format!("--operation Read --group {name}"), format!("Read on group `{name}`")),
            Self::WriteTransactions(group) => (
                format!("--operation Write --transactional-id {group}. --resource-pattern-type prefixed"),
                format!("Write on transactional ids that begin with `{group}.`"),
            ),
        }
    }

    /// Whether an error says that this right is missing.
    fn is_denied(&self, code: RDKafkaErrorCode) -> bool {
        match self {
            Self::ReadTopic(_) | Self::WriteTopic(_) | Self::CreateTopic(_) | Self::DescribeTopicConfigs(_) => {
                code == RDKafkaErrorCode::TopicAuthorizationFailed
            }
            Self::ReadGroup(_) => code == RDKafkaErrorCode::GroupAuthorizationFailed,
            Self::WriteTransactions(_) => code == RDKafkaErrorCode::TransactionalIdAuthorizationFailed,
        }
    }
}

/// How a client authenticates, and as whom. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Access(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    security: Security,
    brokers: String,
    group: String,
}

impl Access {
    /// The access of clients with this configuration.
    pub fn new(config: &Config) -> Self {
        let Config { security, brokers, group, .. } = config;
        Self(Arc::new(Inner { security: security.clone(), brokers: brokers.clone(), group: group.clone() }))
    }

    /// The daemon's consumer group.
    pub fn group(&self) -> &str {
        &self.0.group
    }

    /// A token for SASL OAUTHBEARER, for the context's `generate_oauth_token`.
    ///
    /// Errors: why there is none, in words for the user.
    pub fn token(&self) -> Result<OAuthToken, Box<dyn Error>> {
        super::oauth::token(&self.0.security)
    }

    /// Says what an error means, as [`explain`] does; of a missing right, which of `needed` it is, and the command that
    /// grants it.
    pub fn explain(&self, error: &KafkaError, reason: &str, needed: &[Right<'_>]) -> String {
        let code = error.rdkafka_error_code();
        let missing = code.and_then(|code| needed.iter().find(|right| right.is_denied(code)));
        let Some(right) = missing else { return explain(error, reason) };
        self.denial(*right)
    }

    /// Says that a right is missing, and the command that grants it.
    pub fn denial(&self, right: Right<'_>) -> String {
        let (options, words) = right.grant();
        let (principal, brokers) = (self.0.security.principal(), &self.0.brokers);
        format!(
            "{principal} has no right to {words}; grant it: kafka-acls --bootstrap-server {brokers} --add \
             --allow-principal \"{principal}\" {options}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_right_is_named_with_the_command_that_grants_it() {
        let mut config = Config { brokers: "k:9093".into(), ..Config::default() };
        config.security.protocol = crate::kafka::Protocol::SaslSsl;
        config.security.username = Some("pumps".into());
        let access = Access::new(&config);
        let denied = KafkaError::ConsumerCommit(RDKafkaErrorCode::GroupAuthorizationFailed);
        let said = access.explain(&denied, "", &[Right::ReadTopic("f"), Right::ReadGroup("g")]);
        assert_eq!(
            said,
            "User:pumps has no right to Read on group `g`; grant it: kafka-acls --bootstrap-server k:9093 --add \
             --allow-principal \"User:pumps\" --operation Read --group g"
        );
        let other = KafkaError::ConsumerCommit(RDKafkaErrorCode::AllBrokersDown);
        assert!(access.explain(&other, "", &[Right::ReadTopic("f")]).starts_with("no broker answers"));
    }
}
