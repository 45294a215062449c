//! `strayd plan`: processor and memory for a stream, by the cost model of docs/SIZING.md, and what gives way first.
//!
//! The figures are those of the machine that the page was measured on; `tests` holds the two together.

use std::io::Write;

use anyhow::bail;
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::sae::{Config as SaeConfig, Shape};
use crate::threshold;

/// How the records are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Objects with names, or arrays.
    Json,
    /// `f32` values, `decode.format = "packed"`.
    Raw,
}

/// Options of `strayd plan`.
#[derive(Debug, Args)]
#[command(
    after_help = "  strayd plan --features 32 --rate 200000\n  strayd plan --features 128 --rate 5000 --keys 100000 --alerts-per-day 50\n\n\
                        docs/SIZING.md says how the figures were measured, and how far they are off: a third at most for most shapes. \
                        Measure on your own machine before you buy one."
)]
pub struct Options {
    /// Features of a record
    #[arg(long, value_name = "D", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    features: u32,
    /// Records a second, all partitions together
    #[arg(long, value_name = "R")]
    rate: f64,
    /// Entities: distinct keys
    #[arg(long, value_name = "K", default_value_t = 1)]
    keys: u64,
    /// Latents of the model [default: that of model.sae, four times the features]
    #[arg(long, value_name = "M")]
    latents: Option<usize>,
    /// Rows that the model remembers, model.members.memory_rows
    #[arg(long, value_name = "N", default_value_t = 512)]
    memory_rows: usize,
    /// How records are written
    #[arg(long, value_enum, default_value_t = Format::Json)]
    format: Format,
    /// Partitions of the topic [default: as many as lanes]
    #[arg(long, value_name = "P")]
    partitions: Option<u64>,
    /// Alerts a day that are wanted [default: threshold.target_alert_rate of the records]
    #[arg(long, value_name = "A")]
    alerts_per_day: Option<f64>,
    /// Cores that there are [default: those of this machine]
    #[arg(long, value_name = "C")]
    cores: Option<usize>,
    /// Prints one JSON document
    #[arg(long)]
    json: bool,
}

/// A stream, and the model that is to judge it.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    /// Features.
    pub n_features: usize,
    /// Latents.
    pub n_latents: usize,
    /// Remembered rows.
    pub memory_rows: usize,
    /// How records are written.
    pub format: Format,
}

/// Processor time of one record, ns.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Cost {
    /// What a bare consumer costs.
    pub client_ns: f64,
    /// strayd's own thread.
    pub lane_ns: f64,
    /// What the two cost more together than each alone.
    pub together_ns: f64,
}

impl Cost {
    /// The cost model: the stages of docs/SIZING.md, which grow with D, M, D·M and D·rows.
    pub fn of(stream: Stream) -> Self {
        let Stream { n_features, n_latents, memory_rows, format } = stream;
        let (d, m, rows) = (n_features as f64, n_latents as f64, memory_rows as f64);
        let products = 142.0 + 2.0 * d + 1.02 * m + 0.0292 * d * m;
        let memory = if memory_rows == 0 { 0.0 } else { 366.0 + 0.0165 * d * rows };
        // Reading a number as text costs more than all else that is done with it.
        let decode = if format == Format::Json { 9.0 * d } else { 0.0 };
        let client = 150.0 + bytes(stream) * if format == Format::Json { 0.16 } else { 0.3 };
        Self { client_ns: client, lane_ns: products + memory + decode, together_ns: 230.0 }
    }

    /// All of it.
    pub fn total_ns(&self) -> f64 {
        self.client_ns + self.lane_ns + self.together_ns
    }
}

/// What a record takes on the wire, bytes.
fn bytes(stream: Stream) -> f64 {
    let d = stream.n_features as f64;
    match stream.format {
        Format::Raw => 12.0 + 4.0 * d,
        Format::Json => 12.0 + 17.0 * d,
    }
}

/// Explanation, record and delivery of an anomaly, ns.
const ANOMALY_NS: f64 = 50_000.0;
/// Share of the cores that is planned with: the rest is for training, rebalances and catching up.
const SHARE: f64 = 0.75;
/// Bytes a second of a gigabit link.
const LINK: f64 = 125e6;
/// Alerts a day that people can look at.
const READERS: f64 = 1000.0;
/// Features from which on the first model takes minutes.
const FEATURES_MANY: usize = 512;
const MIB: f64 = 1_048_576.0;

/// What is needed.
#[derive(Debug, Serialize)]
pub struct Plan {
    /// Features.
    pub n_features: usize,
    /// Latents.
    pub n_latents: usize,
    /// A record's cost.
    pub cost: Cost,
    /// Cores that are busy.
    pub cores: f64,
    /// `pipeline.lanes`.
    pub lanes: u64,
    /// Partitions that the topic needs at least.
    pub partitions: u64,
    /// Memory in use, MiB.
    pub memory_mib: f64,
    /// Memory if every buffer fills, a broker being away, MiB.
    pub memory_most_mib: f64,
    /// Bytes a second from the brokers, MB.
    pub network_mb: f64,
    /// Alerts a day while all is well.
    pub alerts_per_day: f64,
    /// What gives way as the stream grows, the first one first, with the rate at which it does.
    pub breaks: Vec<Break>,
}

/// Something that gives way.
#[derive(Debug, Serialize)]
pub struct Break {
    /// Records a second.
    pub rate: f64,
    /// What, and what helps.
    pub what: String,
}

impl Plan {
    /// Plans for `rate` records a second.
    pub fn of(stream: Stream, rate: f64, options: &Options) -> Self {
        let cost = Cost::of(stream);
        let share = options
            .alerts_per_day
            .map_or_else(|| threshold::Config::default().alert_rate(0.0), |a| a / (86_400.0 * rate));
        let record_ns = cost.total_ns() + share * ANOMALY_NS;
        let cores = rate * record_ns / 1e9;
        let lanes = ((cores / SHARE).ceil() as u64).max(1);
        let partitions = options.partitions.unwrap_or(lanes);
        let (memory_mib, memory_most_mib) = memory(stream, lanes, partitions.max(lanes), options.keys);
        let n_cores = options.cores.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        let break_at = |rate: f64, what: String| Break { rate, what };
        let capacity = 1e9 * SHARE / record_ns;
        let mut breaks = vec![
            break_at(
                capacity * n_cores as f64,
                format!("the processor: {n_cores} cores, a quarter of them free; add machines of the same group"),
            ),
            break_at(
                LINK / bytes(stream),
                "a gigabit link; raw values are a quarter of JSON, lz4 at the producers halves either".into(),
            ),
        ];
        if let Some(partitions) = options.partitions {
            breaks.push(break_at(
                capacity * partitions as f64,
                format!("the topic's {partitions} partitions: no more lanes than these work; add some before"),
            ));
        }
        if options.alerts_per_day.is_none() {
            let what = format!(
                "readers: {READERS:.0} alerts a day at {:.2} % of the records; set threshold.target_alerts_per_day",
                100.0 * share
            );
            breaks.push(break_at(READERS / (86_400.0 * share), what));
        }
        breaks.sort_by(|a, b| a.rate.total_cmp(&b.rate));
        let Stream { n_features, n_latents, .. } = stream;
        let (network_mb, alerts_per_day) = (rate * bytes(stream) / 1e6, rate * share * 86_400.0);
        Self {
            n_features,
            n_latents,
            cost,
            cores,
            lanes,
            partitions,
            memory_mib,
            memory_most_mib,
            network_mb,
            alerts_per_day,
            breaks,
        }
    }
}

/// Memory in use, the first training included, and with every buffer full, MiB.
fn memory(stream: Stream, lanes: u64, partitions: u64, keys: u64) -> (f64, f64) {
    let Stream { n_features, n_latents, memory_rows, .. } = stream;
    let (d, m) = (n_features as f64, n_latents as f64);
    let model = 4.0 * (2.0 * d * m + 3.0 * memory_rows as f64 * d);
    let (lanes, partitions) = (lanes as f64, partitions as f64);
    let history = crate::history::Config::default().rows as f64;
    let batches = lanes * (2.0 * MIB + 256.0 * 4.0 * (d + m));
    let windows = partitions * 16.0 * threshold::Config::default().calibration_window as f64;
    let training = 4.0 * 4.0 * history * d;
    let in_use = 46.0 * MIB + 2.0 * model + batches + windows + training;
    let incidents = 1024.0 * (keys as f64).min(partitions * crate::alert::IncidentConfig::default().open_max as f64);
    let most = in_use + model + lanes * 80.0 * MIB + incidents;
    (in_use / MIB, most / MIB)
}

/// Plans.
pub fn run(options: &Options) -> anyhow::Result<()> {
    if !(options.rate > 0.0 && options.rate.is_finite()) {
        bail!("--rate {}: expected records a second, above 0", options.rate);
    }
    let n_features = options.features as usize;
    let Shape { n_latents, .. } = SaeConfig { n_latents: options.latents, ..SaeConfig::default() }.shape(n_features);
    let stream = Stream { n_features, n_latents, memory_rows: options.memory_rows, format: options.format };
    let plan = Plan::of(stream, options.rate, options);
    let mut out = std::io::stdout().lock();
    if options.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&plan)?)?;
    } else {
        plan.print(options, &mut out)?;
    }
    Ok(())
}

impl Plan {
    fn print(&self, options: &Options, out: &mut impl Write) -> std::io::Result<()> {
        let Cost { client_ns, lane_ns, together_ns } = self.cost;
        let (d, m, rate) = (self.n_features, self.n_latents, options.rate);
        writeln!(out, "{d} features, {m} latents, {rate} records/s of {} entities", options.keys)?;
        writeln!(
            out,
            "a record   {:.2} µs: {lane_ns:.0} ns lane, {client_ns:.0} ns client, {together_ns:.0} ns together",
            self.cost.total_ns() / 1e3
        )?;
        writeln!(out, "cores      {:.2} busy", self.cores)?;
        writeln!(out, "lanes      {} (pipeline.lanes), and at least as many partitions", self.lanes)?;
        writeln!(
            out,
            "memory     {:.0} MiB, {:.0} MiB if a broker is away and every buffer fills",
            self.memory_mib, self.memory_most_mib
        )?;
        writeln!(out, "network    {:.1} MB/s from the brokers", self.network_mb)?;
        writeln!(out, "alerts     {:.1} a day while all is well", self.alerts_per_day)?;
        writeln!(out, "\nwhat breaks first, as the rate grows:")?;
        for Break { rate: at, what } in &self.breaks {
            let over = if *at < rate { "  ← below the planned rate" } else { "" };
            writeln!(out, "  {at:>12.0} records/s  {what}{over}")?;
        }
        if d >= FEATURES_MANY {
            writeln!(out, "\nthe first model of {d} features takes minutes; scoring starts after it")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cells of the rows of docs/SIZING.md that begin with `first`.
    fn row(first: &str) -> Vec<String> {
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/SIZING.md")).unwrap();
        let line =
            page.lines().find(|line| line.starts_with(&format!("| {first} |"))).unwrap_or_else(|| panic!("no {first}"));
        line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
    }

    #[test]
    fn the_page_is_met_where_it_was_measured_end_to_end() {
        let small = Stream { n_features: 32, n_latents: 64, memory_rows: 0, format: Format::Raw };
        let default = Stream { n_latents: 128, memory_rows: 512, ..small };
        let json = |stream| Stream { format: Format::Json, ..stream };
        let points = [
            ("small, raw f32", small),
            ("default, raw f32", default),
            ("small, JSON", json(small)),
            ("default, JSON", json(default)),
        ];
        for (setup, stream) in points {
            let measured: f64 = row(setup)[5].parse().unwrap();
            let planned = Cost::of(stream).total_ns();
            assert!((planned / measured - 1.0).abs() < 0.25, "{setup}: {planned} planned, {measured} measured");
        }
    }

    #[test]
    fn the_page_is_met_at_other_shapes() {
        for (shape, rows) in [("8/32/8", 512), ("64/256/64", 512), ("256/1024/256", 512), ("32/512/32", 0)] {
            let cells = row(&format!("{shape} | {rows}"));
            let sizes: Vec<usize> = shape.split('/').map(|size| size.parse().unwrap()).collect();
            let stream = Stream { n_features: sizes[0], n_latents: sizes[1], memory_rows: rows, format: Format::Raw };
            let (planned, measured) = (Cost::of(stream).lane_ns, cells[3].parse::<f64>().unwrap());
            assert!((planned / measured - 1.0).abs() < 0.5, "{shape}: {planned} planned, {measured} measured");
        }
    }

    #[test]
    fn memory_is_about_what_was_measured_with_the_first_training() {
        // PERFORMANCE.md, the daemon's highest resident memory, one partition.
        for (n_features, measured) in [(8, 57.0), (32, 67.0), (128, 91.0)] {
            let n_latents = SaeConfig::default().shape(n_features).n_latents;
            let stream = Stream { n_features, n_latents, memory_rows: 512, format: Format::Json };
            let (in_use, most) = memory(stream, 1, 1, 1_000_000);
            assert!((in_use / measured - 1.0).abs() < 0.25 && most > in_use, "{n_features}: {in_use} MiB planned");
        }
    }
}
