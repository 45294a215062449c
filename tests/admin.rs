//! The admin server against those who are slow, many, large or strange, over bare sockets: each of them is refused or
//! ends, and others are answered meanwhile.
//!
//! The daemon waits for brokers that aren't there, which is enough for its admin server.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use support::{Daemon, Launch, holds_within, wait_until};

const SOON: Duration = Duration::from_secs(30);
/// More connections than the server holds.
const CROWD: usize = 100;
/// After so long an unfinished head ends its connection; twice that is waited for.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const TOKEN: &str = "a-token-of-the-test";

/// A daemon with or without a token.
fn start(token: Option<&str>) -> (Launch, Daemon) {
    let launch = Launch::new("[kafka]\nbrokers = \"127.0.0.1:1\"\n[input]\ntopic = \"t\"\n");
    let launch = match token {
        Some(token) => {
            let path = launch.dir().join("token");
            std::fs::write(&path, token).expect("the temporary folder can be written");
            launch.set("admin.token_file", &path.display().to_string())
        }
        None => launch,
    };
    let daemon = launch.start();
    daemon.wait(SOON, "its admin server", || daemon.get("/healthz").is_some());
    (launch, daemon)
}

fn connect(launch: &Launch) -> TcpStream {
    let stream = TcpStream::connect(launch.admin()).expect("it listens");
    stream.set_read_timeout(Some(SOON)).expect("a timeout above zero");
    stream
}

/// Sends `request` and returns all that comes until the connection ends.
fn exchange(launch: &Launch, request: &[u8]) -> String {
    let mut stream = connect(launch);
    // Who is refused early may find the connection closed before all is sent, and even before the answer is read.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("no status: {answer:?}"))
}

/// A command with these headers more.
fn command(host: &str, more: &str, body: &str) -> Vec<u8> {
    let n = body.len();
    format!(
        "POST /api/v1/commands HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: application/json\r\n{more}\
         Content-Length: {n}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// Connections that the daemon holds on its admin port, as the kernel lists them: what else it opens meanwhile, such as the
/// sockets of a Kafka client, doesn't count.
fn n_held(launch: &Launch, daemon: &Daemon) -> usize {
    const LISTENS: &str = "0A";
    let port: u16 =
        launch.admin().rsplit(':').next().and_then(|port| port.parse().ok()).expect("an address has a port");
    let table = std::fs::read_to_string(format!("/proc/{}/net/tcp", daemon.pid())).expect("the daemon runs");
    let is_held = |line: &&str| {
        let mut words = line.split_whitespace();
        let (local, state, inode) = (words.nth(1), words.nth(1), words.nth(5));
        // Who has ended one waits a minute for late packets, in no process: without an inode.
        local.is_some_and(|local| local.ends_with(&format!(":{port:04X}")))
            && state != Some(LISTENS)
            && inode != Some("0")
    };
    table.lines().filter(is_held).count()
}

/// Whether the server has ended this connection, without an answer or with one.
fn has_ended(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(1))).expect("a timeout above zero");
    let mut part = [0; 512];
    match stream.read(&mut part) {
        Ok(n) => n == 0,
        Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    }
}

#[test]
fn requests_that_are_too_large_or_not_foreseen_are_refused() {
    let (launch, daemon) = start(None);
    let head = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
    let answer = exchange(&launch, format!("{head}\r\n").as_bytes());
    assert_eq!(status(&answer), 200, "{answer}");
    for header in ["nosniff", "frame-ancestors 'none'", "cache-control: no-store", "no-referrer"] {
        assert!(answer.contains(header), "{header}: {answer}");
    }
    let long = format!("{head}X-Long: {}\r\n\r\n", "x".repeat(64 << 10));
    let many: String = (0..500).map(|i| format!("X-{i}: y\r\n")).collect();
    for (what, request) in [("a long header", long), ("many headers", format!("{head}{many}\r\n"))] {
        let answer = exchange(&launch, request.as_bytes());
        assert!(answer.is_empty() || status(&answer) == 431, "{what}: {answer}");
    }
    let long_path = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", "x".repeat(64 << 10));
    let answer = exchange(&launch, long_path.as_bytes());
    assert!(answer.is_empty() || matches!(status(&answer), 414 | 431), "{answer}");
    let body = format!(r#"{{"command": "{}"}}"#, "x".repeat(80 << 10));
    let answer = exchange(&launch, &command("localhost", "", &body));
    assert!(answer.is_empty() || status(&answer) == 413, "{answer}");
    for (method, page, expected) in [
        ("POST", "/healthz", 405),
        ("DELETE", "/metrics", 405),
        ("GET", "/api/v1/commands", 405),
        ("GET", "/config", 404),
    ] {
        let request =
            format!("{method} {page} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(status(&exchange(&launch, request.as_bytes())), expected, "{method} {page}");
    }
    for strange in ["\u{16}\u{3}\u{1}\u{2}\0\u{1}\0", "GET\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let answer = exchange(&launch, strange.as_bytes());
        assert!(answer.is_empty() || status(&answer) >= 400, "{strange:?}: {answer}");
    }
    let answer = exchange(&launch, format!("{head}\r\n").as_bytes());
    assert_eq!(status(&answer), 200, "it answers all the same: {:?}", daemon.said());
}

#[test]
fn a_crowd_of_slow_clients_ends_in_time_and_keeps_nobody_from_being_answered() {
    let (launch, daemon) = start(None);
    let began = Instant::now();
    let mut slow: Vec<TcpStream> = (0..CROWD)
        .map(|i| {
            let mut stream = connect(&launch);
            // Heads without an end, bodies without an end, and such as say nothing.
            let part: &[u8] = match i % 3 {
                0 => b"GET /metrics HTTP/1.1\r\nHost: loc",
                1 => b"POST /api/v1/commands HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 90\r\n\r\n{",
                _ => b"",
            };
            stream.write_all(part).expect("it is taken");
            stream
        })
        .collect();
    for _ in 0..20 {
        let asked = Instant::now();
        let answer = exchange(&launch, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        assert_eq!(status(&answer), 200, "others are answered");
        assert!(asked.elapsed() < Duration::from_secs(3), "after {:?}", asked.elapsed());
    }
    let n_held_now = || n_held(&launch, &daemon);
    let n_held = n_held_now();
    assert!((1..CROWD).contains(&n_held), "{n_held} of {CROWD} connections are held");
    wait_until(HEAD_TIMEOUT * 2, "all of the crowd to be ended", || slow.iter_mut().all(has_ended));
    wait_until(SOON, "none of them to be held", || n_held_now() == 0);
    eprintln!("{CROWD} slow clients, {n_held} held at a time, all ended after {:?}", began.elapsed());
}

#[test]
fn changes_need_this_machine_or_the_token_and_are_told_with_where_they_came_from() {
    let order = r#"{"command": "retrain"}"#;
    let (launch, daemon) = start(None);
    for (host, more, expected) in [
        ("localhost", "", 202),
        ("127.0.0.1:8790", "", 202),
        ("evil.example", "", 403),
        ("localhost.evil.example", "", 403),
        ("", "", 403),
        ("localhost", "Origin: http://evil.example\r\n", 403),
        ("localhost", "Origin: null\r\n", 403),
    ] {
        let answer = exchange(&launch, &command(host, more, order));
        assert_eq!(status(&answer), expected, "Host: {host}, {more}: {answer}");
    }
    // Without the type that a page can't send without being asked first.
    let simple =
        "POST /api/v1/commands HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: text/plain\r\n";
    let answer = exchange(&launch, format!("{simple}Content-Length: {}\r\n\r\n{order}", order.len()).as_bytes());
    assert_eq!(status(&answer), 415, "{answer}");
    let is_told = || {
        let said = daemon.said();
        let line = |what: &str| said.lines().any(|line| line.contains(what) && line.contains("127.0.0.1:"));
        line("command taken over HTTP") && line("command refused over HTTP")
    };
    assert!(holds_within(SOON, is_told), "{}", daemon.said());

    let (launch, daemon) = start(Some(TOKEN));
    let with =
        |token: &str| exchange(&launch, &command("elsewhere.example", &format!("Authorization: {token}\r\n"), order));
    assert_eq!(status(&with(&format!("Bearer {TOKEN}"))), 202);
    for wrong in ["Bearer guess-of-somebody", "Bearer ", "Basic dXNlcjpwYXNz", "guess-of-somebody"] {
        let answer = with(wrong);
        assert_eq!(status(&answer), 401, "{answer}");
        assert!(answer.to_lowercase().contains("www-authenticate: bearer"), "{answer}");
    }
    assert_eq!(status(&exchange(&launch, &command("localhost", "", order))), 401, "this machine alone is not enough");
    wait_until(SOON, "a refusal to be told", || daemon.said().contains("command refused over HTTP"));
    let said = daemon.said();
    assert!(!said.contains(TOKEN) && !said.contains("guess-of-somebody") && !said.contains("dXNlcjpwYXNz"), "{said}");
    assert_eq!(said.matches("command refused over HTTP").count(), 1, "refusals don't fill the log: {said}");
}
