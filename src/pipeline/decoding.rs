//! Decoders that fetch the schemas they need: what lanes, trainer and commands decode by.
//!
//! A record whose schema can't be had at the moment ends as [`Reject::NeedSchema`], which is no verdict: it is to be
//! decoded again later. An id that the registry doesn't know is one.

use crate::decode::{self, Decoded, Decoder, Field, Reject};
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
