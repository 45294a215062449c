//! The tensors of a model as safetensors, with SAELens' names.
//!
//! Little-endian and in a fixed order, so that equal weights give equal bytes. Reads nothing but bytes that have passed
//! their checksum, and still checks every shape.

use ndarray::{Array1, Array2};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::sae::{Autoencoder, Kind};
use crate::threshold::Tail;

/// Name, type, shape and bytes of one tensor.
pub(super) type Named<'a> = (&'a str, Dtype, Vec<usize>, Vec<u8>);

/// `W_enc b_enc W_dec b_dec since_fired`.
pub(super) fn write_weights(model: &Autoencoder<f32>, since_fired: &[u64]) -> Vec<u8> {
    let bytes = since_fired.iter().flat_map(|v| v.to_le_bytes()).collect();
    let mut tensors = plain(model);
    tensors.push(("since_fired", Dtype::U64, vec![since_fired.len()], bytes));
    write(&tensors)
}

/// `W_enc b_enc W_dec b_dec`.
pub(super) fn write_plain(model: &Autoencoder<f32>) -> Vec<u8> {
    write(&plain(model))
}

fn plain(model: &Autoencoder<f32>) -> Vec<Named<'static>> {
    let shape = model.shape();
    let (d, m) = (shape.n_inputs, shape.n_latents);
    vec![
        named("W_enc", vec![d, m], model.w_enc.iter()),
        named("b_enc", vec![m], model.b_enc.iter()),
        named("W_dec", vec![m, d], model.w_dec.iter()),
        named("b_dec", vec![d], model.b_dec.iter()),
    ]
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

/// The weights alone, with k still 0; an error says what is wrong.
pub(super) fn read_plain(bytes: &[u8], kind: Kind) -> Result<Autoencoder<f32>, String> {
    let tensors = SafeTensors::deserialize(bytes).map_err(|e| e.to_string())?;
    let (b_dec, d) = f32s(&tensors, "b_dec", None)?;
    let (b_enc, m) = f32s(&tensors, "b_enc", None)?;
    let (w_enc, _) = f32s(&tensors, "W_enc", Some((d, m)))?;
    let (w_dec, _) = f32s(&tensors, "W_dec", Some((m, d)))?;
    let matrix = |values, shape| Array2::from_shape_vec(shape, values).map_err(|e| e.to_string());
    Ok(Autoencoder {
        kind,
        k: 0,
        w_enc: matrix(w_enc, (d, m))?,
        b_enc: Array1::from(b_enc),
        w_dec: matrix(w_dec, (m, d))?,
        b_dec: Array1::from(b_dec),
    })
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
