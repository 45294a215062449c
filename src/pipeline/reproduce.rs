//! Trains a stored model again from its lineage, and says whether it came out the same, or what is missing.
//!
//! DESIGN idea 2: the log is the memory, so a lineage needs no rows, only where they stand and their checksums. On the
//! same machine the model must come out bit for bit. It reads registry and history, and changes neither.

use std::fmt;
use std::sync::Arc;

use ndarray::Axis;
use thiserror::Error;

use super::decoding;
use super::trainer::sample::{Sample, read_rows};
use crate::decode::Decoder;
use crate::history::{Bound, History, Range};
use crate::model::{Chunk, Lineage, Model, features};
use crate::record::RecordId;
use crate::registry::{Registry, RegistryError};
use crate::schema_registry::Schemas;
use crate::train::{self, Admission, Fitted, OnProgress, Opinions, Round, Rows, Selection, Start, TrainError};
use crate::{blas, decode};

/// A model that was trained again.
#[derive(Clone, Debug)]
pub struct Reproduced {
    /// The new model, with version, time and lineage of the stored one.
    pub model: Model,
    /// Hash of the stored one.
    pub stored_hash: String,
    /// What is not as it was at the first training and may explain another hash.
    pub differences: Vec<String>,
}

impl Reproduced {
    /// Whether it came out the same, bit for bit.
    pub fn is_same(&self) -> bool {
        self.model.hash == self.stored_hash
    }
}

/// Something that the training used and that is not there any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The model was not trained on a topic's records, or by a strayd that kept too little of how.
    Recipe,
    /// Another topic is configured.
    Source {
        /// The topic of the lineage.
        lineage: String,
        /// The topic that is read.
        configured: String,
    },
    /// Offsets that retention has removed, or that were never in this topic.
    Offsets {
        /// What is not there.
        range: Range,
        /// What is there of this partition, if it is there at all.
        kept: Option<Range>,
    },
    /// Records that are not those the model was trained on.
    Changed {
        /// The stretch as it was.
        was: Chunk,
        /// The stretch as it is.
        is: Chunk,
    },
    /// A model that the round started from.
    Version {
        /// Its version.
        version: u64,
        /// What the round took from it.
        role: &'static str,
    },
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Recipe => write!(f, "its lineage does not say how: it was not trained by this strayd on a topic"),
            Self::Source { lineage, configured } => {
                write!(f, "it was trained on `{lineage}`, and input.topic is `{configured}`")
            }
            Self::Offsets { range: Range { partition, start, end }, kept } => {
                write!(f, "partition {partition}, offsets {start} to {}: ", end - 1)?;
                match kept {
                    None => write!(f, "there is no such partition"),
                    Some(kept) if *start < kept.start => {
                        write!(f, "removed by retention, the partition begins at {}", kept.start)
                    }
                    Some(kept) => write!(f, "not there, the partition ends at {}", kept.end),
                }
            }
            Self::Changed { was, is } => write!(
                f,
                "partition {}, offsets {} to {}: other records than it was trained on, {} with sha256 {} where the \
                 lineage says {} with {}",
                was.partition,
                was.start,
                was.end - 1,
                is.n_records,
                is.sha256,
                was.n_records,
                was.sha256
            ),
            Self::Version { version, role } => {
                write!(f, "model version {version}, {role}: it is not kept (registry.keep)")
            }
        }
    }
}

/// Why a model can't be trained again.
#[derive(Debug, Error)]
pub enum ReproduceError {
    /// Something is gone; all of it is listed.
    #[error("version {version} can't be trained again; missing:{}", lines(missing))]
    Missing {
        /// The version.
        version: u64,
        /// What is gone.
        missing: Vec<Missing>,
    },
    /// The history can't be read at the moment.
    #[error("the history can't be read: {0}")]
    History(String),
    /// The registry can't be read.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The training fails now.
    #[error("the training failed: {0}")]
    Training(#[from] TrainError),
}

fn lines(missing: &[Missing]) -> String {
    missing.iter().map(|one| format!("\n  {one}")).collect()
}

/// How a model was trained, as its lineage says.
struct Recipe {
    decode: decode::Config,
    config: train::Config,
    admission: Admission,
    start: Start,
}

impl Recipe {
    fn of(lineage: &Lineage) -> Option<Self> {
        if lineage.chunks.is_empty() {
            return None;
        }
        let admission = match &lineage.admission {
            serde_json::Value::Null => Admission::default(),
            state => serde_json::from_value(state.clone()).ok()?,
        };
        Some(Self {
            decode: serde_json::from_value(lineage.decode.clone()).ok()?,
            config: serde_json::from_value(lineage.config.clone()).ok()?,
            admission,
            start: serde_json::from_value(lineage.start.clone()).unwrap_or_default(),
        })
    }
}

/// Trains version `version` of `registry` again from `history`.
///
/// Errors: what is missing, all of it, or why the world or the training fails.
pub fn reproduce(
    version: u64,
    registry: &dyn Registry,
    history: &mut dyn History,
    schemas: &Schemas,
    progress: OnProgress<'_>,
) -> Result<Reproduced, ReproduceError> {
    let stored = registry.load(version)?;
    let lineage = &stored.lineage;
    let Some(recipe) = Recipe::of(lineage) else {
        return Err(ReproduceError::Missing { version, missing: vec![Missing::Recipe] });
    };
    let mut missing = offsets_missing(lineage, history)?;
    let mut ancestor = |version: Option<u64>, role| match version.map(|version| registry.load(version)) {
        None => Ok(None),
        Some(Err(RegistryError::Unknown { version, .. })) => {
            missing.push(Missing::Version { version, role });
            Ok(None)
        }
        Some(loaded) => loaded.map(Some),
    };
    let parent = ancestor(lineage.parent, "whose weights the round started from")?;
    let champion = match lineage.champion {
        same if same == lineage.parent => parent.clone(),
        other => ancestor(other, "which admitted the rows")?,
    };
    if !missing.is_empty() {
        return Err(ReproduceError::Missing { version, missing });
    }
    let decoder = || decoding::decoder(&recipe.decode, &features::fields(&stored.schema), schemas);
    let ranges: Vec<Range> =
        lineage.chunks.iter().map(|&Chunk { partition, start, end, .. }| Range { partition, start, end }).collect();
    let sample = read_rows(history, decoder(), &stored.schema, &ranges).map_err(ReproduceError::History)?;
    let changed = lineage.chunks.iter().zip(&sample.chunks).filter(|(was, is)| was != is);
    let missing: Vec<Missing> =
        changed.map(|(was, is)| Missing::Changed { was: was.clone(), is: is.clone() }).collect();
    if !missing.is_empty() {
        return Err(ReproduceError::Missing { version, missing });
    }
    let opinions = opinions(&stored, &decoder, history)?;
    let again = Again { stored: &stored, sample: &sample, ancestors: parent.zip(champion), opinions };
    let mut fitted = train_again(again, recipe, progress)?;
    fitted.lineage = lineage.clone();
    let model = fitted.into_model(version, stored.trained_at_ms);
    Ok(Reproduced { model, stored_hash: stored.hash.clone(), differences: differences(lineage) })
}

/// What a model is trained again from.
struct Again<'a> {
    stored: &'a Model,
    sample: &'a Sample,
    /// Who gave weights and admission; none for a first model.
    ancestors: Option<(Model, Model)>,
    opinions: Opinions,
}

/// The same training with the same rows: a first model, or a round.
fn train_again(again: Again<'_>, recipe: Recipe, progress: OnProgress<'_>) -> Result<Fitted, TrainError> {
    let Again { stored, sample, ancestors, opinions } = again;
    let Recipe { config, mut admission, start, .. } = recipe;
    let lineage = &stored.lineage;
    let Some((mut parent, champion)) = ancestors else {
        let mut fitted = train::fit(Arc::clone(&stored.schema), &sample.rows, &config, lineage.seed, progress)?;
        fitted.cards.number_from(lineage.next_latent);
        return Ok(fitted);
    };
    // What the counter of latents stood at is the registry's matter, not the parent's file's.
    parent.cards.next_id = lineage.next_latent;
    if lineage.reason == train::REFRESHED {
        let rows = opinions.joined(&sample.rows.newest(config.rows_max));
        let selection = Selection::new(&champion, &rows, &opinions, &mut admission, &config);
        return Ok(train::refresh(&parent, &rows, &selection, &config));
    }
    let (rows, seed) = (&sample.rows, lineage.seed);
    let round = Round { champion: &champion, challenger: Some(&parent), rows, start, opinions: Some(&opinions), seed };
    train::refit(round, &mut admission, &config, progress)
}

/// The rows that people had spoken of, read back from the log.
fn opinions(
    stored: &Model,
    decoder: &dyn Fn() -> Box<dyn Decoder>,
    history: &mut dyn History,
) -> Result<Opinions, ReproduceError> {
    let mut of = |verdict: &str| {
        let said = stored.lineage.feedback.iter().filter(|feedback| feedback.verdict == verdict);
        let at = |record: RecordId| Range { partition: record.partition, start: record.offset, end: record.offset + 1 };
        let ranges: Vec<Range> = said.map(|feedback| at(feedback.record)).collect();
        let sample = read_rows(history, decoder(), &stored.schema, &ranges).map_err(ReproduceError::History)?;
        // In the order of their places, as they were kept.
        let mut order: Vec<usize> = (0..sample.rows.len()).collect();
        order.sort_by_key(|&i| sample.rows.ids[i]);
        let ids = order.iter().map(|&i| sample.rows.ids[i]).collect();
        Ok::<Rows, ReproduceError>(Rows::new(sample.rows.values.select(Axis(0), &order), ids))
    };
    Ok(Opinions { ordinary: of("false_positive")?, anomalous: of("true_positive")? })
}

/// Which of a lineage's offsets are not in the history.
fn offsets_missing(lineage: &Lineage, history: &mut dyn History) -> Result<Vec<Missing>, ReproduceError> {
    let configured = history.name();
    if configured != lineage.source {
        return Ok(vec![Missing::Source { lineage: lineage.source.clone(), configured }]);
    }
    let extents = history.extents(Bound::Head).map_err(ReproduceError::History)?;
    let mut missing = Vec::new();
    for &Chunk { partition, start, end, .. } in &lineage.chunks {
        let kept = extents.iter().find(|extent| extent.partition == partition).copied();
        let (first, last) = kept.map_or((end, end), |kept| (kept.start, kept.end));
        let gone = [(start, end.min(first)), (start.max(last), end)];
        for (start, end) in gone.into_iter().filter(|(start, end)| start < end) {
            missing.push(Missing::Offsets { range: Range { partition, start, end }, kept });
        }
    }
    Ok(missing)
}

/// What computes otherwise than at the first training.
fn differences(lineage: &Lineage) -> Vec<String> {
    let pairs = [("BLAS", &lineage.blas, blas::info()), ("strayd", &lineage.code, code())];
    let differ = pairs.into_iter().filter(|(_, was, is)| *was != is);
    differ.map(|(what, was, is)| format!("{what} was {was}, here it is {is}")).collect()
}

/// Version and revision of this strayd.
pub fn code() -> String {
    format!("{} ({})", env!("CARGO_PKG_VERSION"), env!("STRAYD_REVISION"))
}
