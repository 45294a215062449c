//! A process that ends with the test binary, together with its folder.
//!
//! A shell stands between: it starts the program, waits for the end of its own standard input, kills the program and
//! removes the folder. Until then it obeys two words, `end` and `run`, which kill the program and start it again. The test binary holds the other end of that pipe, which the system closes however the binary
//! ends, SIGKILL included; no handler has to run. The shell leads a process group of its own, so that a Ctrl-C in
//! the terminal doesn't take it away before it has tidied up.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

/// Arguments: the folder to remove, then the program and its arguments. Prints the program's process id, and a line for
/// each word that it has obeyed.
const SCRIPT: &str = r#"
dir=$1; shift
run() { "$@" </dev/null >>"$dir/out.log" 2>&1 & pid=$!; echo "$pid"; }
end() { kill -9 "$pid"; wait "$pid"; }
run "$@"
while read -r word; do
    case $word in
        end) end; echo "$pid" ;;
        run) run "$@" ;;
    esac
done
end
rm -rf "$dir"
"#;

/// A running program; dropping it kills the program and removes its folder before it returns.
#[derive(Debug)]
pub struct Guard {
    shell: Child,
    /// Where words are said, and answered.
    talk: Mutex<Option<(ChildStdin, BufReader<ChildStdout>)>>,
    pid: AtomicU32,
    dir: PathBuf,
}

impl Guard {
    /// Starts `program` with `args`; what it says goes to `out.log` in `dir`, which becomes the guard's to remove.
    pub fn spawn<'a>(dir: &Path, program: &str, args: impl IntoIterator<Item = &'a str>) -> Self {
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT, "guard"])
            .arg(dir)
            .arg(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("every Unix has sh");
        let stdin = shell.stdin.take().expect("standard input is a pipe");
        let mut stdout = BufReader::new(shell.stdout.take().expect("standard output is a pipe"));
        let pid = answer(&mut stdout).into();
        Self { shell, talk: Mutex::new(Some((stdin, stdout))), pid, dir: dir.to_owned() }
    }

    /// The folder that goes with the program.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Kills the program with SIGKILL, and returns when it is gone; the folder stays.
    pub fn end(&self) {
        self.say("end\n");
    }

    /// Starts the program again, after its end.
    pub fn run(&self) {
        let pid = self.say("run\n");
        self.pid.store(pid, Ordering::Relaxed);
    }

    fn say(&self, word: &str) -> u32 {
        let mut talk = self.talk.lock().expect("no panic under this lock");
        let (stdin, stdout) = talk.as_mut().expect("it is there until the drop");
        stdin.write_all(word.as_bytes()).expect("the guard listens");
        answer(stdout)
    }

    /// Process id of the program.
    pub fn pid(&self) -> u32 {
        self.pid.load(Ordering::Relaxed)
    }

    /// Whether the program still runs. One that has ended is not reaped before the guard is dropped, hence the state.
    pub fn is_running(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
    }

    /// The last lines that the program said.
    pub fn last_words(&self) -> String {
        last_lines(&self.dir.join("out.log"), 20)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.talk.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner).take());
        // The shell ends at once: it only kills, and removes a folder.
        let _ = self.shell.wait();
    }
}

/// The process id in the guard's next line.
fn answer(stdout: &mut BufReader<ChildStdout>) -> u32 {
    let mut line = String::new();
    stdout.read_line(&mut line).expect("the guard prints the process id");
    line.trim().parse().expect("the guard prints a number")
}

/// The last `n` lines of a text file, or nothing where there is none.
pub fn last_lines(path: &Path, n: usize) -> String {
    let Ok(file) = File::open(path) else { return String::new() };
    let lines: Vec<String> = BufReader::new(file).lines().map_while(Result::ok).collect();
    lines[lines.len().saturating_sub(n)..].join("\n")
}
