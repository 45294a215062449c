//! A histogram that is handed the counts of a whole batch at once.
//!
//! Prometheus's own takes one value after the other, each through a search and three atomic additions. Two values for each
//! record are counted by the thread that has them, and handed over once a batch.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::{Opts, proto};

/// A histogram of all threads.
#[derive(Clone)]
pub struct Tally(Arc<Shared>);

struct Shared {
    desc: Desc,
    bounds: Vec<f64>,
    /// Values up to each bound and above the one before; at last those above all.
    counts: Vec<AtomicU64>,
    sum: Mutex<f64>,
}

/// What one thread has counted since it handed its counts over, in `N` buckets and one above.
pub struct Counted<const N: usize> {
    of: Tally,
    bounds: [f64; N],
    counts: Vec<Cell<u64>>,
    sum: Cell<f64>,
}

impl Tally {
    /// A histogram whose buckets end at `bounds`, which rise.
    ///
    /// # Errors
    /// The name is no name of a metric.
    pub fn new(opts: Opts, bounds: &[f64]) -> prometheus::Result<Self> {
        let desc = Desc::new(opts.fq_name(), opts.help, Vec::new(), opts.const_labels)?;
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Ok(Self(Arc::new(Shared { desc, bounds: bounds.to_vec(), counts, sum: Mutex::new(0.0) })))
    }

    /// Counts of one thread, to be handed over; panics when there are not `N` buckets.
    pub fn local<const N: usize>(&self) -> Counted<N> {
        let bounds = self.0.bounds.as_slice().try_into().expect("as many buckets as the type says");
        let counts = (0..=N).map(|_| Cell::new(0)).collect();
        Counted { of: self.clone(), bounds, counts, sum: Cell::new(0.0) }
    }

    /// Number of values up to each bound; at last of all.
    pub fn cumulative(&self) -> impl Iterator<Item = u64> + '_ {
        let add = |sum: &mut u64, count: &AtomicU64| {
            *sum += count.load(Ordering::Relaxed);
            Some(*sum)
        };
        self.0.counts.iter().scan(0, add)
    }
}

impl<const N: usize> Counted<N> {
    /// Counts one value.
    pub fn count(&self, value: f64) {
        // All bounds are compared: without a branch that is faster than any search of so few.
        let bucket: usize = self.bounds.iter().map(|bound| usize::from(value > *bound)).sum();
        let n = &self.counts[bucket];
        n.set(n.get() + 1);
        self.sum.set(self.sum.get() + value);
    }

    /// Hands the counts over.
    pub fn hand_over(&self) {
        for (all, own) in self.of.0.counts.iter().zip(&self.counts) {
            let n = own.replace(0);
            if n > 0 {
                all.fetch_add(n, Ordering::Relaxed);
            }
        }
        *self.of.0.sum.lock().unwrap_or_else(PoisonError::into_inner) += self.sum.replace(0.0);
    }
}

impl Collector for Tally {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.0.desc]
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        let mut histogram = proto::Histogram::default();
        let bucket = |(bound, n): (&f64, u64)| {
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(n);
            bucket
        };
        histogram.set_bucket(self.0.bounds.iter().zip(self.cumulative()).map(bucket).collect());
        histogram.set_sample_count(self.cumulative().last().unwrap_or(0));
        histogram.set_sample_sum(*self.0.sum.lock().unwrap_or_else(PoisonError::into_inner));
        let mut metric = proto::Metric::from_label(Vec::new());
        metric.set_histogram(histogram);
        let mut family = proto::MetricFamily::default();
        family.set_name(self.0.desc.fq_name.clone());
        family.set_help(self.0.desc.help.clone());
        family.set_field_type(proto::MetricType::HISTOGRAM);
        family.set_metric(vec![metric]);
        vec![family]
    }
}

#[cfg(test)]
mod tests {
    use prometheus::{Encoder, Histogram, HistogramOpts, Registry, TextEncoder};

    use super::*;

    #[test]
    fn its_page_is_that_of_prometheus_own_histogram() {
        let bounds = [0.1, 0.5, 1.0];
        let tally = Tally::new(Opts::new("t", "help"), &bounds).unwrap();
        let opts = HistogramOpts { common_opts: Opts::new("t", "help"), buckets: bounds.to_vec() };
        let histogram = Histogram::with_opts(opts).unwrap();
        let (first, second) = (tally.local::<3>(), tally.local::<3>());
        for (i, value) in [0.0, 0.1, 0.25, 0.5, 0.75, 1.0, 2.0, 4.0].into_iter().enumerate() {
            histogram.observe(value);
            if i % 2 == 0 { first.count(value) } else { second.count(value) }
        }
        assert_eq!(tally.cumulative().last(), Some(0), "nothing is there before it is handed over");
        first.hand_over();
        second.hand_over();
        second.hand_over();
        let page = |of: Box<dyn Collector>| {
            let (registry, mut page) = (Registry::new(), Vec::new());
            registry.register(of).unwrap();
            TextEncoder::new().encode(&registry.gather(), &mut page).unwrap();
            String::from_utf8(page).unwrap()
        };
        assert_eq!(page(Box::new(tally)), page(Box::new(histogram)));
    }
}
