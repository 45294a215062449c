//! Brokers, authentication, rights and topics: what the clients say when they are asked for what the daemon needs.

use super::sheet::Sheet;
use crate::app::Need;
use crate::config::Config;

/// The checks, each of which the next hangs on.
const CHECKS: [&str; 4] = ["brokers", "authentication", "rights", "topics"];
/// What helps with each of them, beside what the trouble itself says.
const CURES: [&str; 4] = [
    "compare kafka.brokers with what other clients of the cluster use, from this machine; listeners must be advertised under a \
     name that it can resolve",
    "see [kafka.security] and docs/SECURITY.md",
    "docs/SECURITY.md lists the least rights as commands",
    "compare input.topic and [output] with `kafka-topics --list`; the daemon waits until the topics are there",
];
/// What helps where the topic is there and can't be read.
pub const READ_CURE: &str =
    "read a record by another client with the same credentials; history.read_timeout is how long this waits";

/// Looks at them. Returns whether the features topic can be read.
pub fn look(config: &Config, sheet: &mut Sheet) -> bool {
    let mut troubles: [Vec<String>; CHECKS.len()] = Default::default();
    let mut reached = true;
    for need in Need::ALL {
        let Err(reason) = need.check(config) else { continue };
        let at = place(&reason);
        reached &= need != Need::Input;
        if !troubles[at].contains(&reason) {
            troubles[at].push(reason);
        }
        // Whoever can't be reached or doesn't know us says nothing else to the other questions, and takes its time.
        if at < 2 {
            break;
        }
    }
    let first = troubles.iter().position(|found| !found.is_empty());
    for (at, check) in CHECKS.into_iter().enumerate() {
        if !troubles[at].is_empty() {
            sheet.fail(check, troubles[at].join("; "), CURES[at]);
        } else if first.is_some_and(|first| at > first && !reached) {
            sheet.skip(check, format!("{} first", CHECKS[first.unwrap_or_default()]));
        } else {
            sheet.pass(check, seen(config, at));
        }
    }
    reached
}

/// What is well with a check.
fn seen(config: &Config, at: usize) -> String {
    match at {
        0 => format!("{} answer", config.kafka.brokers),
        1 => format!("accepted as {}", config.kafka.security.principal()),
        2 => "none that was needed is missing".into(),
        _ => format!("`{}` and the output topics are there", config.input.topic),
    }
}

/// Which check a trouble belongs to, by the words of `kafka::explain` and `Access::denial`.
fn place(reason: &str) -> usize {
    let says = |words: &[&str]| words.iter().any(|word| reason.contains(word));
    if says(&["has no right to", "grant it"]) {
        2
    } else if says(&["authentication failed", "TLS failed", "certificate", "kafka.security", "schema_registry."]) {
        1
    } else if says(&[
        "does not exist",
        "no topic matches",
        "cleanup.policy",
        "max.message.bytes",
        "partitions, it must",
    ]) {
        3
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_put_where_it_belongs() {
        let of = |reason: &str| CHECKS[place(reason)];
        assert_eq!(of("no broker answers; check kafka.brokers and that the brokers run (…)"), "brokers");
        assert_eq!(of("the host name of a broker can't be resolved; check kafka.brokers (…)"), "brokers");
        assert_eq!(of("authentication failed; check kafka.security.sasl_mechanism, username (…)"), "authentication");
        assert_eq!(of("topic `f`: User:u has no right to Read on topic `f`; grant it: kafka-acls …"), "rights");
        assert_eq!(of("output topic `anomalies` does not exist; create it"), "topics");
    }
}
