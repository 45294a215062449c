//! Merges the layers of a configuration: defaults < file < environment < command line.
//!
//! Each value is tried by itself against the defaults, so that every wrong key is found in one go and named. Values of
//! the environment and of the command line are text; they take the type that their key wants.

use serde_json::{Map, Value};

use super::{Problem, Problems, RawConfig, Sources};

const PREFIX: &str = "STRAYD__";

/// One value of a layer.
struct Leaf {
    path: Vec<String>,
    value: Value,
    is_text: bool,
}

/// Merges the layers. What is unknown or has the wrong type is left out, and is a problem.
///
/// Errors: the file can't be read at all.
pub fn merge(sources: &Sources) -> Result<(RawConfig, Vec<Problem>), Problems> {
    let mut leaves = Vec::new();
    if let Some(file) = &sources.file {
        let tree =
            read(file).map_err(|message| Problems(vec![Problem { key: file.display().to_string(), message }]))?;
        collect(&mut Vec::new(), tree, &mut leaves);
    }
    let environment = sources.environment.iter().filter_map(|(name, value)| {
        let mut path: Vec<String> = name.strip_prefix(PREFIX)?.split("__").map(str::to_lowercase).collect();
        // An environment variable can't hold a dot: `…__LIBRDKAFKA__FETCH_WAIT_MAX_MS` means `fetch.wait.max.ms`.
        if let [section, table, setting] = &mut path[..]
            && (section.as_str(), table.as_str()) == ("kafka", "librdkafka")
        {
            *setting = setting.replace('_', ".");
        }
        Some(Leaf { path, value: Value::String(value.clone()), is_text: true })
    });
    leaves.extend(environment);
    leaves.extend(sources.overrides.iter().map(|(key, value)| Leaf {
        path: key.splitn(3, '.').map(str::to_owned).collect(),
        value: Value::String(value.clone()),
        is_text: true,
    }));
    let mut problems = Vec::new();
    let mut tree = defaults();
    for leaf in leaves {
        match accepted(&leaf) {
            Ok(value) => place(&mut tree, &leaf.path, value),
            Err(message) => problems.push(Problem { key: leaf.path.join("."), message }),
        }
    }
    let raw = serde_json::from_value(tree)
        .map_err(|error| Problems(vec![Problem { key: "configuration".into(), message: error.to_string() }]))?;
    Ok((raw, problems))
}

fn read(file: &std::path::Path) -> Result<Value, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("the file can't be read: {error}"))?;
    let source = config::File::from_str(&text, config::FileFormat::Toml);
    let built = config::Config::builder().add_source(source).build();
    built.and_then(config::Config::try_deserialize).map_err(|error| format!("the file is not TOML: {error}"))
}

fn defaults() -> Value {
    serde_json::to_value(RawConfig::default()).expect("the defaults have string keys only")
}

/// Takes a tree apart. A table without entries says nothing.
fn collect(path: &mut Vec<String>, value: Value, leaves: &mut Vec<Leaf>) {
    match value {
        Value::Object(table) => {
            for (key, value) in table {
                path.push(key);
                collect(path, value, leaves);
                path.pop();
            }
        }
        value => leaves.push(Leaf { path: path.clone(), value, is_text: false }),
    }
}

/// The value in the type that its key wants.
///
/// Errors: the value and what is allowed.
fn accepted(leaf: &Leaf) -> Result<Value, String> {
    let mut first_error = None;
    for value in candidates(leaf) {
        let mut tree = defaults();
        place(&mut tree, &leaf.path, value.clone());
        match serde_json::from_value::<RawConfig>(tree) {
            Ok(_) => return Ok(value),
            Err(error) => first_error = first_error.or(Some(error.to_string())),
        }
    }
    let error = first_error.unwrap_or_default();
    if error.starts_with("unknown field") { Err(error) } else { Err(format!("{}: {error}", leaf.value)) }
}

/// What a text may mean: a TOML value, itself, a list.
fn candidates(leaf: &Leaf) -> Vec<Value> {
    let Some(text) = leaf.value.as_str().filter(|_| leaf.is_text) else {
        return vec![leaf.value.clone()];
    };
    let parsed = toml::from_str::<Map<String, Value>>(&format!("v = {text}"));
    let list = text.split(',').map(|item| Value::String(item.trim().to_owned())).collect();
    parsed
        .ok()
        .and_then(|mut table| table.remove("v"))
        .into_iter()
        .chain([leaf.value.clone(), Value::Array(list)])
        .collect()
}

/// Puts a value at its place, making tables on the way.
fn place(tree: &mut Value, path: &[String], value: Value) {
    let Some((key, rest)) = path.split_first() else {
        *tree = value;
        return;
    };
    if !tree.is_object() {
        *tree = Value::Object(Map::new());
    }
    let table = tree.as_object_mut().expect("it has just been made one");
    place(table.entry(key.clone()).or_insert(Value::Null), rest, value);
}
