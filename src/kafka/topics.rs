//! Topics of our own: made where they are missing, and looked at before they are relied on.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::error::RDKafkaErrorCode;

use super::{Config, Context, Right, explain};

/// How long a request to the controller may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// What of a topic's messages must pass: the largest piece of a model with its headers.
const MESSAGE_BYTES_MIN: usize = 600 << 10;

/// Makes sure that `topic` is there with one partition, and compacted: makes it, or checks the one that there is.
///
/// Errors: what is wrong and what to do, in words for the user; trying again may help.
pub fn ensure_compacted(client: &Config, topic: &str) -> Result<(), String> {
    compacted(client, topic, true)
}

/// Looks whether `topic` is as [`ensure_compacted`] wants it, and makes nothing: one that is missing is made by the daemon.
///
/// Errors: as there.
pub fn check_compacted(client: &Config, topic: &str) -> Result<(), String> {
    compacted(client, topic, false)
}

fn compacted(client: &Config, topic: &str, makes: bool) -> Result<(), String> {
    let mut settings = client.client("strayd-admin").map_err(|error| error.to_string())?;
    client.pass_through(&mut settings);
    let admin: AdminClient<Context> =
        settings.create_with_context(Context::new(client, &client.group, topic)).map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(|error| error.to_string())?;
    runtime
        .block_on(look(&admin, topic, makes))
        .map_err(|error| admin.inner().context().trouble.take().unwrap_or(error))
}

async fn look(admin: &AdminClient<Context>, topic: &str, makes: bool) -> Result<(), String> {
    let failed = |error| explain(&error, "");
    let options = AdminOptions::new().operation_timeout(Some(REQUEST_TIMEOUT)).request_timeout(Some(REQUEST_TIMEOUT));
    let metadata = admin.inner().fetch_metadata(Some(topic), REQUEST_TIMEOUT).map_err(failed)?;
    let access = &admin.inner().context().access;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let code = found.and_then(|found| found.error()).map(RDKafkaErrorCode::from);
    if code == Some(RDKafkaErrorCode::TopicAuthorizationFailed) {
        return Err(access.denial(Right::ReadTopic(topic)));
    }
    let Some(found) = found.filter(|_| code.is_none()) else {
        if !makes {
            return Ok(());
        }
        // As many copies as the cluster's default.
        let wanted = NewTopic::new(topic, 1, TopicReplication::Fixed(-1)).set("cleanup.policy", "compact");
        let made = admin.create_topics([&wanted], &options).await.map_err(failed)?;
        return match made.first() {
            Some(Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))) | None => Ok(()),
            Some(Err((_, RDKafkaErrorCode::TopicAuthorizationFailed))) => {
                Err(format!("topic `{topic}` is missing, and {}", access.denial(Right::CreateTopic(topic))))
            }
            Some(Err((_, code))) => Err(format!(
                "topic `{topic}` is missing and can't be made ({code}); make it with one partition and cleanup.policy=compact"
            )),
        };
    };
    if found.partitions().len() != 1 {
        let n = found.partitions().len();
        return Err(format!("topic `{topic}` has {n} partitions, it must have one: whoever owns it trains"));
    }
    let described = admin.describe_configs([&ResourceSpecifier::Topic(topic)], &options).await.map_err(failed)?;
    let value = |name: &str| {
        let found = described.first()?.as_ref().ok()?.get(name)?;
        found.value.clone()
    };
    if value("cleanup.policy").is_none() {
        // rdkafka passes over the error of a topic, and shows none of its settings. They are taken to be as documented.
        let reason = access.denial(Right::DescribeTopicConfigs(topic));
        tracing::warn!(topic, reason, "how the topic is set up can't be looked at");
    }
    if let Some(policy) = value("cleanup.policy")
        && policy.split(',').any(|policy| policy.trim() != "compact")
    {
        return Err(format!(
            "topic `{topic}` has cleanup.policy={policy} and would forget models; set cleanup.policy=compact"
        ));
    }
    let bytes_max = value("max.message.bytes").and_then(|bytes| bytes.parse::<usize>().ok());
    match bytes_max.filter(|bytes_max| *bytes_max < MESSAGE_BYTES_MIN) {
        Some(bytes_max) => Err(format!(
            "topic `{topic}` has max.message.bytes={bytes_max}, and a piece of a model is up to 512 KiB; set at least \
             {MESSAGE_BYTES_MIN}"
        )),
        None => Ok(()),
    }
}
