//! The exploration probabilities of easy and hard prompts, and the controller that moves them.

use serde::{Deserialize, Serialize};

use super::history::RunKind;
use crate::error::{ConfigError, check_number};

/// Constants of the controller.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExplorationConfig {
    /// Exploration probability of easy prompts at the start.
    pub p_easy: f64,
    /// Exploration probability of hard prompts at the start.
    pub p_hard: f64,
    /// How far one step moves a probability, 0 or more.
    pub p_step: f64,
    /// Smallest probability.
    pub p_min: f64,
    /// Largest probability.
    pub p_max: f64,
    /// Share of easy groups that the controller steers to.
    pub target_easy: f64,
    /// Share of hard groups that the controller steers to: twice the easy one, because failing
    /// prompts are the likelier ones to become learnable.
    pub target_hard: f64,
    /// First epoch, counted from 0, in which the controller acts. 0 is HIVE's, 1 GRESO's.
    pub controller_from_epoch: u64,
}

impl Default for ExplorationConfig {
    fn default() -> Self {
        Self {
            p_easy: 0.5,
            p_hard: 0.5,
            p_step: 0.01,
            p_min: 0.05,
            p_max: 0.95,
            target_easy: 1.0 / 12.0,
            target_hard: 1.0 / 6.0,
            controller_from_epoch: 0,
        }
    }
}

impl ExplorationConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    /// The first key whose value is outside its range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let unit = |value: f64| (0.0..=1.0).contains(&value);
        check_number("p_min", self.p_min, "from 0 to 1", unit)?;
        let above = |value: f64| value >= self.p_min && value <= 1.0;
        check_number("p_max", self.p_max, "from p_min to 1", above)?;
        let inside = |value: f64| value >= self.p_min && value <= self.p_max;
        check_number("p_easy", self.p_easy, "from p_min to p_max", inside)?;
        check_number("p_hard", self.p_hard, "from p_min to p_max", inside)?;
        check_number("p_step", self.p_step, "from 0 to 1", unit)?;
        check_number("target_easy", self.target_easy, "from 0 to 1", unit)?;
        check_number("target_hard", self.target_hard, "from 0 to 1", unit)
    }

    /// The probabilities at the start.
    pub fn start(&self) -> Exploration {
        Exploration {
            p_easy: self.p_easy,
            p_hard: self.p_hard,
        }
    }
}

/// What a share that equals its target does to the probability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtTarget {
    /// Nothing: the sign of zero is zero (HIVE).
    Keep,
    /// It goes down, as GRESO's code does.
    Lower,
}

/// Shares of a step's groups, discarded ones included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shares {
    /// Groups in which every completion is right, by all groups.
    pub easy: f64,
    /// Groups in which every answer is wrong, by all groups.
    pub hard: f64,
}

/// The exploration probabilities.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exploration {
    /// Of prompts whose latest groups were all right.
    pub p_easy: f64,
    /// Of prompts whose latest groups were all wrong.
    pub p_hard: f64,
}

impl Default for Exploration {
    fn default() -> Self {
        ExplorationConfig::default().start()
    }
}

impl Exploration {
    /// The probability of one type.
    pub fn chance(self, kind: RunKind) -> f64 {
        match kind {
            RunKind::Easy => self.p_easy,
            RunKind::Hard => self.p_hard,
        }
    }

    /// The probabilities after a step.
    ///
    /// ```text
    /// p <- clamp(p + p_step sign(target - share), p_min, p_max)
    /// ```
    ///
    /// GRESO (arXiv 2506.02177), section 4; HIVE (arXiv 2603.25184), appendix.
    #[must_use]
    pub fn after(self, shares: Shares, config: &ExplorationConfig, at_target: AtTarget) -> Self {
        let moved = |p: f64, share: f64, target: f64| {
            let direction = match (share < target, share > target, at_target) {
                (true, _, _) => 1.0,
                (_, true, _) | (_, _, AtTarget::Lower) => -1.0,
                _ => 0.0,
            };
            (p + direction * config.p_step).clamp(config.p_min, config.p_max)
        };
        Self {
            p_easy: moved(self.p_easy, shares.easy, config.target_easy),
            p_hard: moved(self.p_hard, shares.hard, config.target_hard),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hard_after(p_hard: f64, share: f64, at_target: AtTarget) -> f64 {
        let start = Exploration {
            p_easy: 0.5,
            p_hard,
        };
        let shares = Shares {
            easy: 1.0 / 12.0,
            hard: share,
        };
        start
            .after(shares, &ExplorationConfig::default(), at_target)
            .p_hard
    }

    #[test]
    fn the_probability_moves_against_the_share() {
        let close = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-12);
        close(hard_after(0.5, 77.0 / 384.0, AtTarget::Keep), 0.49);
        close(hard_after(0.5, 38.0 / 384.0, AtTarget::Keep), 0.51);
        close(hard_after(0.5, 64.0 / 384.0, AtTarget::Keep), 0.50);
        close(hard_after(0.5, 64.0 / 384.0, AtTarget::Lower), 0.49);
        assert_eq!(hard_after(0.05, 0.9, AtTarget::Keep), 0.05);
        assert_eq!(hard_after(0.95, 0.0, AtTarget::Keep), 0.95);
    }

    #[test]
    fn impossible_constants_are_named() {
        let check = |change: fn(&mut ExplorationConfig), key: &str| {
            let mut config = ExplorationConfig::default();
            change(&mut config);
            assert_eq!(config.validate().unwrap_err().key, key);
        };
        assert!(ExplorationConfig::default().validate().is_ok());
        check(|it| it.p_min = -0.1, "p_min");
        check(|it| it.p_max = 0.01, "p_max");
        check(|it| it.p_easy = 0.99, "p_easy");
        check(|it| it.p_hard = f64::NAN, "p_hard");
        check(|it| it.target_easy = 2.0, "target_easy");
    }
}
