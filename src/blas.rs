//! Links OpenBLAS, holds it to one thread, and tells where it has picked kernels of another processor.
//!
//! Two BLAS threads cost more than twice the processor time of one for our small products, and oversubscribe the cores
//! that lanes already use. One of two files with `unsafe` in it; it never does arithmetic of its own.

extern crate blas_src as _;
extern crate openblas_src as _;

use std::ffi::{CStr, c_char, c_int};
use std::sync::Once;

unsafe extern "C" {
    fn openblas_set_num_threads(n_threads: c_int);
    fn openblas_get_num_threads() -> c_int;
    fn openblas_get_config() -> *const c_char;
    fn openblas_get_corename() -> *const c_char;
}

/// Kernels from before AVX, by OpenBLAS's names. It picks them for processors that it doesn't know, too: to the one of
/// Debian 12 (0.3.21) an Emerald Rapids is a Prescott, whose products take four to six times as long.
const OLD_KERNELS: [&str; 16] = [
    "Katmai",
    "Coppermine",
    "Northwood",
    "Prescott",
    "Banias",
    "Atom",
    "Core2",
    "Penryn",
    "Dunnington",
    "Nehalem",
    "Athlon",
    "Opteron",
    "Opteron_SSE3",
    "Barcelona",
    "Nano",
    "Bobcat",
];

static ONE_THREAD: Once = Once::new();

/// Limits OpenBLAS to one thread; does nothing the second time.
pub fn init() {
    // SAFETY: the function takes a plain integer and may be called at any time; `Once` serialises our calls.
    ONE_THREAD.call_once(|| unsafe { openblas_set_num_threads(1) });
}

/// Number of threads that OpenBLAS uses for one product.
pub fn threads() -> i32 {
    // SAFETY: the function has no arguments and only reads a global integer.
    unsafe { openblas_get_num_threads() }
}

/// Names the library, its version and the kernels it picked for this processor.
pub fn info() -> String {
    // SAFETY: it returns a pointer to a static, zero-terminated string that the library never frees.
    let config = unsafe { CStr::from_ptr(openblas_get_config()) };
    format!("{} {}", config.to_string_lossy().trim(), kernels())
}

fn kernels() -> String {
    // SAFETY: as in `info`.
    let core = unsafe { CStr::from_ptr(openblas_get_corename()) };
    core.to_string_lossy().trim().to_owned()
}

/// The kernels that this processor can run, where OpenBLAS runs much older ones.
pub fn better_kernels() -> Option<&'static str> {
    better_than(&kernels(), newest_kernels())
}

fn better_than(picked: &str, newest: Option<&'static str>) -> Option<&'static str> {
    newest.filter(|_| OLD_KERNELS.contains(&picked))
}

/// The newest kernels that this processor can run, of those that every OpenBLAS of today has.
#[cfg(target_arch = "x86_64")]
fn newest_kernels() -> Option<&'static str> {
    use std::arch::is_x86_feature_detected as has;
    let has_avx512 = has!("avx512f") && has!("avx512cd") && has!("avx512dq") && has!("avx512bw") && has!("avx512vl");
    let has_avx2 = has!("avx2") && has!("fma");
    has_avx512.then_some("SkylakeX").or(has_avx2.then_some("Haswell"))
}

/// Elsewhere OpenBLAS knows best.
#[cfg(not(target_arch = "x86_64"))]
fn newest_kernels() -> Option<&'static str> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openblas_runs_on_one_thread_and_says_what_it_is() {
        init();
        init();
        assert_eq!(threads(), 1);
        assert!(info().contains("OpenBLAS"), "{}", info());
    }

    #[test]
    fn kernels_of_an_old_processor_give_way_to_what_this_one_can() {
        assert_eq!(better_than("Prescott", Some("SkylakeX")), Some("SkylakeX"));
        assert_eq!(better_than("Barcelona", Some("Haswell")), Some("Haswell"));
        assert_eq!(better_than("Nehalem", None), None, "it is one");
        assert_eq!(better_than("Zen", Some("SkylakeX")), None, "OpenBLAS knows the processor");
        assert_eq!(better_than("GraniteRapids", Some("SkylakeX")), None, "names to come are not old");
    }
}
