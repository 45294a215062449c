//! The records themselves: are there any, are they new, can they be read, do they fit the model, do their clocks agree.

use std::collections::BTreeMap;

use super::sample::{Sample, span};
use super::sheet::Sheet;
use crate::app;
use crate::config::Config;
use crate::decode::{self, Decoder, Field, Reject};
use crate::model::{Model, features};
use crate::pipeline::decoding::decoder;
use crate::preprocess::{Schema, WishedKind};
use crate::score::OBSERVED_MIN;

/// A topic whose newest record is older is a quiet one, milliseconds: as StraydNoRecords.
const QUIET_MS: i64 = 30 * 60_000;
/// A timestamp may be so far ahead of this machine's clock, milliseconds.
const AHEAD_MS_MAX: i64 = 60_000;
/// Share of the records that can't be read from which on it is the format, and from which on it is worth a word: as
/// StraydRejects.
const REJECTED_SHARES: (f64, f64) = (0.5, 0.01);
/// The same for records that hold too little: as StraydSkips.
const INSUFFICIENT_SHARES: (f64, f64) = (0.5, 0.05);

/// Whether there are records, and new ones.
pub fn records(sample: &Sample, sheet: &mut Sheet) {
    let (n, n_partitions) = (sample.n_kept(), sample.extents.len());
    let Some(age_ms) = sample.age_ms() else {
        let cure =
            "a producer must write to input.topic; is it the right topic, and has retention removed what there was?";
        return sheet.fail("records", format!("{n_partitions} partitions, and no record in any of them"), cure);
    };
    let seen = format!("{n} records in {n_partitions} partitions, the newest {} old", span(age_ms.max(0)));
    if age_ms > QUIET_MS {
        sheet.warn("records", seen, "nothing new is there to be scored: look at whatever writes to the topic");
    } else {
        sheet.pass("records", seen);
    }
}

/// Whether the clocks of the records and of this machine agree.
pub fn clock(sample: &Sample, sheet: &mut Sheet) {
    let Some(age_ms) = sample.age_ms() else { return sheet.skip("clock", "there is no record") };
    if age_ms >= -AHEAD_MS_MAX {
        return sheet.pass("clock", "no record is from the future");
    }
    let n = sample.records.iter().filter(|record| record.time_ms - crate::telemetry::now_ms() > AHEAD_MS_MAX).count();
    let seen = format!("{n} of {} records are from the future, the newest by {}", sample.records.len(), span(age_ms));
    sheet.fail(
        "clock",
        seen,
        "set the clocks of the producers, or of this machine (NTP): event time decides rules, incidents and limits; \
         decode.time_field takes it from the record itself",
    );
}

/// What was met in the sample.
#[derive(Default)]
struct Met {
    n: usize,
    /// By reason: how many, and what was said of the first.
    rejected: BTreeMap<&'static str, (usize, String)>,
    n_insufficient: usize,
    n_unknown: u64,
    /// Rows that lack each feature.
    lacking: Vec<usize>,
}

impl Met {
    fn n_rejected(&self, is_length: bool) -> usize {
        let of = |reason: &str| (reason == LENGTH) == is_length;
        self.rejected.iter().filter(|(reason, _)| of(reason)).map(|(_, (n, _))| n).sum()
    }
}

/// The reason that is about dimension.
const LENGTH: &str = "wrong_length";

/// Whether the records can be read, and whether they are vectors of the model's features.
pub fn contents(config: &Config, model: Option<&Model>, sample: &Sample, sheet: &mut Sheet) {
    let payloads: Vec<&[u8]> = sample.records.iter().filter_map(|record| record.payload.as_deref()).collect();
    if payloads.is_empty() {
        sheet.skip("format", "there is no record");
        return sheet.skip("dimension", "there is no record");
    }
    let schema = match model.map(|model| Ok((*model.schema).clone())).unwrap_or_else(|| learnt(config, &payloads)) {
        Ok(schema) => schema,
        Err(reason) => {
            sheet.fail("format", reason, hint(config, &payloads));
            return sheet.skip("dimension", "the format first");
        }
    };
    let met = read(config, &schema, &payloads);
    format(config, &payloads, &met, sheet);
    dimension(config, model, &schema, &met, sheet);
}

/// The schema that the daemon would learn.
fn learnt(config: &Config, payloads: &[&[u8]]) -> Result<Schema, String> {
    let wishes = &config.schema.features;
    let named = wishes.iter().filter(|wish| wish.kind == WishedKind::Categorical);
    let categories: Vec<Field> = named.map(|wish| Field::category(wish.name.clone(), &[])).collect();
    let mut decoder = decoder(&config.decode, &categories, &app::schemas(config));
    let sample = decode::transcribe(&mut *decoder, payloads.iter().map(|payload| payload.to_vec()).collect());
    features::resolve(wishes, &config.decode, &sample).map(|found| found.schema).map_err(|error| error.to_string())
}

fn read(config: &Config, schema: &Schema, payloads: &[&[u8]]) -> Met {
    let mut decoder: Box<dyn Decoder> = decoder(&config.decode, &features::fields(schema), &app::schemas(config));
    let mut met = Met { n: payloads.len(), lacking: vec![0; schema.n_features()], ..Met::default() };
    let mut row = vec![f32::NAN; schema.n_features()];
    for payload in payloads {
        row.fill(f32::NAN);
        match decoder.decode(payload, &mut row) {
            Ok(decoded) => {
                met.n_unknown += u64::from(decoded.n_unknown);
                row.iter().zip(&mut met.lacking).for_each(|(value, n)| *n += usize::from(value.is_nan()));
                let n_observed = row.iter().filter(|value| !value.is_nan()).count();
                met.n_insufficient += usize::from((n_observed as f64) < OBSERVED_MIN * row.len() as f64);
            }
            Err(reject) => {
                let said = match &reject {
                    Reject::NeedSchema(_) => format!("{reject}; see schema_registry.url"),
                    reject => reject.to_string(),
                };
                met.rejected.entry(reject.reason()).or_insert((0, said)).0 += 1;
            }
        }
    }
    met
}

fn format(config: &Config, payloads: &[&[u8]], met: &Met, sheet: &mut Sheet) {
    let (n, name) = (met.n_rejected(false), config.decode.format.name());
    let words: Vec<String> = met
        .rejected
        .iter()
        .filter(|(reason, _)| **reason != LENGTH)
        .map(|(reason, (n, said))| format!("{n} {reason}: {said}"))
        .collect();
    let seen = format!("{n} of {} records can't be read as {name}: {}", met.n, words.join("; "));
    let share = n as f64 / met.n as f64;
    if share >= REJECTED_SHARES.0 {
        sheet.fail("format", seen, hint(config, payloads));
    } else if share > REJECTED_SHARES.1 {
        sheet.warn("format", seen, "runbook StraydRejects; the dead letters have them whole, with the reason");
    } else {
        sheet.pass("format", format!("{} of {} newest records are read as {name}", met.n - n, met.n));
    }
}

fn dimension(config: &Config, model: Option<&Model>, schema: &Schema, met: &Met, sheet: &mut Sheet) {
    let n_features = schema.n_features();
    let wishes = &config.schema.features;
    let differs = model.filter(|_| !wishes.is_empty()).and_then(|model| features::difference(&model.schema, wishes));
    if let Some(difference) = differs {
        let cure =
            "schema.features must be those of the stored model; for others take another registry.path and kafka.group";
        return sheet.fail("dimension", difference, cure);
    }
    let n_length = met.n_rejected(true);
    if let Some((_, said)) = met.rejected.get(LENGTH) {
        let seen = format!("{n_length} of {} records have another length: {said}", met.n);
        let cure = "the records are of another dimension than the model: another topic, or a model of its own for them \
                    (registry.path, kafka.group)";
        return if n_length as f64 >= REJECTED_SHARES.0 * met.n as f64 {
            sheet.fail("dimension", seen, cure);
        } else {
            sheet.warn("dimension", seen, cure);
        };
    }
    let n_read = met.n - met.n_rejected(false);
    if n_read == 0 {
        return sheet.skip("dimension", "the format first");
    }
    let share = met.n_insufficient as f64 / n_read as f64;
    let mut gone: Vec<(usize, &str)> =
        met.lacking.iter().copied().zip(schema.names()).filter(|(n, _)| 2 * n > n_read).collect();
    gone.sort_by_key(|(n, _)| std::cmp::Reverse(*n));
    let names: Vec<String> = gone.iter().take(5).map(|(_, name)| format!("`{name}`")).collect();
    let unknown = met.n_unknown as f64 / n_read as f64;
    let seen = format!(
        "{} of {n_read} records hold fewer than half of the {n_features} features and aren't scored; mostly missing: {}; \
         {unknown:.0} fields a record are none of them",
        met.n_insufficient,
        names.join(", ")
    );
    let cure = "the records are not those that the model was trained on: another topic, fields that were renamed, or decode.field; \
                runbook StraydSkips";
    if share >= INSUFFICIENT_SHARES.0 {
        sheet.fail("dimension", seen, cure);
    } else if share > INSUFFICIENT_SHARES.1 {
        sheet.warn("dimension", seen, cure);
    } else {
        let whose = if model.is_some() { "the model's" } else { "as the sample shows them" };
        sheet.pass("dimension", format!("{n_features} features, {whose}"));
    }
}

/// What the payloads look like.
fn hint(config: &Config, payloads: &[&[u8]]) -> String {
    let n = |is: fn(&[u8]) -> bool| payloads.iter().filter(|payload| is(payload)).count();
    let looks = [
        ("JSON (decode.format = \"json\")", n(|bytes| serde_json::from_slice::<serde_json::Value>(bytes).is_ok())),
        (
            "Confluent's wire format (decode.format = \"avro\" or \"protobuf\", with a [schema_registry])",
            n(|bytes| bytes.len() > 5 && bytes[0] == 0),
        ),
        ("text with commas (decode.format = \"csv\")", n(|bytes| bytes.is_ascii() && bytes.contains(&b','))),
        (
            "MessagePack (decode.format = \"msgpack\")",
            n(|bytes| matches!(bytes.first(), Some(0x80..=0x9f | 0xdc..=0xdf))),
        ),
        ("raw f32 values (decode.format = \"packed\")", n(|bytes| !bytes.is_empty() && bytes.len().is_multiple_of(4))),
    ];
    let found = looks.into_iter().find(|(_, n)| 2 * n > payloads.len());
    let looks = found.map_or_else(String::new, |(name, _)| format!("they look like {name}; "));
    let format = config.decode.format.name();
    format!("{looks}decode.format is {format}, and decode.field names the field that holds the vector, if one does")
}
