//! Decoders that fetch the schemas they need: what lanes, trainer and commands decode by; and strayd's own output read back.
//!
//! A record whose schema can't be had at the moment ends as [`Reject::NeedSchema`], which is no verdict: it is to be
//! decoded again later. An id that the registry doesn't know is one.

use std::borrow::Cow;

use serde::de::DeserializeOwned;

use crate::decode::{self, Decoded, Decoder, Field, Format, Reject, WrittenIn, schema_of};
use crate::history::{History, Range};
use crate::schema_registry::{SchemaError, Schemas};

/// A decoder for `fields`, with the schemas of a registry where the format needs them.
pub fn decoder(config: &decode::Config, fields: &[Field], schemas: &Schemas) -> Box<dyn Decoder> {
    let decoder = decode::build(config, fields);
    if !config.format.needs_registry() {
        return decoder;
    }
    Box::new(Fetching { decoder, schemas: schemas.clone() })
}

struct Fetching {
    decoder: Box<dyn Decoder>,
    schemas: Schemas,
}

impl Fetching {
    /// Does something with the decoder, and once more with a schema that it turned out to need.
    fn with_schemas<T>(&mut self, mut act: impl FnMut(&mut dyn Decoder) -> Result<T, Reject>) -> Result<T, Reject> {
        match act(&mut *self.decoder) {
            Err(Reject::NeedSchema(id)) => match self.schemas.get(id) {
                Ok(schema) => {
                    self.decoder.learn(id, &schema);
                    act(&mut *self.decoder)
                }
                Err(SchemaError::Unknown(message)) => Err(Reject::UnknownSchema { id, message }),
                Err(SchemaError::Unreachable(_)) => Err(Reject::NeedSchema(id)),
            },
            outcome => outcome,
        }
    }
}

impl Decoder for Fetching {
    fn decode(&mut self, payload: &[u8], values: &mut [f32]) -> Result<Decoded, Reject> {
        self.with_schemas(|decoder| decoder.decode(payload, values))
    }

    fn passthrough(&self) -> Option<&[u8]> {
        self.decoder.passthrough()
    }

    fn transcribe(&mut self, payload: &[u8]) -> Result<Vec<u8>, Reject> {
        self.with_schemas(|decoder| decoder.transcribe(payload))
    }
}

/// Reads what strayd has published, whatever its format was then: a payload of the wire format names its schema.
pub struct Published {
    schemas: Schemas,
    avro: Box<dyn Decoder>,
    protobuf: Box<dyn Decoder>,
}

impl Published {
    /// A reader by the schemas of a registry.
    pub fn new(schemas: &Schemas) -> Self {
        let of = |format| decode::build(&decode::Config { format, ..decode::Config::default() }, &[]);
        Self { schemas: schemas.clone(), avro: of(Format::Avro), protobuf: of(Format::Protobuf) }
    }

    /// A record as JSON text; none where its schema isn't one to read by, as of a stranger's record.
    ///
    /// Errors: its schema can't be had at the moment.
    fn json<'p>(&mut self, payload: &'p [u8]) -> Result<Option<Cow<'p, [u8]>>, String> {
        let Some(id) = schema_of(payload) else { return Ok(Some(Cow::Borrowed(payload))) };
        let schema = match self.schemas.get(id) {
            Ok(schema) => schema,
            Err(SchemaError::Unknown(_)) => return Ok(None),
            Err(SchemaError::Unreachable(reason)) => return Err(reason),
        };
        let decoder = match schema.kind {
            WrittenIn::Avro => &mut self.avro,
            WrittenIn::Protobuf => &mut self.protobuf,
            WrittenIn::Json => return Ok(None),
        };
        let read = match decoder.transcribe(payload) {
            Err(Reject::NeedSchema(_)) => {
                decoder.learn(id, &schema);
                decoder.transcribe(payload)
            }
            read => read,
        };
        Ok(read.ok().map(Cow::Owned))
    }

    /// Hands each record of `ranges` that is a `T` to `take`.
    ///
    /// Errors: the topic can't be read, or a record's schema can't be had at the moment.
    pub fn each<T: DeserializeOwned>(
        &mut self,
        topic: &mut dyn History,
        ranges: &[Range],
        take: &mut dyn FnMut(T),
    ) -> Result<(), String> {
        let mut trouble = Ok(());
        topic.read(ranges, &mut |past| match past.payload.map_or(Ok(None), |payload| self.json(payload)) {
            Ok(json) => {
                if let Some(record) = json.and_then(|json| serde_json::from_slice(&json).ok()) {
                    take(record);
                }
            }
            Err(reason) => trouble = Err(reason),
        })?;
        trouble
    }
}
