//! The tensors of a model as safetensors, with SAELens' names.
//!
//! Little-endian and in a fixed order, so that equal weights give equal bytes. Reads nothing but bytes that have passed
//! their checksum, and still checks every shape.

use ndarray::{Array1, Array2};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::sae::{Autoencoder, Kind, Layer, Shape};
use crate::threshold::Tail;

/// Name, type, shape and bytes of one tensor.
pub(super) type Named<'a> = (&'a str, Dtype, Vec<usize>, Vec<u8>);

/// `W_enc b_enc W_dec b_dec since_fired`, then what only some forms have: `threshold`, `topk_threshold`, and weight and
/// bias of `hidden.{l}`.
pub(super) fn write_weights(model: &Autoencoder<f32>, since_fired: &[u64]) -> Vec<u8> {
    let bytes = since_fired.iter().flat_map(|v| v.to_le_bytes()).collect();
    let names: Vec<[String; 2]> = (0..model.hidden.len()).map(hidden_names).collect();
    let mut tensors: Vec<Named<'_>> = plain(model);
    tensors.push(("since_fired", Dtype::U64, vec![since_fired.len()], bytes));
    if model.kind == Kind::Batchtopk {
        tensors.push(("topk_threshold", Dtype::F64, vec![], model.topk_threshold.to_le_bytes().to_vec()));
    }
    for (layer, [weight, bias]) in model.hidden.iter().zip(&names) {
        let (n_before, n_units) = layer.weight.dim();
        tensors.push(named(weight, vec![n_before, n_units], layer.weight.iter()));
        tensors.push(named(bias, vec![n_units], layer.bias.iter()));
    }
    write(&tensors)
}

/// `W_enc b_enc W_dec b_dec`, and `threshold` where there is one: all that a model without hidden layers computes by.
pub(super) fn write_plain(model: &Autoencoder<f32>) -> Vec<u8> {
    write(&plain(model))
}

/// Names of a hidden layer's weight and bias.
pub(super) fn hidden_names(layer: usize) -> [String; 2] {
    ["weight", "bias"].map(|part| format!("hidden.{layer}.{part}"))
}

/// What other tools know, too: to them `batchtopk` is `jumprelu` with one threshold for all latents.
fn plain(model: &Autoencoder<f32>) -> Vec<Named<'static>> {
    let shape = model.shape();
    let (d, m) = (shape.n_inputs, shape.n_latents);
    let mut tensors = vec![
        named("W_enc", vec![model.w_enc.nrows(), m], model.w_enc.iter()),
        named("b_enc", vec![m], model.b_enc.iter()),
        named("W_dec", vec![m, d], model.w_dec.iter()),
        named("b_dec", vec![d], model.b_dec.iter()),
    ];
    match model.kind {
        Kind::Jumprelu => tensors.push(named("threshold", vec![m], model.threshold.iter())),
        Kind::Batchtopk => {
            tensors.push(named("threshold", vec![m], vec![model.topk_threshold.max(0.0) as f32; m].iter()));
        }
        _ => {}
    }
    tensors
}

/// A tensor of f32, row-major.
pub(super) fn named<'a, 'v>(name: &'a str, shape: Vec<usize>, values: impl Iterator<Item = &'v f32>) -> Named<'a> {
    (name, Dtype::F32, shape, values.flat_map(|v| v.to_le_bytes()).collect())
}

/// The calibration's standardised scores as `z`, f64.
pub(super) fn write_calibration(tail: &Tail) -> Vec<u8> {
    let bytes = tail.sorted().iter().flat_map(|z| z.to_le_bytes()).collect();
    write(&[("z", Dtype::F64, vec![tail.sorted().len()], bytes)])
}

/// The weights, with k still 0, and the firing counters; an error says what is wrong.
pub(super) fn read_weights(bytes: &[u8], kind: Kind) -> Result<(Autoencoder<f32>, Vec<u64>), String> {
    let autoencoder = read_plain(bytes, kind)?;
    if autoencoder.threshold.iter().any(|theta| *theta <= 0.0) {
        return Err("threshold is not above 0".into());
    }
    let tensors = SafeTensors::deserialize(bytes).map_err(|e| e.to_string())?;
    let since_fired = tensor(&tensors, "since_fired", Dtype::U64)?;
    let since_fired: Vec<u64> = words(since_fired.data()).map(u64::from_le_bytes).collect();
    let n_latents = autoencoder.b_enc.len();
    if since_fired.len() == n_latents {
        Ok((autoencoder, since_fired))
    } else {
        Err("since_fired has another length".into())
    }
}

/// The weights alone, with k still 0 and the default activation; an error says what is wrong.
pub(super) fn read_plain(bytes: &[u8], kind: Kind) -> Result<Autoencoder<f32>, String> {
    let tensors = SafeTensors::deserialize(bytes).map_err(|e| e.to_string())?;
    let (b_dec, n_inputs) = f32s(&tensors, "b_dec", None)?;
    let (b_enc, n_latents) = f32s(&tensors, "b_enc", None)?;
    let matrix = |name: &str, shape| {
        let (values, _) = f32s(&tensors, name, Some(shape))?;
        Array2::from_shape_vec(shape, values).map_err(|e| e.to_string())
    };
    let mut hidden = Vec::new();
    let mut n_before = n_inputs;
    loop {
        let [weight, bias] = hidden_names(hidden.len());
        if tensors.tensor(&weight).is_err() {
            break;
        }
        let (bias, n_units) = f32s(&tensors, &bias, None)?;
        hidden.push(Layer { weight: matrix(&weight, (n_before, n_units))?, bias: Array1::from(bias) });
        n_before = n_units;
    }
    let mut autoencoder = Autoencoder {
        hidden,
        w_enc: matrix("W_enc", (n_before, n_latents))?,
        b_enc: Array1::from(b_enc),
        w_dec: matrix("W_dec", (n_latents, n_inputs))?,
        b_dec: Array1::from(b_dec),
        ..Autoencoder::zeros(kind, Shape { n_inputs, n_latents, k: 0 })
    };
    if kind == Kind::Jumprelu {
        let (threshold, n) = f32s(&tensors, "threshold", None)?;
        if n != n_latents {
            return Err("threshold has another length".into());
        }
        autoencoder.threshold = Array1::from(threshold);
    }
    if kind == Kind::Batchtopk {
        // Files of other tools have but one threshold for each latent.
        let exact = tensor(&tensors, "topk_threshold", Dtype::F64);
        let of_others = || f32s(&tensors, "threshold", None).ok()?.0.first().copied().map(f64::from);
        let threshold = exact.map_or_else(|_| of_others(), |t| words(t.data()).map(f64::from_le_bytes).next());
        autoencoder.topk_threshold =
            threshold.filter(|t| t.is_finite()).ok_or("topk_threshold is not a finite number")?;
    }
    Ok(autoencoder)
}

/// The calibration's standardised scores.
pub(super) fn read_calibration(bytes: &[u8]) -> Result<Vec<f64>, String> {
    let tensors = SafeTensors::deserialize(bytes).map_err(|e| e.to_string())?;
    Ok(words(tensor(&tensors, "z", Dtype::F64)?.data()).map(f64::from_le_bytes).collect())
}

/// The tensors as one file.
pub(super) fn write(tensors: &[Named<'_>]) -> Vec<u8> {
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        (*name, TensorView::new(*dtype, shape.clone(), bytes).expect("the bytes were made for this shape"))
    });
    safetensors::serialize(views, None).expect("names are unique and sizes agree")
}

fn tensor<'a>(tensors: &SafeTensors<'a>, name: &str, dtype: Dtype) -> Result<TensorView<'a>, String> {
    let tensor = tensors.tensor(name).map_err(|e| e.to_string())?;
    if tensor.dtype() == dtype { Ok(tensor) } else { Err(format!("{name} is {:?} and not {dtype:?}", tensor.dtype())) }
}

/// A tensor's values and its length; `shape` is checked for a matrix.
pub(super) fn f32s(
    tensors: &SafeTensors<'_>,
    name: &str,
    shape: Option<(usize, usize)>,
) -> Result<(Vec<f32>, usize), String> {
    let tensor = tensor(tensors, name, Dtype::F32)?;
    let fits = shape.map_or(tensor.shape().len() == 1, |(rows, columns)| tensor.shape() == [rows, columns]);
    if !fits {
        return Err(format!("{name} has the shape {:?}, which does not fit the biases", tensor.shape()));
    }
    let values: Vec<f32> = words(tensor.data()).map(f32::from_le_bytes).collect();
    if !values.iter().all(|value| value.is_finite()) {
        return Err(format!("{name} holds a value that is not finite"));
    }
    let n = values.len();
    Ok((values, n))
}

/// The bytes in words of N; safetensors has checked that they divide evenly.
fn words<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    bytes.chunks_exact(N).map(|word| word.try_into().expect("chunks have the word's length"))
}
