//! The latest scores of a partition, in the order of time and in the order of size at once.
//!
//! Values lie in ascending blocks with room to spare; a full block has all of them spread anew. So learning a score,
//! forgetting the oldest and finding a rank cost about 100 ns whatever the window, and nothing is allocated once the
//! window is full. Values are stored as `f32`: ranks of finer differences mean nothing.

/// Values of a block after spreading, and the most it can hold. The less room, the sooner all are spread anew.
const FILL: usize = 128;
const BLOCK: usize = 192;

/// A ring of values that knows their ranks.
#[derive(Clone, Debug)]
pub struct Window {
    /// Values in the order of time; from `next` on the older ones once it is full.
    ring: Vec<f32>,
    next: usize,
    capacity: usize,
    sorted: Sorted,
}

impl Window {
    /// A window of at most `capacity` values (at least 1), which begins with `ascending`.
    ///
    /// Of too many, values at even distances are taken. They are aged in a fixed order that mixes large and small, so that
    /// what they say of the distribution fades evenly.
    pub fn new(capacity: usize, ascending: impl ExactSizeIterator<Item = f32>) -> Self {
        let capacity = capacity.max(1);
        let n_given = ascending.len();
        let n = n_given.min(capacity);
        let mut slots: Vec<f32> = Vec::with_capacity(n);
        for (i, value) in ascending.enumerate() {
            // The i-th is taken when the share of those taken falls behind.
            if (i + 1) * n / n_given > slots.len() {
                slots.push(value);
            }
        }
        let mut ring = Vec::with_capacity(capacity);
        let stride = coprime_stride(n);
        ring.extend((0..n).map(|i| slots[i * stride % n]));
        Self { ring, next: 0, capacity, sorted: Sorted::of(slots) }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// Takes the newest value; a full window forgets its oldest.
    pub fn push(&mut self, value: f32) {
        if self.ring.len() < self.capacity {
            self.ring.push(value);
        } else {
            self.sorted.remove(self.ring[self.next]);
            self.ring[self.next] = value;
            self.next = (self.next + 1) % self.capacity;
        }
        self.sorted.insert(value);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.ring.clear();
        self.next = 0;
        self.sorted = Sorted::of(Vec::new());
    }

    /// How many values are below `value`.
    pub fn n_below(&self, value: f32) -> usize {
        self.sorted.n_below(value)
    }

    /// The value of rank `i`, from 0; panics when there are not so many.
    pub fn nth(&self, i: usize) -> f32 {
        self.sorted.nth(i)
    }

    /// Puts the `n` greatest values, descending, in place of what `into` holds.
    pub fn greatest(&self, n: usize, into: &mut Vec<f32>) {
        into.clear();
        for block in (0..self.sorted.lens.len()).rev() {
            let wanted = n - into.len();
            into.extend(self.sorted.block(block).iter().rev().take(wanted));
            if into.len() == n {
                break;
            }
        }
    }

    /// Upper median, and 1.4826 times the upper median distance from it; (0, 1) of an empty window.
    pub fn median_and_mad(&self) -> (f64, f64) {
        let n = self.len();
        if n == 0 {
            return (0.0, 1.0);
        }
        let middle = n / 2;
        let median = f64::from(self.nth(middle));
        // Distances grow away from the median on both sides. Of the n/2 + 1 least, `below` lie on the lower side: the
        // least number for which the next one there is no nearer than the last that is then taken above.
        let lower = |i: usize| median - f64::from(self.nth(middle - 1 - i));
        let upper = |i: usize| f64::from(self.nth(middle + i)) - median;
        let (mut low, mut high) = (0, middle);
        while low < high {
            let below = usize::midpoint(low, high);
            let is_enough = middle - below < n - middle && lower(below) >= upper(middle - below);
            if is_enough { high = below } else { low = below + 1 }
        }
        let n_above = middle + 1 - low;
        let last_above = if n_above > 0 { upper(n_above - 1) } else { 0.0 };
        let last_below = if low > 0 { lower(low - 1) } else { 0.0 };
        (median, 1.4826 * last_above.max(last_below))
    }
}

/// A number near 0.618 n without a common factor with `n`: its multiples visit all of `0..n`, far from the one before.
fn coprime_stride(n: usize) -> usize {
    let gcd = |mut a: usize, mut b: usize| {
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    let first = ((n as f64 * 0.618) as usize).max(1);
    (first..=n + 1).find(|stride| gcd(*stride, n) <= 1).expect("1 or n + 1 is reached")
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
    use crate::threshold::median_and_mad;

    /// The same by sorting.
    fn assert_same(window: &Window, plain: &[f32], probes: &[f32]) {
        let mut sorted = plain.to_vec();
        sorted.sort_by(f32::total_cmp);
        assert_eq!(window.len(), plain.len());
        assert_eq!((0..plain.len()).map(|i| window.nth(i)).collect::<Vec<_>>(), sorted);
        for probe in probes {
            assert_eq!(window.n_below(*probe), sorted.partition_point(|value| value < probe), "{probe}");
        }
        let mut greatest = Vec::new();
        window.greatest(plain.len().min(7), &mut greatest);
        assert!(greatest.iter().eq(sorted.iter().rev().take(7)));
        let mut values: Vec<f64> = plain.iter().map(|value| f64::from(*value)).collect();
        let (median, mad) = window.median_and_mad();
        let expected = median_and_mad(&mut values);
        assert_eq!((median, mad.max(1e-6)), expected);
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

    #[test]
    fn what_it_begins_with_is_thinned_evenly_and_ages_evenly() {
        let mut window = Window::new(1000, (0..5000).map(|i| i as f32));
        assert_eq!(window.len(), 1000);
        assert!((0..1000).all(|i| (window.nth(i) - 5.0 * i as f32).abs() <= 5.0));
        for _ in 0..500 {
            window.push(9999.0);
        }
        let n_low = window.n_below(2500.0);
        assert!((235..=265).contains(&n_low), "{n_low} of the lower half are left");
    }

    #[test]
    fn median_and_mad_of_hand_worked_cases() {
        let of = |values: &[f32]| Window::new(9, values.iter().copied()).median_and_mad();
        assert_eq!(of(&[1.0, 2.0, 3.0, 4.0, 100.0]), (3.0, 1.4826));
        assert_eq!(of(&[2.0; 5]), (2.0, 0.0));
        assert_eq!(of(&[]), (0.0, 1.0));
    }
}
