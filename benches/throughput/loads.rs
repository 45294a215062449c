//! The latency runs in their order: the highest rate first, then shares of it, bare and strayd in turn.

use serde_json::{Value, json};

use crate::child::{self, Running};
use crate::clock::median;
use crate::delay::{self, Delay, READY};
use crate::feed;
use crate::setup::Setup;
use crate::whole::pause;
use crate::world::World;

/// Partitions of the topic.
const N_PARTITIONS: i32 = 4;
/// Seconds of each run that aren't counted.
const WARM_SECONDS: f64 = 1.0;
/// A moment for what is still on its way.
const REST: std::time::Duration = std::time::Duration::from_millis(300);

/// What a run is fed with and how it is made.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Records a second; none: as many as go.
    pub rate: Option<f64>,
    /// Seconds that are counted.
    pub seconds: f64,
}

/// Runs the child `who` under `load`.
fn run(
    world: &World,
    (setup, registry): (&Setup, &std::path::Path),
    who: &str,
    load: Load,
    trains: bool,
) -> anyhow::Result<(Delay, f64)> {
    let topic = world.topic("live", N_PARTITIONS)?;
    let place = world.place(&topic, registry)?;
    let brokers = place.brokers.clone();
    let mut measured = Running::start(who, &delay::Job { place, setup: setup.clone(), trains })?;
    measured.wait_for(READY)?;
    let Load { rate, seconds } = load;
    let job = feed::Job { brokers, topic, setup: setup.clone(), rate, warm_seconds: WARM_SECONDS, seconds };
    let sent: f64 = child::run("feed", &job)?;
    pause(REST);
    Ok((measured.finish()?, sent))
}

/// One rate: alternating runs, the median of each quantile, and what strayd adds.
fn compare(world: &World, setup: (&Setup, &std::path::Path), load: Load, rounds: usize) -> anyhow::Result<Value> {
    let (mut bare, mut strayd) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        bare.push(run(world, setup, "delay-bare", load, false)?.0);
        strayd.push(run(world, setup, "delay-strayd", load, false)?.0);
    }
    let of = |runs: &[Delay], which: fn(&Delay) -> f64| median(runs.iter().map(which));
    let added = |which: fn(&Delay) -> f64| of(&strayd, which) - of(&bare, which);
    Ok(json!({
        "rate": load.rate,
        "per_second": of(&strayd, |run| run.per_second),
        "added_us": {
            "p50": added(|run| run.verdict.p50),
            "p99": added(|run| run.verdict.p99),
            "p999": added(|run| run.verdict.p999),
        },
        "settled_us": {
            "p50": of(&strayd, |run| run.settled.p50),
            "p99": of(&strayd, |run| run.settled.p99),
            "p999": of(&strayd, |run| run.settled.p999),
        },
        "bare": bare,
        "strayd": strayd,
    }))
}

/// Latency at 1,000 records a second and at shares of the highest live rate, and what a busy trainer does to it.
pub fn measure(world: &World, setup: (&Setup, &std::path::Path), rounds: usize, seconds: f64) -> anyhow::Result<Value> {
    let (flooded, sent) = run(world, setup, "delay-strayd", Load { rate: None, seconds: seconds.min(4.0) }, false)?;
    let highest = flooded.per_second.min(sent);
    let mut loads = Vec::new();
    for (name, rate) in [("1,000/s", 1000.0), ("10 %", 0.1 * highest), ("50 %", 0.5 * highest), ("90 %", 0.9 * highest)]
    {
        let load = Load { rate: Some(rate), seconds };
        let mut compared = compare(world, setup, load, rounds)?;
        compared["load"] = name.into();
        loads.push(compared);
    }
    let mut fairness = Vec::new();
    for (name, share) in [("10 %", 0.1), ("50 %", 0.5)] {
        let load = Load { rate: Some(share * highest), seconds };
        let (mut alone, mut beside) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            alone.push(run(world, setup, "delay-strayd", load, false)?.0);
            // The trainer stores what it promotes: a registry of its own for each run.
            let folder = tempfile::tempdir()?;
            setup.0.register(folder.path())?;
            beside.push(run(world, (setup.0, folder.path()), "delay-strayd", load, true)?.0);
        }
        let p99 = |runs: &[Delay]| median(runs.iter().map(|run| run.verdict.p99));
        fairness.push(json!({
            "load": name,
            "rate": load.rate,
            "p99_us": p99(&alone),
            "p99_us_beside_trainer": p99(&beside),
            "ratio": p99(&beside) / p99(&alone),
            "rounds": beside.iter().map(|run| run.n_rounds).sum::<u64>(),
        }));
    }
    Ok(json!({
        "cluster": world.name(),
        "setup": setup.0.name,
        "shape": setup.0.shape(),
        "highest_per_second": highest,
        "producer_per_second": sent,
        "loads": loads,
        "beside_trainer": fairness,
    }))
}
