//! The latest scores of a partition, in the order of time and in the order of size at once: every rank, exactly.
//!
//! Values lie in ascending blocks with room to spare; a full block has all of them spread anew. So learning a score,
//! forgetting the oldest and finding a rank cost about 100 ns whatever the window, and nothing is allocated once the
//! window is full. Values are stored as `f32`: ranks of finer differences mean nothing.

use super::ring::Ring;

/// Values of a block after spreading, and the most it can hold. The less room, the sooner all are spread anew.
const FILL: usize = 128;
const BLOCK: usize = 192;

/// A ring of values that knows their ranks.
#[derive(Clone, Debug)]
pub struct Window {
    ring: Ring,
    sorted: Sorted,
}

impl Window {
    /// The latest `capacity` values (at least 1), which begin with `ascending`; of too many, some at even distances.
    pub fn new(capacity: usize, ascending: impl ExactSizeIterator<Item = f32>) -> Self {
        let ring = Ring::new(capacity, ascending);
        let mut slots = ring.values().to_vec();
        slots.sort_unstable_by(f32::total_cmp);
        Self { ring, sorted: Sorted::of(slots) }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// Takes the newest value; a full window forgets its oldest.
    pub fn push(&mut self, value: f32) {
        if let Some(oldest) = self.ring.push(value) {
            self.sorted.remove(oldest);
        }
        self.sorted.insert(value);
    }

    /// How many values are below `value`.
    pub fn n_below(&self, value: f32) -> usize {
        self.sorted.n_below(value)
    }

    /// The value of rank `i`, from 0; panics when there are not so many.
    pub fn nth(&self, i: usize) -> f32 {
        self.sorted.nth(i)
    }
}

/// Ascending values in blocks.
#[derive(Clone, Debug)]
struct Sorted {
    /// Blocks of [`BLOCK`] places each, of which the first `lens` are taken.
    slots: Vec<f32>,
    lens: Vec<u16>,
    /// Where each block began when values were spread last: it holds nothing less, and the one before nothing greater.
    starts: Vec<f32>,
}

impl Sorted {
    fn of(ascending: Vec<f32>) -> Self {
        let n = ascending.len();
        let mut sorted = Self { slots: ascending, lens: Vec::new(), starts: Vec::new() };
        sorted.spread(n);
        sorted
    }

    fn block(&self, block: usize) -> &[f32] {
        &self.slots[block * BLOCK..block * BLOCK + usize::from(self.lens[block])]
    }

    /// Spreads the values evenly again.
    fn respread(&mut self) {
        let mut n = 0;
        for block in 0..self.lens.len() {
            let (at, len) = (block * BLOCK, usize::from(self.lens[block]));
            self.slots.copy_within(at..at + len, n);
            n += len;
        }
        self.spread(n);
    }

    /// Spreads the `n` values that lie at the front of the slots over blocks.
    fn spread(&mut self, n: usize) {
        let n_blocks = n / FILL + 1;
        self.slots.resize(n_blocks * BLOCK, 0.0);
        self.lens.resize(n_blocks, 0);
        self.starts.resize(n_blocks, 0.0);
        // From the last one on: a block's place is never before its values.
        for block in (0..n_blocks).rev() {
            let (from, to) = (block * n / n_blocks, (block + 1) * n / n_blocks);
            self.slots.copy_within(from..to, block * BLOCK);
            self.lens[block] = (to - from) as u16;
            self.starts[block] = if block == 0 { f32::NEG_INFINITY } else { self.slots[block * BLOCK] };
        }
    }

    /// The last block that may hold `value`.
    fn place(&self, value: f32) -> usize {
        self.starts.partition_point(|start| *start <= value).saturating_sub(1)
    }

    fn insert(&mut self, value: f32) {
        let mut block = self.place(value);
        if usize::from(self.lens[block]) == BLOCK {
            self.respread();
            block = self.place(value);
        }
        let at = self.block(block).partition_point(|held| *held <= value);
        let (first, len) = (block * BLOCK, usize::from(self.lens[block]));
        self.slots.copy_within(first + at..first + len, first + at + 1);
        self.slots[first + at] = value;
        self.lens[block] += 1;
    }

    fn remove(&mut self, value: f32) {
        // Equal values may lie in the blocks before.
        for block in (0..=self.place(value)).rev() {
            let held = self.block(block);
            let (at, len) = (held.partition_point(|held| *held < value), held.len());
            if at < len && held[at] == value {
                let first = block * BLOCK;
                self.slots.copy_within(first + at + 1..first + len, first + at);
                self.lens[block] -= 1;
                return;
            }
        }
        unreachable!("what the ring holds is sorted, too");
    }

    fn n_below(&self, value: f32) -> usize {
        let Some(last) = self.starts.partition_point(|start| *start < value).checked_sub(1) else { return 0 };
        let before: usize = self.lens[..last].iter().map(|len| usize::from(*len)).sum();
        before + self.block(last).partition_point(|held| *held < value)
    }

    fn nth(&self, i: usize) -> f32 {
        let mut left = i;
        for (block, len) in self.lens.iter().enumerate() {
            let len = usize::from(*len);
            if left < len {
                return self.slots[block * BLOCK + left];
            }
            left -= len;
        }
        panic!("rank {i} of fewer values");
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// The same by sorting.
    fn assert_same(window: &Window, plain: &[f32], probes: &[f32]) {
        let mut sorted = plain.to_vec();
        sorted.sort_by(f32::total_cmp);
        assert_eq!(window.len(), plain.len());
        assert_eq!((0..plain.len()).map(|i| window.nth(i)).collect::<Vec<_>>(), sorted);
        for probe in probes {
            assert_eq!(window.n_below(*probe), sorted.partition_point(|value| value < probe), "{probe}");
        }
    }

    #[test]
    fn it_agrees_with_sorting_on_random_tied_rising_and_constant_values() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for kind in 0..4 {
            for capacity in [1, 2, 50, 700] {
                let mut window = Window::new(capacity, std::iter::empty());
                let mut plain: Vec<f32> = Vec::new();
                for i in 0..3 * capacity + 5 {
                    let value = match kind {
                        0 => rng.random::<f32>(),
                        1 => rng.random_range(0..4) as f32,
                        2 => i as f32,
                        _ => f32::from(i > 2 * capacity),
                    };
                    window.push(value);
                    plain.push(value);
                    if plain.len() > capacity {
                        plain.remove(0);
                    }
                    if i % 97 == 0 || i < 3 {
                        assert_same(&window, &plain, &[value, 0.5, -1.0, 2.0, f32::INFINITY]);
                    }
                }
                assert_same(&window, &plain, &[0.0, 0.25, 1.0, 3.0]);
            }
        }
    }
}
