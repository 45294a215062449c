//! The producer of the latency runs: a process of its own that sends at a steady rate, each record with its send time.
//!
//! A sleep is shorter than a tenth of a millisecond, so that bursts are small; at high rates requests are filled for half
//! a millisecond, since one request a record would leave the broker no time for anything else.

use std::time::{Duration, Instant};

use anyhow::Context;
use rdkafka::config::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde::{Deserialize, Serialize};

use strayd::shutdown::Shutdown;

use crate::clock::wall_ns;
use crate::setup::{N_DISTINCT, Setup};
use crate::world::send;

/// Header with the time of the send, nanoseconds since the epoch, little-endian; 0 while it warms up.
pub const SENT: &str = "sent";
/// Rate from which requests are filled, records a second.
const BUSY: f64 = 20_000.0;
/// Longest pause between two looks at what is due.
const PAUSE_MAX: Duration = Duration::from_micros(200);
/// Records between two looks at the clock where the rate has no limit.
const UNPACED: u64 = 64;

/// What is sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// Bootstrap address.
    pub brokers: String,
    /// The topic.
    pub topic: String,
    /// The records.
    pub setup: Setup,
    /// Records a second; none: as many as go.
    pub rate: Option<f64>,
    /// Seconds that aren't counted.
    pub warm_seconds: f64,
    /// Seconds that are.
    pub seconds: f64,
}

/// Sends and returns how many records a second it came to.
pub fn run(job: &Job) -> anyhow::Result<f64> {
    let busy = job.rate.is_none_or(|rate| rate > BUSY);
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &job.brokers)
        .set("linger.ms", if busy { "0.5" } else { "0" })
        .set("queue.buffering.max.messages", "100000")
        .create()?;
    let payloads = job.setup.payloads(N_DISTINCT);
    let mut payloads = payloads.iter().cycle();
    let (warm, end) =
        (Duration::from_secs_f64(job.warm_seconds), Duration::from_secs_f64(job.warm_seconds + job.seconds));
    let (began, token) = (Instant::now(), Shutdown::default());
    let mut n_sent = 0_u64;
    loop {
        let elapsed = began.elapsed();
        if elapsed >= end {
            break;
        }
        let due = job.rate.map_or(n_sent + UNPACED, |rate| (elapsed.as_secs_f64() * rate) as u64);
        while n_sent < due {
            let sent = if elapsed >= warm { wall_ns().to_le_bytes() } else { [0; 8] };
            let headers = OwnedHeaders::new().insert(Header { key: SENT, value: Some(&sent) });
            let payload = payloads.next().expect("a cycle has no end");
            send(&producer, BaseRecord::to(&job.topic).payload(payload).headers(headers))?;
            n_sent += 1;
        }
        producer.poll(Duration::ZERO);
        if let Some(rate) = job.rate {
            let next = Duration::from_secs_f64((n_sent + 1) as f64 / rate);
            token.sleep(next.saturating_sub(began.elapsed()).min(PAUSE_MAX));
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    producer.flush(Duration::from_secs(30)).context("the records were not acknowledged in time")?;
    Ok(n_sent as f64 / seconds)
}
