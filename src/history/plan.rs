//! Which ranges of the history a training reads. Pure: what there is and a seed decide.
//!
//! The first model reads everything when it is little enough; of more, half is the latest records and half is drawn
//! uniformly over all that is retained, in stretches of consecutive offsets (random access costs a request a stretch).
//! Later rounds read the latest records.

use rand::Rng;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::Range;

/// Ranges for the first model: at most `rows` offsets of `extents` in stretches of `chunk_rows`.
pub fn first(extents: &[Range], rows: usize, chunk_rows: usize, seed: u64) -> Vec<Range> {
    let total: usize = extents.iter().map(Range::len).sum();
    if total <= rows {
        return extents.iter().copied().filter(|extent| !extent.is_empty()).collect();
    }
    let recent = latest(extents, rows / 2);
    let older: Vec<Range> = extents
        .iter()
        .map(|extent| {
            let recent = recent.iter().find(|range| range.partition == extent.partition);
            Range { end: recent.map_or(extent.end, |range| range.start), ..*extent }
        })
        .collect();
    let mut ranges = uniform(&older, rows - rows / 2, chunk_rows, seed);
    ranges.extend(recent);
    ranges.sort_by_key(|range| (range.partition, range.start));
    ranges
}

/// The latest offsets, `rows` in all, shared among the partitions as evenly as what they hold allows.
pub fn latest(extents: &[Range], rows: usize) -> Vec<Range> {
    let mut by_size: Vec<Range> = extents.iter().copied().filter(|extent| !extent.is_empty()).collect();
    by_size.sort_by_key(|extent| (extent.len(), extent.partition));
    let mut left = rows;
    let n = by_size.len();
    let mut ranges = Vec::with_capacity(n);
    for (i, extent) in by_size.into_iter().enumerate() {
        let share = (left / (n - i)).min(extent.len());
        left -= share;
        if share > 0 {
            ranges.push(Range { start: extent.end - to_offset(share), ..extent });
        }
    }
    ranges.sort_by_key(|range| range.partition);
    ranges
}

/// Stretches drawn uniformly without overlap: the space is cut into as many equal strata as stretches are wanted.
fn uniform(extents: &[Range], rows: usize, chunk_rows: usize, seed: u64) -> Vec<Range> {
    let total: usize = extents.iter().map(Range::len).sum();
    let n_chunks = rows.div_ceil(chunk_rows.max(1)).max(1);
    if total <= rows {
        return extents.iter().copied().filter(|extent| !extent.is_empty()).collect();
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let stratum = total / n_chunks;
    let length = chunk_rows.min(stratum).max(1);
    let mut ranges = Vec::with_capacity(n_chunks);
    for i in 0..n_chunks {
        let at = i * stratum + rng.random_range(0..=stratum - length);
        ranges.extend(locate(extents, at, length));
    }
    ranges
}

/// The part of the `at`-th offset's partition that a stretch of `length` from there covers.
fn locate(extents: &[Range], at: usize, length: usize) -> Option<Range> {
    let mut left = at;
    for extent in extents {
        if left < extent.len() {
            let start = extent.start + to_offset(left);
            return Some(Range { start, end: extent.end.min(start + to_offset(length)), ..*extent });
        }
        left -= extent.len();
    }
    None
}

fn to_offset(n: usize) -> i64 {
    i64::try_from(n).expect("a number of offsets fits in i64")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(partition: i32, start: i64, end: i64) -> Range {
        Range { partition: partition.into(), start, end }
    }

    fn n_rows(ranges: &[Range]) -> usize {
        ranges.iter().map(Range::len).sum()
    }

    #[test]
    fn a_short_history_is_read_whole() {
        let extents = [extent(0, 5, 105), extent(1, 0, 0), extent(2, 0, 50)];
        assert_eq!(first(&extents, 150, 10, 1), [extent(0, 5, 105), extent(2, 0, 50)]);
    }

    #[test]
    fn a_long_history_is_half_recent_and_half_spread_over_all_of_it() {
        let extents = [extent(0, 0, 500_000), extent(1, 1000, 501_000)];
        let ranges = first(&extents, 20_000, 500, 7);
        let total = n_rows(&ranges);
        assert!((19_000..=20_000).contains(&total), "{total} rows");
        for partition in [0, 1] {
            let latest =
                ranges.iter().filter(|r| r.partition.number == partition).max_by_key(|r| r.start).expect("some");
            assert_eq!(latest.len(), 5000, "a quarter of the rows are the latest of each partition");
        }
        let oldest = ranges.iter().filter(|r| r.partition.number == 0 && r.start < 250_000).count();
        assert!(oldest >= 4, "the older half is sampled too: {oldest} stretches");
        for pair in ranges.windows(2) {
            assert!(pair[0].partition < pair[1].partition || pair[0].end <= pair[1].start, "{pair:?} overlap");
        }
    }

    #[test]
    fn the_same_seed_draws_the_same_ranges() {
        let extents = [extent(0, 0, 1_000_000)];
        assert_eq!(first(&extents, 5000, 100, 3), first(&extents, 5000, 100, 3));
        assert_ne!(first(&extents, 5000, 100, 3), first(&extents, 5000, 100, 4));
    }

    #[test]
    fn what_a_small_partition_lacks_a_large_one_gives() {
        let ranges = latest(&[extent(0, 0, 1_000_000), extent(1, 0, 10)], 1000);
        assert_eq!(ranges, [extent(0, 999_010, 1_000_000), extent(1, 0, 10)]);
        assert_eq!(latest(&[extent(0, 0, 5)], 0), []);
    }
}
