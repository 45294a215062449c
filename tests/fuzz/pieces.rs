//! What the registry topic holds: records of any key, headers and bytes, taken in one after another by one copy.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use sha2::{Digest, Sha256};
use strayd::model::artifact;
use strayd::registry::{Mirror, Piece};

use super::engine::Target;
use super::stored::MODEL;

/// Records of an input are told apart by this byte, and the parts of one by the next.
const NEXT: u8 = 0x1e;
const PART: u8 = 0x1f;
/// After so many inputs the copy begins anew, so that none grows without end.
const RENEWED_AFTER: usize = 200;

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Key, SHA-256 and number of pieces, payload, as one record of an input; no payload is a tombstone.
fn record(key: &str, sha256: &str, n_pieces: usize, payload: &[u8]) -> Vec<u8> {
    [key.as_bytes(), sha256.as_bytes(), n_pieces.to_string().as_bytes(), payload].join(&PART)
}

fn seeds() -> Vec<Vec<u8>> {
    let small = |file: &str, text: &str| record(&format!("{file}#0"), &hash(text.as_bytes()), 1, text.as_bytes());
    let halves = hash(b"first second");
    let tombstone = b"v000001/manifest.json#0".to_vec();
    vec![
        small("CURRENT", "1\n"),
        small("labels.json", r#"{"12":"start-up"}"#),
        small("v000001/manifest.json", "{}"),
        small("candidates/1-ab/model.json", "{}"),
        [record("PROMOTED#0", &halves, 2, b"first "), record("PROMOTED#1", &halves, 2, b"second")].join(&NEXT),
        [record("PROMOTED#1", &halves, 2, b"second"), record("PROMOTED#0", &halves, 2, b"first ")].join(&NEXT),
        [small("v000001", "a file"), small("v000001/manifest.json", "{}"), tombstone].join(&NEXT),
        [small("CURRENT", "7"), small("CURRENT", "x"), b"CURRENT#0".to_vec()].join(&NEXT),
    ]
}

/// Takes the records of an input in. Returns how many were ours.
fn take(mirror: &mut Mirror, input: &[u8]) -> usize {
    let mut n = 0;
    for record in input.split(|byte| *byte == NEXT) {
        let mut parts = record.splitn(4, |byte| *byte == PART);
        let key = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
        let [sha256, pieces] = [parts.next(), parts.next()].map(|part| part.map(String::from_utf8_lossy));
        let payload = parts.next();
        // Half of what is damaged gets its right checksum, so that what stands behind it is reached.
        let right = payload.filter(|bytes| bytes.len() % 2 == 0).map(hash);
        let header = |name: &str| match name {
            "sha256" => right.clone().or_else(|| sha256.as_ref().map(|text| text.to_string())),
            _ => pieces.as_ref().map(|text| text.to_string()),
        };
        let Some(piece) = Piece::parse(&key, payload, header) else { continue };
        mirror.take(piece).expect("the disk has room");
        n += 1;
    }
    n
}

/// Whatever stands beside the copy was not touched.
fn is_alone(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|entries| entries.count() == 1)
}

/// Records of the registry topic, which anybody who may write to it can write.
pub fn pieces() -> Target {
    const WORDS: &[&str] = &[
        "#",
        "#0",
        "#1",
        "#1023",
        "/",
        "..",
        "../",
        "\0",
        "CURRENT",
        "PROMOTED",
        "PINNED",
        "labels.json",
        "candidates/",
        "v000001/",
        "manifest.json",
        ".new",
        "\u{1e}",
        "\u{1f}",
        "1",
        "2",
        "1024",
        "18446744073709551615",
        "-1",
    ];
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let mut mirror = Mirror::new(&folder.path().join("copy"));
    // What a whole model among them does.
    let model: BTreeMap<String, Vec<u8>> =
        artifact::encode(&MODEL).into_iter().map(|file| (format!("v000001/{}#0", file.name), file.bytes)).collect();
    let mut n = 0;
    let run = move |input: &[u8]| {
        if n % RENEWED_AFTER == 0 {
            mirror.clear().expect("the temporary folder can be written");
            for (key, bytes) in model.iter().filter(|_| n % (2 * RENEWED_AFTER) == 0) {
                let header = |name: &str| Some(if name == "sha256" { hash(bytes) } else { "1".to_owned() });
                mirror.take(Piece::parse(key, Some(bytes), header).expect("it is ours")).expect("the disk has room");
            }
            assert!(is_alone(folder.path()), "nothing leaves the copy");
        }
        n += 1;
        let n_ours = take(&mut mirror, input);
        mirror.settle().expect("the disk has room");
        let trouble = mirror.trouble().unwrap_or_default();
        // Reading the files back is the costly part.
        let n_written = if n % 20 == 0 { mirror.changes().expect("the files can be read").records.len() } else { 0 };
        let letters = ["none", "one", "two", "more"];
        format!("ours {} written {} {trouble}", letters[n_ours.min(3)], letters[n_written.min(3)])
    };
    Target { name: "pieces", seeds: seeds(), words: WORDS, rarity: 20, run: Box::new(run) }
}
