//! Holds the scanner to the visitor: on records of every kind, whole and broken, they give the same verdict, the same
//! bits, the same counts and the same words.
//!
//! `STRAYD_FUZZ_CASES` sets how many records are tried, `STRAYD_FUZZ_SEED` which. The decoders live on from record to
//! record, as in a lane: what one of them has remembered of a layout must not change what the next record means.

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

const N_CASES: u64 = 100_000;
/// Records that one decoder reads.
const N_RECORDS: u64 = 100;

const NAMES: [&str; 12] = [
    "a",
    "b",
    "temp",
    "pressure_bar",
    "température",
    "a\"b",
    "back\\slash",
    "at",
    "site",
    "vector",
    "",
    "a name that is longer than what a layout remembers of one",
];
const SPACES: [&str; 8] = ["", "", "", "", " ", " ", "\n  ", "\t\r"];
const STRINGS: [&str; 14] = [
    r#""""#,
    r#""on""#,
    r#""off""#,
    r#""6""#,
    r#""caf\u00e9""#,
    r#""café""#,
    r#""\ud83d\ude00""#,
    r#""tab\tand \"quotes\" and \\""#,
    r#""2026-01-01T00:00:00.5Z""#,
    r#""2026-01-01\u005400:00:00Z""#,
    r#""a text that is longer than eight bytes, with a \/ in it""#,
    r#""\ud83d""#,
    r#""\x""#,
    "\"a\u{1}b\"",
];
/// How many of them are strings.
const N_STRINGS_GOOD: usize = 11;
const NUMBERS: [&str; 40] = [
    "0",
    "-0",
    "1",
    "-1",
    "6",
    "6.0",
    "0.1",
    "-0.0",
    "0.0",
    "1e0",
    "1E+2",
    "1e-2",
    "-5e-1",
    "00",
    "01",
    "-",
    "-a",
    ".5",
    "5.",
    "5.e1",
    "1e",
    "1e+",
    "+1",
    "0x1",
    "1e400",
    "-1e400",
    "1e-400",
    "0e99999",
    "1e00001",
    "3.5e38",
    "1e39",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775808",
    "-9223372036854775809",
    "16777217",
    "16777217.0000000000000000000000001",
    "1767225600500",
    "1.17549435e-38",
    "1e-45",
];
const WORDS: [&str; 14] = [
    "null",
    "true",
    "false",
    "NaN",
    "Infinity",
    "-Infinity",
    "nan",
    "nul",
    "nulll",
    "True",
    "inf",
    "-NaN",
    "NaN1",
    "None",
];

fn pick(rng: &mut ChaCha8Rng, from: &[&str]) -> String {
    (*from.choose(rng).expect("something to pick from")).to_owned()
}

/// A good string, or now and then a bad one.
fn string(rng: &mut ChaCha8Rng) -> String {
    let n = if rng.random_ratio(1, 20) { STRINGS.len() } else { N_STRINGS_GOOD };
    pick(rng, &STRINGS[..n])
}

fn number(rng: &mut ChaCha8Rng) -> String {
    let bits = Some(f32::from_bits(rng.random())).filter(|single| single.is_finite()).unwrap_or(1.0);
    match rng.random_range(0..12) {
        0 if rng.random_ratio(1, 4) => pick(rng, &NUMBERS),
        1 => rng.random::<i64>().to_string(),
        2 => rng.random_range(-100..100).to_string(),
        3 => format!("{:?}", Some(f64::from_bits(rng.random())).filter(|double| double.is_finite()).unwrap_or(0.5)),
        4 => format!("{bits:e}"),
        // Halfway between two singles, and beside it.
        5 => {
            let middle = f64::midpoint(bits.into(), f32::from_bits(bits.to_bits() ^ 1).into());
            format!("{middle}{}", pick(rng, &["", "", "", "", "1e-3"]))
        }
        6 => {
            let near =
                f64::from_bits((1_f64.to_bits() | rng.random_range(0..8) << 29 | 1 << 28) ^ rng.random_range(0..3));
            (near * f64::from(rng.random_range(1_u16..2000))).to_string()
        }
        7 => (20.0 + rng.random::<f64>()).to_string(),
        digits => format!("{:.*}", digits / 2, 100.0 * (rng.random::<f64>() - 0.5)),
    }
}

fn value(rng: &mut ChaCha8Rng, depth: usize) -> String {
    let many = |rng: &mut ChaCha8Rng, n: usize, with_names: bool| {
        let elements = (0..n).map(|_| {
            let name = if with_names { format!("{}{}:", name(rng), pick(rng, &SPACES)) } else { String::new() };
            format!("{}{name}{}{}", pick(rng, &SPACES), value(rng, depth + 1), pick(rng, &SPACES))
        });
        elements.collect::<Vec<_>>().join(",")
    };
    match rng.random_range(0..40) {
        0 => pick(rng, &WORDS),
        1..=4 => pick(rng, &["null", "true", "false"]),
        5..=9 => string(rng),
        10..=11 if depth < 4 => {
            let n = rng.random_range(0..4);
            format!("[{}]", many(rng, n, false))
        }
        12..=13 if depth < 4 => {
            let n = rng.random_range(0..4);
            format!("{{{}}}", many(rng, n, true))
        }
        14 if rng.random_ratio(1, 8) => {
            let n = rng.random_range(1..200);
            format!("{}1{}", "[".repeat(n), "]".repeat(n))
        }
        _ => number(rng),
    }
}

/// A name as JSON, in one of its spellings.
fn name(rng: &mut ChaCha8Rng) -> String {
    let name = pick(rng, &NAMES);
    match rng.random_range(0..12) {
        0 => format!("\"{}\"", name.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect::<String>()),
        1 => string(rng),
        _ => serde_json::to_string(&name).expect("a name is JSON"),
    }
}

/// An object whose fields mostly suit the schema, in the order of `layout` or any other.
fn object(rng: &mut ChaCha8Rng, schema: &Schema, level: Level) -> String {
    let mut members = Vec::new();
    let space = pick(rng, &SPACES);
    let suits = rng.random_ratio(5, 6);
    let holds_features = level == Level::Vector || schema.config.field.is_none();
    for (i, listed) in schema.order.iter().enumerate() {
        if !suits && rng.random_ratio(1, 4) || !holds_features && !schema.is_beside(listed) {
            continue;
        }
        let listed_name = if suits || rng.random() { serde_json::json!(listed).to_string() } else { name(rng) };
        let listed_value = match schema.fields.iter().find(|field| field.name == *listed) {
            _ if rng.random_ratio(1, 60) => value(rng, 0),
            _ if level == Level::Outer && schema.config.field.as_ref() == Some(listed) => {
                vector(rng, schema, Level::Vector)
            }
            Some(field) if suits && holds_features && field.is_number() => number(rng),
            Some(_) if suits => pick(rng, &["true", "1", "0", "null", "false"]),
            _ if schema.config.time_field.as_ref() == Some(listed) => {
                pick(rng, &["1767225600500", r#""2026-01-01T00:00:00.5Z""#, "null"])
            }
            _ => value(rng, 0),
        };
        let comma = if i == 0 || members.is_empty() { "" } else { "," };
        members.push(format!("{comma}{space}{listed_name}:{space}{listed_value}"));
    }
    if rng.random_ratio(1, 8) {
        let comma = if members.is_empty() { "" } else { "," };
        members.push(format!("{comma}{}:{}", name(rng), value(rng, 0)));
    }
    format!("{{{}{}}}", members.concat(), pick(rng, &SPACES))
}

fn vector(rng: &mut ChaCha8Rng, schema: &Schema, level: Level) -> String {
    let may_be_array = level == Level::Vector || schema.config.field.is_none() || rng.random_ratio(1, 9);
    if !may_be_array || rng.random_ratio(3, 4) {
        return object(rng, schema, level);
    }
    let n = if rng.random_ratio(5, 6) { schema.fields.len() } else { rng.random_range(0..8) };
    let comma = pick(rng, &[",", ", ", " ,\n"]);
    let odd = if rng.random_ratio(1, 12) { rng.random_range(0..8) } else { usize::MAX };
    let values = (0..n).map(|i| if i == odd { value(rng, 0) } else { number(rng) });
    format!("[{}]", values.collect::<Vec<_>>().join(&comma))
}

struct Schema {
    config: Config,
    fields: Vec<Field>,
    /// Names in the order in which most records have them.
    order: Vec<String>,
}

impl Schema {
    fn any(rng: &mut ChaCha8Rng) -> Self {
        let names: Vec<String> = NAMES.iter().map(|name| (*name).to_owned()).collect();
        let n = rng.random_range(1..7);
        let fields = names.choose_multiple(rng, n).cloned().collect::<Vec<_>>().into_iter();
        let fields = fields.map(|name| match rng.random_range(0..6) {
            0 => Field::boolean(name),
            1 => Field::category(name, &["on", "6", "0.1", "café", "true", "-9223372036854775808"].map(str::to_owned)),
            _ => Field::number(name),
        });
        let fields = fields.collect();
        let config = Config {
            field: rng.random_ratio(1, 3).then(|| "vector".to_owned()),
            time_field: rng.random_ratio(1, 3).then(|| "at".to_owned()),
            passthrough: if rng.random_ratio(1, 3) { vec!["site".to_owned(), "a\"b".to_owned()] } else { Vec::new() },
            ..Config::default()
        };
        let order = names.choose_multiple(rng, names.len()).cloned().collect();
        Self { config, fields, order }
    }

    /// Whether a field stands beside the vector, where there is one.
    fn is_beside(&self, name: &String) -> bool {
        [&self.config.field, &self.config.time_field].into_iter().flatten().any(|known| known == name)
            || self.config.passthrough.contains(name)
    }
}

/// Breaks a record: bytes are put, taken, doubled, swapped, or taken from another record.
fn mutate(rng: &mut ChaCha8Rng, payload: &mut Vec<u8>, other: &[u8]) {
    const BYTES: &[u8] = b"\"\\{}[]:,.-+eE0123456789 \n\tnutfNI/\x00\x1f\x7f\x80\xc3\xff";
    for _ in 0..rng.random_range(1..4) {
        if payload.is_empty() {
            return;
        }
        let at = rng.random_range(0..payload.len());
        let end = (at + rng.random_range(1..12)).min(payload.len());
        let byte = if rng.random() { *BYTES.choose(rng).expect("bytes") } else { rng.random() };
        match rng.random_range(0..8) {
            0 => payload[at] = byte,
            1 => payload.insert(at, byte),
            2 => drop(payload.remove(at)),
            3 => payload.truncate(at),
            4 => drop(payload.drain(at..end)),
            5 => drop(payload.splice(at..at, payload[at..end].to_vec())),
            6 => payload.swap(at, end - 1),
            _ => {
                let from = rng.random_range(0..=other.len());
                let to = (from + rng.random_range(0..40)).min(other.len());
                drop(payload.splice(at..end, other[from..to].to_vec()));
            }
        }
    }
}

/// What a reading gave, in full.
fn outcome(json: &Json, read: Result<Decoded, Reject>, values: &[f32]) -> Result<(Decoded, Vec<u32>, String), Reject> {
    let carried = String::from_utf8_lossy(json.passthrough().unwrap_or_default()).into_owned();
    read.map(|decoded| (decoded, values.iter().map(|value| value.to_bits()).collect(), carried))
}

/// Lets both read, and returns whether the scanner took the record, and whether it is a good one.
fn compare(scanner: &mut Json, visitor: &mut Json, payload: &[u8]) -> (bool, bool) {
    let mut values = vec![f32::NAN; scanner.seen.len()];
    let scanned = scanner.scan(payload, &mut values);
    let scanned = scanned.map(|decoded| outcome(scanner, Ok(decoded), &values));
    let mut values = vec![f32::NAN; values.len()];
    let visited = visitor.visit(payload, &mut values);
    let visited = outcome(visitor, visited, &values);
    if let Some(scanned) = &scanned {
        assert_eq!(scanned, &visited, "{:?}", String::from_utf8_lossy(payload));
    }
    (scanned.is_some(), visited.is_ok())
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn the_scanner_reads_what_the_visitor_reads() {
    let (n_cases, seed) = (setting("STRAYD_FUZZ_CASES", N_CASES), setting("STRAYD_FUZZ_SEED", 0));
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (mut n_scanned, mut n_good) = (0, 0);
    for _ in 0..n_cases / N_RECORDS {
        let schema = Schema::any(&mut rng);
        let mut scanner = Json::new(&schema.config, &schema.fields);
        let mut visitor = Json::new(&schema.config, &schema.fields);
        let mut other = Vec::new();
        for _ in 0..N_RECORDS {
            let mut payload = vector(&mut rng, &schema, Level::Outer).into_bytes();
            let whole = payload.clone();
            if rng.random_ratio(1, 3) {
                mutate(&mut rng, &mut payload, &other);
            }
            other = whole;
            let (is_scanned, is_good) = compare(&mut scanner, &mut visitor, &payload);
            n_scanned += u64::from(is_scanned);
            n_good += u64::from(is_good);
        }
    }
    println!("{n_cases} records, {n_good} of them good, {n_scanned} scanned");
    assert!(n_good > n_cases / 4, "only {n_good} of {n_cases} records are good");
    assert!(n_scanned > n_good * 9 / 10, "the scanner takes {n_scanned} of {n_good} good records");
}
