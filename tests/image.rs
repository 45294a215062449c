//! Holds Dockerfile and compose.yaml to the program: linters, the configuration they make, users, ports, topics, files.
//!
//! Nothing is built or started from them here: there is no container engine where the tests run.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use strayd::config::{Config, Sources};
use support::{Kubernetes, Launch, yaml};

const COMPOSE: &str = "deploy/compose.yaml";

fn path(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(file: &str) -> String {
    fs::read_to_string(path(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn compose() -> Value {
    yaml(&read(COMPOSE)).remove(0)
}

/// The instructions of the Dockerfile's last stage: word and the rest, continued lines joined, comments left out.
fn instructions() -> Vec<(String, String)> {
    let text = read("Dockerfile");
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let joined = lines.join("\n").replace("\\\n", " ");
    let all = joined.lines().filter_map(|line| line.split_once(' '));
    let all: Vec<(String, String)> = all.map(|(word, rest)| (word.into(), rest.trim().into())).collect();
    let last = all.iter().rposition(|(word, _)| word == "FROM").expect("a stage");
    all[last..].to_vec()
}

#[track_caller]
fn instruction(word: &str) -> String {
    let found: Vec<String> = instructions().into_iter().filter(|(w, _)| w == word).map(|(_, rest)| rest).collect();
    assert_eq!(found.len(), 1, "one {word}");
    found[0].clone()
}

/// The variables that the image sets.
fn environment() -> Vec<(String, String)> {
    let pairs = instruction("ENV");
    pairs.split_whitespace().filter_map(|pair| pair.split_once('=')).map(|(k, v)| (k.into(), v.into())).collect()
}

fn words(json: &str) -> Vec<String> {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"))
}

#[test]
fn linters_find_nothing_wrong() {
    let Some(tools) = Kubernetes::get() else { return };
    tools.ask("hadolint", &["Dockerfile"]);
    let check = ["--builtin-schema", "vendor.compose-spec"];
    tools.ask("check-jsonschema", &[&check[..], &[COMPOSE]].concat());
    let dir = tempfile::tempdir().expect("a temporary folder");
    let broken = dir.path().join("compose.yaml");
    fs::write(&broken, read(COMPOSE).replace("stop_grace_period", "stop_grace_time")).expect("written");
    let refused = tools.run("check-jsonschema", [check[0], check[1], &broken.display().to_string()]);
    assert!(!refused.status.success(), "an unknown key passes");
}

#[test]
fn the_image_runs_what_the_program_offers() {
    let chart = &yaml(&read("deploy/helm/strayd/values.yaml"))[0];
    let user = &chart["podSecurityContext"]["runAsUser"];
    assert_eq!(instruction("USER"), format!("{user}:{user}"));
    let environment = environment();
    let file = environment.iter().find(|(name, _)| name == "STRAYD_CONFIG").expect("the file that is read");
    assert_eq!(file.1, "/etc/strayd/strayd.toml");
    let overrides = vec![("input.topic".to_owned(), "t".to_owned())];
    let config = Config::load(&Sources { environment, overrides, file: None });
    let config = config.unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(instruction("EXPOSE"), config.admin.listen.port().to_string());
    assert_eq!(chart["admin"]["port"], config.admin.listen.port());
    assert!(config.registry.path.starts_with(instruction("WORKDIR")), "models are where the user may write");
    assert_eq!(words(&instruction("ENTRYPOINT")), ["/usr/bin/strayd"]);
    assert_eq!(words(&instruction("CMD")), ["run"]);
    assert!(instruction("LABEL").contains(concat!("image.version=\"", env!("CARGO_PKG_VERSION"), "\"")));
    let guide = read("docs/OPERATING.md");
    let run = instruction("RUN");
    let packages = run.split("--no-install-recommends ").nth(1).and_then(|rest| rest.split(" &&").next());
    let packages = packages.expect("packages are installed").trim();
    assert!(guide.contains(&format!("apt-get install {packages}`")), "docs/OPERATING.md names other packages");

    let health = instruction("HEALTHCHECK");
    let command = words(health.split_once("CMD ").expect("a command").1);
    assert_eq!(command[0], "/usr/bin/strayd");
    let launch = Launch::new("[kafka]\nbrokers = '127.0.0.1:1'\n[input]\ntopic = 't'\n");
    let daemon = launch.start();
    daemon.wait(Duration::from_secs(30), "the admin server", || daemon.get("/healthz").is_some());
    let check = |listen: &str| {
        let mut strayd = Command::new(env!("CARGO_BIN_EXE_strayd"));
        let asked = strayd.args(&command[1..]).env("STRAYD__ADMIN__LISTEN", listen).output().expect("it starts");
        asked.status.code()
    };
    assert_eq!(check(&launch.admin().replace("127.0.0.1", "0.0.0.0")), Some(0));
    daemon.kill9();
    assert_eq!(check(launch.admin()), Some(1));
}

#[test]
fn the_build_has_every_file_that_it_reads() {
    let ignored = read(".dockerignore");
    let kept: Vec<&str> = ignored.lines().filter_map(|line| line.strip_prefix('!')).collect();
    let mut read_by_code = BTreeSet::new();
    let mut folders = vec![path("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("it can be read").map(|entry| entry.expect("an entry").path()) {
            if entry.is_dir() {
                folders.push(entry);
                continue;
            }
            let Ok(text) = fs::read_to_string(&entry) else { continue };
            let included =
                ["include_str!(\"", "include_bytes!(\""].into_iter().flat_map(|call| text.split(call).skip(1));
            for name in included.filter_map(|rest| rest.split('"').next()) {
                let file = folder.join(name).canonicalize().unwrap_or_else(|error| panic!("{name}: {error}"));
                read_by_code.insert(file);
            }
        }
    }
    assert!(read_by_code.len() >= 5, "{read_by_code:?}");
    let root = path("").canonicalize().expect("the package is there");
    let of_code = read_by_code.iter().map(|file| file.strip_prefix(&root).expect("inside the package").to_owned());
    // Cargo wants every target that Cargo.toml names.
    let of_cargo = ["Cargo.toml", "Cargo.lock", "build.rs", "src", "benches", "tests"].map(PathBuf::from);
    for file in of_code.chain(of_cargo) {
        assert!(kept.iter().any(|kept| file.starts_with(kept)), "{} is kept out of the build", file.display());
    }
}

#[test]
fn the_composition_fits_together() {
    let compose = compose();
    let services = compose["services"].as_object().expect("services");
    for (name, service) in services {
        for port in service["ports"].as_array().into_iter().flatten() {
            assert!(port.as_str().is_some_and(|port| port.starts_with("127.0.0.1:")), "{name}: {port} is open to all");
        }
        for mount in service["volumes"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let from = mount.split(':').next().expect("a source");
            let is_there = if from.starts_with('.') {
                path("deploy").join(from).exists()
            } else {
                compose["volumes"].get(from).is_some()
            };
            assert!(is_there, "{name}: {from} isn't there");
        }
        let image = service["image"].as_str().expect("an image");
        assert!(image.rsplit_once(':').is_some_and(|(_, tag)| tag != "latest"), "{image} isn't pinned");
    }
    assert_eq!(services["strayd"]["image"], concat!("strayd:", env!("CARGO_PKG_VERSION")));
    let pom = read("tests/support/kafka/pom.xml");
    let kafka = pom.split("<kafka.version>").nth(1).and_then(|rest| rest.split('<').next()).expect("a version");
    assert_eq!(services["kafka"]["image"], format!("apache/kafka:{kafka}"), "the Kafka that the tests know");

    let sources =
        Sources { file: Some(path("deploy/compose/strayd.toml")), environment: environment(), overrides: vec![] };
    let config = Config::load(&sources).unwrap_or_else(|problems| panic!("{problems}"));
    let listeners = services["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"].as_str().expect("listeners");
    assert!(listeners.contains(&format!("INSIDE://{},", config.kafka.brokers)));
    let script = services["topics"]["command"][0].as_str().expect("a script");
    let made: BTreeSet<&str> =
        script.split(" in ").nth(1).and_then(|rest| rest.split(';').next()).expect("a list").split(' ').collect();
    let output = &config.output;
    let used = [
        config.input.topic.only(),
        Some(output.anomalies.as_str()),
        Some(output.dead_letters.as_str()),
        output.scores.as_deref(),
        output.incidents.as_deref(),
    ];
    assert_eq!(made, used.into_iter().flatten().collect());
    let grace = services["strayd"]["stop_grace_period"].as_str().expect("a time");
    let grace = humantime::parse_duration(grace).expect("a time");
    assert!(grace > config.pipeline.shutdown_timeout + Duration::from_secs(10));

    let prometheus = &yaml(&read("deploy/compose/prometheus.yml"))[0];
    let job = &prometheus["scrape_configs"][0];
    assert_eq!((&job["job_name"], prometheus["rule_files"][0].as_str()), (&"strayd".into(), Some("strayd.rules.yml")));
    assert_eq!(job["static_configs"][0]["targets"][0], format!("strayd:{}", config.admin.listen.port()));
    let source = &yaml(&read("deploy/grafana/provisioning/datasources/prometheus.yaml"))[0]["datasources"][0];
    assert_eq!(source["url"], "http://prometheus:9090");
    let provider = &yaml(&read("deploy/grafana/provisioning/dashboards/strayd.yaml"))[0]["providers"][0];
    let folder = format!(":{}:ro", provider["options"]["path"].as_str().expect("a path"));
    assert!(texts(&services["grafana"]["volumes"]).iter().any(|mount| mount.ends_with(&folder)));
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().expect("a list").iter().map(|one| one.as_str().expect("a text")).collect()
}

#[test]
fn the_load_is_records_that_can_be_scored() {
    let compose = compose();
    let script = compose["services"]["load"]["command"][0].as_str().expect("a script").replace("$$", "$");
    let (generator, producer) = script.split_once(" | /opt/kafka/").expect("it is sent by Kafka's own producer");
    assert!(producer.contains("--topic features") && producer.contains("'key.separator=|'"));
    // Two rounds of the endless loop.
    let mut shell = Command::new("sh");
    shell.args(["-ec", &format!("{generator} | head -n 250")]).stderr(Stdio::null());
    let output = shell.output().expect("there is a shell");
    let lines = String::from_utf8(output.stdout).expect("text");
    assert_eq!(lines.lines().count(), 250);
    for line in lines.lines() {
        let (key, value) = line.split_once('|').expect("a key and a value");
        let record: serde_json::Map<String, Value> = serde_json::from_str(value).expect("JSON");
        assert!(key.starts_with("pump-") && record.len() == 4 && record.values().all(Value::is_number), "{line}");
    }
}
