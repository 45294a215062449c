//! The built `strayd` as a process: started with a configuration, watched through its admin server, ended by signals.
//!
//! A [`Launch`] owns the folder (the working directory, so relative paths of the configuration stay in it) and the
//! admin port, and starts the daemon as often as a test wants; a [`Daemon`] is one such run. The system kills it when
//! the thread that started it ends, so that it never outlives its test.

use std::fs::{self, File};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use ureq::Agent;

use super::guard::last_lines;
use super::{Metrics, free_port, holds_within, send_signal};

/// Deadline of a single request to the admin server.
const REQUEST_MAX: Duration = Duration::from_secs(5);

/// What a daemon is started with; it outlives the daemons, so that one can be killed and started again.
#[derive(Debug)]
pub struct Launch {
    dir: TempDir,
    admin: String,
    program: PathBuf,
    args: Vec<String>,
    envs: Vec<(String, String)>,
    n_started: AtomicU32,
}

impl Launch {
    /// Prepares `strayd run --config FILE` with this configuration (TOML), to which `admin.listen` is added.
    #[track_caller]
    pub fn new(config: &str) -> Self {
        Self::new_in(&std::env::temp_dir(), config)
    }

    /// The same with its folder in another one.
    #[track_caller]
    pub fn new_in(parent: &Path, config: &str) -> Self {
        let mut config: toml::Table = config.parse().expect("the configuration is TOML");
        let admin = format!("127.0.0.1:{}", free_port());
        let section = config.entry("admin").or_insert_with(|| toml::Table::new().into());
        section.as_table_mut().expect("admin is a table").insert("listen".into(), admin.clone().into());
        let dir = tempfile::Builder::new().prefix("strayd-test-").tempdir_in(parent);
        let dir = dir.expect("a temporary folder can be made");
        let file = dir.path().join("strayd.toml");
        fs::write(&file, config.to_string()).expect("the temporary folder can be written");
        let args = ["run".to_owned(), "--config".to_owned(), file.display().to_string()];
        let program = PathBuf::from(env!("CARGO_BIN_EXE_strayd"));
        Self { dir, admin, program, args: args.into(), envs: Vec::new(), n_started: AtomicU32::new(0) }
    }

    /// The same with one more environment variable.
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.envs.push((key.to_owned(), value.to_owned()));
        self
    }

    /// The same with one more argument.
    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }

    /// The same with one key of the configuration overridden, as in `set("pipeline.lanes", "2")`.
    pub fn set(self, key: &str, value: &str) -> Self {
        self.arg("--set").arg(&format!("{key}={value}"))
    }

    /// The same, started by another program that ends as this one: `PROGRAM ARGS… strayd run …`.
    pub fn through(self, program: &str, args: &[&str]) -> Self {
        let own = [self.program.display().to_string()].into_iter().chain(self.args);
        let args = args.iter().map(|arg| (*arg).to_owned()).chain(own).collect();
        Self { program: program.into(), args, ..self }
    }

    /// The same with another program, for tests of this file.
    pub fn program<const N: usize>(self, program: &str, args: [&str; N]) -> Self {
        Self { program: program.into(), args: args.map(str::to_owned).into(), ..self }
    }

    /// Runs another command with the daemon's configuration: `strayd WORDS… --config FILE …`.
    pub fn ask(&self, words: &[&str]) -> Output {
        let mut command = Command::new(&self.program);
        command.args(words).args(&self.args[1..]).envs(self.envs.iter().map(|(key, value)| (key, value)));
        command.current_dir(self.dir()).output().expect("the program can be run")
    }

    /// The words of that command, for a shell.
    pub fn words(&self, words: &[&str]) -> String {
        let words = words.iter().copied().chain(self.args[1..].iter().map(String::as_str));
        let words = [self.program.to_str().expect("its path is text")].into_iter().chain(words);
        words.map(|word| format!("'{}'", word.replace('\'', r"'\''"))).collect::<Vec<_>>().join(" ")
    }

    /// The daemon's working directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Address of the admin server, `host:port`.
    pub fn admin(&self) -> &str {
        &self.admin
    }

    /// Starts the daemon.
    pub fn start(&self) -> Daemon {
        let n = self.n_started.fetch_add(1, Ordering::Relaxed);
        let log = self.dir().join(format!("stderr-{n}.log"));
        let to = |path: &Path| File::create(path).expect("the temporary folder can be written");
        let mut command = Command::new(&self.program);
        command.args(&self.args).envs(self.envs.iter().map(|(key, value)| (key, value)));
        command.env("OPENBLAS_NUM_THREADS", "1").current_dir(self.dir());
        command.stdin(Stdio::null()).stderr(to(&log)).stdout(to(&self.dir().join(format!("stdout-{n}.log"))));
        #[allow(unsafe_code, reason = "there is no other way to have the system end a child with its parent")]
        // SAFETY: prctl is async-signal-safe, and touches no memory of ours.
        unsafe {
            command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            });
        }
        let child = command.spawn().unwrap_or_else(|e| panic!("{}: {e}", self.program.display()));
        let agent = Agent::config_builder().http_status_as_error(false).timeout_global(Some(REQUEST_MAX)).build();
        let url = format!("http://{}", self.admin);
        Daemon { pid: child.id(), child: Mutex::new(child), log, url, agent: agent.into(), started: Instant::now() }
    }
}

/// One run of the daemon. Dropping it kills it; when the test is failing, what it said is shown.
#[derive(Debug)]
pub struct Daemon {
    child: Mutex<Child>,
    pid: u32,
    log: PathBuf,
    url: String,
    agent: Agent,
    started: Instant,
}

impl Daemon {
    /// Process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// How long ago it was started.
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Address of the admin server, `http://host:port`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Everything it has said on standard error so far.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).expect("the log was made at the start")).into_owned()
    }

    /// Gets a page of the admin server: status and body, or nothing while it doesn't answer.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut response = self.agent.get(format!("{}{path}", self.url)).call().ok()?;
        let body = response.body_mut().read_to_string().ok()?;
        Some((response.status().as_u16(), body))
    }

    /// The metrics as they stand now.
    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        match self.get("/metrics") {
            Some((200, page)) => Metrics::parse(&page),
            other => panic!("no metrics: {other:?}"),
        }
    }

    /// Waits until `/readyz` answers 200, and panics at the deadline or when the daemon ends before.
    #[track_caller]
    pub fn wait_ready(&self, deadline: Duration) {
        let mut last = None;
        self.wait(deadline, "/readyz to answer 200", || {
            last = self.get("/readyz");
            last.as_ref().is_some_and(|(status, _)| *status == 200)
        });
    }

    /// Waits until a condition on the metrics holds, and panics at the deadline or when the daemon ends before.
    #[track_caller]
    pub fn wait_metrics(&self, deadline: Duration, what: &str, mut condition: impl FnMut(&Metrics) -> bool) {
        self.wait(deadline, what, || match self.get("/metrics") {
            Some((200, page)) => condition(&Metrics::parse(&page)),
            _ => false,
        });
    }

    /// Waits for a condition, and panics at the deadline or when the daemon ends before.
    #[track_caller]
    pub fn wait(&self, deadline: Duration, what: &str, mut condition: impl FnMut() -> bool) {
        let mut ended = None;
        let held = holds_within(deadline, || {
            ended = self.try_wait();
            ended.is_some() || condition()
        });
        if let Some(status) = ended {
            panic!("strayd ended ({status}) before: {what}");
        }
        assert!(held, "waited {deadline:?} in vain for: {what}; /readyz says {:?}", self.get("/readyz"));
    }

    /// Kills it with SIGKILL and waits until it is gone.
    pub fn kill9(self) {
        self.signal(libc::SIGKILL);
        self.exit_within(Duration::from_secs(10)).expect("a killed process ends");
    }

    /// Sends SIGTERM and returns the exit code; panics when it doesn't end within `deadline`, or by a signal.
    #[track_caller]
    pub fn sigterm(self, deadline: Duration) -> i32 {
        self.signal(libc::SIGTERM);
        let status = self.exit_within(deadline);
        let status = status.unwrap_or_else(|| panic!("strayd has not ended {deadline:?} after SIGTERM"));
        status.code().unwrap_or_else(|| panic!("strayd ended by signal {:?}", status.signal()))
    }

    /// Sends a signal.
    pub fn signal(&self, signal: i32) {
        let child = self.child.lock().expect("no panic under this lock");
        send_signal(child.id(), signal); // under the lock, so that nobody reaps it meanwhile
    }

    /// Waits for its end, and returns how it ended, or nothing at the deadline.
    pub fn exit_within(&self, deadline: Duration) -> Option<ExitStatus> {
        let mut ended = None;
        holds_within(deadline, || {
            ended = self.try_wait();
            ended.is_some()
        });
        ended
    }

    /// Resident memory, bytes: now, and the highest so far.
    #[track_caller]
    pub fn rss_bytes(&self) -> (u64, u64) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).expect("the daemon runs");
        let kib = |key: &str| {
            let line = status.lines().find(|line| line.starts_with(key));
            let word = line.and_then(|line| line.split_whitespace().nth(1));
            word.and_then(|word| word.parse::<u64>().ok()).unwrap_or_else(|| panic!("no {key} of pid {}", self.pid))
        };
        (kib("VmRSS:") * 1024, kib("VmHWM:") * 1024)
    }

    /// Processor time so far, of all threads.
    #[track_caller]
    pub fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).expect("the daemon runs");
        let (_, fields) = stat.rsplit_once(')').expect("the name is in brackets");
        let ticks = |i: usize| fields.split_whitespace().nth(i).and_then(|word| word.parse::<u64>().ok());
        let [user, system] = [11, 12].map(|i| ticks(i).expect("a number of hundredths of a second"));
        Duration::from_millis(10 * (user + system))
    }

    fn try_wait(&self) -> Option<ExitStatus> {
        self.child.lock().expect("no panic under this lock").try_wait().expect("the child is ours")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the last lines of strayd, pid {}:\n{}", self.pid, last_lines(&self.log, 60));
        }
        let child = self.child.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        // It may have ended by itself, and then there is nothing to kill.
        let _ = child.kill();
        let _ = child.wait();
    }
}
