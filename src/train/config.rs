//! What of a training can be configured, with its defaults and their reasons.
//!
//! MODEL 3.2 and 3.3; measured on streams (QUALITY.md). The defaults hold for every data set.

use serde::{Deserialize, Serialize};

use crate::sae;
use crate::score::MembersConfig;

/// Training of first models and of online rounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The autoencoder and its optimiser.
    pub sae: sae::Config,
    /// What scores beside the autoencoder.
    pub members: MembersConfig,
    /// Steps of a first model's trial, which finds the worst rows of the history.
    pub trial_steps: u64,
    /// Share of rows left out after the trial until proven ordinary; 0 to 0.5.
    ///
    /// The same share goes from each of the trial's batches once the losses mean something. None cost .046 AUC on
    /// contaminated starts; without the second a small cluster of anomalies is learnt by the trial itself and stays:
    /// .74 for .96 on KDD.
    pub drop_share: f64,
    /// Share of each batch, the rows with the largest loss, that the kept weights are not trained on; 0 to 0.5.
    ///
    /// For the anomalies that are readmitted.
    pub trim: f64,
    /// Steps of a first model's training; longer histories get two epochs, 2000 steps at most.
    ///
    /// It is the clean and the final training alike; 300 beat 1500. Two epochs begin at 12,800 rows.
    pub steps: u64,
    /// Steps of a later round.
    pub round_steps: u64,
    /// Learning rate of a later round; above 0, at most 1.
    ///
    /// Adam's. 1.5e-3 cost .003 and .008 AUC.
    pub round_lr: f64,
    /// Newest ordinary rows that a later round trains on; at least 64.
    pub round_rows: usize,
    /// Rows that a round looks at, at most; at least `model.round_rows`.
    ///
    /// 20,000 are enough for a tail of 1e-3.
    pub rows_max: usize,
    /// Records between two rounds of a settled stream; at least 256. A young stream has rounds more often: a 64th of
    /// what has been seen, from every 256 on.
    ///
    /// A round every 1024 records of a young stream cost .010 AUC.
    pub retrain_records: u64,
    /// Share of rows that is kept from learning in the long run; above 0, at most 0.5.
    ///
    /// 0.2 cost .02 AUC.
    pub reject_share: f64,
    /// How fast that limit follows a lasting change; 0 to 10, and 0 never follows.
    ///
    /// Step of the admission threshold per 64 rows and unit of excess rejections.
    pub creep: f64,
    /// Whether a round fits the scaler anew, exactly, once an input's scale has moved by a quarter.
    ///
    /// On streams it cost .018 AUC, since the newest rows may hold hardly anything of a feature that varies rarely.
    pub rescale: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            sae: sae::Config::default(),
            members: MembersConfig::default(),
            trial_steps: 100,
            drop_share: 0.2,
            trim: 0.05,
            steps: 400,
            round_steps: 60,
            round_lr: 7e-4,
            round_rows: 1024,
            rows_max: 20_000,
            retrain_records: 20_000,
            reject_share: 0.05,
            creep: 0.02,
            rescale: false,
        }
    }
}

impl Config {
    /// Checks every key.
    ///
    /// # Errors
    /// One sentence for each key that is out of range.
    pub fn check(&self) -> Result<(), Vec<String>> {
        let mut problems = Vec::new();
        if let Err(of_sae) = self.sae.check() {
            problems.extend(of_sae.into_iter().map(|problem| format!("sae.{problem}")));
        }
        if let Err(of_members) = self.members.check() {
            problems.extend(of_members.into_iter().map(|problem| format!("members.{problem}")));
        }
        let mut need = |holds: bool, message: String| {
            if !holds {
                problems.push(message)
            }
        };
        let positive = [("trial_steps", self.trial_steps), ("steps", self.steps), ("round_steps", self.round_steps)];
        for (name, value) in positive {
            need(value > 0, format!("{name} is 0, it must be at least 1"));
        }
        let drop = self.drop_share;
        need((0.0..=0.5).contains(&drop), format!("drop_share is {drop}, it must be from 0 to 0.5"));
        let trim = self.trim;
        need((0.0..=0.5).contains(&trim), format!("trim is {trim}, it must be from 0 to 0.5"));
        let reject = self.reject_share;
        need(reject > 0.0 && reject <= 0.5, format!("reject_share is {reject}, it must be above 0 and at most 0.5"));
        let lr = self.round_lr;
        need(lr > 0.0 && lr <= 1.0, format!("round_lr is {lr}, it must be above 0 and at most 1"));
        need((0.0..=10.0).contains(&self.creep), format!("creep is {}, it must be from 0 to 10", self.creep));
        let rows = self.round_rows;
        need(rows >= 64, format!("round_rows is {rows}, it must be at least 64"));
        let most = self.rows_max;
        need(most >= rows, format!("rows_max is {most}, it must be at least round_rows, {rows}"));
        let records = self.retrain_records;
        need(records >= 256, format!("retrain_records is {records}, it must be at least 256"));
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    /// Steps of a full training on `n_rows` rows.
    pub(super) fn steps_for(&self, n_rows: usize) -> u64 {
        const STEPS_MAX: u64 = 2000;
        let two_epochs = 2 * n_rows as u64 / self.sae.batch_rows as u64;
        self.steps.max(two_epochs.min(STEPS_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_allowed_and_bad_keys_are_all_named() {
        assert_eq!(Config::default().check(), Ok(()));
        let bad = Config {
            drop_share: 0.9,
            round_rows: 1,
            sae: sae::Config { lr: -1.0, ..Default::default() },
            ..Config::default()
        };
        let problems = bad.check().unwrap_err();
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(problems[0].starts_with("sae.lr is -1"), "{problems:?}");
        assert!(toml::from_str::<Config>("epochs = 3").is_err());
    }

    #[test]
    fn long_histories_get_more_steps() {
        let config = Config::default();
        assert_eq!([1000, 16_000, 1_000_000].map(|n| config.steps_for(n)), [400, 500, 2000]);
    }
}
