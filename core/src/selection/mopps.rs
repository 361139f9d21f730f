//! Scores of pass rates: the posterior of MoPPS and the group variance of VCRL.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

/// Beta posterior of a prompt's pass rate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BetaPosterior {
    /// Discounted right completions, prior included.
    pub alpha: f64,
    /// Discounted wrong completions, prior included.
    pub beta: f64,
}

/// A uniform prior.
const PRIOR: f64 = 1.0;

impl Default for BetaPosterior {
    fn default() -> Self {
        Self {
            alpha: PRIOR,
            beta: PRIOR,
        }
    }
}

impl BetaPosterior {
    /// The posterior after a group of `group_size` completions with `pass_rate`.
    ///
    /// ```text
    /// alpha <- d alpha + (1 - d) + s G,   beta <- d beta + (1 - d) + (1 - s) G
    /// ```
    ///
    /// MoPPS (arXiv 2507.04632); `decay` d is 1 where the policy's progress is not discounted.
    #[must_use]
    pub fn after(self, pass_rate: f64, group_size: usize, decay: f64) -> Self {
        let count = group_size as f64;
        let faded = |parameter: f64| decay * parameter + (1.0 - decay) * PRIOR;
        Self {
            alpha: faded(self.alpha) + pass_rate * count,
            beta: faded(self.beta) + (1.0 - pass_rate) * count,
        }
    }
}

/// Places of the `count` draws nearest to `centre` (ties: smaller id), in arrival order.
///
/// # Shapes
/// - `draws`: `(id, drawn pass rate)` per candidate
pub fn nearest(draws: &[(u64, f64)], centre: f64, count: usize) -> Vec<usize> {
    let distances: Vec<(u64, f64)> = draws
        .iter()
        .map(|&(id, rate)| (id, (rate - centre) * (rate - centre)))
        .collect();
    super::gate::keep_smallest(&distances, count)
}

/// Places of the first `count` draws from `low` to `high`, filled up with those nearest to the
/// middle where there are fewer (ties: smaller id), in arrival order: the rule by thresholds of
/// MoPPS, which takes 0.3 to 0.7.
///
/// # Shapes
/// - `draws`: `(id, drawn pass rate)` per candidate
pub fn within(draws: &[(u64, f64)], low: f64, high: f64, count: usize) -> Vec<usize> {
    let is_inside = |place: &usize| (low..=high).contains(&draws[*place].1);
    let (mut kept, outside): (Vec<usize>, Vec<usize>) =
        (0..draws.len()).partition(|place| is_inside(place));
    kept.truncate(count);
    let rest: Vec<(u64, f64)> = outside.iter().map(|&place| draws[place]).collect();
    let filled = nearest(&rest, 0.5 * (low + high), count - kept.len());
    kept.extend(filled.into_iter().map(|index| outside[index]));
    kept.sort_unstable();
    kept
}

/// Sample variance of a group's 0/1 rewards by the largest possible one, from 0 to 1.
///
/// ```text
/// (k (G - k) / (G (G - 1))) / max,   max = G / (4 (G - 1)) for even G, (G + 1) / (4 G) for odd
/// ```
///
/// VCRL (arXiv 2509.19803). 0 for groups of fewer than two.
pub fn variance_score(group_size: usize, num_correct: usize) -> f64 {
    if group_size < 2 {
        return 0.0;
    }
    let (g, k) = (group_size as f64, num_correct as f64);
    let variance = k * (g - k) / (g * (g - 1.0));
    let largest = match group_size % 2 {
        0 => g / (4.0 * (g - 1.0)),
        _ => (g + 1.0) / (4.0 * g),
    };
    variance / largest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_posterior_counts_right_and_wrong() {
        let found = BetaPosterior::default().after(0.25, 8, 0.5);
        assert_eq!((found.alpha, found.beta), (3.0, 7.0));
        let faded = found.after(1.0, 8, 0.5);
        assert_eq!((faded.alpha, faded.beta), (10.0, 4.0));
    }

    #[test]
    fn the_draws_nearest_to_the_centre_are_taken() {
        let draws = [(0, 0.9), (1, 0.45), (2, 0.1), (3, 0.55), (4, 0.62)];
        assert_eq!(nearest(&draws, 0.5, 3), [1, 3, 4]);
        assert_eq!(nearest(&draws, 1.0, 1), [0]);
    }

    #[test]
    fn draws_inside_come_first_and_the_nearest_others_fill_up() {
        let draws = [(0, 0.9), (1, 0.45), (2, 0.1), (3, 0.3), (4, 0.72), (5, 0.7)];
        assert_eq!(within(&draws, 0.3, 0.7, 2), [1, 3]);
        assert_eq!(within(&draws, 0.3, 0.7, 3), [1, 3, 5]);
        assert_eq!(within(&draws, 0.3, 0.7, 4), [1, 3, 4, 5]);
        // 0.9 and 0.1 are equally far from the middle up to rounding; the smaller id wins a tie.
        assert_eq!(within(&draws, 0.3, 0.7, 9), [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn an_even_split_has_the_largest_variance() {
        assert!((variance_score(8, 4) - 1.0).abs() < 1e-12);
        assert!((variance_score(8, 1) - 0.4375).abs() < 1e-12);
        assert!((variance_score(5, 2) - 1.0).abs() < 1e-12);
        assert_eq!(variance_score(1, 1), 0.0);
        assert_eq!(variance_score(8, 8), 0.0);
    }
}
