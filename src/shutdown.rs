//! The token by which every thread learns that the daemon ends.
//!
//! Cheap to clone and to ask. It carries no deadline of its own: who waits for an end says for how long.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A flag that is raised once and never lowered.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    inner: Arc<(Mutex<bool>, Condvar)>,
}

impl Shutdown {
    /// Raises the flag and wakes everybody who sleeps on it.
    pub fn begin(&self) {
        let (flag, wake) = &*self.inner;
        *flag.lock().unwrap_or_else(PoisonError::into_inner) = true;
        wake.notify_all();
    }

    /// Whether the flag has been raised.
    pub fn begun(&self) -> bool {
        *self.inner.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps for `time` or until the flag is raised, whichever comes first, and returns whether it is raised.
    pub fn sleep(&self, time: Duration) -> bool {
        let (flag, wake) = &*self.inner;
        let deadline = Instant::now() + time;
        let mut begun = flag.lock().unwrap_or_else(PoisonError::into_inner);
        while !*begun {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            begun = wake.wait_timeout(begun, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        *begun
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn begin_wakes_a_sleeper() {
        let shutdown = Shutdown::default();
        let other = shutdown.clone();
        let sleeper = std::thread::spawn(move || other.sleep(Duration::from_secs(60)));
        shutdown.begin();
        assert!(sleeper.join().expect("the sleeper does not panic"));
        assert!(shutdown.begun());
    }

    #[test]
    fn sleep_ends_by_itself() {
        assert!(!Shutdown::default().sleep(Duration::from_millis(1)));
    }
}
