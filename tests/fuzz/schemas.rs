//! The text of a writer's schema, which a registry hands out: whoever may register one can write anything in it.

use strayd::decode::{Format, Written, WrittenIn};

use super::engine::Target;
use super::formats::{AVRO, PROTO, plant};
use super::wire::{decoded, decoders};

const AVRO_WORDS: &[&str] = &[
    "{\"type\": ",
    "\"record\"",
    "\"enum\"",
    "\"fixed\"",
    "\"array\"",
    "\"map\"",
    "[\"null\", ",
    "\"double\"",
    "\"bytes\"",
    "\"long\"",
    "\"Reading\"",
    "\"Site\"",
    "\"logicalType\": \"decimal\"",
    "\"logicalType\": \"duration\"",
    "\"logicalType\": \"uuid\"",
    "\"size\": 0",
    "\"size\": 9223372036854775807",
    "\"default\": null",
    "\"namespace\": \".\"",
    "\"aliases\": [\"\"]",
    "[",
    "]",
    "}",
    ",",
];

const PROTO_WORDS: &[&str] = &[
    "message M {",
    "enum E {",
    "oneof o {",
    "extend Reading {",
    "extensions 1 to max;",
    "reserved 1 to max;",
    "optional group G = 1 {",
    "map<string, Reading> m = 1;",
    "syntax = \"proto2\";",
    "edition = \"2023\";",
    "import public \"plant.proto\";",
    "import \"google/protobuf/any.proto\";",
    "option a = { b: [{ c: 1 }] };",
    "[packed = true, json_name = \"\"]",
    "[default = -inf]",
    "= 536870911;",
    "= 0x7fffffffffffffff;",
    "/*",
    "//",
    "\"\\x00\"",
    "}",
    "{",
    ";",
];

/// Payloads of schema 0: each read by what the text made of itself.
const PAYLOADS: [&[u8]; 4] = [
    b"\0\0\0\0\0",
    b"\0\0\0\0\0\0\x09\0\0\0\0\0\0\x34\x40\x10\x01",
    b"\0\0\0\0\0\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02\x02",
    b"\0\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
];

fn texts(
    name: &'static str,
    format: Format,
    kind: WrittenIn,
    seeds: Vec<Vec<u8>>,
    words: &'static [&'static str],
) -> Target {
    let (mut decoders, mut n) = (decoders(format), 0);
    let site = r#"{"type": "record", "name": "Site", "fields": [{"name": "within", "type": ["null", "Site"]}]}"#;
    let references = if kind == WrittenIn::Avro { vec![("Site".to_owned(), site.to_owned())] } else { vec![plant()] };
    let run = move |text: &[u8]| {
        n += 1;
        let at = n % decoders.len();
        let text = String::from_utf8_lossy(text).into_owned();
        decoders[at].learn(0, &Written { kind, text, references: references.clone() });
        let ends = PAYLOADS.map(|payload| decoded(&mut *decoders[at], payload));
        // What was wrong with the text itself comes last, after what says that it was.
        match ends[0].split_once("it can't be read by: ") {
            Some((_, wrong)) => wrong.to_owned(),
            None => ends.map(|end| end.split(' ').take(2).collect::<String>()).join(" "),
        }
    };
    Target { name, seeds, words, rarity: 4, run: Box::new(run) }
}

/// Avro schemas, which are JSON.
pub fn avro() -> Target {
    texts("avro schemas", Format::Avro, WrittenIn::Avro, AVRO.map(|text| text.as_bytes().to_vec()).to_vec(), AVRO_WORDS)
}

/// Protobuf schemas, which are a language of their own.
pub fn protobuf() -> Target {
    let seeds = [PROTO, "message Reading { required double temp = 1; }"].map(|text| text.as_bytes().to_vec());
    texts("protobuf schemas", Format::Protobuf, WrittenIn::Protobuf, seeds.to_vec(), PROTO_WORDS)
}
