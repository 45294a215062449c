//! Proves `strayd top` in a real terminal (tmux), with the real daemon on a real Kafka: what it shows, what its keys do, that the
//! daemon may go and come, and that the terminal is given back.

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use support::{Broker, Daemon, Launch, Outgoing, Sensors, Topics, holds_within, skip, to_json};

const SOON: Duration = Duration::from_secs(60);
const N_FEATURES: usize = 4;
const N_HISTORY: usize = 2500;
/// A key that would change a terminal's title, and clear it.
const WILD: &str = "\u{1b}]2;pwned\u{7}\u{1b}[2J";

/// A terminal with a shell in it, of a tmux server of its own.
struct Terminal {
    socket: PathBuf,
}

impl Terminal {
    fn new(dir: &Path) -> Self {
        let terminal = Self { socket: dir.join("tmux") };
        terminal.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "100", "-y", "30", "env PS1='ready> ' sh"]);
        terminal.wait("a shell", |shown| shown.contains("ready>"));
        terminal
    }

    fn try_tmux(&self, args: &[&str]) -> Output {
        let mut command = Command::new("tmux");
        command.arg("-u").arg("-S").arg(&self.socket).args(args).env("LC_ALL", "C.UTF-8").env_remove("TMUX");
        command.output().expect("tmux is there")
    }

    #[track_caller]
    fn tmux(&self, args: &[&str]) -> String {
        let out = self.try_tmux(args);
        assert!(out.status.success(), "tmux {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).expect("text")
    }

    fn shown(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// What tmux knows of the terminal.
    fn is(&self, what: &str) -> String {
        self.tmux(&["display-message", "-p", what]).trim().to_owned()
    }

    fn press(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    /// Runs a command line, whose end is told by `left` and its exit code.
    fn run(&self, line: &str) {
        self.tmux(&["send-keys", "-l", &format!("clear; echo be''fore; {line}; echo left $?")]);
        self.press(&["Enter"]);
    }

    #[track_caller]
    fn wait(&self, what: &str, condition: impl Fn(&str) -> bool) -> String {
        let mut shown = String::new();
        let held = holds_within(SOON, || {
            shown = self.shown();
            condition(&shown)
        });
        assert!(held, "waited {SOON:?} in vain for {what}; it shows\n{shown}");
        shown
    }

    /// Waits until the terminal is as it was before: its own screen, its cursor, its settings.
    #[track_caller]
    fn wait_left(&self) {
        self.wait("the end", |shown| shown.contains("left 0") && shown.contains("before") && !shown.contains("●"));
        assert_eq!(self.is("#{alternate_on} #{cursor_flag}"), "0 1");
        self.press(&["stty -a", "Enter"]);
        let words = |shown: &str, word: &str| shown.split_whitespace().any(|found| found == word);
        self.wait("the terminal's settings", |shown| words(shown, "icanon") && words(shown, "echo"));
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.try_tmux(&["kill-server"]);
    }
}

fn published(daemon: &Daemon) -> u64 {
    let (_, body) = daemon.get("/api/v1/status").expect("it answers");
    let status: Value = serde_json::from_str(&body).expect("JSON");
    status["n_published"].as_u64().expect("a number")
}

/// Sends ordinary records, and a fault of each of these keys.
fn send(broker: &Broker, topics: &Topics, daemon: &Daemon, sensors: &mut Sensors, keys: &[&str]) {
    let before = published(daemon);
    for (n, key) in keys.iter().enumerate() {
        let record = |i: usize| {
            let mut row = sensors.row();
            row[n % N_FEATURES] += if i == 9 { 40.0 } else { 0.0 };
            Outgoing::value(to_json(&row))
                .key(if i == 9 { (*key).to_owned() } else { "ordinary".to_owned() })
                .partition(0)
        };
        broker.produce(&topics.features, (0..10).map(record).collect::<Vec<_>>());
    }
    daemon.wait(SOON, "the faults to be published", || published(daemon) >= before + keys.len() as u64);
}

#[test]
fn top_is_used_in_a_real_terminal() {
    let Some(broker) = Broker::get() else { return };
    if !Command::new("tmux").arg("-V").output().is_ok_and(|out| out.status.success()) {
        return skip("no tmux");
    }
    let topics = Topics::new(broker, 2);
    let mut sensors = Sensors::new(N_FEATURES, 5);
    broker.produce(&topics.features, (0..N_HISTORY).map(|_| Outgoing::value(sensors.json())));
    let launch = topics.launch(broker).set("threshold.kind", "quantile");
    let token = launch.dir().join("token");
    std::fs::write(&token, "the-token-of-this-test").expect("the temporary folder can be written");
    let launch = launch.set("admin.token_file", &token.display().to_string());
    let daemon = launch.start();
    daemon.wait_ready(SOON);
    send(broker, &topics, &daemon, &mut sensors, &["pump-1", "pump-2", WILD]);

    let terminal = Terminal::new(launch.dir());
    terminal.run(&launch.words(&["top"]));
    let shown = terminal.wait("the anomalies", |shown| {
        ["● scoring", "pump-1", "␛]2;pwned␇␛[2J"].iter().all(|part| shown.contains(part))
    });
    eprintln!("{shown}");
    assert_ne!(terminal.is("#{pane_title}"), "pwned");
    judges(&terminal, &daemon);
    visits(&terminal, &topics);
    send(broker, &topics, &daemon, &mut sensors, &["late-1"]);
    terminal.wait("what comes later", |shown| shown.contains("late-1"));

    assert_eq!(daemon.sigterm(SOON), 0);
    terminal.wait("the loss", |shown| shown.contains("● disconnected") && shown.contains("Disconnected since"));
    let daemon = launch.start();
    terminal.wait("its return", |shown| shown.contains("● scoring") && !shown.contains("Disconnected"));
    terminal.press(&["q"]);
    terminal.wait_left();
    watches_only(&terminal, &daemon);
    prints(&launch, &daemon);
}

/// Opens an anomaly, and says what it was.
fn judges(terminal: &Terminal, daemon: &Daemon) {
    terminal.press(&["End", "Enter"]);
    // All of it at once: the terminal may be looked at in the middle of a picture.
    let shown = terminal.wait("the reasons of the oldest", |shown| {
        ["× the threshold · pump-1", "actual", "share of the score", "p-value"].iter().all(|part| shown.contains(part))
    });
    eprintln!("{shown}");
    terminal.press(&["f"]);
    terminal.wait("the question", |shown| shown.contains("Was this a false positive?"));
    terminal.press(&["y"]);
    terminal.wait("the answer", |shown| shown.contains("Noted as false positive"));
    daemon.wait_metrics(SOON, "the opinion to be taken up", |metrics| {
        metrics.sum("strayd_feedback_total", &[("result", "applied")]) == 1.0
    });
    terminal.press(&["Escape"]);
    terminal.wait("the list", |shown| shown.contains("the newest first"));
}

/// Goes through the other pages, and makes the terminal small.
fn visits(terminal: &Terminal, topics: &Topics) {
    terminal.press(&["2"]);
    terminal.wait("the models", |shown| shown.contains("Models, the newest first") && shown.contains(" 1 scores"));
    terminal.press(&["Enter"]);
    terminal.wait("a model", |shown| shown.contains("patterns that it has learnt"));
    terminal.press(&["3"]);
    let topic: String = topics.features.chars().take(20).collect();
    terminal.wait("the partitions", |shown| shown.contains("Partitions, 2") && shown.contains(&topic));
    terminal.tmux(&["resize-window", "-x", "60", "-y", "15"]);
    terminal.wait("a small page", |shown| shown.lines().nth(14).is_some_and(|line| line.starts_with("q quit")));
    terminal.press(&["1", "Home"]);
    terminal.wait("the list", |shown| shown.contains("pump-2"));
}

/// Without the token nothing is sent; SIGTERM, too, gives the terminal back.
fn watches_only(terminal: &Terminal, daemon: &Daemon) {
    terminal.run(&format!("NO_COLOR=1 '{}' top --url {}", env!("CARGO_BIN_EXE_strayd"), daemon.url()));
    terminal.wait("the daemon", |shown| shown.contains("● scoring"));
    terminal.press(&["2", "r"]);
    terminal.wait("the reason", |shown| shown.contains("Read-only: the daemon wants its token"));
    let shell = terminal.is("#{pane_pid}");
    let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).expect("the shell runs");
    let killed = Command::new("kill").args(["-TERM", children.trim()]).status().expect("there is a kill");
    assert!(killed.success(), "the shell's child is `{children}`");
    terminal.wait_left();
}

/// Where there is no terminal it prints.
fn prints(launch: &Launch, daemon: &Daemon) {
    let out = launch.ask(&["top"]);
    let text = String::from_utf8(out.stdout).expect("text");
    assert!(out.status.success() && text.contains(": scoring") && text.contains("models"), "{text}");
    let status: Value = serde_json::from_slice(&launch.ask(&["top", "--json"]).stdout).expect("JSON");
    let (_, own) = daemon.get("/api/v1/status").expect("it answers");
    let own: Value = serde_json::from_str(&own).expect("JSON");
    assert_eq!((&status["started"], &status["model"]), (&own["started"], &own["model"]));
    let out =
        Command::new(env!("CARGO_BIN_EXE_strayd")).args(["top", "--url", "127.0.0.1:9"]).output().expect("it runs");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.code() == Some(1) && said.contains("http://127.0.0.1:9 doesn't answer"), "{said}");
}
