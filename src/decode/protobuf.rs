//! Protocol Buffers in the Confluent wire format, read by the schema that they were written by
//! (<https://protobuf.dev/programming-guides/encoding/>).
//!
//! After the id of the schema comes the place of the record's message among the messages of the `.proto` file. Fields are
//! found by name. One with presence (`optional`, in a `oneof`, a message) that isn't set is missing; one without is its
//! default, since its writer leaves zeros out. An enum is its symbol, a `Timestamp` its milliseconds, a wrapper such as
//! `DoubleValue` what it holds.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use prost::Message as _;
use prost_reflect::prost_types::FileDescriptorProto;
use prost_reflect::{DescriptorPool, DynamicMessage, FileDescriptor, MessageDescriptor};
use protox::Compiler;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};

use super::described::{Described, malformed, to_json};
use super::field::Field;
use super::message::Message;
use super::wire::{Plans, Written, WrittenIn};
use super::{Config, Decoded, Decoder, Format, Reject, check_size};

/// The name under which the schema itself is compiled; schemas that it refers to have names of their own.
const FILE: &str = "strayd/record.proto";
/// Messages inside messages of one file at most.
const DEPTH_MAX: i64 = 32;

/// Decoder of Protobuf records.
pub struct Protobuf {
    reader: Described,
    bytes_max: usize,
    plans: Plans<FileDescriptor>,
}

impl Protobuf {
    /// Makes the decoder for `fields`, the features in the order of the schema.
    pub fn new(config: &Config, fields: &[Field]) -> Self {
        Self { reader: Described::new(config, fields), bytes_max: config.payload_bytes_max, plans: Plans::new() }
    }
}

impl Decoder for Protobuf {
    fn decode(&mut self, payload: &[u8], values: &mut [f32]) -> Result<Decoded, Reject> {
        check_size(payload, self.bytes_max)?;
        let (file, record) = self.plans.find(payload)?;
        let message = message(file, record)?;
        self.reader.read(Message(&message), 1, values)
    }

    fn passthrough(&self) -> Option<&[u8]> {
        self.reader.passthrough()
    }

    fn transcribe(&mut self, payload: &[u8]) -> Result<Vec<u8>, Reject> {
        let (file, record) = self.plans.find(payload)?;
        to_json(Format::Protobuf.name(), Message(&message(file, record)?))
    }

    fn learn(&mut self, id: u32, schema: &Written) {
        self.plans.insert(id, compile(schema));
    }
}

/// Sources of schemas by name.
struct Sources(Vec<(String, String)>);

impl FileResolver for Sources {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match self.0.iter().find(|(known, _)| known == name) {
            Some((known, text)) => described(known, text).map_or_else(|| File::from_source(known, text), Ok),
            None => Err(protox::Error::file_not_found(name)),
        }
    }
}

/// The file of a schema that is no text but a `FileDescriptorProto` in base64, as Python's serialisers register it.
fn described(name: &str, text: &str) -> Option<File> {
    let mut file = FileDescriptorProto::decode(&*BASE64_STANDARD.decode(text.trim()).ok()?).ok()?;
    file.name = Some(name.to_owned());
    Some(File::from_file_descriptor_proto(file))
}

/// Compiles a schema with those that it refers to.
///
/// Errors: what is wrong with it.
pub fn compile(written: &Written) -> Result<FileDescriptor, String> {
    if written.kind != WrittenIn::Protobuf {
        return Err("it is no Protobuf schema, and decode.format is `protobuf`".to_owned());
    }
    let mut sources = written.references.clone();
    sources.push((FILE.to_owned(), written.text.clone()));
    let mut resolver = ChainFileResolver::new();
    resolver.add(Sources(sources));
    resolver.add(GoogleFileResolver::new());
    let mut compiler = Compiler::with_file_resolver(resolver);
    compiler.include_imports(true);
    compiler.open_file(FILE).map_err(|error| format!("it can't be read by: {error}"))?;
    let pool: DescriptorPool = compiler.descriptor_pool();
    pool.get_file_by_name(FILE).ok_or_else(|| "it can't be read by: it is empty".to_owned())
}

/// The record, which begins with the place of its message in the file.
fn message(file: &FileDescriptor, record: &[u8]) -> Result<DynamicMessage, Reject> {
    let format = Format::Protobuf.name();
    let (descriptor, body) = place(file, record).ok_or_else(|| malformed(format, &"its schema has no such message"))?;
    DynamicMessage::decode(descriptor, body).map_err(|error| malformed(format, &error))
}

/// The message that the indexes at the start of `record` name, and what follows them.
fn place<'r>(file: &FileDescriptor, record: &'r [u8]) -> Option<(MessageDescriptor, &'r [u8])> {
    let (n_indexes, mut rest) = varint(record)?;
    // The first message alone is a zero.
    let (mut n_left, first) = match n_indexes {
        0 => (0, 0),
        1..=DEPTH_MAX => {
            let (first, after) = varint(rest)?;
            rest = after;
            (n_indexes - 1, first)
        }
        _ => return None,
    };
    let mut descriptor = file.messages().nth(usize::try_from(first).ok()?)?;
    while n_left > 0 {
        let (index, after) = varint(rest)?;
        let inner = descriptor.child_messages().nth(usize::try_from(index).ok()?)?;
        descriptor = inner;
        (rest, n_left) = (after, n_left - 1);
    }
    Some((descriptor, rest))
}

/// A number in zigzag form, and what follows it.
fn varint(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let mut value = 0u64;
    for (i, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            let signed = (value >> 1) as i64 ^ -((value & 1) as i64);
            return Some((signed, &bytes[i + 1..]));
        }
    }
    None
}

#[cfg(test)]
#[path = "protobuf_tests.rs"]
mod tests;
