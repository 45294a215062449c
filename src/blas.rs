//! Links OpenBLAS and holds it to one thread.
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
    // SAFETY: both return pointers to static, zero-terminated strings that the library never frees.
    let (config, core) = unsafe { (CStr::from_ptr(openblas_get_config()), CStr::from_ptr(openblas_get_corename())) };
    format!("{} {}", config.to_string_lossy().trim(), core.to_string_lossy().trim())
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
}
