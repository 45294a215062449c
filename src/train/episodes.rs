//! Which rows of a round may set the threshold: the defence against a threshold that learns what it should find.
//!
//! MODEL 4.1 and 4.2, item 5: keeping every flagged row lets faults raise the threshold over themselves, dropping every
//! flagged row lowers it step by step until everything is flagged. So one row an episode is kept, and no more of them
//! than a clean stream would have flagged; what no stream of this length would hold is never kept. The champion
//! flags, because its calibration has not seen these rows.

use std::collections::BTreeMap;

use crate::record::{Partition, RecordId};

/// p-value below which the champion finds a row remarkable: about where the published threshold lies.
const REMARKABLE: f64 = 1e-3;
/// p-value below which a row is not ordinary in a sample of tens of thousands: a tenth of a row is expected there.
const GROSS: f64 = 1e-5;
/// Offsets without a remarkable row that end an episode of a partition.
const GAP: i64 = 64;
/// Remarkable rows kept per row seen: half as many as a clean stream has. As many let a repeated attack of 2 % of the rows
/// raise the threshold over itself.
const REFILL: f64 = 0.5 * REMARKABLE;
/// Share of remarkable rows up to which they are taken for a tail that is heavier than the champion knew.
const BELIEVED: f64 = 10.0 * REMARKABLE;
/// Most remarkable rows that may be kept in one go.
const TOKENS_MAX: f64 = 10.0;
/// With a larger share of remarkable rows the stream itself has changed, and the champion's word means nothing.
const SHIFT_SHARE: f64 = 0.5;

/// Says for each of the rows `ids`, in time order, whether it may set the threshold, given the champion's p-value of each.
pub(super) fn countable(ids: &[RecordId], p_values: &[f64]) -> Vec<bool> {
    let n_remarkable = p_values.iter().filter(|p| **p <= REMARKABLE).count();
    if n_remarkable as f64 > SHIFT_SHARE * ids.len() as f64 {
        return vec![true; ids.len()];
    }
    // The more of them there are, the less they are the tail of what is ordinary.
    let share = n_remarkable as f64 / ids.len().max(1) as f64;
    let belief = (BELIEVED / share.max(f64::MIN_POSITIVE)).min(1.0);
    let mut tokens = belief;
    let mut last_remarkable: BTreeMap<Partition, i64> = BTreeMap::new();
    let keep = |(id, &p): (&RecordId, &f64)| {
        tokens = f64::min(tokens + belief * REFILL, TOKENS_MAX);
        if p > REMARKABLE {
            return true;
        }
        let before = last_remarkable.insert(id.partition, id.offset);
        let opens = before.is_none_or(|before| id.offset - before > GAP);
        let keeps = opens && p > GROSS && tokens >= 1.0;
        tokens -= f64::from(u8::from(keeps));
        keeps
    };
    ids.iter().zip(p_values).map(keep).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(offset: i64) -> RecordId {
        RecordId { partition: 0.into(), offset }
    }

    fn kept(p_values: &[f64]) -> Vec<bool> {
        let ids: Vec<RecordId> = (0..p_values.len() as i64).map(id).collect();
        countable(&ids, p_values)
    }

    #[test]
    fn one_row_of_an_episode_is_kept_and_ordinary_rows_all_are() {
        let mut p_values = vec![0.5; 2000];
        p_values[100..110].fill(1e-4);
        let kept = kept(&p_values);
        assert_eq!(kept[100..110].iter().filter(|kept| **kept).count(), 1);
        assert!(kept[100], "the first of them opens the episode");
        assert!(kept[..100].iter().chain(&kept[110..]).all(|kept| *kept));
    }

    #[test]
    fn an_attack_of_many_rows_sets_no_threshold() {
        let p_values: Vec<f64> = (0..6000).map(|i| if i % 10 < 3 { 1e-4 } else { 0.5 }).collect();
        let kept = kept(&p_values);
        assert_eq!((0..6000).filter(|i| i % 10 < 3 && kept[*i]).count(), 0);
    }

    #[test]
    fn what_no_stream_of_this_length_holds_is_never_kept() {
        let mut p_values = vec![0.5; 200];
        p_values[150] = 1e-9;
        assert!(!kept(&p_values)[150]);
    }

    #[test]
    fn episodes_are_kept_no_faster_than_a_clean_stream_would_flag() {
        let mut p_values = vec![0.5; 2000];
        (0..2000).step_by(100).for_each(|at| p_values[at] = 1e-4);
        let n_kept = (0..2000).step_by(100).filter(|&at| kept(&p_values)[at]).count();
        assert!((1..=2).contains(&n_kept), "{n_kept} of 20 episodes in 2000 rows");
    }

    #[test]
    fn a_stream_that_has_changed_is_kept_whole() {
        assert!(kept(&[1e-9; 50]).iter().all(|kept| *kept));
    }
}
