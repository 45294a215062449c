//! The figures as Markdown: what is printed, and what stands in docs/PERFORMANCE.md between its marks.

use std::fmt::Write;
use std::path::Path;

use anyhow::Context;
use serde_json::Value;

use crate::goals::goals;

/// What the measured part of a page begins and ends with.
const MARKS: [&str; 2] = ["<!-- measured: begin -->", "<!-- measured: end -->"];

/// The stages in the order in which a record passes them.
const STAGES: [&str; 11] = [
    "decode",
    "preprocess",
    "encode",
    "select",
    "decode product",
    "residual",
    "memory",
    "tails",
    "combine",
    "threshold",
    "explain an anomaly",
];

/// Replaces the measured part of a page.
pub fn put_in(page: &Path, measured: &str) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(page).with_context(|| page.display().to_string())?;
    let [begin, end] = MARKS.map(|mark| text.find(mark).with_context(|| format!("{}: no {mark}", page.display())));
    let (begin, end) = (begin? + MARKS[0].len(), end?);
    std::fs::write(page, format!("{}\n\n{measured}\n{}", &text[..begin], &text[end..]))?;
    Ok(())
}

/// A number with as many digits as it is worth.
fn number(value: &Value) -> String {
    match value.as_f64() {
        None => "–".to_owned(),
        Some(value) if value.abs() >= 100.0 => format!("{value:.0}"),
        Some(value) if value.abs() >= 10.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.2}"),
    }
}

/// A text, or a dash where there is none.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("–")
}

/// The entries of a list; none where there is no list.
pub fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A table; nothing where there are no rows.
pub fn table(out: &mut String, title: &str, head: &[&str], rows: &[Vec<String>]) {
    if rows.is_empty() {
        return;
    }
    let line = |out: &mut String, cells: &[String]| {
        out.push_str("| ");
        out.push_str(&cells.join(" | "));
        out.push_str(" |\n");
    };
    out.push_str(title);
    out.push_str("\n\n");
    line(out, &head.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>());
    line(out, &vec!["---".to_owned(); head.len()]);
    rows.iter().for_each(|row| line(out, row));
    out.push('\n');
}

/// Everything that the document holds.
pub fn markdown(document: &Value) -> String {
    let mut out = String::new();
    let machine = &document["machine"];
    writeln!(
        out,
        "Measured {} on {}, {} cores, load average {} before and {} after; revision {}; {}.\n",
        text(&machine["date"]),
        text(&machine["processor"]),
        machine["cores"],
        text(&machine["load_before"]),
        text(&machine["load_after"]),
        text(&machine["revision"]),
        text(&machine["blas"]),
    )
    .expect("a string takes everything");
    let of_goals = goals(document).into_iter().map(|goal| {
        let met = match goal.goal.as_str() {
            "–" => "stated",
            _ if goal.is_met => "yes",
            _ => "no",
        };
        vec![goal.figure, goal.goal, goal.reached, met.to_owned()]
    });
    table(&mut out, "### Goals", &["figure", "goal", "reached", "met"], &of_goals.collect::<Vec<_>>());
    whole(&mut out, document);
    delivery(&mut out, document);
    latency(&mut out, document);
    stages(&mut out, document);
    peers(&mut out, document);
    growth(&mut out, document);
    let memory = list(&document["memory"]).map(|case| {
        let mib = case["peak_bytes"].as_f64().unwrap_or(f64::NAN) / 1024.0 / 1024.0;
        vec![
            text(&case["case"]).to_owned(),
            format!("{mib:.0} MiB"),
            case["n_records"].to_string(),
            case["anomalies"].to_string(),
        ]
    });
    let head = ["case", "highest resident memory", "records", "anomalies"];
    table(&mut out, "### Memory of the daemon", &head, &memory.collect::<Vec<_>>());
    out
}

fn whole(out: &mut String, document: &Value) {
    let runs = ["kafka", "mock"].into_iter().flat_map(|cluster| list(&document["throughput"][cluster]));
    let rows = runs.map(|run| {
        let per_second = |of: &Value| of["per_second"].as_f64().map_or("–".to_owned(), |n| format!("{:.2}", n / 1e6));
        vec![
            text(&run["cluster"]).to_owned(),
            text(&run["setup"]).to_owned(),
            text(&run["shape"]).to_owned(),
            number(&run["payload_bytes"]),
            number(&run["bare"]["cpu_ns"]),
            number(&run["strayd"]["1"]["cpu_ns"]),
            format!("{} ×", number(&run["ratio"])),
            per_second(&run["bare"]),
            per_second(&run["strayd"]["1"]),
            per_second(&run["strayd"]["2"]),
            number(&run["strayd"]["1"]["anomalies"]),
        ]
    });
    let head = [
        "cluster",
        "setup",
        "D/M/k",
        "bytes",
        "bare, CPU ns",
        "strayd, CPU ns",
        "ratio",
        "bare, M/s",
        "1 lane, M/s",
        "2 lanes, M/s",
        "anomalies",
    ];
    table(out, "### End to end, a record", &head, &rows.collect::<Vec<_>>());
}

fn delivery(out: &mut String, document: &Value) {
    let rows = list(&document["delivery"]).map(|of| {
        let millions = |of: &Value| of.as_f64().map_or("–".to_owned(), |n| format!("{:.2}", n / 1e6));
        vec![
            text(&of["cluster"]).to_owned(),
            text(&of["setup"]).to_owned(),
            text(&of["outputs"]).to_owned(),
            millions(&of["at_least_once"]),
            millions(&of["exactly_once"]),
            number(&of["ratio"]),
            number(&of["cpu_ratio"]),
        ]
    });
    let head = ["cluster", "setup", "outputs", "at least once, M/s", "exactly once, M/s", "÷", "CPU ÷"];
    table(out, "### Exactly once", &head, &rows.collect::<Vec<_>>());
}

fn latency(out: &mut String, document: &Value) {
    let (mut rows, mut beside) = (Vec::new(), Vec::new());
    for latency in list(&document["latency"]) {
        for load in list(&latency["loads"]) {
            let triple = |of: &Value| ["p50", "p99", "p999"].map(|name| number(&of[name])).join(" / ");
            let middle = |of: &Value, which: &str| {
                let of = ["p50", "p99", "p999"].map(|name| {
                    let values = list(of).filter_map(|run| run[which][name].as_f64());
                    number(&crate::clock::median(values).into())
                });
                of.join(" / ")
            };
            rows.push(vec![
                text(&latency["setup"]).to_owned(),
                format!("{} ({}/s)", text(&load["load"]), number(&load["per_second"])),
                triple(&load["added_us"]),
                middle(&load["strayd"], "verdict"),
                middle(&load["bare"], "verdict"),
                triple(&load["settled_us"]),
                number(&load["strayd"][0]["batch_rows"]),
                number(&load["strayd"][0]["cpu_ns"]),
            ]);
        }
        for load in list(&latency["beside_trainer"]) {
            beside.push(vec![
                text(&latency["setup"]).to_owned(),
                text(&load["load"]).to_owned(),
                number(&load["p99_us"]),
                number(&load["p99_us_beside_trainer"]),
                format!("{} ×", number(&load["ratio"])),
                number(&load["rounds"]),
            ]);
        }
    }
    let head = ["setup", "load", "added", "strayd", "bare", "settled", "rows a batch", "CPU ns"];
    table(out, "### Latency, µs: p50 / p99 / p99.9", &head, &rows);
    let head = ["setup", "load", "p99 alone, µs", "beside the trainer, µs", "ratio", "rounds"];
    table(out, "### Latency beside a trainer that runs round after round", &head, &beside);
}

fn stages(out: &mut String, document: &Value) {
    let all: Vec<&Value> = list(&document["stages"]).collect();
    if all.is_empty() {
        return;
    }
    let mut rows: Vec<Vec<String>> = STAGES
        .into_iter()
        .map(|name| std::iter::once(name.to_owned()).chain(all.iter().map(|of| number(&of["stages"][name]))).collect())
        .collect();
    for n_rows in ["1", "8", "32", "64", "256", "1024"] {
        let name = format!("**scoring, batch {n_rows}**");
        rows.push(std::iter::once(name).chain(all.iter().map(|of| number(&of["score_by_batch"][n_rows]))).collect());
    }
    let lane = "**whole lane without Kafka**".to_owned();
    rows.push(std::iter::once(lane).chain(all.iter().map(|of| number(&of["lane"]["ns"]))).collect());
    let title = |of: &&Value| format!("{} ({})", text(&of["setup"]), text(&of["shape"]));
    let head: Vec<String> = std::iter::once("stage".to_owned()).chain(all.iter().map(title)).collect();
    let head: Vec<&str> = head.iter().map(String::as_str).collect();
    table(out, "### Stages, processor time of one thread, ns a record (an anomaly's: ns an anomaly)", &head, &rows);

    let peak = &document["peak"];
    let rows = all.iter().filter(|of| text(&of["setup"]).ends_with("f32")).flat_map(|of| {
        let products = of["products"].as_object().into_iter().flatten();
        products.map(|(n_rows, found)| {
            let figures = ["gflops", "bare_gflops", "of_bare", "of_avx2_peak", "of_highest_peak"];
            let figures = figures.into_iter().map(|name| number(&found[name]));
            [text(&of["shape"]).to_owned(), n_rows.clone()].into_iter().chain(figures).collect()
        })
    });
    let title = format!(
        "### The products of scoring; the peak of one thread is {} GFLOP/s with AVX2, {} with AVX-512",
        number(&peak["avx2"]),
        number(&peak["avx512"])
    );
    let head = ["D/M/k", "batch", "GFLOP/s", "bare sgemm", "of bare", "of the AVX2 peak", "of the highest peak"];
    table(out, &title, &head, &rows.collect::<Vec<_>>());
}

fn peers(out: &mut String, document: &Value) {
    let mut rows = Vec::new();
    for compared in list(&document["peers"]) {
        for (batch, found) in compared["batches"].as_object().into_iter().flatten() {
            for (name, peer) in found["peers"].as_object().into_iter().flatten() {
                rows.push(vec![
                    text(&compared["shape"]).to_owned(),
                    batch.clone(),
                    format!("{name} {}", text(&compared["found"][name]["version"])),
                    number(&peer["ns"]),
                    number(&found["strayd_ns"]),
                    format!("{} ×", number(&peer["times_strayd"])),
                ]);
            }
        }
    }
    let head = ["D/M/k", "batch", "peer", "its ns a record", "strayd's", "÷"];
    table(out, "### Peers: the same weights, one thread, the autoencoder alone", &head, &rows);
}

fn growth(out: &mut String, document: &Value) {
    let rows = list(&document["growth"]).map(|of| {
        let figures =
            ["memory_rows", "score_ns", "lane_raw_ns", "lane_json_ns"].into_iter().map(|name| number(&of[name]));
        std::iter::once(text(&of["shape"]).to_owned()).chain(figures).collect()
    });
    let head = ["D/M/k", "remembered rows", "scoring, ns", "lane without Kafka, raw, ns", "JSON, ns"];
    table(out, "### How cost grows, a record at batch 256", &head, &rows.collect::<Vec<_>>());
}
