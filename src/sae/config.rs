//! What of the autoencoder can be configured, with its defaults and their reasons.
//!
//! MODEL 2.8: the defaults are the ones that ranked best on streams; they hold for every data set.

use serde::{Deserialize, Serialize};

use super::Kind;
use super::layers::Activation;
use super::objective::Objective;

/// Whether decoder rows are held at unit length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecoderNorm {
    /// Unit rows at the start, then free: the default for `sat_topk`, whose latents are bounded.
    #[default]
    Free,
    /// The gradient is projected and the rows are renormalised after each step: for unbounded latents.
    Unit,
}

/// The autoencoder and its optimiser.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Form of the latents: bounded and sparse (`sat_topk`), unbounded and sparse (`topk`, `batchtopk`), penalised
    /// (`relu`, `sigmoid`, `jumprelu`), or not sparse (`dense`, `pca`).
    pub kind: Kind,
    /// Number of latents. None: four a feature; for the other kinds two, in eighths, from 16 to 4096. `pca` goes by
    /// `pca_variance`.
    ///
    /// Twice as many cost `sat_topk` .009 AUC.
    pub n_latents: Option<usize>,
    /// Active latents of a record, the wanted number for `jumprelu`; none: as many as features; for the other sparse
    /// kinds an eighth of them.
    ///
    /// Half as many cost `sat_topk` .010 to .039 AUC.
    pub k: Option<usize>,
    /// Whether `topk` may have a `k` of all features or more; it then copies anomalies, too.
    pub allow_large_k: bool,
    /// Units of the hidden layers before the code.
    pub hidden: Vec<usize>,
    /// Activation of the hidden layers and of the code of `dense`; none: `tanh` for `dense`, else `silu`.
    pub activation: Option<Activation>,
    /// Whether the encoder stays the decoder's transpose; not with hidden layers.
    pub tied: bool,
    /// Whether decoder rows keep unit length.
    pub decoder_norm: DecoderNorm,
    /// Learning rate of a first model; above 0, at most 1.
    pub lr: f64,
    /// Share of the steps, the first, over which the rate rises.
    pub lr_warmup: f64,
    /// Share of the steps, the last, over which the rate falls.
    pub lr_decay: f64,
    /// Share of the rate that it falls to.
    pub lr_floor: f64,
    /// Decoupled weight decay of encoder and hidden layers; none: `0.0001` for `dense`, else 0.
    pub weight_decay: Option<f64>,
    /// Rows of one training step; `sigmoid` needs 256.
    pub batch_rows: usize,
    /// Share of the observed values hidden in training; 0 to below 1.
    ///
    /// None cost .011 to .023 AUC.
    pub input_masking: f64,
    /// Share of the hidden units dropped in training; 0 to below 1.
    pub dropout: f64,
    /// Whether a held-out fifth of the rows ends a training and picks its best weights.
    ///
    /// Off, because the number of steps is measured.
    pub early_stopping: bool,
    /// Steps between two looks at that fifth.
    pub validate_every: u64,
    /// Looks without an improvement of a thousandth that end it.
    pub patience: u64,
    /// Share of the variance that `pca` explains; all features less one at most.
    pub pca_variance: f64,
    /// What `jumprelu` latents must exceed at the start.
    ///
    /// θ.
    pub threshold: f64,
    /// Loss and penalties.
    pub objective: Objective,
}

/// The sizes of one autoencoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Inputs, D.
    pub n_inputs: usize,
    /// Latents, M.
    pub n_latents: usize,
    /// Active latents of a record.
    pub k: usize,
}

/// What of the configuration a [`Learner`](super::Learner) needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Method {
    /// Loss and penalties.
    pub objective: Objective,
    /// Whether decoder rows keep unit length.
    pub decoder_norm: DecoderNorm,
    /// Whether the encoder stays the decoder's transpose.
    pub tied: bool,
    /// Decoupled weight decay.
    pub weight_decay: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            kind: Kind::SatTopk,
            n_latents: None,
            k: None,
            allow_large_k: false,
            hidden: Vec::new(),
            activation: None,
            tied: false,
            decoder_norm: DecoderNorm::Free,
            lr: 3e-3,
            lr_warmup: 0.0,
            lr_decay: 0.3,
            lr_floor: 0.05,
            weight_decay: None,
            batch_rows: 64,
            input_masking: 0.1,
            dropout: 0.0,
            early_stopping: false,
            validate_every: 100,
            patience: 5,
            pca_variance: 0.9,
            threshold: 0.1,
            objective: Objective::default(),
        }
    }
}

impl Config {
    /// The sizes for `n_inputs` inputs.
    ///
    /// MODEL 2.8: bounded latents are many and all used; unbounded ones must be few, or anomalies are copied, too.
    pub fn shape(&self, n_inputs: usize) -> Shape {
        let (n_latents, k) = match self.kind {
            Kind::SatTopk => (4 * n_inputs, n_inputs),
            Kind::Dense => (2 * n_inputs, n_inputs),
            _ => ((2 * n_inputs).next_multiple_of(8).clamp(16, 4096), (n_inputs + 4) / 8),
        };
        let n_latents = self.n_latents.unwrap_or(n_latents).max(1);
        let k = self.k.unwrap_or(k).clamp(1, n_latents);
        Shape { n_inputs, n_latents, k }
    }

    /// The activation of hidden layers.
    pub fn activation(&self) -> Activation {
        let default = if self.kind == Kind::Dense { Activation::Tanh } else { Activation::Silu };
        self.activation.unwrap_or(default)
    }

    /// What a learner needs of it.
    pub fn method(&self) -> Method {
        Method {
            objective: self.objective.clone(),
            decoder_norm: self.decoder_norm,
            tied: self.tied,
            weight_decay: self.weight_decay.unwrap_or(if self.kind == Kind::Dense { 1e-4 } else { 0.0 }),
        }
    }

    /// Checks every key.
    ///
    /// # Errors
    /// One sentence for each key that is out of range.
    pub fn check(&self) -> Result<(), Vec<String>> {
        let mut problems = Vec::new();
        let mut need = |holds: bool, message: String| {
            if !holds {
                problems.push(message)
            }
        };
        let counts = [("n_latents", self.n_latents), ("k", self.k), ("batch_rows", Some(self.batch_rows))];
        let steps = [("validate_every", self.validate_every), ("patience", self.patience)];
        let steps = steps.map(|(key, value)| (key, Some(value as usize)));
        for (key, value) in counts.into_iter().chain(steps) {
            need(value != Some(0), format!("{key} is 0, it must be at least 1"));
        }
        if let (Some(k), Some(n_latents)) = (self.k, self.n_latents) {
            need(k <= n_latents, format!("k is {k}, it must be at most n_latents, {n_latents}"));
        }
        need(!self.hidden.contains(&0), "hidden has a layer of 0 units, it must have at least 1".into());
        let alone = !self.tied || self.hidden.is_empty();
        need(alone, "tied is true, it must be false with hidden layers: the decoder has none".into());
        for (key, value, limit) in [("lr", self.lr, 1.0), ("threshold", self.threshold, 1e3)] {
            need(value > 0.0 && value <= limit, format!("{key} is {value}, it must be above 0 and at most {limit}"));
        }
        for (key, value) in [("input_masking", self.input_masking), ("dropout", self.dropout)] {
            need((0.0..1.0).contains(&value), format!("{key} is {value}, it must be from 0 to below 1"));
        }
        let decay = self.weight_decay.unwrap_or(0.0);
        let shares = [
            ("lr_warmup", self.lr_warmup),
            ("lr_decay", self.lr_decay),
            ("lr_floor", self.lr_floor),
            ("weight_decay", decay),
        ];
        for (key, value) in shares {
            need((0.0..=1.0).contains(&value), format!("{key} is {value}, it must be from 0 to 1"));
        }
        let variance = self.pca_variance;
        let reachable = variance > 0.0 && variance <= 1.0;
        need(reachable, format!("pca_variance is {variance}, it must be above 0 and at most 1"));
        problems.extend(self.objective.problems());
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_follow_the_number_of_inputs() {
        assert_eq!(Config::default().shape(32), Shape { n_inputs: 32, n_latents: 128, k: 32 });
        let topk = Config { kind: Kind::Topk, ..Config::default() };
        assert_eq!(topk.shape(32), Shape { n_inputs: 32, n_latents: 64, k: 4 });
        assert_eq!(topk.shape(3), Shape { n_inputs: 3, n_latents: 16, k: 1 });
        assert!(Config::default().check().is_ok());
    }

    #[test]
    fn every_bad_key_is_named_at_once() {
        let config = Config { lr: 0.0, batch_rows: 0, k: Some(9), n_latents: Some(8), ..Config::default() };
        let problems = config.check().unwrap_err();
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(toml::from_str::<Config>("lrr = 1.0").is_err());
    }

    #[test]
    fn each_key_is_checked() {
        let bad = [
            ("n_latents = 0", "n_latents"),
            ("k = 0", "k"),
            ("hidden = [4, 0]", "hidden"),
            ("tied = true\nhidden = [4]", "tied"),
            ("lr = nan", "lr"),
            ("lr_warmup = 1.5", "lr_warmup"),
            ("lr_decay = -0.1", "lr_decay"),
            ("lr_floor = 2.0", "lr_floor"),
            ("weight_decay = 1.1", "weight_decay"),
            ("batch_rows = 0", "batch_rows"),
            ("input_masking = 1.0", "input_masking"),
            ("dropout = 1.0", "dropout"),
            ("validate_every = 0", "validate_every"),
            ("patience = 0", "patience"),
            ("pca_variance = 0.0", "pca_variance"),
            ("threshold = 0.0", "threshold"),
            ("objective.huber_delta = 0.0", "objective.huber_delta"),
            ("objective.bandwidth = 0.0", "objective.bandwidth"),
            ("objective.l1 = -1.0", "objective.l1"),
            ("objective.kl = inf", "objective.kl"),
            ("objective.kl_rate = 1.0", "objective.kl_rate"),
            ("objective.l0 = -1.0", "objective.l0"),
            ("objective.aux = nan", "objective.aux"),
            ("objective.dead_rows = 0", "objective.dead_rows"),
        ];
        for (text, key) in bad {
            let problems = toml::from_str::<Config>(text).unwrap().check().unwrap_err();
            assert!(problems.len() == 1 && problems[0].starts_with(&format!("{key} ")), "{text}: {problems:?}");
        }
    }
}
