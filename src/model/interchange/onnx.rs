//! The whole way from a raw row to its score as an ONNX graph, opset 17.
//!
//! MODEL 6.3. Input `x` [rows, n_features] in raw units, NaN or ±inf where a value is missing. Outputs `latents`
//! [rows, n_latents], `recons` [rows, n_features] in raw units, `score` [rows]: the mean squared standardised residual,
//! NaN where under half the row is observed. Scaling is done in f64, as strayd does it: in f32 a large mean would cost
//! the digits of the deviation from it. ONNX lets TopK's ties go to the lower index, as ours do.

use prost::Message;

use super::Scaling;
use super::proto::*;
use crate::model::bundle::Model;
use crate::sae::{Activation, Autoencoder, Kind, LEAK};
use crate::score::OBSERVED_MIN;

const OPSET: i64 = 17;
/// Version of the file format that came with opset 17.
const IR_VERSION: i64 = 8;

/// Writes a model whose features are all numeric; `scaling` is its own.
pub(super) fn write(model: &Model, scaling: &Scaling) -> Vec<u8> {
    let mut graph = Graph::default();
    constants(&mut graph, model, scaling);
    standardise(&mut graph);
    encode(&mut graph, &model.autoencoder);
    decode(&mut graph);
    score(&mut graph);
    let shape = model.autoencoder.shape();
    let doc = "raw rows; NaN or inf is a missing value";
    let nodes = std::mem::take(&mut graph.nodes);
    let proto = GraphProto {
        node: nodes,
        name: "strayd".into(),
        initializer: graph.constants,
        input: vec![value("x", &[shape.n_inputs], doc)],
        output: vec![
            value("latents", &[shape.n_latents], "activations"),
            value("recons", &[shape.n_inputs], "the row as the model expects it, raw units"),
            value("score", &[], "mean squared standardised residual; NaN where under half the row is observed"),
        ],
    };
    let names: Vec<&str> = model.schema.names().collect();
    let property = |key: &str, value: String| StringStringEntryProto { key: key.into(), value };
    let whole = ModelProto {
        ir_version: Some(IR_VERSION),
        producer_name: "strayd".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        doc_string: "a sparse autoencoder with its scaler".into(),
        graph: Some(proto),
        opset_import: vec![OperatorSetIdProto { domain: Some(String::new()), version: Some(OPSET) }],
        metadata_props: vec![
            property("strayd.hash", model.hash.clone()),
            property("strayd.kind", model.autoencoder.kind.as_str().to_owned()),
            property("strayd.features", serde_json::to_string(&names).expect("names are always JSON")),
        ],
    };
    whole.encode_to_vec()
}

/// A graph that grows node by node; the name of a node is that of its first output.
#[derive(Default)]
struct Graph {
    nodes: Vec<NodeProto>,
    constants: Vec<TensorProto>,
}

impl Graph {
    fn node(&mut self, op: &str, inputs: &[&str], output: &str) -> &mut NodeProto {
        self.nodes.push(NodeProto {
            input: inputs.iter().map(|name| (*name).to_owned()).collect(),
            output: vec![output.to_owned()],
            name: format!("make_{output}"),
            op_type: op.to_owned(),
            attribute: Vec::new(),
        });
        self.nodes.last_mut().expect("one was just pushed")
    }

    fn constant(&mut self, name: &str, data_type: i32, dims: &[usize], raw_data: Vec<u8>) {
        let dims = dims.iter().map(|n| *n as i64).collect();
        let (data_type, raw_data) = (Some(data_type), Some(raw_data));
        self.constants.push(TensorProto { dims, data_type, name: name.to_owned(), raw_data });
    }

    fn floats<'a>(&mut self, name: &str, dims: &[usize], values: impl IntoIterator<Item = &'a f32>) {
        self.constant(name, FLOAT, dims, values.into_iter().flat_map(|v| v.to_le_bytes()).collect());
    }

    fn doubles(&mut self, name: &str, dims: &[usize], values: &[f64]) {
        self.constant(name, DOUBLE, dims, values.iter().flat_map(|v| v.to_le_bytes()).collect());
    }

    fn int(&mut self, name: &str, value: i64) {
        self.constant(name, INT64, &[1], value.to_le_bytes().to_vec());
    }
}

impl NodeProto {
    fn with(&mut self, name: &str, i: i64) -> &mut Self {
        self.attribute.push(AttributeProto { name: name.to_owned(), i: Some(i), r#type: Some(ATTRIBUTE_INT) });
        self
    }
}

fn constants(graph: &mut Graph, model: &Model, scaling: &Scaling) {
    let autoencoder = &model.autoencoder;
    let (m, d) = autoencoder.w_dec.dim();
    let n_code = autoencoder.w_enc.nrows();
    let of = |part: fn(&super::ScaledFeature) -> f64| scaling.features.iter().map(part).collect::<Vec<f64>>();
    graph.doubles("mean", &[d], &of(|feature| feature.mean));
    graph.doubles("std", &[d], &of(|feature| feature.std));
    graph.doubles("clip_low", &[], &[-scaling.clip]);
    graph.doubles("clip_high", &[], &[scaling.clip]);
    graph.doubles("raw_low", &[], &[f64::from(f32::MIN)]);
    graph.doubles("raw_high", &[], &[f64::from(f32::MAX)]);
    graph.floats("W_enc", &[n_code, m], &autoencoder.w_enc);
    graph.floats("b_enc", &[m], &autoencoder.b_enc);
    graph.floats("W_dec", &[m, d], &autoencoder.w_dec);
    graph.floats("b_dec", &[d], &autoencoder.b_dec);
    for (l, layer) in autoencoder.hidden.iter().enumerate() {
        let (n_before, n_units) = layer.weight.dim();
        graph.floats(&format!("W_{l}"), &[n_before, n_units], &layer.weight);
        graph.floats(&format!("b_{l}"), &[n_units], &layer.bias);
    }
    match autoencoder.kind {
        Kind::SatTopk | Kind::Topk => graph.int("k", autoencoder.k as i64),
        Kind::Batchtopk => graph.floats("threshold", &[], &[autoencoder.topk_threshold.max(0.0) as f32]),
        Kind::Jumprelu => graph.floats("threshold", &[m], &autoencoder.threshold),
        Kind::Relu | Kind::Sigmoid | Kind::Dense | Kind::Pca => {}
    }
    graph.floats("leak", &[], &[LEAK as f32]);
    graph.int("last_axis", -1);
    graph.floats("zero", &[], &[0.0]);
    graph.floats("nan", &[], &[f32::NAN]);
    graph.floats("n_observed_min", &[], &[(OBSERVED_MIN * d as f64) as f32]);
}

/// z and mask of `x`: a missing value is 0 with mask 0.
fn standardise(graph: &mut Graph) {
    graph.node("IsNaN", &["x"], "is_nan");
    graph.node("IsInf", &["x"], "is_inf");
    graph.node("Or", &["is_nan", "is_inf"], "is_missing");
    graph.node("Not", &["is_missing"], "is_observed");
    graph.node("Cast", &["is_observed"], "mask").with("to", i64::from(FLOAT));
    graph.node("Where", &["is_observed", "x", "zero"], "x_observed");
    graph.node("Cast", &["x_observed"], "x_wide").with("to", i64::from(DOUBLE));
    graph.node("Sub", &["x_wide", "mean"], "deviation");
    graph.node("Div", &["deviation", "std"], "z_wide");
    graph.node("Clip", &["z_wide", "clip_low", "clip_high"], "z_clipped");
    graph.node("Cast", &["z_clipped"], "z_float").with("to", i64::from(FLOAT));
    graph.node("Mul", &["z_float", "mask"], "z");
}

/// Latents of (z − b_dec)·mask.
fn encode(graph: &mut Graph, autoencoder: &Autoencoder<f32>) {
    graph.node("Sub", &["z", "b_dec"], "centred");
    graph.node("Mul", &["centred", "mask"], "u");
    let mut code = "u".to_owned();
    for l in 0..autoencoder.hidden.len() {
        let [projected, a, h] = ["projected", "a", "h"].map(|name| format!("{name}_{l}"));
        graph.node("MatMul", &[&code, &format!("W_{l}")], &projected);
        graph.node("Add", &[&projected, &format!("b_{l}")], &a);
        activate(graph, autoencoder.activation, &a, &h);
        code = h;
    }
    graph.node("MatMul", &[&code, "W_enc"], "projected");
    graph.node("Add", &["projected", "b_enc"], "a");
    match autoencoder.kind {
        Kind::Topk => largest(graph, "largest"),
        Kind::SatTopk => largest(graph, "saturated"),
        Kind::Relu => activate(graph, Activation::Relu, "a", "latents"),
        Kind::Batchtopk | Kind::Jumprelu => {
            graph.node("Greater", &["a", "threshold"], "fires");
            graph.node("Where", &["fires", "a", "zero"], "latents");
        }
        Kind::Sigmoid => activate(graph, Activation::Sigmoid, "a", "latents"),
        Kind::Dense => activate(graph, autoencoder.activation, "a", "latents"),
        Kind::Pca => {
            graph.node("Identity", &["a"], "latents");
        }
    }
}

/// The k largest of relu(a) in place, the rest 0; through tanh where `kept` is `saturated`.
fn largest(graph: &mut Graph, kept: &str) {
    graph.node("Relu", &["a"], "positive");
    let largest = graph.node("TopK", &["positive", "k"], "largest");
    largest.output.push("which".to_owned());
    largest.with("axis", -1).with("largest", 1).with("sorted", 0);
    if kept == "saturated" {
        graph.node("Tanh", &["largest"], "saturated");
    }
    graph.node("Shape", &["positive"], "latents_shape");
    graph.node("ConstantOfShape", &["latents_shape"], "none");
    graph.node("ScatterElements", &["none", "which", kept], "latents").with("axis", -1);
}

/// The activation of a hidden layer or of a dense code.
fn activate(graph: &mut Graph, activation: Activation, from: &str, to: &str) {
    match activation {
        Activation::Relu => graph.node("Relu", &[from], to),
        Activation::LeakyRelu => {
            let leaked = format!("{to}_leaked");
            graph.node("Mul", &[from, "leak"], &leaked);
            graph.node("Max", &[from, &leaked], to)
        }
        Activation::Tanh => graph.node("Tanh", &[from], to),
        Activation::Silu => {
            let gate = format!("{to}_gate");
            graph.node("Sigmoid", &[from], &gate);
            graph.node("Mul", &[from, &gate], to)
        }
        Activation::Sigmoid => graph.node("Sigmoid", &[from], to),
    };
}

/// The reconstruction, standardised and in raw units.
fn decode(graph: &mut Graph) {
    graph.node("MatMul", &["latents", "W_dec"], "decoded");
    graph.node("Add", &["decoded", "b_dec"], "recons_z");
    graph.node("Cast", &["recons_z"], "recons_wide").with("to", i64::from(DOUBLE));
    graph.node("Mul", &["recons_wide", "std"], "recons_scaled");
    graph.node("Add", &["recons_scaled", "mean"], "recons_raw");
    graph.node("Clip", &["recons_raw", "raw_low", "raw_high"], "recons_kept");
    graph.node("Cast", &["recons_kept"], "recons").with("to", i64::from(FLOAT));
}

/// The mean squared residual over observed inputs.
fn score(graph: &mut Graph) {
    graph.node("Sub", &["z", "recons_z"], "residual");
    graph.node("Mul", &["residual", "mask"], "residual_observed");
    graph.node("Mul", &["residual_observed", "residual_observed"], "squares");
    graph.node("ReduceSum", &["squares", "last_axis"], "sum").with("keepdims", 0);
    graph.node("ReduceSum", &["mask", "last_axis"], "n_observed").with("keepdims", 0);
    graph.node("Div", &["sum", "n_observed"], "mean_square");
    graph.node("Less", &["n_observed", "n_observed_min"], "too_few");
    graph.node("Where", &["too_few", "nan", "mean_square"], "score");
}

/// A float tensor `[rows, …dims]`.
fn value(name: &str, dims: &[usize], doc: &str) -> ValueInfoProto {
    let rows = Dimension { dim_value: None, dim_param: Some("rows".into()) };
    let fixed = dims.iter().map(|n| Dimension { dim_value: Some(*n as i64), dim_param: None });
    let shape = TensorShapeProto { dim: std::iter::once(rows).chain(fixed).collect() };
    let tensor_type = TensorType { elem_type: Some(FLOAT), shape: Some(shape) };
    ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto { tensor_type: Some(tensor_type) }),
        doc_string: doc.to_owned(),
    }
}
