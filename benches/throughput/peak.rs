//! What one thread can multiply at most: fused multiply-adds from registers alone, and a bare `cblas_sgemm`.
//!
//! Twelve independent sums hide the latency of a multiply-add on every x86-64 with AVX2; nothing is read from memory.

use cblas_sys::{CBLAS_LAYOUT, CBLAS_TRANSPOSE, cblas_sgemm};

use crate::clock::thread_cpu_ns;

/// Turns of the loop of one measurement: some milliseconds.
const TURNS: u64 = 4_000_000;
/// Multiply-adds of a turn.
const SUMS: u64 = 12;
/// Measurements, of which the best counts: a peak is what nothing disturbs.
const TRIES: usize = 7;

/// Floating-point operations a nanosecond (GFLOP/s) of one thread in `f32`.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub struct Peak {
    /// With 256-bit registers.
    pub avx2: Option<f64>,
    /// With 512-bit registers.
    pub avx512: Option<f64>,
}

impl Peak {
    /// Measures what the processor has.
    pub fn measure() -> Self {
        let best = |run: fn(u64), width: u64| {
            let once = || {
                let began = thread_cpu_ns();
                run(TURNS);
                (TURNS * SUMS * width * 2) as f64 / (thread_cpu_ns() - began) as f64
            };
            (0..TRIES).map(|_| once()).fold(0.0, f64::max)
        };
        Self { avx2: has_avx2().then(|| best(turn_avx2, 8)), avx512: has_avx512().then(|| best(turn_avx512, 16)) }
    }

    /// The higher one.
    pub fn highest(self) -> f64 {
        self.avx2.into_iter().chain(self.avx512).fold(f64::NAN, f64::max)
    }
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma")
}

#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    std::is_x86_feature_detected!("avx512f")
}

/// Turns of twelve multiply-adds each, in the registers named `$r`. Written as instructions because the compiler would
/// keep fewer sums, or need intrinsics that are newer than the oldest compiler that builds strayd.
#[cfg(target_arch = "x86_64")]
macro_rules! turns {
    ($name:ident, $r:literal, $zero:literal) => {
        fn $name(n: u64) {
            #[allow(unsafe_code, reason = "a peak is measured on the instructions themselves")]
            // SAFETY: the caller has asked whether the processor knows these instructions; they touch registers only, all
            // of which are named, and no memory.
            unsafe {
                std::arch::asm!(
                    concat!($zero, " xmm12, xmm12, xmm12"),
                    "2:",
                    concat!("vfmadd231ps ", $r, "0, ", $r, "12, ", $r, "12"),
                    concat!("vfmadd231ps ", $r, "1, ", $r, "12, ", $r, "12"),
                    concat!("vfmadd231ps ", $r, "2, ", $r, "12, ", $r, "12"),
                    concat!("vfmadd231ps ", $r, "3, ", $r, "12, ", $r, "12"),
                    concat!("vfmadd231ps ", $r, "4, ", $r, "12, ", $r, "12"),
                    concat!("vfmadd231ps ", $r, "5, ", $r, "12, ", $r, "12"),
                    concat!("vfmadd231ps ", $r, "6, ", $r, "12, ", $r, "12"),
                    concat!("vfmadd231ps ", $r, "7, ", $r, "12, ", $r, "12"),
                    concat!("vfmadd231ps ", $r, "8, ", $r, "12, ", $r, "12"),
                    concat!("vfmadd231ps ", $r, "9, ", $r, "12, ", $r, "12"),
                    concat!("vfmadd231ps ", $r, "10, ", $r, "12, ", $r, "12"),
                    concat!("vfmadd231ps ", $r, "11, ", $r, "12, ", $r, "12"),
                    "dec {n}",
                    "jnz 2b",
                    n = inout(reg) n => _,
                    out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _,
                    out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                    out("xmm12") _,
                    options(nomem, nostack),
                );
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
turns!(turn_avx2, "ymm", "vxorps");
#[cfg(target_arch = "x86_64")]
turns!(turn_avx512, "zmm", "vxorps");

#[cfg(not(target_arch = "x86_64"))]
fn has_avx2() -> bool {
    false
}
#[cfg(not(target_arch = "x86_64"))]
fn has_avx512() -> bool {
    false
}
#[cfg(not(target_arch = "x86_64"))]
fn turn_avx2(_: u64) {}
#[cfg(not(target_arch = "x86_64"))]
fn turn_avx512(_: u64) {}

/// C ← A·B + C of contiguous row-major matrices: A `[m, k]`, B `[k, n]`, C `[m, n]`.
pub fn sgemm((m, n, k): (usize, usize, usize), a: &[f32], b: &[f32], c: &mut [f32]) {
    assert!(a.len() >= m * k && b.len() >= k * n && c.len() >= m * n, "the matrices have their sizes");
    let [m, n, k] = [m, n, k].map(|size| i32::try_from(size).expect("sizes of a model are small"));
    let (row_major, plain) = (CBLAS_LAYOUT::CblasRowMajor, CBLAS_TRANSPOSE::CblasNoTrans);
    #[allow(unsafe_code, reason = "the bare call is what the wrapped one is compared with")]
    // SAFETY: the three slices were found to be as large as the sizes say, and the library keeps no pointer.
    unsafe {
        cblas_sgemm(row_major, plain, plain, m, n, k, 1.0, a.as_ptr(), k, b.as_ptr(), n, 1.0, c.as_mut_ptr(), n);
    }
}
