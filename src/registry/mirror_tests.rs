//! Tests of the copy: pieces that come in any order, twice, damaged or not at all, and names that lead elsewhere.

use tempfile::TempDir;

use super::*;

fn mirror() -> (TempDir, Mirror) {
    let folder = tempfile::tempdir().unwrap();
    let mut mirror = Mirror::new(&folder.path().join("copy"));
    mirror.clear().unwrap();
    (folder, mirror)
}

/// The record as another replica reads it.
fn read((key, value): &Outgoing) -> Piece {
    let header = |name: &str| {
        let (_, held) = value.as_ref()?;
        Some(if name == SHA256 { held.sha256.clone() } else { held.n_pieces.to_string() })
    };
    Piece::parse(key, value.as_ref().map(|(bytes, _)| &bytes[..]), header).expect("it is one of ours")
}

/// A model of 256 features and 1024 latents has 2 MB of weights; these are as many bytes, no two pieces of which are equal.
fn large() -> Vec<u8> {
    (0..(2 << 20) + 17_u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()[..1].to_vec()).collect()
}

#[test]
fn a_piece_is_what_its_key_and_headers_say_and_anything_else_is_passed_over() {
    let header = |name: &str| Some(if name == SHA256 { "ab".to_owned() } else { "2".to_owned() });
    let piece = Piece::parse("v000001/model.safetensors#1", Some(b"xy"), header).expect("it is one of ours");
    assert_eq!((piece.file.as_str(), piece.number), ("v000001/model.safetensors", 1));
    assert_eq!(piece.value, Some((b"xy".to_vec(), Held { sha256: "ab".into(), n_pieces: 2 })));
    assert!(Piece::parse("CURRENT#0", None, |_| None).is_some_and(|piece| piece.value.is_none()));
    let long = format!("{}#0", "x".repeat(300));
    for strange in [
        "CURRENT",
        "#0",
        "../up#0",
        "/etc/passwd#0",
        "a/../../b#0",
        "CURRENT#x",
        "CURRENT#2",
        "a//b#0",
        "a/b/c/d#0",
        "a\0b#0",
        ".hidden#0",
        "a.new#0",
        &long,
    ] {
        assert!(Piece::parse(strange, Some(b"x"), header).is_none(), "{strange}");
    }
    assert!(Piece::parse("CURRENT#0", Some(b"x"), |_| None).is_none());
    let endless = |name: &str| Some(if name == SHA256 { "ab".to_owned() } else { "99999999".to_owned() });
    assert!(Piece::parse("CURRENT#0", Some(b"x"), endless).is_none(), "memory is bounded");
    assert!(Piece::parse("CURRENT#0", Some(&vec![0; PIECE_BYTES + 1]), header).is_none(), "memory is bounded");
}

#[test]
fn files_come_with_the_manifest_behind_its_version_and_current_last() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["CURRENT", "PROMOTED", "v000001/manifest.json", "v000001/model.safetensors"] {
        write(folder.path(), name, b"x").unwrap();
    }
    fs::write(folder.path().join("v000001/cfg.json.new"), b"half").unwrap();
    let names: Vec<String> = files_of(folder.path()).unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["PROMOTED", "v000001/model.safetensors", "v000001/manifest.json", "CURRENT"]);
    remove(folder.path(), "v000001/manifest.json").unwrap();
    remove(folder.path(), "v000001/model.safetensors").unwrap();
    assert!(folder.path().join("PROMOTED").exists());
}

#[test]
fn a_file_larger_than_a_message_travels_in_pieces_in_any_order_and_twice() {
    let ((_a, mut from), (_b, mut to)) = (mirror(), mirror());
    let bytes = large();
    write(&from.root, "v000001/model.safetensors", &bytes).unwrap();
    let changes = from.changes().unwrap();
    assert_eq!(changes.records.len(), 5);
    for record in changes.records.iter().rev().chain(&changes.records) {
        to.take(read(record)).unwrap();
    }
    assert!(fs::read(to.root.join("v000001/model.safetensors")).unwrap() == bytes);
    assert_eq!(to.trouble(), None);
    from.wrote(changes);
    assert!(from.changes().unwrap().records.is_empty() && to.changes().unwrap().records.is_empty());

    // It becomes shorter, and goes.
    write(&from.root, "v000001/model.safetensors", &bytes[..=PIECE_BYTES]).unwrap();
    let changes = from.changes().unwrap();
    let n_taken_away = changes.records.iter().filter(|(_, value)| value.is_none()).count();
    assert_eq!((changes.records.len(), n_taken_away), (5, 3));
    changes.records.iter().for_each(|record| to.take(read(record)).unwrap());
    assert_eq!(fs::read(to.root.join("v000001/model.safetensors")).unwrap().len(), PIECE_BYTES + 1);
    from.wrote(changes);
    remove(&from.root, "v000001/model.safetensors").unwrap();
    from.changes().unwrap().records.iter().for_each(|record| to.take(read(record)).unwrap());
    assert!(files_of(&to.root).unwrap().is_empty() && to.is_empty());
}

#[test]
fn a_damaged_file_and_one_with_a_piece_missing_are_told_of_and_not_used() {
    let ((_a, from), (_b, mut to)) = (mirror(), mirror());
    write(&from.root, "v000001/model.safetensors", &large()).unwrap();
    let changes = from.changes().unwrap();
    changes.records.iter().skip(1).for_each(|record| to.take(read(record)).unwrap());
    assert_eq!(to.trouble().as_deref(), Some("1 of 5 pieces of `v000001/model.safetensors` are missing"));
    let mut damaged = changes.records[0].clone();
    damaged.1.as_mut().expect("a piece").0[7] ^= 1;
    to.take(read(&damaged)).unwrap();
    assert!(to.trouble().is_some_and(|trouble| trouble.contains("`v000001/model.safetensors` is damaged")));
    assert!(files_of(&to.root).unwrap().is_empty());

    // Whoever has the file writes it again, and all is well.
    write(&to.root, "v000001/model.safetensors", &large()).unwrap();
    let changes = to.changes().unwrap();
    assert_eq!(changes.records.len(), 5);
    to.wrote(changes);
    assert_eq!(to.trouble(), None);
}

#[test]
fn a_current_version_that_cannot_be_used_stays_refused_until_it_can() {
    let ((_a, from), (_b, mut to)) = (mirror(), mirror());
    write(&from.root, CURRENT, b"7\n").unwrap();
    from.changes().unwrap().records.iter().for_each(|record| to.take(read(record)).unwrap());
    to.settle().unwrap();
    assert!(to.refusal().is_some_and(|why| why.contains("version 7 can't be used")), "{:?}", to.refusal());
    assert!(!to.root.join(CURRENT).exists());
    assert!(to.changes().unwrap().records.is_empty(), "what can't be used is not taken away from others");
    to.settle().unwrap();
    assert!(to.refusal().is_some() && to.trouble().is_some());
}

#[test]
fn names_that_stand_in_each_others_way_are_told_of_and_nothing_fails() {
    let ((_a, from), (_b, mut to)) = (mirror(), mirror());
    write(&from.root, "v000001", b"a file").unwrap();
    from.changes().unwrap().records.iter().for_each(|record| to.take(read(record)).unwrap());
    remove(&from.root, "v000001").unwrap();
    write(&from.root, "v000001/manifest.json", b"{}").unwrap();
    for record in from.changes().unwrap().records {
        to.take(read(&record)).unwrap();
    }
    assert!(to.trouble().is_some_and(|trouble| trouble.contains("v000001/manifest.json")));
}
