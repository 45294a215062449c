//! Tests of the configuration: the layers, and that every problem is found and named.

use super::*;

fn load(toml: &str, environment: &[(&str, &str)], overrides: &[(&str, &str)]) -> Result<Config, Problems> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("strayd.toml");
    std::fs::write(&file, toml).expect("written");
    let owned = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Config::load(&Sources { file: Some(file), environment: owned(environment), overrides: owned(overrides) })
}

fn keys(problems: &Problems) -> Vec<&str> {
    problems.0.iter().map(|problem| problem.key.as_str()).collect()
}

#[test]
fn later_layers_win() {
    let toml = "[input]\ntopic = \"file\"\n[kafka]\ngroup = \"file\"\nbrokers = \"file:1\"";
    let environment = [("STRAYD__INPUT__TOPIC", "environment"), ("STRAYD__KAFKA__GROUP", "environment"), ("HOME", "/")];
    let config = load(toml, &environment, &[("input.topic", "flag")]).expect("right");
    assert_eq!(config.input.topic.only(), Some("flag"));
    assert_eq!(config.kafka.group, "environment");
    assert_eq!(config.kafka.brokers, "file:1");
}

#[test]
fn text_takes_the_type_that_its_key_wants() {
    let environment = [
        ("STRAYD__INPUT__TOPIC", "12"),
        ("STRAYD__PIPELINE__LANES", "3"),
        ("STRAYD__DECODE__PASSTHROUGH", "site, line"),
        ("STRAYD__TRAINING__RETRAIN_INTERVAL", "90m"),
        ("STRAYD__TRAINING__ENABLED", "false"),
        ("STRAYD__THRESHOLD__TARGET_ALERT_RATE", "5e-4"),
    ];
    let config = load("", &environment, &[]).expect("right");
    assert_eq!(config.input.topic.only(), Some("12"));
    assert_eq!(config.pipeline.lanes, 3);
    assert_eq!(config.decode.passthrough, ["site", "line"]);
    assert_eq!(config.training.retrain_interval.as_secs(), 5400);
    assert!(!config.training.enabled);
    assert_eq!(config.threshold.target_alert_rate(), 5e-4);
}

#[test]
fn all_wrong_keys_are_named_at_once_with_what_is_allowed() {
    let toml = "[input]\ntopik = \"x\"\ntopic = \"t\"\n[pipeline]\nlanes = \"many\"\n[decode]\nformat = \"xml\"\n[wrong]\nkey = 1";
    let environment = [("STRAYD__ADMIN__LISTEN", "here"), ("STRAYD__KAFKA__GROUP", "")];
    let problems = load(toml, &environment, &[]).expect_err("six problems");
    let mut found = keys(&problems);
    found.sort_unstable();
    assert_eq!(found, ["admin.listen", "decode.format", "input.topik", "kafka.group", "pipeline.lanes", "wrong.key"]);
    let text = problems.to_string();
    assert!(text.starts_with("the configuration has 6 problems\n"), "{text}");
    assert!(text.contains("unknown field `topik`, expected `topic` or `start`"), "{text}");
    assert!(text.contains("\"xml\": unknown variant `xml`, expected `json` or `packed`"), "{text}");
}

#[test]
fn all_wrong_values_are_named_at_once() {
    let toml = "[output]\nanomalies = \"t\"\n[input]\ntopic = \"t\"\n[pipeline]\nlanes = 0\ndrain_timeout = \"1h\"\n\
                [kafka]\ndelivery_timeout = \"5m\"\n[threshold]\ntarget_alert_rate = 2.0\n[schema]\nfeatures = [\"a\", \"a\"]";
    let problems = load(toml, &[], &[]).expect_err("six problems");
    let mut found = keys(&problems);
    found.sort_unstable();
    let expected = [
        "kafka.delivery_timeout",
        "output.anomalies",
        "pipeline.drain_timeout",
        "pipeline.lanes",
        "schema.features",
        "threshold.target_alert_rate",
    ];
    assert_eq!(found, expected, "{problems}");
}

#[test]
fn features_are_names_or_tables() {
    let with = |features: &str| load(&format!("[input]\ntopic = \"t\"\n[schema]\nfeatures = {features}"), &[], &[]);
    let config = with(r#"["temp", { name = "hour", kind = "cyclic", period = 24 }]"#).expect("right");
    assert_eq!(config.schema.features[1].period, Some(24.0));
    let problem = |features: &str| with(features).expect_err("wrong").to_string();
    let said = problem(r#"[{ name = "hour", kind = "cyclic" }]"#);
    assert!(said.contains("schema.features: feature `hour`: a cyclic feature needs a period"), "{said}");
    let said = problem(r#"[{ name = "hour", kind = "octal" }]"#);
    assert!(said.contains("unknown variant `octal`, expected one of `auto`, `numeric`, `log`"), "{said}");
    let environment = [("STRAYD__INPUT__TOPIC", "t"), ("STRAYD__SCHEMA__FEATURES", "temp, load")];
    assert_eq!(load("", &environment, &[]).expect("right").schema.features.len(), 2);
}

#[test]
fn the_topic_must_be_named() {
    assert_eq!(keys(&load("", &[], &[]).expect_err("no topic")), ["input.topic"]);
}

#[test]
fn librdkafka_settings_pass_through_with_their_dots() {
    let toml = "[input]\ntopic = \"t\"\n[kafka.librdkafka]\n\"fetch.wait.max.ms\" = \"7\"";
    let environment = [("STRAYD__KAFKA__LIBRDKAFKA__CLIENT_RACK", "eu-1a")];
    let config = load(toml, &environment, &[("kafka.librdkafka.socket.keepalive.enable", "true")]);
    let config = config.expect("right");
    assert_eq!(config.kafka.librdkafka["client.rack"], "eu-1a");
    assert_eq!(config.kafka.librdkafka["fetch.wait.max.ms"], "7");
    assert_eq!(config.kafka.librdkafka["socket.keepalive.enable"], "true");
    let toml = "[input]\ntopic = \"t\"\n[kafka.librdkafka]\n\"enable.auto.offset.store\" = \"true\"";
    assert_eq!(keys(&load(toml, &[], &[]).expect_err("ours")), ["kafka.librdkafka.\"enable.auto.offset.store\""]);
}

#[test]
fn a_file_that_is_not_toml_is_named() {
    let problems = load("[input", &[], &[]).expect_err("no TOML");
    assert!(problems.to_string().contains("strayd.toml: the file is not TOML"), "{problems}");
    let sources = Sources { file: Some("/no/such/strayd.toml".into()), ..Sources::default() };
    let problems = Config::load(&sources).expect_err("no file");
    assert!(problems.to_string().contains("/no/such/strayd.toml: the file can't be read"), "{problems}");
}

#[test]
fn the_shipped_file_says_the_defaults() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/strayd.toml");
    let config = Config::load(&Sources { file: Some(file), ..Sources::default() }).expect("the shipped file is right");
    let mut defaults = RawConfig::default();
    defaults.input.topic = config.input.topic.clone();
    defaults.registry.path = config.registry.path.clone();
    assert_eq!(*config, defaults);
}

#[test]
fn the_shipped_file_shows_every_key() {
    let text = include_str!("../../config/strayd.toml");
    let defaults = serde_json::to_value(RawConfig::default()).expect("string keys");
    for (section, table) in defaults.as_object().expect("sections") {
        // A list of tables, and tables by the names of features, are shown by an example.
        let heads = [format!("# [[{section}]]"), format!("# [{section}.")];
        let Some(table) = table.as_object().filter(|table| !table.is_empty()) else {
            let shown = text.lines().any(|line| heads.iter().any(|head| line.starts_with(head)));
            assert!(shown, "config/strayd.toml does not show {section}");
            continue;
        };
        for key in table.keys() {
            let shown = text.lines().any(|line| {
                let line = line.trim_start_matches("# ");
                line.starts_with(&format!("{key} =")) || line == format!("[{section}.{key}]")
            });
            assert!(shown, "config/strayd.toml does not show {section}.{key}");
        }
    }
}

#[test]
fn rules_are_read_and_wrong_ones_named() {
    let toml = "[input]\ntopic = \"t\"\n[[suppress]]\nname = \"a\"\nseverity_max = \"low\"\n[features.\"Temp.In\"]\ndirection = \"up\"";
    let config = load(toml, &[], &[]).expect("right");
    assert_eq!(config.suppress[0].name, "a");
    assert_eq!(config.features["Temp.In"].direction, alert::Direction::Up);
    let wrong =
        toml.replace("severity_max = \"low\"", "until = \"soon\"") + "\ndeviation_min = -1.0\n[incidents]\nm = 2";
    let problems = load(&wrong, &[], &[]).expect_err("three problems");
    assert_eq!(keys(&problems), ["incidents.m", "suppress[0].until", "features.Temp.In.deviation_min"]);
}

#[test]
fn a_secret_in_the_pass_through_is_refused_and_not_repeated() {
    let toml = "[input]\ntopic = \"x\"\n[kafka.librdkafka]\n\"sasl.password\" = \"hunter2\"";
    let problems = load(toml, &[], &[]).expect_err("a secret");
    assert_eq!(keys(&problems), ["kafka.librdkafka.\"sasl.password\""]);
    assert!(!problems.to_string().contains("hunter2"), "{problems}");
}
