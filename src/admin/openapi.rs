//! `GET /api/v1/openapi.json`: the API for machines. The document is kept by hand; a test holds it to the routes.
//!
//! The schema of an anomaly is the one of `docs/schema`, put in with its parts.

use std::sync::LazyLock;

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::Value;

static DOCUMENT: LazyLock<Value> = LazyLock::new(build);

/// Answers with the document.
pub async fn document() -> Response {
    Json(&*DOCUMENT).into_response()
}

fn build() -> Value {
    let parse = |text: &str| serde_json::from_str::<Value>(text).expect("the files in the program are JSON");
    let mut document = parse(include_str!("openapi.json"));
    document["info"]["version"] = env!("CARGO_PKG_VERSION").into();
    let mut anomaly = parse(include_str!("../../docs/schema/anomaly.json"));
    let parts = anomaly.as_object_mut().and_then(|schema| {
        // Inside another document these two would begin one of their own.
        schema.remove("$schema");
        schema.remove("$id");
        schema.remove("$defs")
    });
    let schemas = &mut document["components"]["schemas"];
    for (name, mut part) in parts.and_then(|parts| parts.as_object().cloned()).into_iter().flatten() {
        move_references(&mut part);
        schemas[format!("Anomaly_{name}")] = part;
    }
    move_references(&mut anomaly);
    schemas["Anomaly"] = anomaly;
    document
}

/// Points references to parts of the anomaly's schema to where they are put.
fn move_references(schema: &mut Value) {
    match schema {
        Value::String(text) => {
            if let Some(name) = text.strip_prefix("#/$defs/") {
                *text = format!("#/components/schemas/Anomaly_{name}");
            }
        }
        Value::Array(all) => all.iter_mut().for_each(move_references),
        Value::Object(all) => all.values_mut().for_each(move_references),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::{COMMANDS, FEEDBACK, routes};
    use super::*;

    #[test]
    fn the_document_names_every_route_and_no_other() {
        let paths = DOCUMENT["paths"].as_object().expect("paths");
        let described: BTreeSet<&str> = paths.keys().map(String::as_str).collect();
        assert_eq!(described, routes().iter().map(|(path, _)| *path).collect::<BTreeSet<_>>());
        for (path, methods) in paths {
            let methods: Vec<&String> = methods.as_object().expect("methods").keys().collect();
            let expected = if [COMMANDS, FEEDBACK].contains(&path.as_str()) { "post" } else { "get" };
            assert_eq!(methods, [expected], "{path}");
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
            match value {
                Value::Object(all) => {
                    found.extend(all.get("$ref").and_then(Value::as_str));
                    all.values().for_each(|value| references(value, found));
                }
                Value::Array(all) => all.iter().for_each(|value| references(value, found)),
                _ => {}
            }
        }
        let mut found = Vec::new();
        references(&DOCUMENT, &mut found);
        assert!(found.len() > 20);
        for reference in found {
            assert!(DOCUMENT.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
        }
    }
}
