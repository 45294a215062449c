//! Holds the instructions that each stage of the hot path takes to a recorded number: `make guard`.
//!
//! Counted by callgrind, for fixed work on seeded data, so that neither load nor clock speed matters and a run gives the
//! same numbers as the one before. Held is our own code: what runs in OpenBLAS and the C library is counted apart and
//! held only by the OpenBLAS that the numbers were recorded with. Its kernels are fixed (`Haswell`, which callgrind knows;
//! it knows no AVX-512, so our own loops run as on a processor with AVX2).
//!
//! `guard` compares with `benches/instructions.tsv`, `record` writes it, the name of a stage is what callgrind runs. It
//! acts on these words alone, so that a plain `cargo bench` stays short.

mod profile;
mod stages;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, bail, ensure};
use strayd::blas;

use profile::Count;

/// How much more than recorded a stage may take. A run differs from the next by less than a thousandth; what remains is
/// that unrelated changes move the compiler's decisions (measured: half a hundredth), and a real regression is larger.
const TOLERANCE: f64 = 0.05;
/// The same where another compiler than the recorded one has built the program.
const TOLERANCE_OTHER_COMPILER: f64 = 0.25;
/// The same for OpenBLAS and the C library: allocations and copies, which hardly repeat to a hundredth.
const TOLERANCE_ELSEWHERE: f64 = 0.15;
/// Instructions a record that OpenBLAS and the C library may take beyond that: a handful is nothing.
const FEW: f64 = 20.0;

fn recorded() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.tsv")
}

/// What a stage takes, by the stage's name.
type Counts = Vec<(String, Count)>;

/// What the numbers depend on besides our code.
#[derive(Debug, PartialEq)]
struct Tools {
    rustc: String,
    openblas: String,
}

impl Tools {
    fn here() -> anyhow::Result<Self> {
        let rustc = Command::new("rustc").arg("--version").output().context("rustc --version")?;
        // Name and version: what else it says is of this processor's kernels, and others are counted.
        let openblas = blas::info().split_whitespace().take(2).collect::<Vec<_>>().join(" ");
        Ok(Self { rustc: String::from_utf8_lossy(&rustc.stdout).trim().to_owned(), openblas })
    }
}

/// Runs each stage under callgrind.
fn count() -> anyhow::Result<Counts> {
    ensure!(
        std::arch::is_x86_feature_detected!("avx2"),
        "the numbers were recorded with AVX2, which this processor hasn't"
    );
    let folder = tempfile::tempdir()?;
    let each = |stage: &&str| Ok(((*stage).to_owned(), count_one(stage, &folder.path().join(stage))?));
    stages::NAMES.iter().map(each).collect()
}

/// Runs one stage under callgrind, which writes to `profile`.
fn count_one(stage: &str, profile: &Path) -> anyhow::Result<Count> {
    let program = std::env::current_exe()?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet"])
        .arg(format!("--toggle-collect=*{}*", stages::MEASURED))
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(&program)
        .arg(stage)
        .envs([("OPENBLAS_CORETYPE", "Haswell"), ("OPENBLAS_NUM_THREADS", "1")])
        .output()
        .context("valgrind can't be started (Debian: apt-get install valgrind)")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "valgrind failed at {stage}:\n{said}{complained}");
    let n: f64 = said.trim().parse().with_context(|| format!("{stage} said {said:?}"))?;
    let program = program.file_name().context("a program has a name")?.to_string_lossy();
    Ok(profile::count(&fs::read_to_string(profile)?, &program)?.each(n))
}

fn write(counts: &Counts, tools: &Tools) -> String {
    let mut text = "# Instructions a record of each stage: our own code, and OpenBLAS with the C library. Written by\n\
                    # `make guard ARGS=record`, read by `make guard`.\n"
        .to_owned();
    let Tools { rustc, openblas } = tools;
    let _ = writeln!(text, "rustc\t{rustc}\nopenblas\t{openblas}");
    for (name, count) in counts {
        let _ = writeln!(text, "{name}\t{:.1}\t{:.1}", count.own, count.elsewhere);
    }
    text
}

fn read(text: &str) -> anyhow::Result<(Counts, Tools)> {
    let (mut counts, mut tools) = (Counts::new(), Tools { rustc: String::new(), openblas: String::new() });
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        match line.split('\t').collect::<Vec<_>>()[..] {
            ["rustc", version] => tools.rustc = version.to_owned(),
            ["openblas", version] => tools.openblas = version.to_owned(),
            [name, own, elsewhere] => {
                counts.push((name.to_owned(), Count { own: own.parse()?, elsewhere: elsewhere.parse()? }));
            }
            _ => bail!("benches/instructions.tsv has the line {line:?}"),
        }
    }
    Ok((counts, tools))
}

/// Prints every stage beside what was recorded; returns what takes more than it may.
fn judge((counts, tools): (&Counts, &Tools), (known, known_tools): (&Counts, &Tools)) -> Vec<String> {
    let same_compiler = tools.rustc == known_tools.rustc;
    let same_blas = tools.openblas == known_tools.openblas;
    if !same_compiler {
        println!("recorded with {}, this is {}: the tolerance is wider", known_tools.rustc, tools.rustc);
    }
    if !same_blas {
        println!("recorded with {}, this is {}: elsewhere isn't held", known_tools.openblas, tools.openblas);
    }
    let tolerance = if same_compiler { TOLERANCE } else { TOLERANCE_OTHER_COMPILER };
    println!("instructions a record\n{:<22}{:>12}{:>9}{:>14}{:>9}", "", "own code", "", "elsewhere", "");
    let mut broken = Vec::new();
    for (name, count) in counts {
        let Some((_, known)) = known.iter().find(|(known, _)| known == name) else {
            broken.push(format!("{name} is not recorded"));
            continue;
        };
        let by = |now: f64, then: f64| 100.0 * (now - then) / then.max(1.0);
        let (own, elsewhere) = (by(count.own, known.own), by(count.elsewhere, known.elsewhere));
        println!("{name:<22}{:>12.1}{own:>+8.2}%{:>14.1}{elsewhere:>+8.2}%", count.own, count.elsewhere);
        if count.own > known.own * (1.0 + tolerance) {
            broken.push(format!("{name} takes {own:+.1} % instructions of our own code"));
        }
        if same_blas && count.elsewhere > known.elsewhere * (1.0 + TOLERANCE_ELSEWHERE) + FEW {
            broken
                .push(format!("{name} takes {elsewhere:+.1} % instructions elsewhere (copies, allocations, products)"));
        }
        if own < -100.0 * tolerance {
            println!("{name} has become cheaper: record it, so that it stays so");
        }
    }
    let gone = known.iter().filter(|(name, _)| !counts.iter().any(|(now, _)| now == name));
    broken.extend(gone.map(|(name, _)| format!("{name} is recorded, but there is no such stage")));
    broken
}

fn main() -> anyhow::Result<ExitCode> {
    blas::init(); // one thread, as in the daemon
    let wish = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    match wish.as_deref() {
        Some(stage) if stages::NAMES.contains(&stage) => stages::run(stage),
        Some("record") => {
            let (counts, tools) = (count()?, Tools::here()?);
            fs::write(recorded(), write(&counts, &tools))?;
            judge((&counts, &tools), (&counts, &tools));
            println!("written to {}", recorded().display());
        }
        Some("guard") => {
            let text = fs::read_to_string(recorded()).context("benches/instructions.tsv")?;
            let (known, known_tools) = read(&text)?;
            let broken = judge((&count()?, &Tools::here()?), (&known, &known_tools));
            if !broken.is_empty() {
                eprintln!(
                    "\n{}\nMake it as cheap as it was; or, where the cost is wanted, record it (make guard ARGS=record) and say in \
                     the commit what it buys.",
                    broken.join("\n")
                );
                return Ok(ExitCode::FAILURE);
            }
        }
        _ => println!("counts instructions when told to: make guard"),
    }
    Ok(ExitCode::SUCCESS)
}
