//! Everything that reads what others have written, on inputs that nobody would write: it refuses them in words, and never
//! panics or hangs.
//!
//! `make fuzz` tries ten million; `STRAYD_FUZZ_CASES` says how many, `STRAYD_FUZZ_SEED` which. JSON is also held to a second
//! reader, in `src/decode/json/agree_tests.rs`.

#[path = "fuzz/engine.rs"]
mod engine;
#[path = "fuzz/formats.rs"]
mod formats;
#[path = "fuzz/pieces.rs"]
mod pieces;
#[path = "fuzz/schemas.rs"]
mod schemas;
#[path = "fuzz/stored.rs"]
mod stored;
#[path = "fuzz/wire.rs"]
mod wire;

use engine::fuzz;

#[test]
fn json_records_are_read_or_refused() {
    fuzz(wire::json());
}

#[test]
fn packed_records_are_read_or_refused() {
    fuzz(wire::packed());
}

#[test]
fn lines_of_csv_are_read_or_refused() {
    fuzz(formats::csv());
}

#[test]
fn messagepack_records_are_read_or_refused() {
    fuzz(formats::msgpack());
}

#[test]
fn avro_records_are_read_or_refused() {
    fuzz(formats::avro());
}

#[test]
fn protobuf_records_are_read_or_refused() {
    fuzz(formats::protobuf());
}

#[test]
fn texts_of_avro_schemas_are_read_or_refused() {
    fuzz(schemas::avro());
}

#[test]
fn texts_of_protobuf_schemas_are_read_or_refused() {
    fuzz(schemas::protobuf());
}

#[test]
fn schemas_are_learnt_from_any_sample() {
    fuzz(wire::samples());
}

#[test]
fn orders_and_rules_are_read_or_refused() {
    fuzz(wire::orders());
}

#[test]
fn feedback_is_read_or_refused() {
    fuzz(wire::feedback());
}

#[test]
fn notes_of_commits_are_read_or_passed_over() {
    fuzz(stored::notes());
}

#[test]
fn models_are_loaded_and_score_or_are_refused() {
    fuzz(stored::models());
}

#[test]
fn pieces_of_the_registry_topic_are_taken_in_or_passed_over() {
    fuzz(pieces::pieces());
}

#[test]
fn weights_of_other_tools_are_read_or_refused() {
    fuzz(stored::weights());
}

#[test]
fn configurations_are_checked_or_refused() {
    fuzz(stored::configurations());
}
