//! Numbers as JSON spells them, eight digits at a time, and what they are as `f32`.
//!
//! A feature's value is by contract the `f64` next to what is written, rounded to `f32`. The double need not be known
//! to the last bit for that: an estimate that is off by a few units of the last of its 53 bits rounds to the same `f32`
//! unless it lies that close to the middle between two of them. There, where digits and power of ten are exact doubles,
//! one division or multiplication gives the double itself (Clinger, "How to read floating point numbers accurately",
//! PLDI 1990), and everything else, which is hardly anything, is parsed by the standard library.

use super::super::field::Scalar;
use super::super::narrow;

/// Digits that fit into 64 bits whatever they are.
const DIGITS_MAX: usize = 19;
/// Digits up to this number are converted by one instruction.
const MANTISSA_MAX: u64 = i64::MAX as u64;
/// Integers up to this one are exact doubles.
const EXACT_MAX: u64 = 1 << 53;
/// Powers of ten up to this one are exact doubles.
const EXACT_POWER_MAX: i32 = 22;
/// Bits of a double's fraction below the last of a single's.
const EXTRA_BITS: u32 = 29;
/// How close to the middle between two singles an estimate may come, in units of a double's last place. Three roundings
/// of half a unit each, in a binade that may be the lower one, make an error below 4.
const ESTIMATE_ERROR_MAX: u64 = 16;

/// The largest power of ten, and the smallest, by which digits are multiplied here: what `f32` spans.
const POWER_MAX: i32 = 40;
/// Powers of ten from the smallest to the largest, each the next double.
static POWERS: [f64; 81] = [
    1e-40, 1e-39, 1e-38, 1e-37, 1e-36, 1e-35, 1e-34, 1e-33, 1e-32, 1e-31, 1e-30, 1e-29, 1e-28, 1e-27, 1e-26, 1e-25,
    1e-24, 1e-23, 1e-22, 1e-21, 1e-20, 1e-19, 1e-18, 1e-17, 1e-16, 1e-15, 1e-14, 1e-13, 1e-12, 1e-11, 1e-10, 1e-9,
    1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12,
    1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22, 1e23, 1e24, 1e25, 1e26, 1e27, 1e28, 1e29, 1e30, 1e31,
    1e32, 1e33, 1e34, 1e35, 1e36, 1e37, 1e38, 1e39, 1e40,
];

/// A zero digit eight times.
const ZEROS: u64 = 0x3030_3030_3030_3030;

/// Powers of ten by which eight digits or fewer move what stands before them.
static SHIFTS: [u64; 9] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

/// A number as it stands in a text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Number<'a> {
    text: &'a [u8],
    is_negative: bool,
    is_whole: bool,
    n_digits: usize,
    /// The digits without their point; meaningless where there are more than [`DIGITS_MAX`].
    mantissa: u64,
    /// The power of ten by which they are multiplied.
    exponent: i32,
}

impl<'a> Number<'a> {
    /// The number at the start of `text`, or none where there is none that JSON allows.
    pub(super) fn read(text: &'a [u8]) -> Option<Self> {
        let is_negative = text.first() == Some(&b'-');
        let start = usize::from(is_negative);
        let mut mantissa = 0;
        let mut at = digits(text, start, &mut mantissa);
        let n_whole = at - start;
        // One branch, which is never taken, for both.
        if (n_whole == 0) | (n_whole > 1) & (text.get(start) == Some(&b'0')) {
            return None;
        }
        let mut n_digits = n_whole;
        let mut exponent = 0;
        let mut is_whole = true;
        if text.get(at) == Some(&b'.') {
            let point = at;
            at = digits(text, point + 1, &mut mantissa);
            let n_decimals = at - point - 1;
            if n_decimals == 0 {
                return None;
            }
            n_digits += n_decimals;
            // No text has 2³¹ digits: decode.payload_bytes_max is checked before.
            exponent = -(i32::try_from(n_decimals).ok()?);
            is_whole = false;
        }
        if matches!(text.get(at), Some(b'e' | b'E')) {
            let power;
            (power, at) = power_of_ten(text, at + 1)?;
            exponent += power;
            is_whole = false;
        }
        Some(Self { text: &text[..at], is_negative, is_whole, n_digits, mantissa, exponent })
    }

    /// How many bytes it takes.
    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    /// What it is in a row, or none where it is beyond `f64`.
    pub(super) fn single(&self) -> Option<f32> {
        let is_usual = self.n_digits <= DIGITS_MAX && self.mantissa <= MANTISSA_MAX;
        if let (true, Some(ten_to)) = (is_usual, POWERS.get((self.exponent + POWER_MAX) as usize)) {
            let estimate = (self.mantissa as i64) as f64 * ten_to;
            if rounds_safely(estimate) {
                return Some(self.signed(estimate));
            }
        }
        self.exact_single()
    }

    fn exact_single(&self) -> Option<f32> {
        let is_exact = self.n_digits <= DIGITS_MAX && self.mantissa <= EXACT_MAX;
        if is_exact && self.exponent.abs() <= EXACT_POWER_MAX {
            let ten_to = POWERS[(self.exponent.abs() + POWER_MAX) as usize];
            let mantissa = self.mantissa as f64;
            return Some(self.signed(if self.exponent < 0 { mantissa / ten_to } else { mantissa * ten_to }));
        }
        let double: f64 = self.parsed()?;
        double.is_finite().then(|| narrow(double))
    }

    /// A positive double with the number's sign, in a row.
    #[inline(always)]
    fn signed(&self, double: f64) -> f32 {
        f32::from_bits(narrow(double).to_bits() | u32::from(self.is_negative) << 31)
    }

    fn parsed<T: std::str::FromStr>(&self) -> Option<T> {
        std::str::from_utf8(self.text).ok()?.parse().ok()
    }

    /// What it is as a value that may be a category: whole numbers stay whole while 64 bits hold them; none where it is
    /// beyond `f64`.
    pub(super) fn scalar(&self) -> Option<Scalar<'static>> {
        let float = || self.parsed().filter(|float: &f64| float.is_finite()).map(Scalar::Float);
        match (self.is_whole, self.is_negative) {
            (false, _) => float(),
            (true, false) => self.parsed().map(Scalar::Unsigned).or_else(float),
            // −0 is no integer.
            (true, true) if self.n_digits == 1 && self.mantissa == 0 => float(),
            (true, true) => self.parsed().map(Scalar::Signed).or_else(float),
        }
    }
}

/// Whether every double within [`ESTIMATE_ERROR_MAX`] of a positive estimate rounds to the same `f32`.
#[inline(always)]
fn rounds_safely(estimate: f64) -> bool {
    let beyond = estimate.to_bits() & ((1 << EXTRA_BITS) - 1);
    let middle = 1_u64 << (EXTRA_BITS - 1);
    // Below the smallest normal `f32` there are fewer bits, and the middle is elsewhere.
    (beyond.abs_diff(middle) > ESTIMATE_ERROR_MAX) & (estimate >= 2.0 * f64::from(f32::MIN_POSITIVE))
}

/// Reads the digits from `at` on, adds them to `mantissa` on the right, and returns where they end.
#[inline(always)]
fn digits(text: &[u8], mut at: usize, mantissa: &mut u64) -> usize {
    while let Some(eight) = text.get(at..).and_then(<[u8]>::first_chunk) {
        let (value, n) = leading_digits(u64::from_le_bytes(*eight));
        *mantissa = mantissa.wrapping_mul(SHIFTS[n]).wrapping_add(value);
        at += n;
        if n < 8 {
            return at;
        }
    }
    while let Some(digit @ b'0'..=b'9') = text.get(at) {
        *mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
        at += 1;
    }
    at
}

/// The number that the first bytes of eight spell, and how many of them are digits.
#[inline(always)]
fn leading_digits(eight: u64) -> (u64, usize) {
    let values = eight ^ ZEROS;
    let n = others(values).trailing_zeros() / 8;
    (sum(values.checked_shl(64 - 8 * n).unwrap_or(0)), n as usize)
}

/// Sets the high bit of each byte that is above 9.
#[inline(always)]
fn others(values: u64) -> u64 {
    // Adding 0x76 to more than 9 sets the high bit, and carries into no other byte.
    (((values & 0x7f7f_7f7f_7f7f_7f7f) + 0x7676_7676_7676_7676) | values) & 0x8080_8080_8080_8080
}

/// The number of eight digits, the first of them in the lowest byte.
#[inline(always)]
fn sum(values: u64) -> u64 {
    let pairs = values.wrapping_mul(10).wrapping_add(values >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = pairs.wrapping_mul(100).wrapping_add(pairs >> 16) & 0x0000_ffff_0000_ffff;
    fours.wrapping_mul(10_000).wrapping_add(fours >> 32) & 0xffff_ffff
}

/// A number of up to seven digits as it is in a row, and how many bytes it takes; none for others, and where fewer than
/// eight bytes follow.
///
/// The usual number takes one load. Its digits and their power of ten are exact, so one division gives the next double.
#[expect(clippy::needless_bitwise_bool, reason = "one branch that is never taken")]
#[inline(always)]
pub(super) fn short_single(text: &[u8]) -> Option<(f32, usize)> {
    let is_negative = *text.first()? == b'-';
    let n_signs = usize::from(is_negative);
    let word = u64::from_le_bytes(*text.get(n_signs..)?.first_chunk()?);
    let values = word ^ ZEROS;
    let others = others(values);
    if others == 0 {
        return None;
    }
    // Places are in bits: 8 for each byte.
    let point = others.trailing_zeros() & !7;
    let (values, end, n_points) = if (word >> point) as u8 == b'.' {
        // What stands behind the point moves into its place; the highest byte is not known.
        let before = (1_u64 << point) - 1;
        let others = others >> 8 & !before;
        if others == 0 {
            return None;
        }
        (values & before | values >> 8 & !before, others.trailing_zeros() & !7, 1)
    } else {
        (values, point, 0)
    };
    let n_decimals = (end - point) / 8;
    let length = end / 8 + n_points;
    let has_odd_zero = (word as u8 == b'0') & (point > 8);
    let has_power = (word >> (8 * length)) as u8 | 0x20 == b'e';
    if has_odd_zero | has_power | (point == 0) | (n_decimals < n_points) {
        return None;
    }
    let mantissa = sum(values << (64 - end)) as i64 as f64;
    let single = (mantissa / POWERS[n_decimals as usize + POWER_MAX as usize]) as f32;
    Some((f32::from_bits(single.to_bits() | u32::from(is_negative) << 31), length as usize + n_signs))
}

/// Reads a power of ten, with its sign, and where it ends; none where it has no digits, or more than four.
fn power_of_ten(text: &[u8], mut at: usize) -> Option<(i32, usize)> {
    let is_negative = text.get(at) == Some(&b'-');
    at += usize::from(matches!(text.get(at), Some(b'-' | b'+')));
    let start = at;
    let mut power = 0;
    while let Some(digit @ b'0'..=b'9') = text.get(at) {
        power = 10 * power + i32::from(digit - b'0');
        at += 1;
        if at - start > 4 {
            return None;
        }
    }
    (at > start).then_some((if is_negative { -power } else { power }, at))
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn expected(text: &str) -> u32 {
        narrow(text.parse().expect("a number")).to_bits()
    }

    /// What both ways through this file make of a number that something follows.
    fn assert_read(text: &str) {
        for behind in ["", ",", "}", ", \"name\": 1}"] {
            let whole = format!("{text}{behind}");
            let number = Number::read(whole.as_bytes()).expect(text);
            assert_eq!(number.len(), text.len(), "{whole}");
            assert_eq!(number.single().map(f32::to_bits), Some(expected(text)), "{whole}");
            if let Some((single, length)) = short_single(whole.as_bytes()) {
                assert_eq!((single.to_bits(), length), (expected(text), text.len()), "{whole}");
            }
        }
    }

    #[test]
    fn numbers_of_every_spelling_are_read() {
        for text in [
            "0",
            "-0",
            "7",
            "-7",
            "0.5",
            "-0.0",
            "20.123",
            "-20.12",
            "1234567",
            "12345678",
            "123456.7",
            "0.000001",
            "1e5",
            "1E5",
            "1e+5",
            "1e-5",
            "12e05",
            "0e0",
            "0.1e-7",
            "99999999999999999999999999",
            "16777217",
            "33554435",
            "16777217.0000000001",
            "9007199254740993",
            "18446744073709551615",
            "9223372036854775808",
            "1e38",
            "3.4028235e38",
            "3.4028236e38",
            "1e39",
            "1e300",
            "1.1754943e-38",
            "1e-45",
            "7e-46",
            "1e-400",
            "0.00000000000000000000000000001",
        ] {
            assert_read(text);
        }
    }

    #[test]
    fn what_is_no_number_is_not_read() {
        for text in
            ["", "-", "-a", ".5", "5.", "5.e1", "5.,     ", "1e", "1e+", "1e,       ", "00", "01", "-01", "01.5", "+1"]
        {
            assert!(Number::read(text.as_bytes()).is_none(), "{text}");
            assert!(short_single(format!("{text}        ").as_bytes()).is_none(), "{text}");
        }
        assert_eq!(short_single(b"1234567"), None, "the byte behind it is not known");
        assert_eq!(Number::read(b"1e400").expect("a number").single(), None, "beyond f64");
    }

    #[test]
    fn singles_are_the_same_to_the_last_bit() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        for _ in 0..40_000 {
            let bits: u32 = rng.random_range(0..f32::MAX.to_bits());
            let middle = f64::midpoint(f32::from_bits(bits).into(), f32::from_bits(bits + 1).into());
            let beside = f64::from_bits(middle.to_bits() + rng.random_range(0..40) - 20);
            let decimals = rng.random_range(0..18);
            for text in [
                middle.to_string(),
                format!("{beside}"),
                format!("-{beside:e}"),
                format!("{:.*e}", decimals, beside),
                format!("{:.*}", decimals, 100.0 * (rng.random::<f64>() - 0.5)),
                format!("{}e{}", rng.random::<u64>() >> rng.random_range(0..64), rng.random_range(-50..40)),
            ] {
                assert_read(&text);
            }
        }
    }

    #[test]
    fn whole_numbers_stay_whole_while_64_bits_hold_them() {
        let scalar = |text: &str| Number::read(text.as_bytes()).and_then(|number| number.scalar());
        assert!(matches!(scalar("18446744073709551615"), Some(Scalar::Unsigned(u64::MAX))));
        assert!(matches!(scalar("18446744073709551616"), Some(Scalar::Float(_))));
        assert!(matches!(scalar("-9223372036854775808"), Some(Scalar::Signed(i64::MIN))));
        assert!(matches!(scalar("-9223372036854775809"), Some(Scalar::Float(_))));
        assert!(matches!(scalar("-0"), Some(Scalar::Float(zero)) if zero.is_sign_negative()));
        assert!(matches!(scalar("1e2"), Some(Scalar::Float(100.0))));
        assert!(scalar("1e400").is_none());
    }
}
