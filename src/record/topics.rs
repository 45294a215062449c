//! Which topics are read, and what tells a partition of one from a partition of another.
//!
//! A [`Topic`] is a small number that stands for a name, so that a record's place stays four words, is copied and is
//! compared without looking at a name. Names are asked for where something is written only. Numbers differ from process
//! to process: whatever is kept or ordered goes by name. Where one topic is read it is [`Topic::default`], and nothing
//! that is kept names it.

use std::cmp::Ordering;
use std::fmt;
use std::sync::{PoisonError, RwLock};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Names of topics by number, from 1 on. It grows by each topic that the process meets, and never shrinks.
static NAMES: RwLock<Vec<&'static str>> = RwLock::new(Vec::new());

/// A topic, one of several that are read; the default is the only one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Topic(u32);

impl Topic {
    /// The topic of this name, one of several.
    pub fn named(name: &str) -> Self {
        let find = |names: &[&str]| names.iter().position(|known| *known == name).map(|at| Self(number(at)));
        if let Some(known) = find(&NAMES.read().unwrap_or_else(PoisonError::into_inner)) {
            return known;
        }
        let mut names = NAMES.write().unwrap_or_else(PoisonError::into_inner);
        find(&names).unwrap_or_else(|| {
            names.push(Box::leak(name.into()));
            Self(number(names.len() - 1))
        })
    }

    /// Its name; none where it is the only one.
    pub fn name(self) -> Option<&'static str> {
        let at = self.0.checked_sub(1)?;
        NAMES.read().unwrap_or_else(PoisonError::into_inner).get(at as usize).copied()
    }
}

fn number(at: usize) -> u32 {
    u32::try_from(at + 1).expect("a cluster has fewer topics")
}

/// A partition of a topic that is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Partition {
    /// Its topic.
    pub topic: Topic,
    /// Its number in the topic.
    pub number: i32,
}

impl From<i32> for Partition {
    /// A partition of the only topic.
    fn from(number: i32) -> Self {
        Self { topic: Topic::default(), number }
    }
}

impl Ord for Partition {
    /// By the topic's name, then by number: the same in every process.
    fn cmp(&self, other: &Self) -> Ordering {
        let by_name = || self.topic.name().cmp(&other.topic.name());
        let of_topics = if self.topic == other.topic { Ordering::Equal } else { by_name() };
        of_topics.then(self.number.cmp(&other.number))
    }
}

impl PartialOrd for Partition {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Partition {
    /// `3`, and `topic/3` where it is one of several topics.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.topic.name() {
            None => write!(f, "{}", self.number),
            Some(name) => write!(f, "{name}/{}", self.number),
        }
    }
}

impl Serialize for Partition {
    /// As a number, and as the text `topic/3` where it is one of several topics.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.topic.name() {
            None => serializer.serialize_i32(self.number),
            Some(_) => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Partition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Partition;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the number of a partition, or `topic/number`")
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Partition, E> {
                i32::try_from(number).map(Partition::from).map_err(E::custom)
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Partition, E> {
                i32::try_from(number).map(Partition::from).map_err(E::custom)
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Partition, E> {
                // A key of a JSON object is a text whatever it holds. No topic has a slash in its name.
                let (topic, number) = match text.split_once('/') {
                    None => (Topic::default(), text),
                    Some((name, number)) => (Topic::named(name), number),
                };
                Ok(Partition { topic, number: number.parse().map_err(E::custom)? })
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// What is subscribed to: a topic, a list of topics, or patterns that begin with `^`, all with records of one schema.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Said", into = "Said")]
pub struct Topics(Vec<String>);

/// The topics as they are said.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Said {
    One(String),
    Several(Vec<String>),
}

impl From<Said> for Topics {
    fn from(said: Said) -> Self {
        match said {
            Said::One(text) => text.into(),
            Said::Several(names) => Self(names),
        }
    }
}

impl From<Topics> for Said {
    fn from(mut topics: Topics) -> Self {
        match (topics.0.len(), topics.0.pop()) {
            (_, None) => Self::One(String::new()),
            (1, Some(only)) => Self::One(only),
            (_, Some(last)) => {
                topics.0.push(last);
                Self::Several(topics.0)
            }
        }
    }
}

impl From<String> for Topics {
    /// A name, names with commas between them, or a pattern, which may have commas of its own.
    fn from(text: String) -> Self {
        if text.is_empty() {
            return Self::default();
        }
        if is_pattern(&text) {
            return Self(vec![text]);
        }
        Self(text.split(',').map(|name| name.trim().to_owned()).collect())
    }
}

impl From<&str> for Topics {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl fmt::Display for Topics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

impl Topics {
    /// One topic, whatever its name looks like.
    pub fn one(name: impl Into<String>) -> Self {
        Self(vec![name.into()])
    }

    /// Whether none is named.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(String::is_empty)
    }

    /// Names and patterns, as Kafka's clients subscribe to them.
    pub fn subscription(&self) -> Vec<&str> {
        self.0.iter().map(String::as_str).collect()
    }

    /// The names that are said; patterns aren't.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str).filter(|name| !is_pattern(name))
    }

    /// Whether any topic of the cluster may be meant.
    pub fn has_pattern(&self) -> bool {
        self.0.iter().any(|text| is_pattern(text))
    }

    /// The topic, where it is the only one that can ever be read.
    pub fn only(&self) -> Option<&str> {
        match &self.0[..] {
            [only] if !is_pattern(only) => Some(only),
            _ => None,
        }
    }

    /// The topic called `name`.
    pub fn topic(&self, name: &str) -> Topic {
        if self.only() == Some(name) { Topic::default() } else { Topic::named(name) }
    }

    /// Partition `number` of the topic called `name`.
    pub fn partition(&self, name: &str, number: i32) -> Partition {
        Partition { topic: self.topic(name), number }
    }

    /// The name of a topic that is read from here.
    pub fn name(&self, topic: Topic) -> &str {
        topic.name().unwrap_or_else(|| self.0.first().map_or("", String::as_str))
    }

    /// Says of a name whether its topic is read. Kafka's own topics (`__…`) are read by their names only.
    ///
    /// Errors: a pattern that is none, and why.
    pub fn matcher(&self) -> Result<impl Fn(&str) -> bool + use<'_>, String> {
        let patterns = self.0.iter().filter(|text| is_pattern(text));
        let patterns: Vec<regex::Regex> = patterns
            .map(|text| regex::Regex::new(text).map_err(|error| format!("`{text}` is no pattern: {error}")))
            .collect::<Result<_, _>>()?;
        let matches =
            move |name: &str| !name.starts_with("__") && patterns.iter().any(|pattern| pattern.is_match(name));
        Ok(move |name: &str| self.names().any(|known| known == name) || matches(name))
    }
}

/// Whether a text is a pattern, by the mark that librdkafka knows it by.
fn is_pattern(text: &str) -> bool {
    text.starts_with('^')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_of_the_only_topic_is_written_as_a_number_and_others_with_their_topic() {
        let several = Topics::from("b, a");
        let all = [several.partition("b", 3), Partition::from(7)];
        let written = serde_json::to_string(&all).unwrap();
        assert_eq!(written, r#"["b/3",7]"#);
        assert_eq!(serde_json::from_str::<[Partition; 2]>(&written).unwrap(), all);
        let keyed: std::collections::BTreeMap<Partition, i64> = all.map(|partition| (partition, 1)).into();
        let written = serde_json::to_string(&keyed).unwrap();
        assert_eq!(serde_json::from_str::<std::collections::BTreeMap<Partition, i64>>(&written).unwrap(), keyed);
    }

    #[test]
    fn partitions_are_ordered_by_name_whatever_was_met_first() {
        let [late, early] = ["order-z", "order-a"].map(Topic::named);
        let at = |topic, number| Partition { topic, number };
        let mut all = [at(late, 0), at(early, 2), at(late, 1), at(early, 1)];
        all.sort();
        assert_eq!(all, [at(early, 1), at(early, 2), at(late, 0), at(late, 1)]);
    }

    #[test]
    fn one_name_is_the_only_topic_and_a_list_or_a_pattern_is_not() {
        let one = Topics::from("features");
        assert_eq!((one.topic("features"), one.name(Topic::default())), (Topic::default(), "features"));
        assert_eq!(one.name(one.topic("other")), "other");
        let list: Topics = serde_json::from_value(serde_json::json!(["features", "more"])).unwrap();
        assert_eq!(list, Topics::from("features,more"));
        assert_eq!(list.name(list.topic("features")), "features");
        assert_ne!(list.topic("features"), Topic::default());
        assert_eq!(Topics::from("^plant-[0-9]{1,3}$").subscription(), ["^plant-[0-9]{1,3}$"]);
    }

    #[test]
    fn a_pattern_matches_names_but_not_those_of_kafka() {
        let topics = Topics::from("^.*pumps$");
        let matches = topics.matcher().unwrap();
        assert!(matches("north-pumps") && !matches("pumps-anomalies") && !matches("__pumps"));
        assert!(Topics::from("^(").matcher().err().unwrap().starts_with("`^(` is no pattern"));
    }
}
