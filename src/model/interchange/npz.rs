//! A NumPy archive of plain arrays: `W_enc b_enc W_dec b_dec k mean std`, `threshold`, `topk_threshold` and
//! `hidden.{l}.weight` and `.bias` where a model has them, and `strayd`, which is JSON as bytes.
//!
//! For whoever wants the numbers: `z = numpy.load("model.npz")`, and `json.loads(bytes(z["strayd"]))` says how they are
//! meant. Holds any kind of model, since it claims no architecture. Compressed archives are not read.

use std::io::Cursor;

use ndarray::{Array1, Array2, ArrayView2, Ix0, Ix1, Ix2, OwnedRepr, arr0};
use ndarray_npy::{NpzReader, NpzWriter, ReadNpzError, ReadableElement, WriteNpzError};
use serde::{Deserialize, Serialize};

use super::{File, Foreign, InterchangeError, Scaling, checked_k, refuse};
use crate::model::tensors::hidden_names;
use crate::sae::{Activation, Autoencoder, Kind, Layer, Shape};

/// What the array `strayd` says.
#[derive(Serialize, Deserialize)]
struct Block {
    kind: Kind,
    #[serde(default)]
    activation: Activation,
    scaling: Scaling,
}

/// One matrix as an archive.
///
/// # Errors
/// When it can't be written.
pub fn matrix_as_npz(name: &str, matrix: ArrayView2<'_, f32>) -> Result<Vec<u8>, InterchangeError> {
    let write = || -> Result<Vec<u8>, WriteNpzError> {
        let mut npz = NpzWriter::new(Cursor::new(Vec::new()));
        npz.add_array(name, &matrix)?;
        Ok(npz.finish()?.into_inner())
    };
    write().or_else(|e| refuse(e.to_string()))
}

pub(super) fn write(autoencoder: &Autoencoder<f32>, scaling: &Scaling) -> Result<Vec<File>, InterchangeError> {
    let (kind, activation) = (autoencoder.kind, autoencoder.activation);
    let block = Block { kind, activation, scaling: scaling.clone() };
    let block = serde_json::to_vec(&block).expect("plain structs with string keys are always JSON");
    let write = || -> Result<Vec<u8>, WriteNpzError> {
        let mut npz = NpzWriter::new(Cursor::new(Vec::new()));
        npz.add_array("W_enc", &autoencoder.w_enc)?;
        npz.add_array("b_enc", &autoencoder.b_enc)?;
        npz.add_array("W_dec", &autoencoder.w_dec)?;
        npz.add_array("b_dec", &autoencoder.b_dec)?;
        npz.add_array("k", &arr0(autoencoder.k as i64))?;
        if kind == Kind::Jumprelu {
            npz.add_array("threshold", &autoencoder.threshold)?;
        }
        if kind == Kind::Batchtopk {
            npz.add_array("topk_threshold", &arr0(autoencoder.topk_threshold))?;
        }
        for (l, layer) in autoencoder.hidden.iter().enumerate() {
            let [weight, bias] = hidden_names(l);
            npz.add_array(weight, &layer.weight)?;
            npz.add_array(bias, &layer.bias)?;
        }
        let of = |part: fn(&super::ScaledFeature) -> f64| scaling.features.iter().map(part).collect::<Array1<f64>>();
        npz.add_array("mean", &of(|feature| feature.mean))?;
        npz.add_array("std", &of(|feature| feature.std))?;
        npz.add_array("strayd", &Array1::from(block))?;
        Ok(npz.finish()?.into_inner())
    };
    let bytes = write().or_else(|e| refuse(e.to_string()))?;
    Ok(vec![File { name: "model.npz".into(), bytes }])
}

pub(super) fn read(files: &[File]) -> Result<Foreign, InterchangeError> {
    let [File { name, bytes }] = files else { return refuse("an npz archive is one file") };
    let opened = NpzReader::new(Cursor::new(bytes.as_slice()));
    let mut npz = opened.or_else(|e| refuse(format!("{name}: {e}; save it with numpy.savez")))?;
    let block: Option<Block> = match vector::<u8>(&mut npz, "strayd") {
        Ok(json) => Some(serde_json::from_slice(&json.to_vec()).or_else(|e| refuse(format!("strayd: {e}")))?),
        Err(_) => None,
    };
    let (kind, activation) = block.as_ref().map_or((Kind::Topk, Activation::default()), |b| (b.kind, b.activation));
    let mut autoencoder = weights(&mut npz, kind)?;
    autoencoder.activation = activation;
    let k = npz.by_name::<OwnedRepr<i64>, Ix0>("k").or_else(|e| refuse(unread("k", &e)))?.into_scalar();
    autoencoder.k = checked_k(usize::try_from(k).unwrap_or(0), &autoencoder)?;
    Ok(Foreign { autoencoder, scaling: block.map(|block| block.scaling) })
}

/// The weights, with k still 0.
fn weights(npz: &mut Reader<'_>, kind: Kind) -> Result<Autoencoder<f32>, InterchangeError> {
    let (w_enc, w_dec) = (matrix(npz, "W_enc")?, matrix(npz, "W_dec")?);
    let (b_enc, b_dec) = (vector::<f32>(npz, "b_enc")?, vector::<f32>(npz, "b_dec")?);
    let (d, m) = (b_dec.len(), b_enc.len());
    let mut autoencoder = Autoencoder::zeros(kind, Shape { n_inputs: d, n_latents: m, k: 0 });
    let names = npz.names().or_else(|e| refuse(e.to_string()))?;
    let mut n_before = d;
    loop {
        let [weight, bias] = hidden_names(autoencoder.hidden.len());
        if !names.contains(&weight) {
            break;
        }
        let layer = Layer { weight: matrix(npz, &weight)?, bias: vector::<f32>(npz, &bias)? };
        if layer.weight.dim() != (n_before, layer.bias.len()) {
            return refuse(format!("{weight} is {:?} after {n_before} inputs", layer.weight.dim()));
        }
        n_before = layer.bias.len();
        autoencoder.hidden.push(layer);
    }
    if w_enc.dim() != (n_before, m) || w_dec.dim() != (m, d) {
        return refuse(format!(
            "W_enc is {:?} and W_dec {:?}, with these biases they must be ({n_before}, {m}) and ({m}, {d})",
            w_enc.dim(),
            w_dec.dim()
        ));
    }
    if kind == Kind::Jumprelu {
        autoencoder.threshold = vector::<f32>(npz, "threshold")?;
        if autoencoder.threshold.len() != m || autoencoder.threshold.iter().any(|theta| *theta <= 0.0) {
            return refuse(format!("threshold must be {m} numbers above 0"));
        }
    }
    if kind == Kind::Batchtopk {
        let scalar = npz.by_name::<OwnedRepr<f64>, Ix0>("topk_threshold");
        autoencoder.topk_threshold = scalar.or_else(|e| refuse(unread("topk_threshold", &e)))?.into_scalar();
    }
    let autoencoder = Autoencoder { w_enc, b_enc, w_dec, b_dec, ..autoencoder };
    let hidden = autoencoder.hidden.iter().flat_map(|layer| layer.weight.iter().chain(&layer.bias));
    let mut values = autoencoder.w_enc.iter().chain(&autoencoder.w_dec).chain(&autoencoder.b_enc);
    let finite = autoencoder.topk_threshold.is_finite() && values.all(|v| v.is_finite());
    if finite && hidden.chain(&autoencoder.b_dec).chain(&autoencoder.threshold).all(|v| v.is_finite()) {
        Ok(autoencoder)
    } else {
        refuse("a weight is not finite")
    }
}

type Reader<'a> = NpzReader<Cursor<&'a [u8]>>;

/// A matrix in standard layout, however it was stored.
fn matrix(npz: &mut Reader<'_>, name: &str) -> Result<Array2<f32>, InterchangeError> {
    let read = npz.by_name::<OwnedRepr<f32>, Ix2>(name).or_else(|e| refuse(unread(name, &e)))?;
    Ok(read.as_standard_layout().into_owned())
}

fn vector<T: ReadableElement>(npz: &mut Reader<'_>, name: &str) -> Result<Array1<T>, InterchangeError> {
    npz.by_name::<OwnedRepr<T>, Ix1>(name).or_else(|e| refuse(unread(name, &e)))
}

fn unread(name: &str, error: &ReadNpzError) -> String {
    let form = match name {
        "k" => "k as an int64 scalar",
        "topk_threshold" => "topk_threshold as a float64 scalar",
        _ => "W_enc, b_enc, W_dec and b_dec as float32",
    };
    format!("the array {name} can't be read: {error}; the archive needs {form}, saved with numpy.savez")
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;
    use crate::model::interchange::ScaledFeature;

    #[test]
    fn what_is_written_is_read_back() {
        let feature = |name: &str| ScaledFeature { name: name.into(), mean: 0.1, std: 3.0 };
        let scaling = Scaling { clip: 50.0, folded: false, features: vec![feature("a"), feature("b")] };
        for kind in Kind::ALL {
            let mut autoencoder = Autoencoder {
                activation: Activation::Tanh,
                w_enc: array![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]],
                b_enc: array![0.1, 0.2, 0.3],
                w_dec: array![[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]],
                b_dec: array![-1.0, 1.0],
                ..Autoencoder::zeros(kind, Shape { n_inputs: 2, n_latents: 3, k: 2 })
            };
            autoencoder.threshold.fill(0.25);
            autoencoder.topk_threshold = if kind == Kind::Batchtopk { 0.1 } else { 0.0 };
            for hidden in [vec![], vec![Layer { weight: array![[1.0, 0.5], [0.0, -1.0]], bias: array![0.5, 0.25] }]] {
                autoencoder.hidden = hidden;
                let files = write(&autoencoder, &scaling).unwrap();
                assert_eq!(files, write(&autoencoder, &scaling).unwrap(), "equal models give equal bytes");
                let wanted = Foreign { autoencoder: autoencoder.clone(), scaling: Some(scaling.clone()) };
                assert_eq!(read(&files), Ok(wanted));
            }
        }
    }

    #[test]
    fn an_archive_that_lacks_an_array_is_refused() {
        let file = |bytes| vec![File { name: "model.npz".into(), bytes }];
        let why = read(&file(matrix_as_npz("W_enc", array![[1.0_f32]].view()).unwrap())).unwrap_err().to_string();
        assert!(why.contains("W_dec") && why.contains("numpy.savez"), "{why}");
        assert!(read(&file(b"no archive".to_vec())).unwrap_err().to_string().starts_with("model.npz: "));
    }
}
