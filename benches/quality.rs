//! Measures how well anomalies are ranked on labelled streams, and the baselines beside it: `make quality`.
//!
//! Reads every `*.csv` and `*.csv.gz` of `STRAYD_DATA_DIR`, or of `../shared/data`; without any it says SKIPPED. Each
//! stream runs through the pipeline of `run` under both protocols (docs/QUALITY.md); a figure is the median over the
//! seeds, and a mean is that of these medians. It acts on the word `run` alone, so that a plain `cargo bench` stays
//! short. Nothing here knows a stream's name.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, ensure};
use clap::Parser;
use serde_json::{Value, json};

use strayd::cli::evaluate::{Detector, Protocol, Split, Task, evaluate, read_table};
use strayd::cli::{ConfigOptions, Table};
use strayd::config::Config;
use strayd::sae::Kind;

/// What ranks the rows, in the order of the columns.
const METHODS: [(&str, Detector); 5] = [
    ("strayd", Detector::Configured),
    ("alone", Detector::Alone),
    ("dense", Detector::Baseline(Kind::Dense)),
    ("pca", Detector::Baseline(Kind::Pca)),
    ("ecod", Detector::Ecod),
];
const PROTOCOLS: [(&str, Protocol); 2] = [("normal", Protocol::Normal), ("prefix", Protocol::Prefix)];

#[derive(Debug, Parser)]
#[command(name = "quality", about = "Measures detection quality on labelled streams")]
struct Options {
    /// Without it nothing is done
    #[arg(value_parser = ["run"])]
    run: String,
    /// Seeds of the configured model, 0 to N−1
    #[arg(long, default_value_t = 3)]
    seeds: u64,
    /// Seeds of the baselines that are trained; 0 leaves all baselines out
    #[arg(long, default_value_t = 1)]
    baseline_seeds: u64,
    /// Only files whose name contains one of these
    #[arg(long, value_delimiter = ',')]
    sets: Vec<String>,
    /// Column of the labels
    #[arg(long, default_value = "label")]
    label: String,
    /// Streams that are replayed at a time
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Where the figures are written
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/target/quality.json"))]
    json: PathBuf,
    #[command(flatten)]
    config: ConfigOptions,
    /// What cargo says to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

/// A labelled stream.
struct Set {
    name: String,
    table: Table,
}

/// One replay to be done.
#[derive(Clone, Copy, Debug)]
struct Job {
    set: usize,
    protocol: usize,
    method: usize,
    seed: u64,
}

/// What one replay gave.
#[derive(Clone, Copy, Debug)]
struct Figures {
    seed: u64,
    auc_roc: f64,
    auc_pr: f64,
    seconds: f64,
}

/// All replays of one method on one stream under one protocol: (protocol, method, set).
type Results = BTreeMap<(usize, usize, usize), Vec<Figures>>;

fn main() -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    // Not parsed before that: what is said to all benches is the others' business.
    if !std::env::args().any(|arg| arg == "run") {
        writeln!(out, "quality: nothing measured; `make quality` does it, or `cargo bench --bench quality -- run`")?;
        return Ok(());
    }
    let options = Options::parse();
    strayd::blas::init();
    let sets = match data_dir() {
        Some(dir) => read_sets(&dir, &options, &options.config.load_for_file()?)?,
        None => Vec::new(),
    };
    if sets.is_empty() {
        writeln!(out, "SKIPPED quality: no labelled streams; name their folder in STRAYD_DATA_DIR")?;
        return Ok(());
    }
    let configs = (0..options.seeds.max(options.baseline_seeds)).map(|seed| {
        let config = options.config.clone().with("training.seed", &seed.to_string());
        Ok(config.load_for_file()?)
    });
    let configs = configs.collect::<anyhow::Result<Vec<Config>>>()?;
    let began = Instant::now();
    let results = measure(&sets, &jobs(&sets, &options), &configs, options.threads)?;
    let seconds = began.elapsed().as_secs_f64();
    for protocol in 0..PROTOCOLS.len() {
        print_table(&mut out, protocol, &sets, &results)?;
    }
    writeln!(out, "\n{seconds:.0} s in all, {} threads; figures in {}", options.threads, options.json.display())?;
    let document = json!({
        "revision": strayd::app::version()["revision"],
        "seeds": options.seeds,
        "baseline_seeds": options.baseline_seeds,
        "seconds": seconds,
        "seconds_by_method": seconds_by_method(&results),
        "model": configs.first().map(|config| &config.model),
        "protocols": PROTOCOLS.iter().enumerate().map(|(i, (name, _))| (*name, protocol_json(i, &sets, &results)))
            .collect::<BTreeMap<&str, Value>>(),
    });
    if let Some(folder) = options.json.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(&options.json, serde_json::to_string_pretty(&document)? + "\n")
        .with_context(|| options.json.display().to_string())
}

fn data_dir() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let configured = std::env::var_os("STRAYD_DATA_DIR").map(PathBuf::from);
    configured.or(Some(beside)).filter(|dir| dir.is_dir())
}

fn read_sets(dir: &Path, options: &Options, config: &Config) -> anyhow::Result<Vec<Set>> {
    let mut sets = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let Some(name) = file.strip_suffix(".gz").unwrap_or(&file).strip_suffix(".csv") else { continue };
        if options.sets.is_empty() || options.sets.iter().any(|part| name.contains(part.as_str())) {
            let table = read_table(&path, Some(&options.label), config)?;
            sets.push(Set { name: name.to_owned(), table });
        }
    }
    sets.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(sets)
}

/// Every replay, the longest first, so that no thread is left with a long one at the end.
fn jobs(sets: &[Set], options: &Options) -> Vec<Job> {
    let mut jobs = Vec::new();
    for (method, (_, detector)) in METHODS.iter().enumerate() {
        let seeds = match detector {
            Detector::Configured => options.seeds,
            Detector::Baseline(Kind::Pca) | Detector::Ecod => options.baseline_seeds.min(1),
            Detector::Alone | Detector::Baseline(_) => options.baseline_seeds,
        };
        for seed in 0..seeds {
            for protocol in 0..PROTOCOLS.len() {
                jobs.extend((0..sets.len()).map(|set| Job { set, protocol, method, seed }));
            }
        }
    }
    let work = |job: &Job| sets[job.set].table.rows.len() * sets[job.set].table.names.len();
    jobs.sort_by_key(|job| std::cmp::Reverse(work(job)));
    jobs
}

fn measure(sets: &[Set], jobs: &[Job], configs: &[Config], n_threads: usize) -> anyhow::Result<Results> {
    let (next, results) = (AtomicUsize::new(0), Mutex::new(Results::new()));
    let is_terminal = std::io::stderr().is_terminal();
    let work = || -> anyhow::Result<()> {
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some(&job) = jobs.get(i) else { return Ok(()) };
            let figures = replay(&sets[job.set], job, &configs[job.seed as usize])
                .with_context(|| format!("{}, {}, {}", sets[job.set].name, METHODS[job.method].0, job.seed))?;
            let mut results = results.lock().expect("no thread panics while it holds the lock");
            results.entry((job.protocol, job.method, job.set)).or_default().push(figures);
            if is_terminal {
                write!(std::io::stderr(), "\r{} of {} replays", i + 1, jobs.len())?;
            }
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..n_threads.max(1)).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("a replay doesn't panic"))
    })?;
    if is_terminal {
        writeln!(std::io::stderr())?;
    }
    Ok(results.into_inner().expect("no thread panicked"))
}

fn replay(set: &Set, job: Job, config: &Config) -> anyhow::Result<Figures> {
    let split = Split::new(&set.table, PROTOCOLS[job.protocol].1, None)?;
    let task = Task { config, table: &set.table, split: &split, detector: METHODS[job.method].1 };
    let outcome = evaluate(task, &mut |_, _| Ok(()))?;
    ensure!(outcome.scores.len() == split.rows.len(), "{} rows have no score", split.rows.len() - outcome.scores.len());
    let (auc_roc, auc_pr) = outcome.areas(&set.table, &split).context("labels of both kinds are needed")?;
    let seconds = (outcome.scoring + outcome.training).as_secs_f64();
    Ok(Figures { seed: job.seed, auc_roc, auc_pr, seconds })
}

/// Middle of the values; the mean of the two middle ones of an even number.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    f64::midpoint(sorted[(n - 1) / 2], sorted[n / 2])
}

/// Medians of one method on one stream, AUC-ROC and AUC-PR.
fn medians(results: &Results, key: (usize, usize, usize)) -> Option<(f64, f64)> {
    let runs = results.get(&key)?;
    Some((median(runs.iter().map(|run| run.auc_roc)), median(runs.iter().map(|run| run.auc_pr))))
}

/// Means of the medians over the streams.
fn means(results: &Results, protocol: usize, method: usize, n_sets: usize) -> Option<(f64, f64)> {
    let of_sets = (0..n_sets).map(|set| medians(results, (protocol, method, set))).collect::<Option<Vec<_>>>()?;
    let mean = |of: fn(&(f64, f64)) -> f64| of_sets.iter().map(of).sum::<f64>() / n_sets as f64;
    Some((mean(|pair| pair.0), mean(|pair| pair.1)))
}

fn print_table(out: &mut impl Write, protocol: usize, sets: &[Set], results: &Results) -> std::io::Result<()> {
    let methods: Vec<usize> = (0..METHODS.len()).filter(|&m| results.contains_key(&(protocol, m, 0))).collect();
    writeln!(out, "\n{}: AUC-ROC / AUC-PR", PROTOCOLS[protocol].0)?;
    write!(out, "{:24}", "")?;
    methods.iter().try_for_each(|&m| write!(out, "{:>16}", METHODS[m].0))?;
    writeln!(out)?;
    for row in 0..=sets.len() {
        let name = sets.get(row).map_or("mean", |set| &*set.name);
        write!(out, "{name:24}")?;
        for &method in &methods {
            let pair = if row < sets.len() {
                medians(results, (protocol, method, row))
            } else {
                means(results, protocol, method, sets.len())
            };
            let text = pair.map_or_else(|| "-".to_owned(), |(roc, pr)| format!("{roc:.3} / {pr:.3}"));
            write!(out, "{text:>16}")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn protocol_json(protocol: usize, sets: &[Set], results: &Results) -> Value {
    let of_pair = |pair: (f64, f64)| json!({ "auc_roc": pair.0, "auc_pr": pair.1 });
    let per_method = |of: &dyn Fn(usize) -> Option<Value>| -> BTreeMap<&str, Value> {
        METHODS.iter().enumerate().filter_map(|(method, (name, _))| Some((*name, of(method)?))).collect()
    };
    let of_set = |set: usize| {
        let Set { name, table } = &sets[set];
        let methods = per_method(&|method| {
            let key = (protocol, method, set);
            let mut value = of_pair(medians(results, key)?);
            let mut runs = results[&key].clone();
            runs.sort_by_key(|run| run.seed);
            value["seeds"] = runs
                .iter()
                .map(|run| {
                    json!({ "seed": run.seed, "auc_roc": run.auc_roc, "auc_pr": run.auc_pr, "seconds": run.seconds })
                })
                .collect();
            Some(value)
        });
        let n_anomalies = table.labels.iter().filter(|label| **label).count();
        json!({ "set": name, "rows": table.rows.len(), "features": table.names.len(), "anomalies": n_anomalies,
                "methods": methods })
    };
    let mean = per_method(&|method| means(results, protocol, method, sets.len()).map(of_pair));
    json!({ "sets": (0..sets.len()).map(of_set).collect::<Vec<_>>(), "mean": mean })
}

/// Seconds of all replays of each method, on one thread.
fn seconds_by_method(results: &Results) -> BTreeMap<&'static str, f64> {
    let mut seconds = BTreeMap::new();
    for ((_, method, _), runs) in results {
        *seconds.entry(METHODS[*method].0).or_insert(0.0) += runs.iter().map(|run| run.seconds).sum::<f64>();
    }
    seconds
}
