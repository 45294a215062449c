//! The latest values in the order of time.

/// A ring of at least one value.
#[derive(Clone, Debug)]
pub struct Ring {
    /// From `next` on the older ones once it is full.
    values: Vec<f32>,
    next: usize,
    capacity: usize,
}

impl Ring {
    /// A ring of at most `capacity` values (at least 1), which begins with `ascending`.
    ///
    /// Of too many, values at even distances are taken. They are aged in a fixed order that mixes large and small, so that
    /// what they say of the distribution fades evenly.
    pub fn new(capacity: usize, ascending: impl ExactSizeIterator<Item = f32>) -> Self {
        let capacity = capacity.max(1);
        let n_given = ascending.len();
        let n = n_given.min(capacity);
        let mut kept: Vec<f32> = Vec::with_capacity(n);
        for (i, value) in ascending.enumerate() {
            // The i-th is taken when the share of those taken falls behind.
            if (i + 1) * n / n_given > kept.len() {
                kept.push(value);
            }
        }
        let mut values = Vec::with_capacity(capacity);
        let stride = coprime_stride(n);
        values.extend((0..n).map(|i| kept[i * stride % n]));
        Self { values, next: 0, capacity }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// The most it holds.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The values in no order that matters.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Takes the newest value; a full ring gives its oldest.
    pub fn push(&mut self, value: f32) -> Option<f32> {
        if self.values.len() < self.capacity {
            self.values.push(value);
            return None;
        }
        let oldest = std::mem::replace(&mut self.values[self.next], value);
        self.next = if self.next + 1 == self.capacity { 0 } else { self.next + 1 };
        Some(oldest)
    }

    /// The values from the oldest on.
    pub fn in_time(&self) -> impl Iterator<Item = f32> + Clone + '_ {
        let (newer, older) = self.values.split_at(self.next);
        older.iter().chain(newer).copied()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.values.clear();
        self.next = 0;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_forgets_the_oldest_and_knows_the_order() {
        let mut ring = Ring::new(3, std::iter::empty());
        assert_eq!([1.0, 2.0, 3.0, 4.0, 5.0].map(|value| ring.push(value)), [None, None, None, Some(1.0), Some(2.0)]);
        assert!(ring.in_time().eq([3.0, 4.0, 5.0]));
        ring.clear();
        assert_eq!((ring.len(), ring.push(7.0), ring.in_time().next()), (0, None, Some(7.0)));
    }

    #[test]
    fn what_it_begins_with_is_thinned_evenly_and_ages_evenly() {
        let mut ring = Ring::new(1000, (0..5000).map(|i| i as f32));
        let mut sorted = ring.values().to_vec();
        sorted.sort_by(f32::total_cmp);
        assert_eq!(sorted.len(), 1000);
        assert!(sorted.iter().enumerate().all(|(i, value)| (value - 5.0 * i as f32).abs() <= 5.0));
        for _ in 0..500 {
            ring.push(9999.0);
        }
        let n_low = ring.values().iter().filter(|value| **value < 2500.0).count();
        assert!((235..=265).contains(&n_low), "{n_low} of the lower half are left");
    }
}
