//! A real Apache Kafka for tests: KRaft, one node, its own ports and data directory, one for each test binary.
//!
//! `Broker::get` starts it at the first call; `STRAYD_TEST_BROKERS` names an existing one instead. Where neither is to
//! be had the test says `SKIPPED`, or panics with `STRAYD_REQUIRE_KAFKA=1`. It must never outlive the test binary.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::guard::Guard;
use super::{fetched, free_port, holds_within, send_signal, skip, unique};

const SERVER_PROPERTIES: &str = include_str!("kafka/server.properties");
const LOG4J_PROPERTIES: &str = include_str!("kafka/log4j2.properties");

/// How long a start may take, on two cores that are busy otherwise; alone it takes 4 s.
const START_MAX: Duration = Duration::from_secs(60);

/// A small heap, the quick compiler and the simple collector: a test broker lives for seconds beside what it tests.
const JAVA_OPTIONS: &[&str] = &["-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto"];

/// What Kafka's own start script gives one that lives long. Under load the 99th percentile of a record's way through is a third
/// of what it is with those above.
const JAVA_OPTIONS_LASTING: &[&str] = &[
    "-Xms1g",
    "-Xmx1g",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
];

/// A Kafka broker that answers.
#[derive(Debug)]
pub struct Broker {
    brokers: String,
    sasl: Option<String>,
    doors: Vec<(u16, String)>,
    guard: Option<Guard>,
}

impl Broker {
    /// The broker that this test binary's tests share, or nothing, and then the test's skip has been reported.
    pub fn get() -> Option<&'static Self> {
        static SHARED: OnceLock<Result<Broker, String>> = OnceLock::new();
        let shared = SHARED.get_or_init(|| match std::env::var("STRAYD_TEST_BROKERS") {
            Ok(brokers) => {
                let broker = Self::at(&brokers);
                assert!(broker.answers_within(Duration::from_secs(10)), "no broker at STRAYD_TEST_BROKERS={brokers}");
                Ok(broker)
            }
            Err(_) => Self::start(0, &Extra::default()),
        });
        shared.as_ref().map_err(|why| skip_without_kafka(why)).ok()
    }

    /// A broker of the test's own, to be paused or ended, or nothing, and then the test's skip has been reported.
    pub fn own() -> Option<Self> {
        Self::own_with_doors(0)
    }

    /// The same with `n_doors` listeners more, each of which says that it is reached by another port: see [`Self::doors`].
    pub fn own_with_doors(n_doors: usize) -> Option<Self> {
        Self::start(n_doors, &Extra::default()).map_err(|why| skip_without_kafka(&why)).ok()
    }

    /// A broker of the test's own that is set up in more ways than the others.
    pub fn own_with(extra: &Extra) -> Option<Self> {
        Self::start(0, extra).map_err(|why| skip_without_kafka(&why)).ok()
    }

    /// A broker that somebody else runs, by its bootstrap address.
    pub fn at(brokers: &str) -> Self {
        Self { brokers: brokers.to_owned(), sasl: None, doors: Vec::new(), guard: None }
    }

    /// Starts a broker, which ends when it is dropped. Errors say what is missing.
    fn start(n_doors: usize, extra: &Extra) -> Result<Self, String> {
        java_17()?;
        let libs = fetch()?;
        let mut why = String::new();
        for _ in 0..3 {
            match Self::try_start(&libs, n_doors, extra) {
                Ok(broker) => return Ok(broker),
                Err(reason) => why = reason, // another process may have taken a port between choice and use
            }
        }
        Err(why)
    }

    /// Bootstrap address, `host:port`.
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// Bootstrap address that wants the user `strayd` with the password `secret` (SASL PLAIN), where the broker is ours.
    pub fn sasl(&self) -> Option<&str> {
        self.sasl.as_deref()
    }

    /// Ports that the broker sends clients to, and the addresses behind them: whoever connects the two (a
    /// [`super::Door`]) decides what passes.
    pub fn doors(&self) -> &[(u16, String)] {
        &self.doors
    }

    /// Kills a broker of the caller's own with SIGKILL.
    pub fn kill9(&self) {
        self.guard.as_ref().expect("only a broker that the test started can be killed").end();
    }

    /// Starts a broker that was killed, on the same data and ports, and waits until it answers.
    #[track_caller]
    pub fn start_again(&self) {
        let guard = self.guard.as_ref().expect("only a broker that the test started can be killed");
        guard.run();
        assert!(self.answers_within(START_MAX), "the broker didn't start again: {}", guard.last_words());
    }

    /// The broker's folder, where it is ours; it goes with the broker.
    pub fn dir(&self) -> Option<&Path> {
        self.guard.as_ref().map(Guard::dir)
    }

    /// Process id of the broker, where it is ours.
    pub fn pid(&self) -> Option<u32> {
        self.guard.as_ref().map(Guard::pid)
    }

    /// Whether the broker answers a metadata request within `deadline`.
    pub fn answers_within(&self, deadline: Duration) -> bool {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.brokers)
            .set("reconnect.backoff.max.ms", "100")
            .set("log_level", "0")
            .create()
            .expect("these settings are valid");
        holds_within(deadline, || {
            let over = self.guard.as_ref().is_some_and(|guard| !guard.is_running());
            let found = consumer.fetch_metadata(None, Duration::from_secs(1));
            over || found.is_ok_and(|metadata| !metadata.brokers().is_empty())
        }) && self.guard.as_ref().is_none_or(Guard::is_running)
    }

    /// Stops a broker of the caller's own in its tracks until the result is dropped: connections stay, nothing answers.
    ///
    /// What is produced meanwhile stays unacknowledged, which is how a test has batches in flight for sure.
    #[track_caller]
    pub fn pause(&self) -> Paused<'_> {
        let guard = self.guard.as_ref().expect("only a broker that the test started can be paused");
        send_signal(guard.pid(), libc::SIGSTOP);
        Paused { guard }
    }

    fn try_start(libs: &Path, n_doors: usize, extra: &Extra) -> Result<Self, String> {
        let [port, sasl, controller] = std::array::from_fn(|_| free_port());
        let doors: Vec<[u16; 2]> = (0..n_doors).map(|_| [free_port(), free_port()]).collect();
        let dir = std::env::temp_dir().join(unique("strayd-kafka"));
        let properties = dir.join("server.properties");
        let log4j = dir.join("log4j2.properties");
        fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        extra.prepare.iter().for_each(|prepare| prepare(&dir));
        fs::write(&log4j, LOG4J_PROPERTIES).map_err(|e| format!("{}: {e}", log4j.display()))?;
        fs::write(&properties, server_properties(&dir, [port, sasl, controller], &doors, extra))
            .map_err(|e| format!("{}: {e}", properties.display()))?;

        let options = if extra.is_lasting { JAVA_OPTIONS_LASTING } else { JAVA_OPTIONS };
        let mut java: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        java.push(format!("-Dlog4j2.configurationFile={}", log4j.display()));
        java.extend(["-cp".to_owned(), format!("{}/*", libs.display())]);
        let properties = properties.display().to_string();
        let format = ["kafka.tools.StorageTool", "format", "--cluster-id", "c3RyYXlkLXRlc3RzLTAwMQ", "-c", &properties];
        let done = Command::new("java")
            .args(&java)
            .args(format)
            .args(&extra.format)
            .output()
            .map_err(|e| format!("java: {e}"))?;
        if !done.status.success() {
            fs::remove_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
            return Err(format!("formatting the storage failed: {}", String::from_utf8_lossy(&done.stderr)));
        }
        let args = java.iter().map(String::as_str).chain(["kafka.Kafka", &properties]);
        let guard = Guard::spawn(&dir, "java", args);
        let [brokers, sasl] = [port, sasl].map(|port| format!("127.0.0.1:{port}"));
        let doors = doors.into_iter().map(|[said, bound]| (said, format!("127.0.0.1:{bound}"))).collect();
        let broker = Self { brokers, sasl: Some(sasl), doors, guard: Some(guard) };
        if broker.answers_within(START_MAX) {
            return Ok(broker);
        }
        Err(format!("the broker didn't start: {}", broker.guard.expect("set above").last_words()))
    }
}

/// What a test's own broker has beside what every one has.
#[derive(Clone, Debug, Default)]
pub struct Extra {
    /// Listeners at `localhost`: name, port, and Kafka's word for the protocol.
    pub listeners: Vec<(&'static str, u16, &'static str)>,
    /// Lines of server.properties; `{dir}` stands for the broker's folder.
    pub properties: String,
    /// Arguments of the storage's formatting.
    pub format: Vec<String>,
    /// Puts into the broker's folder what those lines speak of.
    pub prepare: Option<fn(&Path)>,
    /// Whether it carries load for long: it then runs as Kafka's start script has it.
    pub is_lasting: bool,
}

/// Reports a skip, or panics where a Kafka is required.
fn skip_without_kafka(why: &str) {
    let required = std::env::var("STRAYD_REQUIRE_KAFKA").is_ok_and(|value| value == "1");
    assert!(!required, "no Kafka: {why}");
    skip(why);
}

/// A broker that stands still until this is dropped.
#[derive(Debug)]
pub struct Paused<'a> {
    guard: &'a Guard,
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        send_signal(self.guard.pid(), libc::SIGCONT);
    }
}

fn server_properties(dir: &Path, [port, sasl, controller]: [u16; 3], doors: &[[u16; 2]], extra: &Extra) -> String {
    let data = dir.join("data");
    let listeners = format!("PLAINTEXT://127.0.0.1:{port},SASL://127.0.0.1:{sasl}");
    let listener = |i: usize, port: u16| format!(",DOOR{i}://127.0.0.1:{port}");
    let bound: String = doors.iter().enumerate().map(|(i, [_, bound])| listener(i, *bound)).collect();
    let said: String = doors.iter().enumerate().map(|(i, [said, _])| listener(i, *said)).collect();
    let map = SERVER_PROPERTIES.lines().find(|line| line.starts_with("listener.security.protocol.map="));
    let more: String = extra.listeners.iter().map(|(name, port, _)| format!(",{name}://localhost:{port}")).collect();
    let secured: String = extra.listeners.iter().map(|(name, _, protocol)| format!(",{name}:{protocol}")).collect();
    let plain: String = (0..doors.len()).map(|i| format!(",DOOR{i}:PLAINTEXT")).collect();
    format!(
        "{SERVER_PROPERTIES}\nlog.dirs={}\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n{}{plain}{secured}\n\
         listeners={listeners}{bound}{more},CONTROLLER://127.0.0.1:{controller}\nadvertised.listeners={listeners}{said}{more}\n{}\n",
        data.display(),
        map.expect("the file has the map"),
        extra.properties.replace("{dir}", &dir.display().to_string())
    )
}

/// Says what is wrong with the `java` on the path, which must be 17 or newer.
fn java_17() -> Result<(), String> {
    let out = Command::new("java").arg("-version").output().map_err(|e| format!("java can't be run: {e}"))?;
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    match java_major(&text) {
        Some(major) if major >= 17 => Ok(()),
        Some(major) => Err(format!("java is {major}, Kafka needs 17")),
        None => Err(format!("java doesn't tell its version: {text}")),
    }
}

/// Reads 17 out of `openjdk version "17.0.15" 2025-04-15`.
pub(super) fn java_major(text: &str) -> Option<u32> {
    let quoted = text.split('"').nth(1)?;
    quoted.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Returns the folder of Kafka's jars, fetched if need be.
fn fetch() -> Result<PathBuf, String> {
    fetched("tests/support/kafka/fetch.sh", &[]).map_err(|why| format!("Kafka's jars can't be fetched: {why}"))
}
