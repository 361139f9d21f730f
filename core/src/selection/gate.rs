//! Stage 2 of HIVE: which prompts of a pool are rolled out, from their entropy under the current
//! weights. The order of the entropies decides membership alone; what is kept stays in the order
//! in which it arrived.

use alloc::vec::Vec;

use num_traits::Float;
use serde::{Deserialize, Serialize};

use super::rank::median;
use crate::error::{ConfigError, check_number};

/// Lets a product of a share and a count reach the whole number that it means: 0.29 times 100 is
/// 28.999... in binary.
const ROUNDING: f64 = 1e-9;

/// A prompt of a pool.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Its identity, which decides ties of the band.
    pub id: u64,
    /// Its prompt entropy in nats; finite, the caller sees to that.
    pub entropy: f64,
}

/// How a pool is cut.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Gate {
    /// By rank: drops a share of the highest entropies, keeps a share below them.
    Band(Band),
    /// By value: keeps what is not below the median.
    Median,
}

/// Shares of a pool, highest entropy first.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Band {
    /// Share trimmed at the top, from 0: very high entropy early in training marks degenerate
    /// prompts.
    pub off: f64,
    /// Share kept below that, above 0; `off + keep` is at most 1.
    pub keep: f64,
    /// The number kept is rounded down to a multiple of this; 1 keeps it.
    pub round_kept_to: usize,
}

impl Default for Band {
    fn default() -> Self {
        Self {
            off: 0.25,
            keep: 0.5,
            round_kept_to: 1,
        }
    }
}

impl Band {
    /// Checks the ranges.
    ///
    /// # Errors
    /// The first key whose value is outside its range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let is_share = |value: f64| (0.0..=1.0).contains(&value);
        check_number("off", self.off, "from 0 to 1", is_share)?;
        let left = 1.0 - self.off + ROUNDING;
        let fits = |value: f64| value > 0.0 && value <= left;
        let allowed = "above 0, and off + keep at most 1";
        check_number("keep", self.keep, allowed, fits)?;
        if self.round_kept_to == 0 {
            let allowed = "at least 1, which rounds nothing";
            return Err(ConfigError::new("round_kept_to", 0, allowed));
        }
        Ok(())
    }

    /// Prompts trimmed at the top and prompts kept, of a pool of `len`.
    ///
    /// ```text
    /// kept = max(1, floor(keep len)),   off = min(floor(off len), len - kept)
    /// ```
    pub fn counts(&self, len: usize) -> (usize, usize) {
        let share = |share: f64| Float::floor(share * len as f64 + ROUNDING) as usize;
        let kept = share(self.keep).max(1).min(len) / self.round_kept_to * self.round_kept_to;
        (share(self.off).min(len - kept), kept)
    }
}

/// What a gate made of a pool.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gated {
    /// Places of the kept candidates in the pool, ascending: arrival order.
    pub kept: Vec<usize>,
    /// Candidates above the band.
    pub num_trimmed_high: usize,
    /// Candidates below band or median.
    pub num_rejected_low: usize,
    /// Smallest entropy that was kept (band) or the median.
    pub low_edge: Option<f64>,
    /// Largest entropy that was kept; none for the median, which has no upper edge.
    pub high_edge: Option<f64>,
}

impl Gate {
    /// The share of a pool that is kept, for sizing it.
    pub fn keep_share(&self) -> f64 {
        match self {
            Self::Band(band) => band.keep,
            Self::Median => 0.5,
        }
    }

    /// Cuts a pool. An empty pool keeps nothing.
    ///
    /// Band: of equal entropies the smaller id ranks higher. Median: everything at the median is
    /// kept, so more than half may pass.
    pub fn cut(&self, pool: &[Candidate]) -> Gated {
        match self {
            Self::Band(band) => cut_band(band, pool),
            Self::Median => cut_at_median(pool),
        }
    }
}

fn cut_band(band: &Band, pool: &[Candidate]) -> Gated {
    let (off, kept) = band.counts(pool.len());
    let ranked = by_entropy(pool);
    let mut places = ranked[off..off + kept].to_vec();
    let edge = |place: Option<&usize>| place.map(|&place| pool[place].entropy);
    let (high_edge, low_edge) = (edge(places.first()), edge(places.last()));
    places.sort_unstable();
    Gated {
        kept: places,
        num_trimmed_high: off,
        num_rejected_low: pool.len() - off - kept,
        low_edge,
        high_edge,
    }
}

fn cut_at_median(pool: &[Candidate]) -> Gated {
    let entropies: Vec<f64> = pool.iter().map(|candidate| candidate.entropy).collect();
    let Some(threshold) = median(&entropies) else {
        return Gated::default();
    };
    let passes = |place: &usize| pool[*place].entropy >= threshold;
    let kept: Vec<usize> = (0..pool.len()).filter(passes).collect();
    Gated {
        num_trimmed_high: 0,
        num_rejected_low: pool.len() - kept.len(),
        low_edge: Some(threshold),
        high_edge: None,
        kept,
    }
}

/// Places of a pool by descending entropy, then by ascending id.
pub fn by_entropy(pool: &[Candidate]) -> Vec<usize> {
    let mut places: Vec<usize> = (0..pool.len()).collect();
    places.sort_by(|&a, &b| {
        let (a, b) = (pool[a], pool[b]);
        b.entropy.total_cmp(&a.entropy).then(a.id.cmp(&b.id))
    });
    places
}

/// Keeps the `count` candidates with the smallest draws (ties: smaller id), in arrival order: the
/// gate's control, which knows the size of the band and nothing else.
///
/// # Shapes
/// - `draws`: `(id, draw)` per candidate
pub fn keep_smallest(draws: &[(u64, f64)], count: usize) -> Vec<usize> {
    let mut places: Vec<usize> = (0..draws.len()).collect();
    places.sort_by(|&a, &b| {
        let (a, b) = (draws[a], draws[b]);
        a.1.total_cmp(&b.1).then(a.0.cmp(&b.0))
    });
    places.truncate(count);
    places.sort_unstable();
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(entropies: &[f64]) -> Vec<Candidate> {
        let candidate = |(id, &entropy): (usize, &f64)| Candidate {
            id: id as u64,
            entropy,
        };
        entropies.iter().enumerate().map(candidate).collect()
    }

    fn band(entropies: &[f64]) -> Vec<usize> {
        Gate::Band(Band::default()).cut(&pool(entropies)).kept
    }

    fn at_median(entropies: &[f64]) -> Gated {
        Gate::Median.cut(&pool(entropies))
    }

    #[test]
    fn the_band_keeps_the_upper_middle_in_arrival_order() {
        let entropies = [10.0, 9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0];
        assert_eq!(band(&entropies), [2, 3, 4, 5]);
        assert_eq!(
            band(&[3.0, 7.0, 5.0, 5.0, 1.0, 5.0, 2.0, 9.0]),
            [0, 2, 3, 5]
        );
        assert_eq!(band(&[5.0; 4]), [1, 2]);
        let gated = Gate::Band(Band::default()).cut(&pool(&entropies));
        assert_eq!((gated.num_trimmed_high, gated.num_rejected_low), (2, 2));
        assert_eq!((gated.low_edge, gated.high_edge), (Some(5.0), Some(8.0)));
    }

    #[test]
    fn small_pools_keep_something() {
        assert_eq!(band(&[5.0, 4.0, 3.0, 2.0, 1.0]), [1, 2]);
        assert_eq!(band(&[1.0, 2.0]), [1]);
        assert_eq!(band(&[1.0]), [0]);
        assert!(band(&[]).is_empty());
        let odd = Band {
            off: 0.0,
            keep: 0.29,
            round_kept_to: 1,
        };
        assert_eq!(odd.counts(100), (0, 29));
    }

    #[test]
    fn rounding_down_may_keep_nothing() {
        let rounded = Band {
            round_kept_to: 8,
            ..Band::default()
        };
        assert_eq!(rounded.counts(32), (8, 16));
        assert_eq!(rounded.counts(31), (7, 8));
        assert_eq!(rounded.counts(15), (3, 0));
    }

    #[test]
    fn the_median_keeps_its_ties() {
        let even = at_median(&[10.0, 9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0]);
        assert_eq!(even.low_edge, Some(6.5));
        assert_eq!(even.kept, [0, 1, 2, 3]);
        let odd = at_median(&[5.0, 4.0, 3.0, 2.0, 1.0]);
        assert_eq!(odd.low_edge, Some(3.0));
        assert_eq!(odd.kept, [0, 1, 2]);
        assert_eq!(at_median(&[3.0, 3.0, 3.0, 1.0]).kept, [0, 1, 2]);
        assert_eq!(
            at_median(&[2.0, 1.0, 1.0, 1.0, 0.0, 0.0]).kept,
            [0, 1, 2, 3]
        );
        assert!(at_median(&[]).kept.is_empty());
    }

    #[test]
    fn the_smallest_draws_are_kept_in_arrival_order() {
        let draws = [(7, 0.9), (6, 0.1), (5, 0.5), (4, 0.1), (3, 0.2)];
        assert_eq!(keep_smallest(&draws, 3), [1, 3, 4]);
        // The tie at 0.1 goes to the smaller id.
        assert_eq!(keep_smallest(&draws, 1), [3]);
        assert_eq!(keep_smallest(&draws, 9).len(), 5);
    }

    #[test]
    fn shares_that_exceed_the_pool_are_refused() {
        let check = |off: f64, keep: f64| {
            let band = Band {
                off,
                keep,
                round_kept_to: 1,
            };
            band.validate().map_err(|error| error.key)
        };
        assert_eq!(check(0.25, 0.5), Ok(()));
        assert_eq!(check(0.3, 0.7), Ok(()));
        assert_eq!(check(0.6, 0.5), Err("keep".into()));
        assert_eq!(check(0.0, 0.0), Err("keep".into()));
        assert_eq!(check(-0.1, 0.5), Err("off".into()));
    }
}
