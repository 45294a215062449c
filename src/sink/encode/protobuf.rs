//! Protocol Buffers by the published schema: what the canonical JSON of its message would be read as
//! (<https://protobuf.dev/programming-guides/json/>).

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use serde_json::Value;

use super::Format;
use crate::decode::compile_protobuf;

/// The schema as it is published.
pub(super) const TEXT: &str = include_str!("../../../docs/schema/anomaly.proto");

/// Which message of the file it is: the first.
const PLACE: u8 = 0;
/// A `google.protobuf.Timestamp` begins with the year 1, JSON's times before it.
const TIMES: [&str; 2] = ["/event_time", "/incident/start_time"];
const EPOCH: &str = "1970-01-01T00:00:00.000Z";

static ANOMALY: LazyLock<MessageDescriptor> = LazyLock::new(|| {
    let schema = Format::Protobuf.schema().expect("it has one");
    let file = compile_protobuf(&schema).expect("the published schema is held by tests");
    file.messages().next().expect("it has messages")
});

/// Appends the message of `document`, after its place in the file.
pub(super) fn write(mut document: Value, out: &mut Vec<u8>) {
    for place in TIMES {
        if let Some(Value::String(time)) = document.pointer_mut(place)
            && (time.starts_with('-') || time.starts_with("0000"))
        {
            EPOCH.clone_into(time);
        }
    }
    out.push(PLACE);
    let message = DynamicMessage::deserialize(ANOMALY.clone(), document);
    let message = message.expect("the record follows its published schema");
    message.encode(out).expect("a vector has room");
}
