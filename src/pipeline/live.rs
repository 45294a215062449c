//! What may change while the daemon runs: settings that a reload exchanges, and the rules that withhold anomalies.
//!
//! Everything that can be refused is refused before anything is put in force. Lanes and trainer look at the start of each
//! turn, so that no batch is judged by two configurations. Clones share what is in force.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use super::trainer;
use crate::alert::{FeatureLimit, IncidentConfig, Maintenance, Rules, Suppression};

/// The part of the configuration that holds from the next turn on, exchanged whole.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tuning {
    /// When incidents open and close.
    pub incidents: IncidentConfig,
    /// Anomalies a minute of event time that are published at most; 0 is no limit.
    pub anomalies_per_minute: u32,
    /// When models are trained, and what becomes of them.
    pub training: trainer::Config,
}

/// The rules of a configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuleBook {
    /// Rules that withhold.
    pub suppress: Vec<Suppression>,
    /// Times in which anomalies are expected.
    pub maintenance: Vec<Maintenance>,
    /// Deviations that are worth an alert, by feature.
    pub features: BTreeMap<String, FeatureLimit>,
}

/// What was said of rules, by whom.
#[derive(Debug, Default)]
struct Said {
    configured: RuleBook,
    /// Rules that operators ordered, by name; they hold beside the configured ones.
    ordered: BTreeMap<String, Suppression>,
}

/// What is in force.
#[derive(Clone, Debug)]
pub struct Live {
    tuning: Arc<ArcSwap<Tuning>>,
    rules: Arc<ArcSwap<Rules>>,
    said: Arc<Mutex<Said>>,
}

impl Live {
    /// What is in force at the start.
    ///
    /// Errors: what is wrong with the rules.
    pub fn new(tuning: Tuning, configured: RuleBook) -> Result<Self, String> {
        let live = Self { tuning: Arc::default(), rules: Arc::default(), said: Arc::default() };
        live.configure(tuning, configured)?;
        Ok(live)
    }

    /// The settings in force.
    pub fn tuning(&self) -> Arc<Tuning> {
        self.tuning.load_full()
    }

    /// The rules in force.
    pub fn rules(&self) -> Arc<Rules> {
        self.rules.load_full()
    }

    /// Puts another configuration in force; what was ordered goes on beside it.
    ///
    /// Errors: what is wrong with the rules; everything then stays as it was.
    pub fn configure(&self, tuning: Tuning, configured: RuleBook) -> Result<(), String> {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let rules = compile(&configured, &said.ordered)?;
        said.configured = configured;
        self.rules.store(Arc::new(rules));
        self.tuning.store(Arc::new(tuning));
        Ok(())
    }

    /// Puts a rule that was ordered in force, or takes it away where none is given. Returns the names of all that are ordered.
    ///
    /// Errors: what is wrong with the rule; everything then stays as it was.
    pub fn order(&self, name: &str, rule: Option<Suppression>) -> Result<Vec<String>, String> {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ordered = said.ordered.clone();
        match rule {
            Some(rule) => drop(ordered.insert(name.to_owned(), rule)),
            None => drop(ordered.remove(name)),
        }
        let rules = compile(&said.configured, &ordered)?;
        said.ordered = ordered;
        self.rules.store(Arc::new(rules));
        Ok(said.ordered.keys().cloned().collect())
    }
}

fn compile(configured: &RuleBook, ordered: &BTreeMap<String, Suppression>) -> Result<Rules, String> {
    let all: Vec<Suppression> = configured.suppress.iter().chain(ordered.values()).cloned().collect();
    Rules::new(&all, &configured.maintenance, &configured.features).map_err(|wrong| wrong.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str) -> Suppression {
        Suppression { name: name.into(), ..Suppression::default() }
    }

    fn book(name: &str) -> RuleBook {
        RuleBook { suppress: vec![rule(name)], ..RuleBook::default() }
    }

    #[test]
    fn what_is_refused_changes_nothing() {
        let live = Live::new(Tuning::default(), book("door")).expect("one rule");
        live.order("swap", Some(rule("swap"))).expect("another name");
        let (tuning, rules) = (live.tuning(), live.rules());
        let faster = Tuning { anomalies_per_minute: 5, ..Tuning::default() };
        let refused = live.configure(faster.clone(), book("swap")).expect_err("the name is taken by an order");
        assert!(refused.contains("`swap` is empty or taken"), "{refused}");
        assert!(live.order("bad", Some(rule(""))).is_err());
        assert!(Arc::ptr_eq(&tuning, &live.tuning()) && Arc::ptr_eq(&rules, &live.rules()));

        live.configure(faster, book("gate")).expect("a name of its own");
        assert_eq!(live.tuning().anomalies_per_minute, 5);
        assert_eq!(live.order("swap", None), Ok(vec![]), "what was ordered had outlived the reload");
    }
}
