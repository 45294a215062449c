//! Holds the pages to the program: metrics, configuration keys, examples, links and commands are what they say.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Map, Value};

use strayd::config::{Config, RawConfig, Sources};
use strayd::telemetry::Metrics;
use strayd::telemetry::health::Health;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The pages, by their paths from the root.
fn pages() -> Vec<String> {
    let names = ["docs", "docs/runbooks"].into_iter().flat_map(|folder| {
        let entries = fs::read_dir(root().join(folder)).expect("there is a folder of pages");
        entries.map(move |entry| format!("{folder}/{}", entry.expect("an entry").file_name().to_string_lossy()))
    });
    ["README.md".to_owned(), "CHANGELOG.md".to_owned()]
        .into_iter()
        .chain(names.filter(|name| name.ends_with(".md")))
        .collect()
}

/// The rows of a page's tables whose first cell is code: their cells, trimmed, with `\|` taken for a bar.
fn rows(page: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| -> Vec<String> {
        let line = line.replace("\\|", "\u{1}");
        line.trim_matches('|').split('|').map(|cell| cell.trim().replace('\u{1}', "|")).collect()
    };
    read(page).lines().filter(|line| line.starts_with("| `")).map(cells).collect()
}

fn code(cell: &str) -> String {
    cell.trim_matches('`').to_owned()
}

/// The blocks of a page that are marked as `language`.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let text = read(page);
    let fence = format!("```{language}\n");
    let opened = text.split(fence.as_str()).skip(1);
    opened.map(|rest| rest.split("```").next().expect("a block ends").to_owned()).collect()
}

#[test]
fn metrics_are_listed_as_they_are_declared() {
    let listed: BTreeMap<String, (String, String)> = rows("docs/METRICS.md")
        .into_iter()
        .map(|row| (code(&row[0]), (row[1].clone(), row[2].replace('`', ""))))
        .collect();
    let mut declared: BTreeMap<String, (String, String)> = Metrics::DECLARED
        .iter()
        .map(|metric| (metric.name.to_owned(), (metric.kind().to_owned(), metric.labels.join(" "))))
        .collect();
    let page = Metrics::new().encode(0, &Health::new(1));
    for line in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').expect("a type is a name and a word");
        if name.starts_with("process_") {
            declared.insert(name.to_owned(), (kind.to_owned(), String::new()));
        }
        assert_eq!(declared.get(name).map(|(kind, _)| kind.as_str()), Some(kind), "{name} is declared nowhere");
    }
    assert_eq!(listed, declared);
}

/// Every key with its default; an empty table is a key, too.
fn flatten(prefix: &str, value: Value, into: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(table) if !table.is_empty() => {
            for (key, value) in table {
                let path = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
                flatten(&path, value, into);
            }
        }
        value => drop(into.insert(prefix.to_owned(), value)),
    }
}

#[test]
fn every_key_is_listed_with_its_default() {
    let mut keys = BTreeMap::new();
    flatten("", serde_json::to_value(RawConfig::default()).expect("string keys"), &mut keys);
    let mut listed = BTreeMap::new();
    for row in rows("docs/CONFIGURATION.md") {
        let default = match &*row[2] {
            "none" => Value::Null,
            "must be set" => Value::String(String::new()),
            text => {
                let table: Map<String, Value> = toml::from_str(&format!("v = {}", code(text))).expect("a TOML value");
                table["v"].clone()
            }
        };
        assert!(!row[3].is_empty(), "{} has no meaning", row[0]);
        listed.insert(code(&row[0]), default);
    }
    // Times are compared as times: the page says 2m where the default prints 120s or 2m.
    let same = |a: &Value, b: &Value| match (a.as_str(), b.as_str()) {
        (Some(a), Some(b)) if a != b => {
            matches!((humantime::parse_duration(a), humantime::parse_duration(b)), (Ok(a), Ok(b)) if a == b)
        }
        _ => a == b,
    };
    for (key, default) in &keys {
        let shown = listed.get(key).unwrap_or_else(|| panic!("{key} is not in docs/CONFIGURATION.md"));
        assert!(same(shown, default), "{key}: the page says {shown}, the default is {default}");
    }
    let unknown: Vec<&String> = listed.keys().filter(|key| !keys.contains_key(*key)).collect();
    assert!(unknown.is_empty(), "there are no such keys: {unknown:?}");
}

/// The block with files that are there in the place of those that only its reader has: secrets, certificates.
fn with_files(block: &str, dir: &Path) -> String {
    let file = dir.join("secret");
    fs::write(&file, "secret").expect("written");
    let line = |line: &str| match line.split_once(" = ") {
        Some((key, _)) if key.ends_with("_file") => format!("{key} = {:?}\n", file.display().to_string()),
        _ => format!("{line}\n"),
    };
    block.lines().map(line).collect()
}

#[test]
fn configurations_in_the_pages_are_right() {
    let mut n = 0;
    for page in pages() {
        for block in blocks(&page, "toml") {
            let dir = tempfile::tempdir().expect("a temporary folder");
            let file = dir.path().join("strayd.toml");
            fs::write(&file, with_files(&block, dir.path())).expect("written");
            let overrides = if block.contains("[input]") { vec![] } else { vec![("input.topic".into(), "t".into())] };
            let loaded = Config::load(&Sources { file: Some(file), environment: vec![], overrides });
            assert!(loaded.is_ok(), "{page}: {}\n{block}", loaded.unwrap_err());
            n += 1;
        }
    }
    assert!(n >= 2, "{n} configurations are shown");
}

#[test]
fn records_in_the_pages_follow_their_schemas() {
    let validator = |name: &str| {
        let schema: Value = serde_json::from_str(&read(&format!("docs/schema/{name}.json"))).expect("JSON");
        jsonschema::validator_for(&schema).expect("a JSON Schema")
    };
    let (anomaly, score) = (validator("anomaly"), validator("score"));
    let (incident, feedback) = (validator("incident"), validator("feedback"));
    let mut n = 0;
    for page in pages() {
        for block in blocks(&page, "json") {
            let record: Value = serde_json::from_str(&block).unwrap_or_else(|error| panic!("{page}: {error}\n{block}"));
            let schema = match (record.get("kind"), record.get("features")) {
                _ if record.get("verdict").is_some() => &feedback,
                (Some(_), _) => &incident,
                (None, Some(_)) => &anomaly,
                (None, None) => &score,
            };
            assert!(schema.is_valid(&record), "{page}: {:?}", schema.iter_errors(&record).next());
            n += 1;
        }
    }
    assert!(n >= 3, "{n} records are shown");
}

/// The anchor that a heading gets: lower case, dashes for blanks, no other punctuation.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn links_between_pages_lead_somewhere() {
    for page in pages() {
        let text = read(&page);
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.starts_with("http") {
                continue;
            }
            let (path, heading) = target.split_once('#').unwrap_or((target, ""));
            let folder = root().join(&page).parent().expect("a page stands in a folder").to_owned();
            let file: PathBuf = if path.is_empty() { root().join(&page) } else { folder.join(path) };
            assert!(file.exists(), "{page} links to {target}");
            if !heading.is_empty() {
                let linked = fs::read_to_string(&file).expect("a page");
                let found = linked.lines().any(|line| line.starts_with('#') && anchor(line) == heading);
                assert!(found, "{page} links to {target}, which has no such heading");
            }
        }
    }
}

#[test]
fn files_named_in_the_pages_are_there() {
    let rooms = ["src/", "tests/", "docs/", "config/", "deploy/", "systemd/", "benches/", ".ci/"];
    for page in pages() {
        for word in read(&page).split(|c: char| c.is_whitespace() || "`()[],;|\"".contains(c)) {
            let word = word.trim_end_matches(['.', ':', '/']);
            let is_path = rooms.iter().any(|room| word.starts_with(room)) && !word.contains(['*', '…', '<', '{', '#']);
            assert!(!is_path || root().join(word).exists(), "{page} names {word}");
        }
    }
}

/// What `strayd ARGS --help` prints.
fn help(args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strayd"));
    let output = command.args(args).arg("--help").output().expect("strayd starts");
    assert!(output.status.success(), "{args:?} is no command");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn commands_in_the_pages_exist_with_their_options() {
    let mut n = 0;
    for page in pages() {
        let consoles = blocks(&page, "console").join("");
        for line in consoles.lines().filter_map(|line| line.strip_prefix("$ strayd ")) {
            let line = line.split(['#', '|']).next().expect("a line has a beginning");
            let words: Vec<&str> = line.split_whitespace().collect();
            let nested = ["models", "suppress"].contains(words.first().expect("a command"));
            let help = help(&words[..if nested { 2 } else { 1 }]);
            for option in words.iter().filter(|word| word.starts_with("--")) {
                let option = option.split('=').next().expect("an option has a name");
                assert!(help.contains(option), "{page}: strayd {line}: there is no {option}");
            }
            n += 1;
        }
    }
    assert!(n >= 5, "{n} commands are shown");
}
