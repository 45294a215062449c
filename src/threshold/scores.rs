//! The latest scores of a partition: the greatest of them exactly, and the places of all others nearly.
//!
//! A threshold needs the tail, a few hundred of 20,000 scores. These lie in ascending order with some to spare, so that
//! one that comes or goes is a matter of few; when none are left to spare, the least of the greatest is searched for in
//! the ring, which takes tens of thousands of scores to happen. Everything below is counted by interval (`places`).

use super::places::Places;
use super::ring::Ring;

/// A ring of finite scores that knows its greatest, and where a score stands among all.
#[derive(Clone, Debug)]
pub struct Scores {
    ring: Ring,
    places: Places,
    /// The greatest scores, ascending: no other is greater than the first.
    top: Vec<f32>,
    /// Other scores that equal the first.
    n_tied: usize,
    /// How many of the greatest are kept at most.
    room: usize,
}

impl Scores {
    /// The latest `capacity` scores (at least 1), which begin with `ascending`; of too many, some at even distances. Its
    /// `n_greatest` greatest may be asked for without an allocation.
    pub fn new(capacity: usize, n_greatest: usize, ascending: impl ExactSizeIterator<Item = f32>) -> Self {
        let ring = Ring::new(capacity, ascending);
        let mut places = Places::new();
        ring.values().iter().for_each(|z| places.add(*z));
        places.add_up();
        Self { ring, places, top: Vec::with_capacity(room_for(n_greatest)), n_tied: 0, room: 0 }
    }

    /// Number of scores.
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// The scores in no order that matters.
    #[cfg(test)]
    pub fn values(&self) -> &[f32] {
        self.ring.values()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.ring.clear();
        self.places.clear();
        self.top.clear();
        self.n_tied = 0;
    }

    /// Takes the newest score; a full ring forgets its oldest.
    pub fn push(&mut self, z: f32) {
        let oldest = self.ring.push(z);
        if let Some(oldest) = oldest {
            self.places.remove(oldest);
        }
        self.places.add(z);
        let Some(&least) = self.top.first() else { return };
        if let Some(oldest) = oldest.filter(|oldest| *oldest >= least) {
            self.leave(oldest, least);
        }
        // Taken anew: the first may have left.
        if let Some(least) = self.top.first().copied().filter(|least| z >= *least) {
            self.enter(z, least);
        }
    }

    /// One of the greatest comes.
    fn enter(&mut self, z: f32, least: f32) {
        if z == least {
            self.n_tied += 1;
            return;
        }
        let at = self.top.partition_point(|top| *top <= z);
        if self.top.len() < self.room {
            self.top.insert(at, z);
            return;
        }
        self.top.copy_within(1..at, 0);
        self.top[at - 1] = z;
        self.n_tied = if self.top[0] == least { self.n_tied + 1 } else { 0 };
    }

    /// One of the greatest goes.
    fn leave(&mut self, z: f32, least: f32) {
        if z == least && self.n_tied > 0 {
            self.n_tied -= 1;
        } else {
            let at = self.top.partition_point(|top| *top < z);
            self.top.remove(at);
        }
    }

    /// The `n` greatest scores, ascending.
    ///
    /// Panics when there are not so many.
    pub fn greatest(&mut self, n: usize) -> &[f32] {
        if self.top.len() < n {
            self.gather(n);
        }
        &self.top[self.top.len() - n..]
    }

    /// Gathers half as many again as the `n` greatest, so that some may go before it must be done again.
    fn gather(&mut self, n: usize) {
        self.room = room_for(n);
        let wanted = (n + n / 2).min(self.len());
        let least = self.nth_greatest(wanted, self.room);
        self.top.clear();
        self.top.extend(self.ring.values().iter().filter(|z| **z > least));
        let n_least = self.ring.values().iter().filter(|z| **z == least).count();
        let n_taken = n_least.min(self.room - self.top.len());
        self.top.extend(std::iter::repeat_n(least, n_taken));
        self.n_tied = n_least - n_taken;
        self.top.sort_unstable_by(f32::total_cmp);
    }

    /// A value that at least `n_min` scores reach and at most `n_max` exceed; of those that reach it, more than `n_max`
    /// only where they are equal.
    fn nth_greatest(&self, n_min: usize, n_max: usize) -> f32 {
        let n_reaching = |least: f32| self.ring.values().iter().map(|z| u32::from(*z >= least)).sum::<u32>() as usize;
        // Halved in the order of the bits, which is that of the values.
        let (mut low, mut high) = (ordinal(f32::MIN), ordinal(f32::MAX));
        while high - low > 1 {
            let middle = u32::midpoint(low, high);
            match n_reaching(value_of(middle)) {
                n if n > n_max => low = middle,
                n if n < n_min => high = middle,
                _ => return value_of(middle),
            }
        }
        value_of(low)
    }

    /// Adds up the places: [`Scores::n_below`] is as of now until the next call.
    pub fn add_up(&mut self) {
        self.places.add_up();
    }

    /// Where scores stood when they were added up last.
    pub fn places(&self) -> &Places {
        &self.places
    }
}

/// How many of the greatest are kept where `n` are asked for.
fn room_for(n: usize) -> usize {
    2 * n + 16
}

/// The place of a value in the order of all `f32`.
fn ordinal(value: f32) -> u32 {
    let bits = value.to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

fn value_of(ordinal: u32) -> f32 {
    f32::from_bits(if ordinal >> 31 == 1 { ordinal & !(1 << 31) } else { !ordinal })
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn the_greatest_agree_with_sorting_on_random_tied_rising_falling_and_constant_values() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for kind in 0..5 {
            for capacity in [1, 2, 50, 700] {
                let mut scores = Scores::new(capacity, capacity / 4 + 1, std::iter::empty());
                let mut plain: Vec<f32> = Vec::new();
                for i in 0..5 * capacity + 5 {
                    let value = match kind {
                        0 => rng.random::<f32>() - 0.5,
                        1 => rng.random_range(0..4) as f32 - 2.0,
                        2 => i as f32,
                        3 => -(i as f32),
                        _ => f32::from(i > 2 * capacity),
                    };
                    scores.push(value);
                    plain.push(value);
                    if plain.len() > capacity {
                        plain.remove(0);
                    }
                    if i % 13 == 0 {
                        let mut sorted = plain.clone();
                        sorted.sort_by(f32::total_cmp);
                        let n = plain.len() / 5 + 1;
                        assert_eq!(scores.greatest(n), &sorted[sorted.len() - n..], "{kind} {capacity} {i}");
                    }
                }
            }
        }
    }

    #[test]
    fn gathering_is_rare_and_allocates_nothing() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let mut scores = Scores::new(20_000, 401, (0..20_000).map(|i| i as f32 / 20_000.0));
        let (capacity, mut n_gathered) = (scores.top.capacity(), 0);
        for i in 0..200_000 {
            scores.push(rng.random());
            if i % 64 == 0 {
                n_gathered += usize::from(scores.top.len() < 401);
                scores.greatest(401);
            }
        }
        assert!((1..10).contains(&n_gathered), "{n_gathered}");
        assert_eq!(scores.top.capacity(), capacity);
    }

    #[test]
    fn ordinals_are_in_the_order_of_values() {
        let values = [f32::MIN, -1.0, -1e-9, -0.0, 0.0, 1e-9, 2.5, f32::MAX];
        assert!(values.windows(2).all(|pair| ordinal(pair[0]) < ordinal(pair[1])));
        assert!(values.iter().all(|value| value_of(ordinal(*value)).to_bits() == value.to_bits()));
    }
}
