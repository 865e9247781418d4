//! Durations in buckets that are at most 1.6 % wide, so that a minute of a million deliveries a second fits in 13 KB.

use std::time::Duration;

/// Buckets an octave of microseconds.
const FINENESS: u32 = 64;
const OCTAVES: u32 = 26;

#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: Duration,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: vec![0; (FINENESS * OCTAVES) as usize],
            total: 0,
            max: Duration::ZERO,
        }
    }
}

impl Histogram {
    pub(crate) fn record(&mut self, value: Duration) {
        let micros = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
        if let Some(count) = self.counts.get_mut(bucket(micros)) {
            *count += 1;
        }
        self.total += 1;
        self.max = self.max.max(value);
    }

    pub(crate) fn max(&self) -> Duration {
        self.max
    }

    /// The upper end of the bucket that holds the smallest value which this share of the values does not exceed.
    pub(crate) fn at(&self, share: f64) -> Duration {
        let wanted = share * self.total as f64;
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen > 0 && seen as f64 >= wanted {
                return Duration::from_micros(upper(index)).min(self.max);
            }
        }
        self.max
    }
}

/// Values below two octaves of buckets have one each; above, an octave has as many as that.
fn bucket(micros: u64) -> usize {
    let fineness = u64::from(FINENESS);
    let shift = (64 - micros.leading_zeros()).saturating_sub(FINENESS.ilog2() + 1);
    let index = u64::from(shift) * fineness + (micros >> shift);
    (index as usize).min((FINENESS * OCTAVES) as usize - 1)
}

fn upper(index: usize) -> u64 {
    let (index, fineness) = (index as u64, u64::from(FINENESS));
    let shift = (index / fineness).saturating_sub(1);
    ((index - shift * fineness + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_what_it_says_and_is_narrow() {
        for micros in (0..100_000).chain([1 << 24, (1 << 30) + 7]) {
            let end = upper(bucket(micros));
            assert!(
                end >= micros && end <= micros + micros / 64,
                "{micros} in a bucket up to {end}"
            );
            assert!(micros == 0 || bucket(micros) >= bucket(micros - 1));
        }
    }

    #[test]
    fn shares_are_of_all_values() {
        let mut histogram = Histogram::default();
        for millis in 1..=200 {
            histogram.record(Duration::from_millis(millis));
        }
        let at = |share| histogram.at(share).as_secs_f64() * 1e3;
        assert!((99.0..102.0).contains(&at(0.5)) && (197.0..202.0).contains(&at(0.99)));
        assert_eq!(histogram.at(1.0), Duration::from_millis(200));
    }
}
