//! strayd in front of a real broker with TLS, SASL and ACLs: every way to authenticate, what is said where it fails, and
//! the least rights of docs/SECURITY.md, each of them missed by name.

mod support;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use support::{
    Acl, Broker, Daemon, Keys, Launch, Outgoing, Record, Secured, Sensors, TokenEndpoint, documented_rights,
    holds_within, unique,
};

const SOON: Duration = Duration::from_secs(60);
/// How long a right's absence may go unnoticed before something more is asked of the daemon.
const POKE_INTERVAL: Duration = Duration::from_secs(1);
const POKES_MAX: usize = 20;
const N_HISTORY: usize = 2_500;
const ODD: &str = r#"{"s0": 9e9, "s1": -9e9, "s2": 9e9, "s3": -9e9}"#;
/// Keys that every daemon has.
const ALWAYS: [&str; 4] = ["input.topic", "output.anomalies", "output.dead_letters", "kafka.group"];

/// What the page grants for one key.
#[derive(Debug)]
struct Needed {
    key: String,
    value: String,
    acls: Vec<Acl>,
}

/// Reads the page, with a name of this test's own for each of its topics and for the group.
fn page(broker: &Broker) -> (Vec<Needed>, BTreeMap<String, String>) {
    let group = unique("pumps");
    let mut names = BTreeMap::new();
    let mut found: Vec<Needed> = Vec::new();
    for (key, value, acls) in documented_rights() {
        for acl in acls.iter().filter(|acl| acl.kind == "topic") {
            // strayd makes the registry's topic itself.
            let own = || if acl.name == "models" { unique("models") } else { broker.new_topic(&acl.name, 1) };
            names.entry(acl.name.clone()).or_insert_with(own);
        }
        found.push(Needed { key, value, acls });
    }
    let renamed = |kind: &str, name: &str| match kind {
        "topic" => names[name].clone(),
        _ => name.replacen("strayd", &group, 1),
    };
    for needed in &mut found {
        let is_delivery = needed.key == "kafka.delivery";
        let kind = if needed.key == "kafka.group" { "group" } else { "topic" };
        needed.value = if is_delivery { needed.value.clone() } else { renamed(kind, &needed.value) };
        needed.acls.iter_mut().for_each(|acl| acl.name = renamed(&acl.kind, &acl.name));
    }
    (found, names)
}

/// One daemon with the rights that the page gives it.
struct Stage<'a> {
    secured: &'a Secured,
    principal: String,
    names: BTreeMap<String, String>,
    acls: Vec<Acl>,
    launch: Launch,
    n_pokes: usize,
    /// Rights whose absence was not told.
    unnamed: String,
}

impl<'a> Stage<'a> {
    /// `user` with the rights of those of the page's keys that `is_set`.
    fn new(secured: &'a Secured, user: &str, is_set: impl Fn(&str) -> bool) -> Self {
        let (needed, names) = page(&secured.broker);
        let mut sensors = Sensors::new(4, 3);
        let history = (0..N_HISTORY).map(|_| Outgoing::value(sensors.json()));
        secured.broker.produce(&names["features"], history);
        let mut launch = Launch::new("")
            .kafka(&secured.by_password(user, "SCRAM-SHA-512"))
            .set("kafka.instance", "one")
            .set("kafka.session_timeout", "6s")
            .set("training.enabled", "false")
            .set("history.rows_min", &N_HISTORY.to_string())
            .set("threshold.kind", "quantile");
        let mut acls: Vec<Acl> = Vec::new();
        for Needed { key, value, acls: more } in needed.into_iter().filter(|needed| is_set(&needed.key)) {
            launch = launch.set(&key, &value);
            acls.extend(more.into_iter().filter(|acl| !acls.contains(acl)).collect::<Vec<_>>());
        }
        let principal = format!("User:{user}");
        acls.iter().for_each(|acl| secured.grant(&principal, acl));
        Self { secured, principal, names, acls, launch, n_pokes: 0, unnamed: String::new() }
    }

    fn has(&self, topic: &str) -> bool {
        self.acls.iter().any(|acl| acl.name == self.names[topic])
    }

    fn read(&self, topic: &str, n: usize) -> Vec<Record> {
        self.secured.broker.consume(&self.names[topic], n, SOON)
    }

    /// Gives the daemon a reason to use each of its rights.
    fn poke(&mut self, daemon: &Daemon) {
        let broker = &self.secured.broker;
        broker.produce(&self.names["features"], ["no vector", ODD].map(Outgoing::value));
        if self.has("commands") {
            let order = if self.n_pokes.is_multiple_of(2) { "pin" } else { "unpin" };
            let request = ureq::post(format!("{}/api/v1/commands", daemon.url())).content_type("application/json");
            // It may have ended for want of the right.
            let _ = request.send(format!(r#"{{"command": "{order}"}}"#));
        }
        if self.has("feedback") {
            let id = self.read("anomalies", 1)[0].json()["id"].clone();
            let said = serde_json::json!({"id": id, "verdict": "expected"}).to_string();
            broker.produce(&self.names["feedback"], [Outgoing::value(said).key(unique("key"))]);
        }
        self.n_pokes += 1;
    }

    /// Everything that a daemon does, with all the rights.
    fn works(&mut self) {
        let daemon = self.launch.start();
        daemon.wait_ready(SOON);
        let mut sensors = Sensors::new(4, 3);
        self.secured.broker.produce(&self.names["features"], (0..300).map(|_| Outgoing::value(sensors.json())));
        self.secured.broker.produce(&self.names["features"], ["no vector", ODD].map(Outgoing::value));
        for (topic, n) in [("dead-letters", 1), ("anomalies", 1), ("scores", 300), ("incidents", 1)] {
            self.read(topic, n);
        }
        self.poke(&daemon);
        if self.has("commands") {
            self.read("commands", 1);
        }
        if self.has("feedback") {
            let applied =
                |metrics: &support::Metrics| metrics.sum("strayd_feedback_total", &[("result", "applied")]) > 0.0;
            daemon.wait_metrics(SOON, "feedback to be taken up", applied);
        }
        if self.has("models") {
            self.read("models", 1);
        }
        assert!(!daemon.said().contains("no right to"), "{}", daemon.said());
        assert_eq!(daemon.sigterm(SOON), 0);
    }

    /// Takes a right away, and holds the daemon to saying so.
    fn misses(&mut self, acl: &Acl) {
        self.secured.revoke(&self.principal, acl);
        let daemon = self.launch.start();
        let cure = format!("--allow-principal \"{}\" {}", self.principal, acl.options());
        let is_told = || {
            let ready = daemon.get("/readyz").map(|(_, body)| body).unwrap_or_default();
            // A page and a line of the log are JSON: quotes are escaped there.
            (daemon.said() + &ready).replace('\\', "").contains(&cure)
        };
        let named = holds_within(POKE_INTERVAL * 2, is_told)
            || (0..POKES_MAX).any(|_| {
                self.poke(&daemon);
                holds_within(POKE_INTERVAL, is_told)
            });
        if !named {
            writeln!(
                self.unnamed,
                "without {acl:?} nothing says `{cure}`: {:?}\n{}",
                daemon.get("/readyz"),
                daemon.said()
            )
            .expect("a string has room");
        }
        let told_after = daemon.age();
        // The second signal ends what still waits for an answer of a broker that gives none.
        let has_ended = (0..2).any(|_| {
            daemon.signal(libc::SIGTERM);
            daemon.exit_within(POKE_INTERVAL * 2).is_some()
        });
        assert!(has_ended, "it ends: {}", daemon.said());
        self.secured.grant(&self.principal, acl);
        eprintln!(
            "told after {told_after:.1?}, ended after {:.1?}: {}",
            daemon.age().saturating_sub(told_after),
            acl.options()
        );
    }
}

#[test]
fn at_least_once_it_works_with_the_least_rights_and_names_each_that_is_missing() {
    let Some(secured) = Secured::get() else { return };
    let is_set = |key: &str| ALWAYS.contains(&key) || ["output.scores", "output.incidents"].contains(&key);
    let mut stage = Stage::new(secured, "pumps", is_set);
    stage.works();
    for acl in stage.acls.clone() {
        stage.misses(&acl);
    }
    assert_eq!(stage.unnamed, "");
}

#[test]
fn with_everything_switched_on_it_works_with_the_least_rights_and_names_each_that_is_missing() {
    let Some(secured) = Secured::get() else { return };
    let mut stage = Stage::new(secured, "fans", |_| true);
    // The topic is only made once.
    let create = stage.acls.iter().find(|acl| acl.operation == "Create").expect("the registry's topic is made").clone();
    stage.misses(&create);
    stage.works();
    // What is missed before anything else is, is shown by the daemon of the other test.
    let is_shown = |acl: &Acl| match &*acl.kind {
        "topic" => {
            ["features", "dead-letters", "scores", "incidents"].iter().any(|name| stage.names[*name] == acl.name)
        }
        "group" => !acl.name.ends_with(".trainer"),
        _ => false,
    };
    let left: Vec<Acl> = stage.acls.iter().filter(|acl| **acl != create && !is_shown(acl)).cloned().collect();
    for acl in left {
        stage.misses(&acl);
    }
    assert_eq!(stage.unnamed, "");
}

/// A daemon for whoever `keys` say; it has the rights of `principal`.
fn launch_of(secured: &Secured, keys: &Keys, principal: &str) -> Launch {
    let (needed, names) = page(&secured.broker);
    let mut sensors = Sensors::new(4, 3);
    let history = (0..N_HISTORY).map(|_| Outgoing::value(sensors.json()));
    secured.broker.produce(&names["features"], history);
    let launch = Launch::new("").kafka(keys).set("history.rows_min", &N_HISTORY.to_string());
    needed.iter().filter(|needed| ALWAYS.contains(&&*needed.key)).fold(launch, |launch, needed| {
        needed.acls.iter().for_each(|acl| secured.grant(principal, acl));
        launch.set(&needed.key, &needed.value)
    })
}

/// Who a client is, by each way to say it: the principal, and the keys.
fn ways(secured: &Secured) -> Vec<(&'static str, Keys)> {
    let secret = format!("client{}", Secured::MARKER);
    let endpoint = TokenEndpoint::start("by-token", &secret);
    let by_credentials = secured.by_token(vec![
        ("security.oauth_token_url", endpoint.url()),
        ("security.oauth_client_id", "by-token".to_owned()),
        ("security.oauth_client_secret_file", secured.write("client-secret", &secret)),
    ]);
    let token = secured.write("token", &support::unsigned_token("by-file"));
    vec![
        ("User:CN=client", secured.by_certificate()),
        ("User:by-token", by_credentials),
        ("User:by-file", secured.by_token(vec![("security.oauth_token_file", token)])),
        ("User:nobody", secured.by_password("nobody", "PLAIN")),
        ("User:nobody", secured.by_password("nobody", "SCRAM-SHA-256")),
        ("User:nobody", secured.by_password("nobody", "SCRAM-SHA-512")),
    ]
}

#[test]
fn every_way_to_authenticate_carries_a_daemon_to_its_first_model_and_no_secret_shows() {
    let Some(secured) = Secured::get() else { return };
    let admin = secured.write("admin-token", &format!("admin{}", Secured::MARKER));
    let registry = secured.write("registry-password", &format!("registry{}", Secured::MARKER));
    // Every secret as it is in its file, and as it is sent.
    let mut hidden = vec![Secured::MARKER.to_owned(), support::unsigned_token("by-file")];
    hidden
        .extend(["by-token:client", "nobody:nobody", "reader:registry"].map(|of| support::basic(of, Secured::MARKER)));
    let key = std::fs::read_to_string(secured.file("client.key")).expect("it was made");
    hidden.push(key.lines().nth(1).expect("a line of the key").to_owned());
    let start = |(principal, keys): (&'static str, Keys)| {
        let launch = launch_of(secured, &keys, principal)
            .set("log.level", "trace")
            .set("kafka.librdkafka.debug", "all")
            .set("admin.token_file", &admin)
            .set("schema_registry.url", "http://127.0.0.1:1")
            .set("schema_registry.username", "reader")
            .set("schema_registry.password_file", &registry);
        let daemon = launch.start();
        (principal, launch, daemon)
    };
    let started: Vec<_> = ways(secured).into_iter().map(start).collect();
    for (principal, launch, daemon) in started {
        daemon.wait_ready(SOON);
        let pages =
            strayd::admin::PAGES.into_iter().chain(["/config", "/api/v1/commands", "/api/v1/config", "/api/v1/status"]);
        let mut shown: String = pages.map(|page| daemon.get(page).expect("it answers").1).collect();
        for what in ["cmdline", "environ"] {
            let bytes = std::fs::read(format!("/proc/{}/{what}", daemon.pid())).expect("the daemon runs");
            shown += &String::from_utf8_lossy(&bytes).replace('\0', "\n");
        }
        for words in [&["check", "--json"][..], &["check", "--connect"], &["check", "--set", "wrong.key=1"]] {
            let output = launch.ask(words);
            assert_eq!(output.status.success(), words.len() == 2, "{principal}: {words:?}");
            shown += &(String::from_utf8_lossy(&output.stdout) + &*String::from_utf8_lossy(&output.stderr));
        }
        let said = launch_log(&launch, daemon);
        assert!(said.contains("librdkafka") && said.contains("APIVERSION"), "librdkafka's own lines are among them");
        for line in shown.lines().chain(said.lines()) {
            assert!(!hidden.iter().any(|secret| line.contains(secret)), "{principal}: a secret shows: {line}");
        }
    }
}

/// All that a daemon has said by its end.
fn launch_log(launch: &Launch, daemon: Daemon) -> String {
    assert_eq!(daemon.sigterm(SOON), 0);
    std::fs::read_to_string(launch.dir().join("stderr-0.log")).expect("it was made at the start")
}

#[test]
fn what_keeps_it_from_authenticating_is_told_with_the_key_to_look_at() {
    let Some(secured) = Secured::get() else { return };
    let endpoint = TokenEndpoint::start("by-token", "another secret");
    let wrong = secured.write("wrong", "wrong-marker");
    let with = |keys: Keys, key: &'static str, value: String| {
        let mut keys: Keys = keys.into_iter().filter(|(known, _)| *known != key).collect();
        keys.push((key, value));
        keys
    };
    let plain = secured.by_password("nobody", "PLAIN");
    let scram = secured.by_password("nobody", "SCRAM-SHA-256");
    let by_address = secured.sasl().replace("localhost", "127.0.0.1");
    let refused_token = secured.by_token(vec![
        ("security.oauth_token_url", endpoint.url()),
        ("security.oauth_client_id", "by-token".to_owned()),
        ("security.oauth_client_secret_file", wrong.clone()),
    ]);
    let bad_token = secured.by_token(vec![("security.oauth_token_file", wrong.clone())]);
    let without_certificate: Keys = secured
        .by_certificate()
        .into_iter()
        .filter(|(key, _)| !key.contains("certificate") && !key.contains("key_"))
        .collect();
    let cases = [
        ("a wrong password", with(plain.clone(), "security.password_file", wrong.clone()), "password_file"),
        ("a wrong password, SCRAM", with(scram, "security.password_file", wrong.clone()), "password_file"),
        ("an unknown authority", with(plain.clone(), "security.ca_file", secured.file("other.pem")), "ca_file"),
        ("another host", with(plain.clone(), "brokers", by_address.clone()), "verify_hostname"),
        ("a refused secret", refused_token, "oauth_token_url"),
        ("a token that is none", bad_token, "oauth_token"),
        ("no certificate", without_certificate, "certificate_file"),
        (
            "a wrong pass phrase",
            with(secured.by_certificate(), "security.key_password_file", wrong),
            "key_password_file",
        ),
    ];
    // All at once: each waits for its request's end before it says what is wrong.
    let started = cases.map(|(what, keys, key)| {
        let launch = Launch::new("").kafka(&keys).set("input.topic", "features").set("log.level", "trace");
        let daemon = launch.start();
        (what, key, launch, daemon)
    });
    for (what, key, _launch, daemon) in &started {
        let everything = || daemon.said() + &daemon.get("/readyz").map(|(_, body)| body).unwrap_or_default();
        // The password's key stands behind two others of the same section.
        let keys = [format!("kafka.security.{key}"), format!("kafka.security.sasl_mechanism, username and {key}")];
        let told = || keys.iter().any(|key| everything().contains(key));
        assert!(holds_within(SOON, told), "{what}: {}", everything());
        assert!(!everything().contains(Secured::MARKER), "{what}: a secret shows: {}", everything());
    }
    // By its address the broker is another host; where that doesn't matter, what is missing are the rights.
    let mut lenient = with(plain, "brokers", by_address);
    lenient.push(("security.verify_hostname", "false".to_owned()));
    let launch = Launch::new("").kafka(&lenient).set("input.topic", "features-of-others");
    let daemon = launch.start();
    daemon.wait(SOON, "the right to be missing", || daemon.said().contains("has no right to"));
}
