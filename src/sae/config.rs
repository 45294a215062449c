//! What of the autoencoder can be configured, with its defaults and their reasons.
//!
//! MODEL 2.8: the defaults are the ones that ranked best on streams; they hold for every data set.

use serde::{Deserialize, Serialize};

use super::activation::Kind;

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
    /// Form of the latents; default `sat_topk`.
    pub kind: Kind,
    /// Number of latents; default four times the inputs (twice as many cost .009 AUC).
    pub n_latents: Option<usize>,
    /// Active latents of a record; default as many as inputs (half as many cost .010 to .039 AUC).
    pub k: Option<usize>,
    /// Whether decoder rows keep unit length; default `free`.
    pub decoder_norm: DecoderNorm,
    /// Adam's learning rate for a first model; default 3e-3.
    pub lr: f64,
    /// Rows of a training step; default 64.
    pub batch_rows: usize,
    /// Share of observed inputs hidden from the encoder in training; default 0.1 (none cost .011 to .023 AUC).
    pub input_masking: f64,
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

impl Default for Config {
    fn default() -> Self {
        Self {
            kind: Kind::SatTopk,
            n_latents: None,
            k: None,
            decoder_norm: DecoderNorm::Free,
            lr: 3e-3,
            batch_rows: 64,
            input_masking: 0.1,
        }
    }
}

impl Config {
    /// The sizes for `n_inputs` inputs.
    pub fn shape(&self, n_inputs: usize) -> Shape {
        let n_latents = self.n_latents.unwrap_or(4 * n_inputs).max(1);
        let k = self.k.unwrap_or(n_inputs).clamp(1, n_latents);
        Shape { n_inputs, n_latents, k }
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
        need(self.n_latents != Some(0), "n_latents is 0, it must be at least 1".into());
        need(self.k != Some(0), "k is 0, it must be at least 1".into());
        if let (Some(k), Some(n_latents)) = (self.k, self.n_latents) {
            need(k <= n_latents, format!("k is {k}, it must be at most n_latents, {n_latents}"));
        }
        need(self.lr > 0.0 && self.lr <= 1.0, format!("lr is {}, it must be above 0 and at most 1", self.lr));
        need(self.batch_rows > 0, "batch_rows is 0, it must be at least 1".into());
        let masking = self.input_masking;
        need((0.0..1.0).contains(&masking), format!("input_masking is {masking}, it must be from 0 to below 1"));
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_follow_the_number_of_inputs() {
        assert_eq!(Config::default().shape(32), Shape { n_inputs: 32, n_latents: 128, k: 32 });
        assert!(Config::default().check().is_ok());
    }

    #[test]
    fn every_bad_key_is_named_at_once() {
        let config = Config { lr: 0.0, batch_rows: 0, k: Some(9), n_latents: Some(8), ..Config::default() };
        let problems = config.check().unwrap_err();
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(toml::from_str::<Config>("lrr = 1.0").is_err());
    }
}
