//! What people say of anomalies, and what becomes of it.
//!
//! Their records are read back from the log by offset: false positives are ordinary rows from then on, true positives are
//! rows that every later model must find. The feedback's own log is the memory, read whole at a start. What can't be used
//! is answered with a warning that says why, and counted.

use std::collections::BTreeMap;

use ndarray::Array2;

use super::Trainer;
use crate::history::{Bound, History, Range};
use crate::journal::{Entry, Feedback, Journal, Opinion, Place};
use crate::model::{self, Model};
use crate::pipeline::decoding::Published;
use crate::record::RecordId;
use crate::schema_registry::Schemas;
use crate::telemetry::now_ms;
use crate::train::{Opinions, Rows};

/// Opinions that are kept; of more, the newest.
const OPINIONS_MAX: usize = 10_000;
/// Newest anomalies among which an id is looked for.
const ANOMALIES_MAX: i64 = 50_000;

/// What has been heard, and where more is.
pub struct Heard {
    journal: Box<dyn Journal>,
    /// The anomalies topic, where ids are looked up; none where there is no topic.
    anomalies: Option<Box<dyn History>>,
    /// The newest opinion of each record, with the record's values `[n_features]`.
    opinions: BTreeMap<RecordId, (Opinion, Vec<f32>)>,
    /// The journal's last trouble, so that it is told once.
    trouble: Option<String>,
}

/// Why an entry can't be used.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("it is no feedback: {0}")]
    Malformed(String),
    #[error("no anomaly has this id among the newest {ANOMALIES_MAX} of the anomalies topic; say its source instead")]
    UnknownId,
    #[error("the record of {0} is not one of topic `{1}`, which is watched")]
    OtherTopic(Place, String),
    #[error("the record {0} is not in the topic any more, or not yet: nothing can be learnt from it")]
    Gone(Place),
    #[error("the record {0} can't be scored: {1}")]
    Undecodable(Place, String),
    #[error("{0}")]
    Unreachable(String),
}

impl Unusable {
    /// The label of the metric.
    fn result(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::UnknownId => "unknown_id",
            Self::OtherTopic(..) | Self::Undecodable(..) => "unusable",
            Self::Gone(_) => "gone",
            Self::Unreachable(_) => "unreachable",
        }
    }
}

impl Heard {
    /// Listens to `journal`; ids are looked up in `anomalies`.
    pub fn new(journal: Box<dyn Journal>, anomalies: Option<Box<dyn History>>) -> Self {
        Self { journal, anomalies, opinions: BTreeMap::new(), trouble: None }
    }

    /// The rows that people have spoken of, `n_features` wide.
    pub(super) fn opinions(&self, n_features: usize) -> Opinions {
        let of = |wanted: Opinion| {
            let rows = self.opinions.iter().filter(|(_, (opinion, row))| *opinion == wanted && row.len() == n_features);
            let (ids, values): (Vec<RecordId>, Vec<&[f32]>) = rows.map(|(id, (_, row))| (*id, &**row)).unzip();
            let values = Array2::from_shape_vec((ids.len(), n_features), values.concat());
            Rows::new(values.expect("every row is as wide as the schema"), ids)
        };
        Opinions { ordinary: of(Opinion::FalsePositive), anomalous: of(Opinion::TruePositive) }
    }

    /// The newest place of an anomaly of this id.
    fn find(&mut self, id: &str, schemas: &Schemas) -> Result<Place, Unusable> {
        let Some(anomalies) = &mut self.anomalies else { return Err(Unusable::UnknownId) };
        let extents = anomalies.extents(Bound::Head).map_err(Unusable::Unreachable)?;
        let newest = |range: Range| Range { start: range.start.max(range.end - ANOMALIES_MAX), ..range };
        let ranges: Vec<Range> = extents.into_iter().map(newest).filter(|range| !range.is_empty()).collect();
        let mut found = None;
        let read = Published::new(schemas).each(&mut **anomalies, &ranges, &mut |named: Named| {
            if named.id == id {
                found = Some(named.source);
            }
        });
        read.map_err(Unusable::Unreachable)?;
        found.ok_or(Unusable::UnknownId)
    }
}

/// What is read of an anomaly to find its record.
#[derive(serde::Deserialize)]
struct Named {
    id: String,
    source: Place,
}

impl Trainer {
    /// What people have said so far.
    pub(super) fn opinions(&self, n_features: usize) -> Opinions {
        self.heard.as_ref().map_or_else(|| Opinions::none(n_features), |heard| heard.opinions(n_features))
    }

    /// What the lineage says of it.
    pub(super) fn feedback_used(&self) -> Vec<model::Feedback> {
        let name = |opinion: &Opinion| match opinion {
            Opinion::TruePositive => "true_positive",
            Opinion::FalsePositive => "false_positive",
            Opinion::Expected => "expected",
        };
        let said = self.heard.iter().flat_map(|heard| &heard.opinions);
        said.map(|(id, (opinion, _))| model::Feedback { record: *id, verdict: name(opinion).to_owned() }).collect()
    }

    /// Stores the opinions that were handed in at this replica, for whoever leads.
    pub(super) fn hand_on_opinions(&mut self) {
        let Some(heard) = &mut self.heard else { return };
        while let Some(opinion) = self.shared.desk.fetch_opinion() {
            if let Err(reason) = heard.journal.append(&opinion.entry(now_ms())) {
                tracing::error!(?opinion, reason, "feedback could not be stored; say it again");
            }
        }
    }

    /// Hears what is new, and answers it.
    pub(super) fn listen(&mut self, model: &Model) {
        let Some(mut heard) = self.heard.take() else { return };
        match heard.journal.poll() {
            Ok(entries) => {
                heard.trouble = None;
                for entry in entries {
                    self.take_up(&mut heard, &entry, model);
                }
            }
            Err(reason) if heard.trouble.as_ref() != Some(&reason) => {
                tracing::warn!(reason, "feedback can't be read at the moment");
                heard.trouble = Some(reason);
            }
            Err(_) => {}
        }
        while heard.opinions.len() > OPINIONS_MAX {
            heard.opinions.pop_first();
        }
        self.heard = Some(heard);
    }

    fn take_up(&mut self, heard: &mut Heard, entry: &Entry, model: &Model) {
        let outcome = self.read_back(heard, entry, model);
        let result = outcome.as_ref().map_or_else(Unusable::result, |()| "applied");
        self.shared.metrics.feedback_total.with_label_values(&[result]).inc();
        if let Err(error) = outcome {
            let said = entry.value.as_ref().map(ToString::to_string);
            tracing::warn!(key = entry.key, said, "feedback can't be used: {error}");
        }
    }

    /// Reads the record of an opinion back from the log.
    fn read_back(&mut self, heard: &mut Heard, entry: &Entry, model: &Model) -> Result<(), Unusable> {
        let Some(feedback) = Feedback::parse(entry).map_err(Unusable::Malformed)? else {
            let topics = &self.shared.topics;
            let key =
                |id: &RecordId| format!("{}/{}/{}", topics.name(id.partition.topic), id.partition.number, id.offset);
            heard.opinions.retain(|id, _| key(id) != entry.key);
            return Ok(());
        };
        let place = match (&feedback.source, &feedback.id) {
            (Some(place), _) => place.clone(),
            (None, id) => heard.find(id.as_deref().unwrap_or_default(), &self.shared.schemas)?,
        };
        let topics = &self.shared.topics;
        if !topics.matcher().is_ok_and(|is_read| is_read(&place.topic)) {
            return Err(Unusable::OtherTopic(place, topics.to_string()));
        }
        let id = place.record(topics);
        let mut decoder = self.shared.decoder(model);
        let mut row = vec![f32::NAN; model.n_features()];
        let mut decoded = None;
        let range = Range { partition: id.partition, start: id.offset, end: id.offset + 1 };
        let read = self.history.read(&[range], &mut |past| {
            if past.id == id {
                decoded = past.payload.map(|payload| decoder.decode(payload, &mut row).map(|_| ()));
            }
        });
        read.map_err(Unusable::Unreachable)?;
        match decoded {
            None => Err(Unusable::Gone(place)),
            Some(Err(reject)) => Err(Unusable::Undecodable(place, reject.to_string())),
            Some(Ok(())) => {
                let note = feedback.note.as_deref();
                tracing::info!(record = %place, verdict = ?feedback.verdict, note, "feedback taken up; the next round learns it");
                heard.opinions.insert(id, (feedback.verdict, row));
                Ok(())
            }
        }
    }
}
