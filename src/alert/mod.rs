//! From flagged records to what people hear of: incidents, what is withheld, and how much is said at once.
//!
//! Everything here is pure: event time and counts are arguments, and feeding the same records again gives the same
//! incidents with the same ids. Each partition has a tracker of its own, so that a revoke drops exactly its state.
//! MODEL 4.4 is what it follows.

mod incident;
mod limit;
mod suppress;
#[cfg(test)]
mod suppress_tests;
mod tracker;
#[cfg(test)]
mod tracker_tests;

pub use incident::{Cause, Event, Flagged, IncidentConfig, Kind, Seen, State, Summary};
pub use limit::Limit;
pub use suppress::{Alert, Direction, FeatureLimit, Maintenance, Rules, Ruling, Suppression, Withheld};
pub use tracker::Tracker;
