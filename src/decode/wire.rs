//! The Confluent wire format: a zero byte, the id of the writer's schema, four bytes big-endian, then the record.
//!
//! <https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/index.html#wire-format>

use std::collections::HashMap;

use super::Reject;

/// Most schemas that a decoder remembers: a topic has a few, and rubbish may name any.
const SCHEMAS_MAX: usize = 1000;

/// A schema as the registry holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Its language.
    pub kind: WrittenIn,
    /// Its text.
    pub text: String,
    /// Schemas that it refers to, by name, those that others refer to first.
    pub references: Vec<(String, String)>,
}

/// Language of a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrittenIn {
    /// Avro.
    Avro,
    /// Protocol Buffers.
    Protobuf,
    /// JSON Schema, which strayd doesn't read by.
    Json,
}

/// What a decoder has made of the schemas that it has met.
pub(super) struct Plans<P> {
    plans: HashMap<u32, Result<P, String>>,
}

impl<P> Plans<P> {
    /// None yet.
    pub(super) fn new() -> Self {
        Self { plans: HashMap::new() }
    }

    /// Remembers what was made of schema `id`.
    pub(super) fn insert(&mut self, id: u32, plan: Result<P, String>) {
        if self.plans.len() >= SCHEMAS_MAX {
            self.plans.clear();
        }
        self.plans.insert(id, plan);
    }

    /// Finds the plan for a payload, and where its record begins.
    ///
    /// Errors: the payload has no header, or there is no such plan, or none yet.
    pub(super) fn find<'p>(&self, payload: &'p [u8]) -> Result<(&P, &'p [u8]), Reject> {
        let (id, record) = split(payload)?;
        match self.plans.get(&id) {
            Some(Ok(plan)) => Ok((plan, record)),
            Some(Err(message)) => Err(Reject::UnknownSchema { id, message: message.clone() }),
            None => Err(Reject::NeedSchema(id)),
        }
    }
}

/// The schema that a payload names, where it is one in the wire format.
pub fn schema_of(payload: &[u8]) -> Option<u32> {
    split(payload).ok().map(|(id, _)| id)
}

fn split(payload: &[u8]) -> Result<(u32, &[u8]), Reject> {
    match payload {
        [0, a, b, c, d, record @ ..] => Ok((u32::from_be_bytes([*a, *b, *c, *d]), record)),
        [0, ..] => Err(Reject::Malformed("the payload ends within the id of its schema".to_owned())),
        _ => {
            let message = "the payload does not begin with a zero byte and the id of a schema (Confluent wire format)";
            Err(Reject::Malformed(message.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_names_its_schema() {
        let mut plans = Plans::new();
        assert_eq!(plans.find(&[0, 0, 0, 1, 2, 9]), Err(Reject::NeedSchema(258)));
        plans.insert(258, Ok("plan"));
        assert_eq!(plans.find(&[0, 0, 0, 1, 2, 9]), Ok((&"plan", &[9][..])));
        plans.insert(7, Err("the registry does not know it".into()));
        let reject = plans.find(&[0, 0, 0, 0, 7]).expect_err("no plan");
        assert_eq!(reject.reason(), "unknown_schema");
        assert_eq!(reject.to_string(), "the record is written by schema 7: the registry does not know it");
        assert!(plans.find(b"{}").is_err_and(|reject| reject.reason() == "malformed"));
        assert!(plans.find(&[0, 0, 0, 1]).is_err_and(|reject| reject.reason() == "malformed"));
    }

    #[test]
    fn rubbish_does_not_fill_the_memory() {
        let mut plans = Plans::new();
        (0..3 * SCHEMAS_MAX as u32).for_each(|id| plans.insert(id, Ok(())));
        assert!(plans.plans.len() <= SCHEMAS_MAX);
    }
}
