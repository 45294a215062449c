//! What a row costs when it is kept as its active latents instead of its inputs.
//!
//! An active latent is its activation, an f32, and its number, ⌈log2 M⌉ bits; nothing is spent on the inactive ones, nor on
//! entropy coding. How good the copy is, explained variance says; this is the other half of the bargain.

/// Bits of an activation or an input.
const BITS_FLOAT: f64 = 32.0;

/// The cost of a row both ways.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Compression {
    /// Bits of a row's inputs: 32 each.
    pub bits_dense: f64,
    /// Bits of its active latents, on average.
    pub bits_sparse: f64,
}

impl Compression {
    /// The cost of rows of `n_inputs` inputs of which `latents_active_mean` of `n_latents` latents are active on average.
    pub fn new(n_inputs: usize, n_latents: usize, latents_active_mean: f64) -> Self {
        let bits_number = f64::from(n_latents.max(1).next_power_of_two().trailing_zeros());
        Self { bits_dense: n_inputs as f64 * BITS_FLOAT, bits_sparse: latents_active_mean * (BITS_FLOAT + bits_number) }
    }

    /// How many times smaller the latents are: above 1 they save, below 1 they cost more than the row itself. Where
    /// nothing fires a row still counts as one bit, so that the ratio is a number.
    pub fn ratio(&self) -> f64 {
        self.bits_dense / self.bits_sparse.max(1.0)
    }

    /// Floats of a row's active latents, numbers included: bits / 32.
    pub fn floats_sparse(&self) -> f64 {
        self.bits_sparse / BITS_FLOAT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hand_worked_row_costs_what_it_should() {
        // 32 inputs are 1024 bits; 4 of 128 latents are 4·(32 + 7) = 156.
        let compression = Compression::new(32, 128, 4.0);
        assert_eq!((compression.bits_dense, compression.bits_sparse), (1024.0, 156.0));
        assert!((compression.ratio() - 1024.0 / 156.0).abs() < 1e-12);
        assert_eq!(compression.floats_sparse(), 4.875);
    }

    #[test]
    fn numbers_take_the_bits_that_the_largest_needs() {
        let bits = |n_latents| Compression::new(1, n_latents, 1.0).bits_sparse - 32.0;
        assert_eq!([1, 2, 3, 4, 5, 128, 129].map(bits), [0.0, 1.0, 2.0, 2.0, 3.0, 7.0, 8.0]);
    }

    #[test]
    fn as_many_latents_as_inputs_save_nothing() {
        assert!(Compression::new(8, 32, 8.0).ratio() < 1.0);
        assert!(Compression::new(8, 32, 0.0).ratio().is_finite());
    }
}
