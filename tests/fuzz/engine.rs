//! Tries one reader of foreign bytes on very many inputs: seeds that are broken, joined and stretched.
//!
//! What an input ended with, with numbers and names taken out, says how far it got; an input that ended in a new way joins
//! the seeds. That leads deeper than chance does, and wants neither another compiler nor a build of its own.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Cases of all targets together where nothing else is asked for: seconds, in CI.
const N_CASES: u64 = 40_000;
/// Longest input, bytes.
const BYTES_MAX: usize = 1 << 15;
/// Inputs that are kept because they ended in a new way.
const KEPT_MAX: usize = 4096;
/// An input of this length must not take so long, on a machine that does much else.
const SLOW: Duration = Duration::from_secs(10);

/// Reads an input, checks what came of it, and says it in words.
pub type Run = Box<dyn FnMut(&[u8]) -> String>;

/// A reader of foreign bytes.
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Inputs to begin with.
    pub seeds: Vec<Vec<u8>>,
    /// Words of its language.
    pub words: &'static [&'static str],
    /// One case of so many: what is slow is tried more rarely.
    pub rarity: u64,
    /// What reads.
    pub run: Run,
}

/// Tries a target, and panics with the input that it panics at.
pub fn fuzz(mut target: Target) {
    let n_cases = (setting("STRAYD_FUZZ_CASES", N_CASES) / target.rarity).max(1);
    let mut rng = ChaCha8Rng::seed_from_u64(setting("STRAYD_FUZZ_SEED", 0));
    let (mut known, mut slowest) = (HashSet::new(), Duration::ZERO);
    let (mut corpus, n_seeds) = (target.seeds.clone(), target.seeds.len());
    for case in 0..n_cases {
        let input = match corpus.get(case as usize) {
            Some(seed) if (case as usize) < n_seeds => seed.clone(),
            _ => mutated(&mut rng, &corpus, target.words),
        };
        let began = Instant::now();
        let ended = catch_unwind(AssertUnwindSafe(|| (target.run)(&input)));
        let ended = ended.unwrap_or_else(|panic| {
            eprintln!("{} panics, case {case}, at {}", target.name, input.escape_ascii());
            resume_unwind(panic)
        });
        let took = began.elapsed();
        assert!(took < SLOW, "{} took {took:?} for {}", target.name, input.escape_ascii());
        slowest = slowest.max(took);
        if corpus.len() < KEPT_MAX && known.insert(shape(&ended)) {
            corpus.push(input);
        }
    }
    let (name, n_ends) = (target.name, known.len());
    println!("{name}: {n_cases} inputs, {n_ends} ends, the slowest took {slowest:?}");
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// What an end has in common with others of its kind: no digits, nothing that is quoted.
fn shape(ended: &str) -> String {
    let bare = ended.split('`').step_by(2).collect::<Vec<_>>().concat();
    bare.chars().filter(|char| char.is_ascii_alphabetic() || *char == ' ').take(32).collect()
}

fn mutated(rng: &mut ChaCha8Rng, corpus: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
    let mut input = corpus.choose(rng).expect("a target has seeds").clone();
    for _ in 0..1 << rng.random_range(0..4) {
        let other = corpus.choose(rng).expect("a target has seeds");
        mutate(rng, &mut input, other, words);
    }
    input.truncate(BYTES_MAX);
    input
}

/// Breaks an input in one place.
fn mutate(rng: &mut ChaCha8Rng, input: &mut Vec<u8>, other: &[u8], words: &[&str]) {
    if input.is_empty() {
        input.push(rng.random());
    }
    let at = rng.random_range(0..input.len());
    let end = (at + rng.random_range(1..24)).min(input.len());
    match rng.random_range(0..12) {
        0 => input[at] = rng.random(),
        1 => input[at] ^= 1 << rng.random_range(0..8),
        2 => input.insert(at, rng.random()),
        3 => drop(input.drain(at..end)),
        4 => input.truncate(at),
        5 => drop(input.splice(at..at, input[at..end].to_vec())),
        6 => {
            let (from, to) = (rng.random_range(0..=other.len()), rng.random_range(0..64));
            drop(input.splice(at..end, other[from..(from + to).min(other.len())].to_vec()));
        }
        7 | 8 if !words.is_empty() => {
            let word = words.choose(rng).expect("there are words").as_bytes();
            let until = if rng.random() { at } else { end };
            drop(input.splice(at..until, word.iter().copied()));
        }
        // Sizes and counts, as binary forms hold them.
        9 => {
            let number: u64 =
                *[0, 1, 2, 0x7f, 0x80, 0xff, 0xffff, 1 << 31, u64::from(u32::MAX), 1 << 62, 1 << 63, u64::MAX]
                    .choose(rng)
                    .expect("there are numbers");
            let bytes = number.to_le_bytes();
            let n = (1 << rng.random_range(0..4)).min(input.len() - at);
            input[at..at + n].copy_from_slice(&bytes[..n]);
        }
        // Depth and length.
        10 => {
            let part = input[at..end].to_vec();
            let n = rng.random_range(2..300);
            drop(input.splice(at..end, part.repeat(n)));
        }
        _ => input.swap(at, end - 1),
    }
}
