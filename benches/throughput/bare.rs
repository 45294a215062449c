//! The bare consumer: a member of a group with a lane's settings that takes batches by the same queue as a lane, and does
//! nothing with them.

use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance};

use strayd::kafka::{BatchConsumer, Inlet};
use strayd::source;

use crate::setup::Place;

/// Leads partitions into the queue when they come.
pub struct Forwarding(Inlet);

impl ClientContext for Forwarding {}

impl ConsumerContext for Forwarding {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(partitions) = rebalance {
            self.0.forward(consumer, partitions);
        }
    }
}

/// Subscribes to the features topic of `place`.
pub fn subscribe(place: &Place) -> anyhow::Result<BatchConsumer<Forwarding>> {
    let inlet = Inlet::default();
    let settings = source::lane_settings(&place.kafka(), 0)?;
    let batches = BatchConsumer::new(&settings, Forwarding(inlet.clone()), &inlet)?;
    batches.consumer().subscribe(&[&place.topic])?;
    Ok(batches)
}
