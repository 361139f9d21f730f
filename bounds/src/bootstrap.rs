//! Prompt-cluster bootstrap: percentile interval of a mean. **Not certified**, and below about 50
//! prompts narrower than it should be; the t interval is the better choice there.
//!
//! **Assumptions.** Independent prompts; each carries all its rollouts, so what is resampled are
//! per-prompt means. Pooling rollouts instead would treat them as independent and is not offered.

use alloc::vec::Vec;

use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};

use crate::error::{Result, check, check_count, check_finite};
use crate::sums::mean;

/// Resamples below which a percentile is not worth printing.
const MIN_RESAMPLES: usize = 1000;

/// Percentile interval of the mean at confidence `level` from `reps` resamples.
///
/// # Errors
/// If there are fewer than two prompts or 1000 resamples, a value is not finite, or `level` is
/// outside (0, 1).
pub fn cluster_bootstrap(f: &[f64], reps: usize, level: f64, seed: u64) -> Result<(f64, f64)> {
    check_count("prompts", f.len(), 2)?;
    check_count("resamples", reps, MIN_RESAMPLES)?;
    check_finite("f", f)?;
    check("level", level, "above 0 and below 1", |v| {
        v > 0.0 && v < 1.0
    })?;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut resample: Vec<f64> = f.to_vec();
    let mut means = Vec::with_capacity(reps);
    for _ in 0..reps {
        resample
            .iter_mut()
            .for_each(|slot| *slot = f[below(&mut rng, f.len())]);
        means.push(mean(&resample));
    }
    means.sort_by(f64::total_cmp);
    let at = |share: f64| means[(libm::floor(share * (reps as f64 - 1.0) + 0.5)) as usize];
    let tail = (1.0 - level) / 2.0;
    Ok((at(tail), at(1.0 - tail)))
}

/// An index below `count`: the high half of a 128-bit product; its bias is below 2^-50.
fn below(rng: &mut ChaCha8Rng, count: usize) -> usize {
    ((u128::from(rng.next_u64()) * count as u128) >> 64) as usize
}
