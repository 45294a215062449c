//! What an operator tells the detector to do: the public record of the commands journal, and the desk where it is handed in.
//!
//! Orders are keyed by what they set, so that the last one counts: which model scores, whether it is pinned, a suppression, what a
//! latent is called.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::{Entry, Feedback};
use crate::alert::{Rules, Suppression};

/// Orders that may wait, and opinions; whoever hands in more is told to come again.
const WAITING_MAX: usize = 100;
/// Longest label of a latent, characters: it stands in every record, and in tables.
const LABEL_CHARS_MAX: usize = 60;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Order {
    /// This version scores from now on.
    Promote {
        /// The version.
        version: u64,
    },
    /// The version before the current one scores again, or the one that is named.
    Rollback {
        /// The version; none is the parent of the current one.
        #[serde(default)]
        version: Option<u64>,
    },
    /// Nothing is promoted or rolled back by itself any more.
    Pin {
        /// The version; none is the current one.
        #[serde(default)]
        version: Option<u64>,
    },
    /// Promotions go on.
    Unpin {},
    /// A round is run now.
    Retrain {},
    /// A rule that withholds anomalies holds beside those of the configuration.
    Suppress {
        /// The rule; one of the same name is replaced.
        rule: Suppression,
    },
    /// A rule of this name that was ordered holds no more.
    Unsuppress {
        /// Its name.
        name: String,
    },
    /// A latent is called so from now on, in every version that has it.
    Label {
        /// Id of the latent.
        latent: u64,
        /// What to call it; none, or nothing: it goes by its loadings again.
        #[serde(default)]
        label: Option<String>,
    },
}

impl Order {
    /// What the order sets.
    fn key(&self) -> String {
        match self {
            Self::Promote { .. } | Self::Rollback { .. } => "model".to_owned(),
            Self::Pin { .. } | Self::Unpin {} => "pin".to_owned(),
            Self::Retrain {} => "retrain".to_owned(),
            Self::Suppress { rule: Suppression { name, .. } } | Self::Unsuppress { name } => {
                format!("suppression/{name}")
            }
            Self::Label { latent, .. } => format!("label/{latent}"),
        }
    }

    /// Checks what can be checked without knowing any model.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::Suppress { rule } => {
                let checked = Rules::new(std::slice::from_ref(rule), &[], &BTreeMap::new());
                checked.map(drop).map_err(|wrong| wrong.join("; "))
            }
            Self::Label { label, .. } => check_label(label.as_deref().unwrap_or_default()),
            _ => Ok(()),
        }
    }

    /// The version that it names.
    pub fn version(&self) -> Option<u64> {
        match self {
            Self::Promote { version } => Some(*version),
            Self::Rollback { version } | Self::Pin { version } => *version,
            _ => None,
        }
    }

    /// The entry that says it at `time_ms`, milliseconds since the epoch.
    pub fn entry(&self, time_ms: i64) -> Entry {
        let value = serde_json::to_value(self).expect("plain values are always JSON");
        Entry { key: self.key(), value: Some(value), time_ms }
    }

    /// Reads an entry of the commands journal; none where the entry takes back what was said before.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(entry: &Entry) -> Result<Option<Self>, String> {
        let parsed = entry.value.clone().map(serde_json::from_value).transpose();
        parsed.map_err(|error| error.to_string())
    }
}

/// Checks what a latent is to be called.
///
/// # Errors
/// What is wrong with it.
pub fn check_label(label: &str) -> Result<(), String> {
    let is_right = label.chars().count() <= LABEL_CHARS_MAX && !label.chars().any(char::is_control);
    is_right.then_some(()).ok_or_else(|| format!("a label has at most {LABEL_CHARS_MAX} characters in one line"))
}

/// Where orders and opinions are handed in, by whatever answers to operators; the trainer fetches them. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Desk {
    orders: Arc<Mutex<VecDeque<Order>>>,
    opinions: Arc<Mutex<VecDeque<Feedback>>>,
}

impl Desk {
    /// Hands an order in. Returns false when too many wait.
    #[must_use]
    pub fn hand_in(&self, order: Order) -> bool {
        hand_in(&self.orders, order)
    }

    /// Hands an opinion on an anomaly in. Returns false when too many wait.
    #[must_use]
    pub fn hand_in_opinion(&self, opinion: Feedback) -> bool {
        hand_in(&self.opinions, opinion)
    }

    /// Fetches the oldest order that waits.
    pub fn fetch(&self) -> Option<Order> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// Fetches the oldest opinion that waits.
    pub fn fetch_opinion(&self) -> Option<Feedback> {
        self.opinions.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

fn hand_in<T>(waiting: &Mutex<VecDeque<T>>, what: T) -> bool {
    let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
    let has_room = waiting.len() < WAITING_MAX;
    if has_room {
        waiting.push_back(what);
    }
    has_room
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_survive_the_journal_and_the_last_of_a_key_counts() {
        let orders = [
            Order::Promote { version: 3 },
            Order::Rollback { version: None },
            Order::Pin { version: Some(3) },
            Order::Unpin {},
            Order::Retrain {},
            Order::Label { latent: 3, label: Some("start-up".into()) },
            Order::Suppress { rule: Suppression { name: "swap".into(), ..Suppression::default() } },
            Order::Unsuppress { name: "swap".into() },
        ];
        for order in &orders {
            assert_eq!(Order::parse(&order.entry(5)), Ok(Some(order.clone())));
        }
        assert_eq!(orders[0].entry(1).key, orders[1].entry(2).key);
        assert_eq!(orders[6].entry(1).key, orders[7].entry(2).key);
        let text = serde_json::json!({"command": "promote", "version": 3});
        assert_eq!(orders[0].entry(5).value, Some(text));
        let bad = Entry { key: "model".into(), value: Some(serde_json::json!({"command": "demote"})), time_ms: 0 };
        assert!(Order::parse(&bad).unwrap_err().contains("unknown variant `demote`"));
    }

    #[test]
    fn the_desk_has_a_bound() {
        let desk = Desk::default();
        assert!((0..WAITING_MAX).all(|_| desk.hand_in(Order::Retrain {})));
        assert!(!desk.hand_in(Order::Unpin {}));
        assert_eq!(desk.fetch(), Some(Order::Retrain {}));
        assert!(desk.hand_in(Order::Unpin {}));
    }

    #[test]
    fn what_can_be_known_to_be_wrong_is_refused() {
        let order = |json: serde_json::Value| serde_json::from_value::<Order>(json).unwrap();
        let label = |text: &str| order(serde_json::json!({"command": "label", "latent": 3, "label": text})).check();
        assert_eq!((label("pump start-up"), label("")), (Ok(()), Ok(())));
        assert!(label(&"x".repeat(61)).is_err() && label("two\nlines").is_err());
        let rule = |rule: serde_json::Value| order(serde_json::json!({"command": "suppress", "rule": rule})).check();
        assert_eq!(rule(serde_json::json!({"name": "swap", "until": "2026-01-31T08:00:00Z"})), Ok(()));
        assert!(rule(serde_json::json!({"name": "swap", "until": "tomorrow"})).unwrap_err().contains("RFC 3339"));
        assert!(rule(serde_json::json!({"name": " "})).is_err());
    }
}
