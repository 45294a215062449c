//! What tests share: a real Kafka broker, the daemon as a process, and waiting for a condition with a deadline.
//!
//! Nothing here sleeps as synchronisation, and nothing here outlives the test binary, however that ends.
//!
//! ```ignore
//! mod support;
//! use support::{Broker, Launch, Outgoing};
//!
//! let Some(broker) = Broker::get() else { return };
//! let topic = broker.new_topic("features", 4);
//! broker.produce(&topic, (0..10).map(|i| Outgoing::value(format!("[{i}]"))));
//! let launch = Launch::new(&format!("[kafka]\nbrokers = \"{}\"\n", broker.brokers()));
//! let daemon = launch.start();
//! daemon.wait_ready(Duration::from_secs(20));
//! ```

#![allow(dead_code, unused_imports, reason = "each test binary uses its own part of the support")]

mod admin;
mod broker;
mod client;
mod daemon;
mod data;
mod door;
mod formats;
mod guard;
mod kubernetes;
mod metrics;
mod prometheus;
mod python;
mod same;
mod secured;
mod setup;
mod token;
mod watching;

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub use broker::{Broker, Extra, Paused};
pub use client::{Committed, Outgoing, Record, Sender};
pub use daemon::{Daemon, Launch};
pub use data::{DataSet, Sensors, auc_roc, to_json};
pub use door::{Door, Way};
pub use formats::{Registry, Sample, written};
pub use guard::Guard;
pub use kubernetes::{Kubernetes, yaml};
pub use metrics::Metrics;
pub use prometheus::{Prometheus, promtool_check};
pub use python::python;
pub use same::says_the_same;
pub use secured::{Acl, Keys, Secured, documented_rights};
pub use setup::Topics;
pub use token::{TokenEndpoint, basic, unsigned_token};
pub use watching::{DASHBOARDS, RULES, alerts, dashboards, metrics_of, panels, rules, shipped, shipped_text, targets};

/// Waits until `condition` holds and panics with `what` when it doesn't within `deadline`.
#[track_caller]
pub fn wait_until(deadline: Duration, what: &str, condition: impl FnMut() -> bool) {
    assert!(holds_within(deadline, condition), "waited {deadline:?} in vain for: {what}");
}

/// Whether `condition` comes to hold within `deadline`; it is asked at least once, and again every few milliseconds.
pub fn holds_within(deadline: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    let mut pause = Duration::from_millis(2);
    while !condition() {
        let left = deadline.saturating_sub(start.elapsed());
        if left.is_zero() {
            return false;
        }
        #[allow(clippy::disallowed_methods, reason = "the pause between two looks at a condition with a deadline")]
        thread::sleep(pause.min(left));
        pause = (pause * 2).min(Duration::from_millis(50));
    }
    true
}

/// Runs a script of this repository that fetches something, and returns the path that it prints.
///
/// Errors: why there is none, in the script's last words.
pub fn fetched(script: &str, args: &[&str]) -> Result<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = Command::new("sh").arg(root.join(script)).args(args).current_dir(root).output();
    let out = out.expect("there is a shell");
    if out.status.success() {
        return Ok(PathBuf::from(String::from_utf8_lossy(&out.stdout).trim()));
    }
    let said = String::from_utf8_lossy(&out.stderr);
    let last = said.lines().rev().find(|line| !line.trim().is_empty());
    Err(last.map_or_else(|| format!("{script} says nothing"), str::to_owned))
}

/// Says on the real standard error, which `cargo test` doesn't hide, that the running test is skipped, and why.
pub fn skip(why: &str) {
    let thread = thread::current();
    let name = thread.name().unwrap_or("a test without a name");
    writeln!(std::io::stderr(), "SKIPPED {name}: {why}").expect("standard error can be written");
}

/// Sends a signal to a process that its owner hasn't reaped yet.
fn send_signal(pid: u32, signal: i32) {
    let pid = i32::try_from(pid).expect("process ids are small");
    #[allow(unsafe_code, reason = "std sends no signal but SIGKILL")]
    // SAFETY: kill touches no memory of ours; the caller's process isn't reaped, so the id is still its own.
    unsafe {
        libc::kill(pid, signal);
    }
}

/// Returns a TCP port of the loopback address that nobody listens on, and that no other call of this process returns.
///
/// It lies below the range from which the system takes ports for outgoing connections (32768 and up), so that nothing
/// takes it between this call and its use.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(97);
    for _ in 0..1000 {
        let at = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 12_000 + (at % 20_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("a thousand ports from 12000 to 31999 are all taken");
}

/// Returns a name that no other test uses, for topics, groups and the like: `stem-<pid>-<ms>-<n>`.
pub fn unique(stem: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("the clock is past 1970").as_millis();
    format!("{stem}-{}-{}-{}", std::process::id(), now % 100_000_000, NEXT.fetch_add(1, Ordering::Relaxed))
}
