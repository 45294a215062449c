//! Has OpenBLAS run the kernels of this processor where it doesn't know it.
//!
//! It picks them once, when it is loaded, so the process begins anew. It never overrules whoever has picked some.

use std::env;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::blas;

/// The variable by which OpenBLAS is told what to run.
const CORETYPE: &str = "OPENBLAS_CORETYPE";

/// Begins this process anew with the kernels that its processor can run, where OpenBLAS has picked much older ones.
///
/// Returns where it has not, and where the program can't be begun anew, which costs speed alone: the daemon says so.
pub fn pick_kernels() {
    if env::var_os(CORETYPE).is_some() {
        return;
    }
    let (Some(kernels), Ok(program)) = (blas::better_kernels(), env::current_exe()) else { return };
    let mut args = env::args_os();
    let mut again = Command::new(program);
    if let Some(name) = args.next() {
        again.arg0(name);
    }
    let _failed = again.args(args).env(CORETYPE, kernels).exec();
}
