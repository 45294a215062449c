//! Measures how close strayd comes to its limits, each figure beside its limit in one run: `make bench`.
//!
//! It acts on the word `run` alone, so that a plain `cargo bench` stays short. What is measured runs in a process without
//! broker and producer: this binary starts itself again as a child for it. It proves nothing in CI, which only builds it:
//! figures depend on the machine and its load, ratios of one run far less. docs/PERFORMANCE.md explains them.

mod bare;
mod child;
mod clock;
mod delay;
mod delivery;
mod feed;
mod footprint;
mod goals;
mod growth;
mod loads;
mod looped;
mod model;
mod peak;
mod peers;
mod race;
mod report;
mod setup;
mod stages;
mod whole;
mod world;

#[path = "../../tests/support/mod.rs"]
mod support;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail};
use clap::{Parser, ValueEnum};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use strayd::decode::Format;

use setup::Setup;
use world::World;

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// End to end beside a bare consumer
    Throughput,
    /// Exactly once beside at least once
    Delivery,
    /// Added latency
    Latency,
    /// Each stage alone
    Stages,
    /// Other runtimes on the same weights
    Peers,
    /// Cost by features, latents and remembered rows
    Growth,
    /// Highest resident memory
    Memory,
}

#[derive(Debug, Parser)]
#[command(name = "throughput", about = "Measures strayd beside its limits")]
struct Options {
    /// Without it nothing is done
    #[arg(value_parser = ["run"])]
    run: String,
    /// Parts to measure; all by default
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["throughput", "delivery", "latency", "stages", "peers", "growth", "memory"])]
    only: Vec<Part>,
    /// Clusters that the whole way is measured against: kafka, mock
    #[arg(long, value_delimiter = ',', default_values = ["kafka", "mock"])]
    clusters: Vec<String>,
    /// Records of a topic; the mock holds fewer
    #[arg(long, default_value_t = 1_000_000)]
    records: u64,
    /// Rounds of which the median counts
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Counted seconds of each latency run
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Where the figures are written; parts that aren't measured stay as they are there
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target/bench.json"))]
    json: PathBuf,
    /// Writes what is measured into docs/PERFORMANCE.md and docs/SIZING.md, between their marks
    #[arg(long)]
    pages: bool,
    /// What cargo says to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).is_some_and(|arg| arg == child::CHILD) {
        return run_child(&args);
    }
    let mut out = std::io::stdout();
    // Not parsed before that: what is said to all benches is the others' business.
    if !args.iter().any(|arg| arg == "run") {
        writeln!(
            out,
            "throughput: nothing measured; `make bench` does it, or `cargo bench --bench throughput -- run`"
        )?;
        return Ok(());
    }
    let options = Options::parse();
    // As the daemon does; the children inherit it.
    strayd::cli::pick_kernels();
    strayd::blas::init();
    let known = std::fs::read_to_string(&options.json).ok().and_then(|text| serde_json::from_str(&text).ok());
    let mut document: Value = known.filter(Value::is_object).unwrap_or_else(|| json!({}));
    let before = clock::load();
    measure(&options, &mut document)?;
    document["settings"] = json!(whole::settings()?);
    document["machine"] = machine(&before);
    save(&options.json, &document)?;
    let (measured, sizing) = (report::markdown(&document), model::sizing(&document));
    writeln!(out, "{measured}\n{sizing}")?;
    if options.pages {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
        report::put_in(&docs.join("PERFORMANCE.md"), &measured)?;
        report::put_in(&docs.join("SIZING.md"), &sizing)?;
    }
    Ok(())
}

fn save(path: &Path, document: &Value) -> anyhow::Result<()> {
    std::fs::write(path, serde_json::to_string_pretty(document)? + "\n").with_context(|| path.display().to_string())
}

/// Measures the wanted parts, and says on standard error how long each took.
fn measure(options: &Options, document: &mut Value) -> anyhow::Result<()> {
    let Options { rounds, seconds, .. } = *options;
    let folder = tempfile::Builder::new().prefix("strayd-bench-").tempdir()?;
    let mut setups = Vec::new();
    for format in [Format::Packed, Format::Json] {
        for setup in [Setup::small(format), Setup::default_model(32, format)] {
            let registry = folder.path().join(setup.name.replace([' ', ','], "-"));
            setup.register(&registry)?;
            setups.push((setup, registry));
        }
    }
    for &part in &options.only {
        let began = Instant::now();
        match part {
            Part::Throughput => throughput(options, &setups, document)?,
            Part::Delivery => {
                let Some(world) = World::start("kafka")? else { continue };
                let mut default = setups.iter().filter(|(setup, _)| setup.name == "default, raw f32");
                let measured = default.try_fold(Vec::new(), |mut all, (setup, registry)| {
                    all.extend(delivery::measure(&world, (setup, registry), options.records, rounds)?);
                    anyhow::Ok(all)
                })?;
                document["delivery"] = measured.into();
            }
            Part::Latency => {
                let Some(world) = World::start("kafka")? else { continue };
                let default = setups.iter().filter(|(setup, _)| setup.name == "default, raw f32");
                let measured =
                    default.map(|(setup, registry)| loads::measure(&world, (setup, registry), rounds, seconds));
                document["latency"] = measured.collect::<anyhow::Result<Vec<_>>>()?.into();
            }
            Part::Stages => {
                let peak = peak::Peak::measure();
                let measured = setups.iter().map(|(setup, _)| stages::measure(setup, peak, rounds.max(5)));
                document["stages"] = measured.collect::<anyhow::Result<Vec<_>>>()?.into();
                document["peak"] = json!(peak);
            }
            Part::Peers => {
                let alone = [Setup::small(Format::Packed), Setup { memory_rows: 0, ..setups[1].0.clone() }];
                let measured = alone.iter().map(|setup| peers::measure(setup, rounds.max(3)));
                let measured = measured.collect::<anyhow::Result<Option<Vec<_>>>>()?;
                document["peers"] = measured.into();
            }
            Part::Growth => document["growth"] = growth::measure(rounds)?.into(),
            Part::Memory => {
                let Some(world) = World::start("kafka")? else { continue };
                document["memory"] = footprint::measure(&world)?.into();
            }
        }
        // What took minutes isn't lost when a later part fails.
        save(&options.json, document)?;
        writeln!(std::io::stderr(), "{part:?}: {:.0} s", began.elapsed().as_secs_f64())?;
    }
    Ok(())
}

fn throughput(options: &Options, setups: &[(Setup, PathBuf)], document: &mut Value) -> anyhow::Result<()> {
    let extent = whole::Extent { n_records: options.records, rounds: options.rounds };
    for name in &options.clusters {
        let Some(world) = World::start(name)? else { continue };
        // A group of the mock takes seconds to form: one lane is enough there.
        let lanes: &[usize] = if matches!(world, World::Mock(_)) { &[1] } else { &[1, 2] };
        document["throughput"][name] = whole::contests(&world, setups, lanes, extent)?.into();
    }
    Ok(())
}

/// What the figures hold for.
fn machine(load_before: &str) -> Value {
    let processor = std::fs::read_to_string(Path::new("/proc/cpuinfo")).unwrap_or_default();
    let model = processor.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    json!({
        "processor": model.map(|(_, name)| name),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "load_before": load_before,
        "load_after": clock::load(),
        "revision": strayd::app::version()["revision"],
        "blas": strayd::blas::info(),
        "date": strayd::record::rfc3339(clock::wall_ns() as i64 / 1_000_000),
    })
}

/// Runs one measurement as a child; its result is one line of JSON.
fn run_child(args: &[String]) -> anyhow::Result<()> {
    let [_, _, name, job] = args else { bail!("a child has a name and a job") };
    let result = match name.as_str() {
        "bare" => serde_json::to_value(whole::discard(&job_of(job)?)?),
        "strayd" => serde_json::to_value(whole::strayd(&job_of(job)?)?),
        "delay-bare" => serde_json::to_value(delay::discard(&job_of(job)?)?),
        "delay-strayd" => serde_json::to_value(delay::strayd(&job_of(job)?)?),
        "feed" => serde_json::to_value(feed::run(&job_of(job)?)?),
        other => bail!("no child is called {other}"),
    };
    child::say(&result?.to_string())
}

fn job_of<J: DeserializeOwned>(text: &str) -> anyhow::Result<J> {
    serde_json::from_str(text).context("the job of a child is JSON")
}
