//! Measuring in a process of its own: this binary starts itself again, with a job as JSON, and reads one JSON line.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, bail, ensure};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// First argument of a child.
pub const CHILD: &str = "child";

/// Runs the measurement `name` in a child to its end.
pub fn run<J: Serialize, R: DeserializeOwned>(name: &str, job: &J) -> anyhow::Result<R> {
    Running::start(name, job)?.finish()
}

/// A child that is told when to end by the end of its standard input.
pub struct Running {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Running {
    /// Starts the measurement `name`.
    pub fn start<J: Serialize>(name: &str, job: &J) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([CHILD, name, &serde_json::to_string(job)?]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("the child `{name}` can't be started"))?;
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().context("standard output is a pipe")?);
        Ok(Self { name: name.to_owned(), child, stdin, stdout })
    }

    /// Waits until the child says `word` in a line of its own.
    pub fn wait_for(&mut self, word: &str) -> anyhow::Result<()> {
        let mut line = String::new();
        while line.trim() != word {
            line.clear();
            ensure!(self.stdout.read_line(&mut line)? > 0, "the child `{}` ended before it said {word}", self.name);
        }
        Ok(())
    }

    /// Tells the child to end, and takes its result: its last line.
    pub fn finish<R: DeserializeOwned>(mut self) -> anyhow::Result<R> {
        drop(self.stdin.take());
        let mut said = String::new();
        self.stdout.read_to_string(&mut said)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the child `{}` failed: {status}", self.name);
        let Some(line) = said.lines().last() else { bail!("the child `{}` said nothing", self.name) };
        serde_json::from_str(line).with_context(|| format!("the child `{}` said: {line}", self.name))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended by itself unless the parent failed; then nothing is lost by killing it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Says `line` to the parent at once.
pub fn say(line: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// Waits until the parent says that it is enough.
pub fn wait_for_end() -> anyhow::Result<()> {
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
