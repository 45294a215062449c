//! Runs plain loops with the widest vectors that the processor at hand has.
//!
//! The program is built for every x86-64, whose vectors hold four f32; most machines have eight or sixteen. A loop is
//! compiled once for each of these, and chosen when it runs. It computes the same everywhere: the compiler neither
//! reorders a sum nor fuses a product with it. What is called inside must be `#[inline(always)]`, or it stays narrow: plain
//! loops therefore, and no `for_each`, `fold` or `from_fn`, which the compiler may leave outside.

/// Runs `work` with the widest vectors there are; meant for a loop over a whole batch.
#[inline(always)]
pub fn wide<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}

/// The same for work that is written in vectors, whose sums have as many parts as a vector has lanes: they round differently
/// on another processor.
#[inline(always)]
pub fn wide_by<W: pulp::WithSimd>(work: W) -> W::Output {
    pulp::Arch::new().dispatch(work)
}

/// Values of which [`which`] tells apart those that are wanted.
pub const MASKED: usize = 64;

/// A bit for each of 64 values, the first lowest: whether `is_wanted`.
///
/// A byte each and then eight bytes by one product, which has no branch to mispredict.
#[inline(always)]
pub fn which<T: Copy>(values: &[T; MASKED], is_wanted: impl Fn(T) -> bool) -> u64 {
    /// Moves the lowest bits of eight bytes next to each other, into the highest byte.
    const GATHER: u64 = 0x0102_0408_1020_4080;
    let mut flags = [0_u8; MASKED];
    for (flag, value) in flags.iter_mut().zip(values) {
        *flag = u8::from(is_wanted(*value));
    }
    let (eights, _) = flags.as_chunks::<8>();
    let mut bits = 0;
    for (i, eight) in eights.iter().enumerate() {
        bits |= (u64::from_le_bytes(*eight).wrapping_mul(GATHER) >> 56) << (8 * i);
    }
    bits
}

/// The places of the bits that are set, ascending.
#[inline(always)]
pub fn places(mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let place = (bits != 0).then(|| bits.trailing_zeros() as usize);
        bits &= bits.wrapping_sub(1);
        place
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_has_its_bit() {
        for wanted in 0..MASKED {
            let values: [usize; MASKED] = std::array::from_fn(|i| i);
            let bits = wide(|| which(&values, |value| value == wanted || value == 63));
            assert_eq!(bits, 1 << wanted | 1 << 63);
            let expected: &[usize] = if wanted == 63 { &[63] } else { &[wanted, 63] };
            assert_eq!(places(bits).collect::<Vec<_>>(), expected);
        }
        assert_eq!(places(0).count(), 0);
    }
}
