//! SAELens 6: `sae_weights.safetensors` with `W_enc b_enc W_dec b_dec`, and `cfg.json`.
//!
//! Follows `SAE.save_model` and `SAE.load_from_disk` of sae_lens 6: a reader dispatches on `architecture`, drops fields it
//! doesn't know (so `strayd` may stand there), and takes a `cfg.json` without `metadata.sae_lens_version` for one of the
//! time before 6. What strayd's forward has no place for is carried over where that is exact, and refused elsewhere.

use ndarray::Axis;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{File, Foreign, InterchangeError, SCALER, Scaling, file, must_be_topk, refuse, scaling};
use crate::model::tensors;
use crate::sae::{Autoencoder, Kind};

const WEIGHTS: &str = "sae_weights.safetensors";
const CFG: &str = "cfg.json";
/// The release whose form of `cfg.json` this is.
const SAELENS_VERSION: &str = "6.18.0";

pub(super) fn write(
    autoencoder: &Autoencoder<f32>,
    scaling: &Scaling,
    force: bool,
) -> Result<Vec<File>, InterchangeError> {
    must_be_topk(autoencoder.kind, "SAELens", force)?;
    let shape = autoencoder.shape();
    let cfg = json!({
        "architecture": "topk",
        "d_in": shape.n_inputs,
        "d_sae": shape.n_latents,
        "k": shape.k,
        "rescale_acts_by_decoder_norm": false,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": true,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {"sae_lens_version": SAELENS_VERSION, "model_name": "strayd", "hook_name": "features"},
        "strayd": {"kind": autoencoder.kind, "folded_scaler": scaling.folded},
    });
    Ok(vec![
        super::json(CFG, &cfg),
        File { name: WEIGHTS.into(), bytes: tensors::write_plain(autoencoder) },
        super::json(SCALER, scaling),
    ])
}

/// The fields of `cfg.json` that decide what is computed.
#[derive(Deserialize)]
struct Cfg {
    architecture: String,
    k: Option<usize>,
    /// Where releases before 6 kept k.
    #[serde(default)]
    activation_fn_kwargs: Value,
    #[serde(default = "yes")]
    apply_b_dec_to_input: bool,
    #[serde(default)]
    rescale_acts_by_decoder_norm: bool,
    normalize_activations: Option<String>,
    strayd: Option<Block>,
}

#[derive(Deserialize)]
struct Block {
    kind: Kind,
}

fn yes() -> bool {
    true
}

pub(super) fn read(files: &[File]) -> Result<Foreign, InterchangeError> {
    let cfg: Cfg = serde_json::from_slice(file(files, CFG)?).or_else(|e| refuse(format!("{CFG}: {e}")))?;
    if cfg.architecture != "topk" {
        return refuse(format!(
            "{CFG}: architecture `{}` is not known to this strayd, which reads topk",
            cfg.architecture
        ));
    }
    if let Some(normalize) = cfg.normalize_activations.as_deref().filter(|normalize| *normalize != "none") {
        return refuse(format!(
            "{CFG}: normalize_activations is `{normalize}`, which strayd does not compute; fold it into the weights with \
             SAELens first (fold_activation_norm_scaling_factor)"
        ));
    }
    let kind = cfg.strayd.map_or(Kind::Topk, |block| block.kind);
    let k = cfg.k.or_else(|| cfg.activation_fn_kwargs["k"].as_u64().map(|k| k as usize));
    let Some(k) = k else { return refuse(format!("{CFG}: there is no k")) };
    let mut autoencoder =
        tensors::read_plain(file(files, WEIGHTS)?, kind).or_else(|why| refuse(format!("{WEIGHTS}: {why}")))?;
    autoencoder.k = super::checked_k(k, &autoencoder)?;
    if cfg.rescale_acts_by_decoder_norm {
        fold_decoder_norms(&mut autoencoder);
    }
    if !cfg.apply_b_dec_to_input {
        // a = x·W + b = (x − b_dec)·W + (b + b_dec·W)
        autoencoder.b_enc += &autoencoder.b_dec.dot(&autoencoder.w_enc);
    }
    Ok(Foreign { autoencoder, scaling: scaling(files)? })
}

/// Selecting on a·‖d‖ and decoding a·‖d‖ with d/‖d‖ is what the stored weights mean; SAELens folds them alike.
fn fold_decoder_norms(autoencoder: &mut Autoencoder<f32>) {
    for (i, mut direction) in autoencoder.w_dec.axis_iter_mut(Axis(0)).enumerate() {
        let norm = direction.dot(&direction).sqrt().max(1e-8);
        direction /= norm;
        autoencoder.w_enc.column_mut(i).mapv_inplace(|w| w * norm);
        autoencoder.b_enc[i] *= norm;
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};

    use super::*;
    use crate::sae::Forward;

    fn autoencoder(kind: Kind) -> Autoencoder<f32> {
        Autoencoder {
            kind,
            k: 1,
            w_enc: array![[1.0, 0.5, -1.0], [0.0, 2.0, 1.0]],
            b_enc: array![0.25, 0.0, -0.5],
            w_dec: array![[3.0, 4.0], [0.0, 0.5], [1.0, 0.0]],
            b_dec: array![1.0, -1.0],
        }
    }

    fn files(change: impl FnOnce(&mut Value)) -> Vec<File> {
        let scaling = Scaling { clip: 50.0, folded: false, features: vec![] };
        let mut files = write(&autoencoder(Kind::Topk), &scaling, false).unwrap();
        let mut cfg: Value = serde_json::from_slice(&files[0].bytes).unwrap();
        change(&mut cfg);
        files[0] = super::super::json(CFG, &cfg);
        files
    }

    fn read_with(change: impl FnOnce(&mut Value)) -> Result<Autoencoder<f32>, String> {
        read(&files(change)).map(|foreign| foreign.autoencoder).map_err(|e| e.to_string())
    }

    #[test]
    fn what_is_written_is_read_back() {
        assert_eq!(read_with(|_| ()), Ok(autoencoder(Kind::Topk)));
        let old = read_with(|cfg| {
            cfg.as_object_mut().unwrap().remove("k");
            cfg["activation_fn_kwargs"] = json!({"k": 1});
        });
        assert_eq!(old, Ok(autoencoder(Kind::Topk)), "as releases before 6 wrote it");
    }

    #[test]
    fn a_saturating_model_needs_force_and_comes_back_saturating() {
        let scaling = Scaling { clip: 50.0, folded: false, features: vec![] };
        let model = autoencoder(Kind::SatTopk);
        let why = write(&model, &scaling, false).unwrap_err().to_string();
        assert!(why.contains("tanh") && why.contains("--force"), "{why}");
        assert_eq!(read(&write(&model, &scaling, true).unwrap()).unwrap().autoencoder, model);
    }

    #[test]
    fn a_bias_that_is_not_subtracted_moves_into_the_encoder() {
        let autoencoder = read_with(|cfg| cfg["apply_b_dec_to_input"] = json!(false)).unwrap();
        let x = array![[2.0, 0.5]];
        let mut forward = Forward::default();
        autoencoder.forward(x.view(), Array2::ones((1, 2)).view(), &mut forward);
        // x·W + b = [2.25, 2, -2]: latent 0 stays.
        assert_eq!(forward.latents(), array![[2.25, 0.0, 0.0]]);
    }

    #[test]
    fn selection_by_decoder_norm_is_folded_in() {
        let autoencoder = read_with(|cfg| cfg["rescale_acts_by_decoder_norm"] = json!(true)).unwrap();
        let x = array![[1.5, 0.75]];
        let mut forward = Forward::default();
        autoencoder.forward(x.view(), Array2::ones((1, 2)).view(), &mut forward);
        // a = [0.75, 3.75, 0.75], norms [5, .5, 1]: 3.75 against 1.875 and 0.75, where plain topk would take latent 1.
        assert_eq!(forward.latents(), array![[3.75, 0.0, 0.0]]);
        assert_eq!(forward.recons(), array![[1.0 + 0.75 * 3.0, -1.0 + 0.75 * 4.0]]);
    }

    #[test]
    fn what_cannot_be_computed_is_refused_in_words() {
        let why = |change: fn(&mut Value)| read_with(change).unwrap_err();
        assert!(why(|cfg| cfg["architecture"] = json!("gated")).contains("`gated`"));
        assert!(why(|cfg| cfg["normalize_activations"] = json!("layer_norm")).contains("layer_norm"));
        assert!(why(|cfg| cfg["k"] = json!(4)).contains("k is 4"));
        let mut damaged = files(|_| ());
        damaged[1].bytes.truncate(20);
        assert!(read(&damaged).unwrap_err().to_string().starts_with(WEIGHTS));
        damaged.remove(0);
        assert_eq!(read(&damaged).unwrap_err().to_string(), "there is no cfg.json");
    }
}
