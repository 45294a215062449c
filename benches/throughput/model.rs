//! The cost model of docs/SIZING.md, out of what was measured at one shape, beside what was measured at others.

use serde_json::Value;

use crate::report::{list, table, text};

/// The setups whose stages the model is made of: with a memory, and without.
const BASES: [&str; 2] = ["default, raw f32", "small, raw f32"];

/// What a lane's stages cost at one shape, nanoseconds a record, by what they grow with.
struct Lane {
    shape: Shape,
    /// Decoding raw values, preprocessing, residual and tails: with D.
    by_features: f64,
    /// Tails, which go with the memory: with D.
    tails: f64,
    /// Both products: with D·M.
    products: f64,
    /// Selection: with M.
    select: f64,
    /// Memory: with D and remembered rows.
    memory: f64,
    /// Threshold, and whatever else a record costs: with nothing.
    rest: f64,
}

/// Features, latents and remembered rows.
#[derive(Clone, Copy)]
struct Shape {
    d: f64,
    m: f64,
    rows: f64,
}

impl Shape {
    fn of(of: &Value) -> Option<Self> {
        let mut sizes = of["shape"].as_str()?.split('/').map(str::parse::<f64>);
        Some(Self { d: sizes.next()?.ok()?, m: sizes.next()?.ok()?, rows: of["memory_rows"].as_f64()? })
    }
}

impl Lane {
    fn of(stages: &Value) -> Option<Self> {
        let of = |name: &str| stages["stages"][name].as_f64();
        let by_features = of("decode")? + of("preprocess")? + of("residual")?;
        let products = of("encode")? + of("decode product")?;
        // The autoencoder alone has neither.
        let (tails, memory) = (of("tails").unwrap_or(0.0), of("memory").unwrap_or(0.0));
        let select = of("select")?;
        let rest = stages["lane"]["ns"].as_f64()? - by_features - tails - products - select - memory;
        Some(Self { shape: Shape::of(stages)?, by_features, tails, products, select, memory, rest })
    }

    /// What it costs at another shape.
    fn at(&self, shape: Shape) -> f64 {
        let (d, m) = (shape.d / self.shape.d, shape.m / self.shape.m);
        let memory = if shape.rows > 0.0 { self.memory * d * shape.rows / self.shape.rows } else { 0.0 };
        (self.by_features + self.tails) * d + self.products * d * m + self.select * m + memory + self.rest
    }
}

fn ns(value: f64) -> String {
    format!("{value:.0}")
}

fn error(predicted: f64, measured: f64) -> String {
    format!("{:+.0} %", 100.0 * (predicted / measured - 1.0))
}

/// Client and lane, each measured alone, against the daemon; and the lane at other shapes.
pub fn sizing(document: &Value) -> String {
    let mut out = String::new();
    let stages_of = |name: &Value| list(&document["stages"]).find(|stages| stages["setup"] == *name);
    let rows = list(&document["throughput"]["kafka"]).filter_map(|run| {
        let (client, lane) = (run["bare"]["cpu_ns"].as_f64()?, stages_of(&run["setup"])?["lane"]["ns"].as_f64()?);
        let measured = run["strayd"]["1"]["cpu_ns"].as_f64()?;
        let cores = format!("{:.1}", measured / 1000.0);
        let figures = [ns(client), ns(lane), ns(client + lane), ns(measured), error(client + lane, measured), cores];
        let names = [&run["setup"], &run["shape"]].map(|name| text(name).to_owned());
        Some(names.into_iter().chain(figures).collect::<Vec<_>>())
    });
    let head =
        ["setup", "D/M/k", "client", "lane", "sum", "measured end to end", "error", "cores for 1,000,000 records/s"];
    table(
        &mut out,
        "Client and lane, each measured alone, against the daemon, ns a record:",
        &head,
        &rows.collect::<Vec<_>>(),
    );

    let bases = BASES.map(|name| stages_of(&name.into()).and_then(Lane::of));
    let [Some(with_memory), Some(alone)] = bases else { return out };
    let rows = list(&document["growth"]).filter_map(|of| {
        let shape = Shape::of(of)?;
        let base = if shape.rows > 0.0 { &with_memory } else { &alone };
        let (predicted, measured) = (base.at(shape), of["lane_raw_ns"].as_f64()?);
        let names = [text(&of["shape"]).to_owned(), of["memory_rows"].to_string()];
        Some(names.into_iter().chain([ns(predicted), ns(measured), error(predicted, measured)]).collect::<Vec<_>>())
    });
    let head = ["D/M/k", "remembered rows", "lane, predicted from the stages at D = 32", "measured", "error"];
    table(&mut out, "The lane at other shapes, raw values, ns a record:", &head, &rows.collect::<Vec<_>>());
    out
}
