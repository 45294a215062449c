//! Holds the pages to the program: metrics, configuration keys, examples, links and commands are what they say.

#[path = "docs/reference.rs"]
mod reference;

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

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

#[test]
fn metrics_named_in_the_pages_exist() {
    let rules = read("deploy/prometheus/strayd.rules.yml");
    let suffixes = ["", "_bucket", "_count", "_sum"];
    let is_declared = |name: &str| {
        let is = |metric: &str| suffixes.iter().any(|suffix| name.strip_suffix(suffix) == Some(metric));
        Metrics::DECLARED.iter().any(|metric| is(metric.name))
    };
    for page in pages() {
        let text = read(&page);
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
        for name in words.map(|word| word.trim_end_matches(':')).filter(|word| word.starts_with("strayd_")) {
            let is_recorded = rules.contains(&format!("record: {name}\n"));
            // A whole family may be named, as in `strayd_model_`, and so may a package's file.
            let is_other = name.ends_with('_') || name.starts_with("strayd_0");
            assert!(is_declared(name) || is_recorded || is_other, "{page} names {name}");
        }
    }
}

#[test]
fn the_tables_of_keys_are_what_the_code_says() {
    let keys = reference::Code::read(&root().join("src"))
        .keys("", &serde_json::to_value(RawConfig::default()).expect("string keys"));
    let page = read("docs/CONFIGURATION.md");
    let (written, wrong) = reference::written(&page, &keys);
    assert_eq!(wrong, [""; 0], "docs/CONFIGURATION.md has not one table for each of these");
    if env::var_os("STRAYD_WRITE_DOCS").is_some() {
        fs::write(root().join("docs/CONFIGURATION.md"), written).expect("the page can be written");
    } else {
        let differs = page.lines().zip(written.lines()).find(|(shown, said)| shown != said);
        assert!(page == written, "docs/CONFIGURATION.md is not what the code says; run `make docs`: {differs:?}");
    }
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
