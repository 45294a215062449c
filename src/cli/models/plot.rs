//! `strayd models plot`: one picture of a model, as SVG or PNG.
//!
//! Gathers what is to be seen; `picture` draws it. Without rows the map has one dot a latent: its decoder direction,
//! weighted by how often it fires. With `--data` it has one dot a row: its latents, which show groups and outliers.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use ndarray::{Array1, Array2, Axis, s};

use super::map::{Plane, principal_plane};
use super::picture::{Dot, Map, Picture, png, svg};
use super::tsne::{ITERATIONS, POINTS_MAX, tsne};
use super::{Common, Which};
use crate::cli::progress_bar;
use crate::cli::table::{Table, texts_of_schema};
use crate::model::{Model, Workspace};
use crate::threshold;

/// Latents whose names are written on the map, the most important first.
const N_NAMED: usize = 12;

/// Options of `strayd models plot`.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    which: Which,
    /// Picture to write; its ending chooses the format: .svg or .png
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// CSV file whose rows the map shows, instead of the latents' directions
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Column of that file that is no feature
    #[arg(long, requires = "data")]
    label: Option<String>,
    /// How the map is made
    #[arg(long, value_enum, default_value_t = Method::Pca)]
    map: Method,
    /// Seed of t-SNE
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    common: Common,
}

/// How a map is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Method {
    /// The two principal components: distances can be read
    Pca,
    /// t-SNE: neighbours stay together, distances mean nothing; at most 2000 points
    Tsne,
}

/// Draws one model.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let draw = match options.out.extension().and_then(|ending| ending.to_str()) {
        Some("svg") => svg,
        Some("png") => png,
        _ => bail!("--out {}: its ending must be .svg or .png", options.out.display()),
    };
    let model = options.which.load(&options.common)?.model;
    let config = options.common.config.load_for_file()?;
    let rows = options.data.as_deref().map(|path| Scored::read(&model, path, options.label.as_deref())).transpose()?;
    let rule = threshold::build(&config.threshold, &model.calibration);
    let limit = model.calibration.raw(rule.z_at_alert());
    let map = match &rows {
        Some(rows) => map_of_rows(rows, limit, options)?,
        None => map_of_latents(&model, options)?,
    };
    let picture = Picture {
        title: format!("Model {} of {}", model.version, model.lineage.source),
        subtitle: subtitle(&model),
        curves: model.lineage.curves.clone(),
        scores: model.calibration.tail.sorted().iter().map(|z| model.calibration.raw(*z)).collect(),
        row_scores: rows.map_or_else(Vec::new, |rows| rows.raw),
        threshold: limit,
        target: config.threshold.target_alert_rate(),
        map,
    };
    let bytes = draw(&picture)?;
    fs::write(&options.out, &bytes).with_context(|| options.out.display().to_string())?;
    let mut out = std::io::stdout().lock();
    if options.common.json {
        writeln!(out, "{}", serde_json::json!({"out": options.out, "version": model.version, "bytes": bytes.len()}))?;
    } else {
        writeln!(out, "model {} drawn in {}", model.version, options.out.display())?;
    }
    Ok(())
}

fn subtitle(model: &Model) -> String {
    let shape = model.autoencoder.shape();
    let explained = model.lineage.report["explained_variance"].as_f64();
    let explained =
        explained.map_or_else(String::new, |share| format!(" · {:.1} % of variance explained", 100.0 * share));
    format!(
        "trained {} on {} rows · {} inputs, {} latents{explained} · {}",
        model.trained_at(),
        model.lineage.n_rows_train,
        shape.n_inputs,
        shape.n_latents,
        model.short_hash()
    )
}

/// Rows of a file and what the model makes of them.
struct Scored {
    latents: Array2<f32>,
    raw: Vec<f64>,
    labels: Vec<bool>,
}

impl Scored {
    /// Scores at most [`POINTS_MAX`] rows of a file, evenly spread, that are sufficiently observed.
    fn read(model: &Model, path: &Path, label: Option<&str>) -> anyhow::Result<Self> {
        let table = Table::read(path, label, &texts_of_schema(&model.schema))?;
        table.check(model)?;
        let stride = table.rows.len().div_ceil(POINTS_MAX).max(1);
        let chosen: Vec<usize> = (0..table.rows.len()).step_by(stride).collect();
        let values = table.values(&model.schema)?.select(Axis(0), &chosen);
        let mut workspace = Workspace::new();
        model.score(values.view(), &mut workspace);
        let scored: Vec<usize> = (0..chosen.len()).filter(|&i| !workspace.raw()[i].is_nan()).collect();
        if scored.is_empty() {
            bail!("{}: no row has enough observed values to be scored", path.display());
        }
        Ok(Self {
            latents: workspace.latents().select(Axis(0), &scored),
            raw: scored.iter().map(|&i| workspace.raw()[i]).collect(),
            labels: scored.iter().map(|&i| table.labels.get(chosen[i]).copied().unwrap_or(false)).collect(),
        })
    }
}

/// One dot a row, by its latents.
fn map_of_rows(rows: &Scored, limit: f64, options: &Options) -> anyhow::Result<Map> {
    let n_rows = rows.raw.len();
    let (places, axes, caveat) = arrange(&rows.latents, &Array1::ones(n_rows), options)?;
    let log = |raw: f64| (raw + 1e-12).ln();
    let low = rows.raw.iter().copied().fold(f64::INFINITY, f64::min);
    let dot = |(i, at): (usize, [f32; 2])| Dot {
        at,
        size: 0.25,
        heat: ((log(rows.raw[i]) - log(low)) / (log(limit) - log(low)).max(1e-9)).clamp(0.0, 1.0) as f32,
        stands_out: rows.raw[i] >= limit,
        ringed: rows.labels[i],
        text: None,
    };
    let ringed = if rows.labels.contains(&true) { ", labelled ringed" } else { "" };
    Ok(Map {
        title: format!("Rows by their latents ({n_rows} rows)"),
        key: format!("darker: higher score, orange: above the threshold{ringed}"),
        axes,
        caveat,
        dots: places.into_iter().enumerate().map(dot).collect(),
    })
}

/// One dot a latent, by its decoder direction; latents that never fire don't shape the map.
fn map_of_latents(model: &Model, options: &Options) -> anyhow::Result<Map> {
    let order = model.cards.by_importance();
    let shown = &order[..order.len().min(POINTS_MAX)];
    let card = |i: usize| &model.cards.latents[i];
    let most = shown.iter().map(|&i| card(i).importance).fold(1e-12, f64::max);
    let directions = model.autoencoder.w_dec.select(Axis(0), shown);
    let weights: Array1<f32> = shown.iter().map(|&i| card(i).frequency).collect();
    let (places, axes, caveat) = arrange(&directions, &weights, options)?;
    let dot = |(rank, at): (usize, [f32; 2])| {
        let card = card(shown[rank]);
        Dot {
            at,
            size: card.frequency.sqrt(),
            heat: (card.importance.max(0.0) / most).sqrt() as f32,
            stands_out: card.label.is_some(),
            ringed: false,
            text: (rank < N_NAMED || card.label.is_some()).then(|| format!("{} {}", card.id, card.title())),
        }
    };
    Ok(Map {
        title: format!("Latents by their decoder directions ({} latents)", shown.len()),
        key: "larger: fires more often, darker: more important, orange: labelled".into(),
        axes,
        caveat,
        dots: places.into_iter().enumerate().map(dot).collect(),
    })
}

type Arranged = (Vec<[f32; 2]>, [String; 2], Option<&'static str>);

/// Places in a plane, what its axes are, and what must not be read from it.
fn arrange(rows: &Array2<f32>, weights: &Array1<f32>, options: &Options) -> anyhow::Result<Arranged> {
    let Plane { points, explained } = principal_plane(rows.view(), weights.view())?;
    if options.map == Method::Pca {
        let axis = |name: &str, share: f64| format!("{name} principal component ({:.0} % of variance)", 100.0 * share);
        return Ok((points, [axis("first", explained[0]), axis("second", explained[1])], None));
    }
    let bar = progress_bar(ITERATIONS, "t-SNE");
    let places = tsne(rows.slice(s![.., ..]), &points, options.seed, &mut || bar.inc(1));
    bar.finish_and_clear();
    let axes = ["t-SNE, no unit".to_owned(), "t-SNE, no unit".to_owned()];
    Ok((places, axes, Some("t-SNE keeps neighbours together; distances between clusters mean nothing")))
}
