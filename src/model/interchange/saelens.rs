//! SAELens 6: `sae_weights.safetensors` with `W_enc b_enc W_dec b_dec`, `threshold` for jumprelu, and `cfg.json`.
//!
//! Ours as theirs: topk is `topk`, relu `standard`, jumprelu `jumprelu`, and batchtopk `jumprelu` with one threshold for all
//! latents, which is how it scores.
//!
//! Follows `SAE.save_model` and `SAE.load_from_disk` of sae_lens 6: a reader dispatches on `architecture`, drops fields it
//! doesn't know (so `strayd` may stand there), and takes a `cfg.json` without `metadata.sae_lens_version` for one of the
//! time before 6. What strayd's forward has no place for is carried over where that is exact, and refused elsewhere.

use ndarray::Axis;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    File, Foreign, InterchangeError, SCALER, Scaling, checked_k, file, must_be_flat, must_be_topk, no_name, refuse,
    scaling,
};
use crate::model::tensors;
use crate::sae::{Autoencoder, Config, Kind, Shape};

const WEIGHTS: &str = "sae_weights.safetensors";
const CFG: &str = "cfg.json";
const TOPK: &str = "topk";
const JUMPRELU: &str = "jumprelu";
const STANDARD: &str = "standard";
/// The release whose form of `cfg.json` this is.
const SAELENS_VERSION: &str = "6.18.0";

pub(super) fn write(
    autoencoder: &Autoencoder<f32>,
    scaling: &Scaling,
    force: bool,
) -> Result<Vec<File>, InterchangeError> {
    let shape = autoencoder.shape();
    let architecture = architecture(autoencoder, force)?;
    let mut cfg = json!({
        "architecture": architecture,
        "d_in": shape.n_inputs,
        "d_sae": shape.n_latents,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": true,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {"sae_lens_version": SAELENS_VERSION, "model_name": "strayd", "hook_name": "features"},
        "strayd": {"kind": autoencoder.kind, "k": shape.k, "folded_scaler": scaling.folded},
    });
    if architecture == TOPK {
        cfg["k"] = shape.k.into();
        cfg["rescale_acts_by_decoder_norm"] = false.into();
    }
    Ok(vec![
        super::json(CFG, &cfg),
        File { name: WEIGHTS.into(), bytes: tensors::write_plain(autoencoder) },
        super::json(SCALER, scaling),
    ])
}

/// SAELens' name of what the model computes.
fn architecture(autoencoder: &Autoencoder<f32>, force: bool) -> Result<&'static str, InterchangeError> {
    match autoencoder.kind {
        Kind::Topk | Kind::SatTopk => must_be_topk(autoencoder, "SAELens", force).map(|()| TOPK),
        Kind::Jumprelu | Kind::Batchtopk => must_be_flat(autoencoder, "SAELens").map(|()| JUMPRELU),
        Kind::Relu => must_be_flat(autoencoder, "SAELens").map(|()| STANDARD),
        kind @ (Kind::Sigmoid | Kind::Dense | Kind::Pca) => no_name(kind, "SAELens"),
    }
}

/// The fields of `cfg.json` that decide what is computed.
#[derive(Deserialize)]
struct Cfg {
    architecture: String,
    k: Option<usize>,
    /// Where releases before 6 kept k.
    #[serde(default)]
    activation_fn_kwargs: Value,
    /// What releases before 6 called topk: an activation of the standard architecture.
    #[serde(alias = "activation_fn_str")]
    activation_fn: Option<String>,
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
    k: Option<usize>,
}

fn yes() -> bool {
    true
}

pub(super) fn read(files: &[File]) -> Result<Foreign, InterchangeError> {
    let cfg: Cfg = serde_json::from_slice(file(files, CFG)?).or_else(|e| refuse(format!("{CFG}: {e}")))?;
    let activation_fn = cfg.activation_fn.as_deref().unwrap_or("relu");
    let (plain, ours): (_, &[Kind]) = match (cfg.architecture.as_str(), activation_fn) {
        (TOPK, _) | (STANDARD, TOPK) => (Kind::Topk, &[Kind::Topk, Kind::SatTopk]),
        (STANDARD, "relu") => (Kind::Relu, &[Kind::Relu]),
        (JUMPRELU, _) => (Kind::Jumprelu, &[Kind::Jumprelu, Kind::Batchtopk]),
        (STANDARD, other) => {
            return refuse(format!(
                "{CFG}: activation_fn `{other}` is not known to this strayd, which reads relu and topk"
            ));
        }
        (other, _) => {
            return refuse(format!(
                "{CFG}: architecture `{other}` is not known to this strayd, which reads topk, jumprelu and standard"
            ));
        }
    };
    // The block refines what the architecture says; it can't contradict it.
    let kind = cfg.strayd.as_ref().map(|block| block.kind).filter(|kind| ours.contains(kind)).unwrap_or(plain);
    if let Some(normalize) = cfg.normalize_activations.as_deref().filter(|normalize| *normalize != "none") {
        return refuse(format!(
            "{CFG}: normalize_activations is `{normalize}`, which strayd does not compute; fold it into the weights with \
             SAELens first (fold_activation_norm_scaling_factor)"
        ));
    }
    let mut autoencoder =
        tensors::read_plain(file(files, WEIGHTS)?, kind).or_else(|why| refuse(format!("{WEIGHTS}: {why}")))?;
    autoencoder.k = checked_k(k_of(&cfg, &autoencoder)?, &autoencoder)?;
    // Below 0 its relu decides, not the threshold; ours must be above 0.
    autoencoder.threshold.mapv_inplace(|theta| theta.max(f32::MIN_POSITIVE));
    autoencoder.topk_threshold = autoencoder.topk_threshold.max(0.0);
    if cfg.rescale_acts_by_decoder_norm {
        if plain == Kind::Jumprelu {
            return refuse(format!("{CFG}: rescale_acts_by_decoder_norm goes with topk, not with jumprelu"));
        }
        fold_decoder_norms(&mut autoencoder);
    }
    if !cfg.apply_b_dec_to_input {
        // a = x·W + b = (x − b_dec)·W + (b + b_dec·W)
        autoencoder.b_enc += &autoencoder.b_dec.dot(&autoencoder.w_enc);
    }
    Ok(Foreign { autoencoder, scaling: scaling(files)? })
}

/// Active latents of a record; where the form knows no such number, what rounds of training are to aim at.
fn k_of(cfg: &Cfg, autoencoder: &Autoencoder<f32>) -> Result<usize, InterchangeError> {
    let of_old = || cfg.activation_fn_kwargs["k"].as_u64().map(|k| k as usize);
    let Shape { n_inputs, n_latents, .. } = autoencoder.shape();
    match cfg.k.or_else(of_old).or_else(|| cfg.strayd.as_ref()?.k) {
        Some(k) => Ok(k),
        None if matches!(autoencoder.kind, Kind::Topk | Kind::SatTopk) => refuse(format!("{CFG}: there is no k")),
        None => {
            let usual = Config { kind: autoencoder.kind, n_latents: Some(n_latents), ..Config::default() };
            Ok(usual.shape(n_inputs).k)
        }
    }
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
    use crate::sae::{Forward, Layer};

    fn autoencoder(kind: Kind) -> Autoencoder<f32> {
        let zeros = Autoencoder::zeros(kind, Shape { n_inputs: 2, n_latents: 3, k: 1 });
        let one_threshold = if kind == Kind::Batchtopk { 0.5 } else { 0.0 };
        let threshold = zeros.threshold.mapv(|_| 0.25);
        Autoencoder {
            threshold,
            topk_threshold: one_threshold,
            w_enc: array![[1.0, 0.5, -1.0], [0.0, 2.0, 1.0]],
            b_enc: array![0.25, 0.0, -0.5],
            w_dec: array![[3.0, 4.0], [0.0, 0.5], [1.0, 0.0]],
            b_dec: array![1.0, -1.0],
            ..zeros
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
            cfg["architecture"] = json!("standard");
            cfg["activation_fn_str"] = json!("topk");
            cfg["activation_fn_kwargs"] = json!({"k": 1});
        });
        assert_eq!(old, Ok(autoencoder(Kind::Topk)), "as releases before 6 wrote it");
    }

    #[test]
    fn every_architecture_that_has_a_name_comes_back() {
        let scaling = Scaling { clip: 50.0, folded: false, features: vec![] };
        let written = |kind| write(&autoencoder(kind), &scaling, false);
        for (kind, name) in [(Kind::Relu, STANDARD), (Kind::Jumprelu, JUMPRELU), (Kind::Batchtopk, JUMPRELU)] {
            let mut files = written(kind).unwrap();
            assert_eq!(read(&files).unwrap().autoencoder, autoencoder(kind));
            let mut cfg: Value = serde_json::from_slice(&files[0].bytes).unwrap();
            assert_eq!(cfg["architecture"], name);
            cfg.as_object_mut().unwrap().remove("strayd");
            files[0] = super::super::json(CFG, &cfg);
            let plain = read(&files).unwrap().autoencoder;
            let (mut by_us, mut by_others) = (Forward::default(), Forward::default());
            let x = array![[2.0, 0.5], [0.1, -0.5], [1.5, 3.0]];
            plain.forward(x.view(), Array2::ones((3, 2)).view(), &mut by_others);
            autoencoder(kind).forward(x.view(), Array2::ones((3, 2)).view(), &mut by_us);
            assert_eq!(by_us.latents(), by_others.latents(), "{name} without a word of ours computes the same");
        }
        for kind in [Kind::Sigmoid, Kind::Dense, Kind::Pca] {
            let why = written(kind).unwrap_err().to_string();
            assert!(why.contains(kind.as_str()) && why.contains("npz or onnx"), "{why}");
        }
        let mut deep = autoencoder(Kind::Relu);
        deep.hidden = vec![Layer { weight: array![[1.0, 0.0], [0.0, 1.0]], bias: array![0.0, 0.0] }];
        assert!(write(&deep, &scaling, true).unwrap_err().to_string().contains("1 hidden layers"));
    }

    #[test]
    fn a_threshold_below_zero_leaves_the_decision_to_relu() {
        let mut model = autoencoder(Kind::Jumprelu);
        model.threshold = array![-1.0, 0.0, 0.25];
        let scaling = Scaling { clip: 50.0, folded: false, features: vec![] };
        let back = read(&write(&model, &scaling, false).unwrap()).unwrap().autoencoder;
        assert_eq!(back.threshold, array![f32::MIN_POSITIVE, f32::MIN_POSITIVE, 0.25]);
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
