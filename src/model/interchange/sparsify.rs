//! EleutherAI's sparsify: `sae.safetensors` with `encoder.weight` (W_enc transposed) and `encoder.bias`, `W_dec`, `b_dec`.
//!
//! Follows `SparseCoder.save_to_disk` and `load_from_disk`; a reader drops the fields of `cfg.json` that it doesn't know.
//! Always TopK of relu over x − b_dec, in our orientation but for the encoder.

use ndarray::{Array1, Array2};
use safetensors::SafeTensors;
use serde::Deserialize;
use serde_json::json;

use super::{File, Foreign, InterchangeError, SCALER, Scaling, checked_k, file, must_be_topk, refuse, scaling};
use crate::model::tensors::{self, f32s, named};
use crate::sae::{Autoencoder, Kind, Shape};

const WEIGHTS: &str = "sae.safetensors";
const CFG: &str = "cfg.json";

pub(super) fn write(
    autoencoder: &Autoencoder<f32>,
    scaling: &Scaling,
    force: bool,
) -> Result<Vec<File>, InterchangeError> {
    must_be_topk(autoencoder, "sparsify", force)?;
    let shape = autoencoder.shape();
    let (d, m) = (shape.n_inputs, shape.n_latents);
    let cfg = json!({
        "activation": "topk",
        "d_in": d,
        "num_latents": m,
        "expansion_factor": m.div_ceil(d),
        "k": shape.k,
        "normalize_decoder": false,
        "multi_topk": false,
        "skip_connection": false,
        "transcode": false,
        "strayd": {"kind": autoencoder.kind, "folded_scaler": scaling.folded},
    });
    // Transposed and read in rows: [n_latents, n_inputs].
    let transposed = autoencoder.w_enc.t();
    let weights = tensors::write(&[
        named("encoder.weight", vec![m, d], transposed.iter()),
        named("encoder.bias", vec![m], autoencoder.b_enc.iter()),
        named("W_dec", vec![m, d], autoencoder.w_dec.iter()),
        named("b_dec", vec![d], autoencoder.b_dec.iter()),
    ]);
    let weights = File { name: WEIGHTS.into(), bytes: weights };
    Ok(vec![super::json(CFG, &cfg), weights, super::json(SCALER, scaling)])
}

/// The fields of `cfg.json` that decide what is computed.
#[derive(Deserialize)]
struct Cfg {
    #[serde(default = "topk")]
    activation: String,
    k: usize,
    #[serde(default)]
    skip_connection: bool,
    #[serde(default)]
    transcode: bool,
    strayd: Option<Block>,
}

#[derive(Deserialize)]
struct Block {
    kind: Kind,
}

fn topk() -> String {
    "topk".into()
}

pub(super) fn read(files: &[File]) -> Result<Foreign, InterchangeError> {
    let cfg: Cfg = serde_json::from_slice(file(files, CFG)?).or_else(|e| refuse(format!("{CFG}: {e}")))?;
    if cfg.activation != "topk" || cfg.skip_connection || cfg.transcode {
        return refuse(format!(
            "{CFG}: strayd reads activation topk without skip_connection and transcode, not {} with {} and {}",
            cfg.activation, cfg.skip_connection, cfg.transcode
        ));
    }
    let kind = cfg.strayd.map_or(Kind::Topk, |block| block.kind);
    if !matches!(kind, Kind::Topk | Kind::SatTopk) {
        return refuse(format!("{CFG}: sparsify holds topk, and strayd.kind is {}", kind.as_str()));
    }
    let mut autoencoder = weights(file(files, WEIGHTS)?, kind).or_else(|why| refuse(format!("{WEIGHTS}: {why}")))?;
    autoencoder.k = checked_k(cfg.k, &autoencoder)?;
    Ok(Foreign { autoencoder, scaling: scaling(files)? })
}

fn weights(bytes: &[u8], kind: Kind) -> Result<Autoencoder<f32>, String> {
    let tensors = SafeTensors::deserialize(bytes).map_err(|e| e.to_string())?;
    let (b_dec, d) = f32s(&tensors, "b_dec", None)?;
    let (b_enc, m) = f32s(&tensors, "encoder.bias", None)?;
    let matrix = |name| {
        let (values, _) = f32s(&tensors, name, Some((m, d)))?;
        Array2::from_shape_vec((m, d), values).map_err(|e| e.to_string())
    };
    let w_enc = matrix("encoder.weight")?.t().as_standard_layout().into_owned();
    let w_dec = matrix("W_dec")?;
    let plain = Autoencoder::zeros(kind, Shape { n_inputs: d, n_latents: m, k: 0 });
    Ok(Autoencoder { w_enc, b_enc: Array1::from(b_enc), w_dec, b_dec: Array1::from(b_dec), ..plain })
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    fn autoencoder() -> Autoencoder<f32> {
        Autoencoder {
            w_enc: array![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]],
            b_enc: array![0.1, 0.2, 0.3],
            w_dec: array![[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]],
            b_dec: array![-1.0, 1.0],
            ..Autoencoder::zeros(Kind::Topk, Shape { n_inputs: 2, n_latents: 3, k: 2 })
        }
    }

    #[test]
    fn the_encoder_is_written_transposed_and_read_back() {
        let files = write(&autoencoder(), &Scaling { clip: 50.0, folded: true, features: vec![] }, false).unwrap();
        let tensors = SafeTensors::deserialize(&files[1].bytes).unwrap();
        let (values, _) = f32s(&tensors, "encoder.weight", Some((3, 2))).unwrap();
        assert_eq!(values, [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        let back = read(&files).unwrap();
        assert_eq!(back.autoencoder, autoencoder());
        assert!(back.scaling.unwrap().folded);
    }

    #[test]
    fn other_forms_are_refused() {
        let mut files = write(&autoencoder(), &Scaling { clip: 50.0, folded: false, features: vec![] }, false).unwrap();
        files[0] = super::super::json(CFG, &json!({"activation": "groupmax", "k": 2}));
        assert!(read(&files).unwrap_err().to_string().contains("groupmax"));
        files[0] = super::super::json(CFG, &json!({"k": 2, "transcode": true}));
        assert!(read(&files).is_err());
        files.remove(2);
        files[0] = super::super::json(CFG, &json!({"k": 2}));
        assert_eq!(read(&files).unwrap().scaling, None);
    }
}
