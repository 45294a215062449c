//! Gives way to threads that wait for the same core.
//!
//! The trainer runs beside lanes. Where it has the core when a lane wakes, the scheduler may let it finish its turn of some
//! milliseconds, however low its priority is. So all long work of a round gives way every fraction of a millisecond; the
//! thread goes on at once where nobody waits. No lane does it.

use std::thread;

/// Lets those go first that wait for this thread's core.
pub fn give_way() {
    thread::yield_now();
}
