//! How many prompts a round asks for.

use num_traits::Float;

use super::gate::Gate;

/// Lets a quotient reach the whole number that it means, as in the gate.
const ROUNDING: f64 = 1e-9;

/// Prompts that a pool must hold so that its gate keeps `target` of them: `ceil(target / keep)`.
///
/// # Panics
/// If `keep` is not above 0.
pub fn pool_target(target: usize, keep: f64) -> usize {
    assert!(
        keep > 0.0,
        "pool_target: keep is {keep}, it must be above 0"
    );
    Float::ceil(target as f64 / keep - ROUNDING) as usize
}

/// The pool target of a gate; without one every prompt of the pool is rolled out.
pub fn pool_target_of(target: usize, gate: Option<&Gate>) -> usize {
    gate.map_or(target, |gate| pool_target(target, gate.keep_share()))
}

/// Bounds of a round.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RoundSize {
    /// Prompts of the first round, and the most of any.
    pub candidates: usize,
    /// Fewest prompts of a later round.
    pub at_least: usize,
    /// How much more than expected to be needed is asked for.
    pub factor: f64,
}

impl RoundSize {
    /// Prompts of the next round, when `mixed` of the `rolled` groups of this step were mixed and
    /// `missing` more are needed.
    ///
    /// ```text
    /// max(at_least, min(candidates, ceil(factor missing rolled / mixed)))
    /// ```
    ///
    /// HIVE (arXiv 2603.25184), appendix, with the share of the whole step. In this form: with
    /// `1 - 0.9` in the denominator the same case can give one more. Without a mixed group so far,
    /// `candidates`.
    pub fn top_up(&self, missing: usize, mixed: usize, rolled: usize) -> usize {
        if mixed == 0 {
            return self.candidates;
        }
        let expected = self.factor * missing as f64 * rolled as f64 / mixed as f64;
        let wanted = Float::ceil(expected).min(self.candidates as f64) as usize;
        wanted.max(self.at_least)
    }
}

#[cfg(test)]
mod tests {
    use super::super::gate::Band;
    use super::*;

    #[test]
    fn a_pool_is_as_large_as_its_gate_needs() {
        assert_eq!(pool_target(384, 0.5), 768);
        assert_eq!(pool_target(140, 0.5), 280);
        // 384 / 0.3 is 1280.0000000000002 in binary.
        assert_eq!(pool_target(384, 0.3), 1280);
        assert_eq!(pool_target_of(384, Some(&Gate::Median)), 768);
        assert_eq!(pool_target_of(384, Some(&Gate::Band(Band::default()))), 768);
        assert_eq!(pool_target_of(384, None), 384);
        // Raw batches of 32 that survive whole close a pool of 280 at 288.
        assert_eq!(280_usize.div_ceil(32) * 32, 288);
    }

    #[test]
    fn a_top_up_follows_the_share_of_mixed_groups() {
        let size = RoundSize {
            candidates: 384,
            at_least: 64,
            factor: 1.25,
        };
        assert_eq!(size.top_up(56, 200, 400), 140);
        assert_eq!(size.top_up(6, 250, 500), 64);
        assert_eq!(size.top_up(6, 0, 500), 384);
        assert_eq!(size.top_up(8, 32, 320), 100);
        assert_eq!(size.top_up(200, 1, 320), 384);
    }
}
