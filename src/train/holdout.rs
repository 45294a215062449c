//! Which records are held out: never trained on, by any round, on any replica.
//!
//! A function of the record's place alone, so that it needs no bookkeeping (MODEL 3.1). Blocks of 8 offsets, so that
//! neighbours in time stay together while 256 rows still have a holdout; one block in five.

use crate::model::Model;
use crate::record::RecordId;

/// Offsets of a block.
const BLOCK: i64 = 8;
/// One block in this many is held out.
const ONE_IN: u64 = 5;

/// Whether the record is held out from training.
pub fn is_holdout(id: RecordId) -> bool {
    let place = (u64::from(id.partition.number.cast_unsigned()) << 44) ^ id.offset.div_euclid(BLOCK).cast_unsigned();
    mix(place).is_multiple_of(ONE_IN)
}

/// Whether the weights of `model` may have been trained on the record: it would score too low to calibrate on.
pub fn may_have_learnt(model: &Model, id: RecordId) -> bool {
    !is_holdout(id) && model.lineage.learnt.iter().any(|span| span.contains(id))
}

/// The finaliser of SplitMix64: every bit of the result depends on every bit of `x`.
pub(super) fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifth_is_held_out_in_blocks_on_every_partition() {
        for partition in 0..4 {
            let held: Vec<bool> =
                (0..8000).map(|offset| is_holdout(RecordId { partition: partition.into(), offset })).collect();
            let share = held.iter().filter(|held| **held).count() as f64 / 8000.0;
            assert!((0.16..0.24).contains(&share), "partition {partition}: {share}");
            assert!(held.chunks(8).all(|block| block.iter().all(|held| *held == block[0])));
        }
    }

    #[test]
    fn the_first_256_rows_have_a_holdout() {
        let n = (0..256).filter(|offset| is_holdout(RecordId { partition: 0.into(), offset: *offset })).count();
        assert!((24..=88).contains(&n), "{n}");
    }
}
