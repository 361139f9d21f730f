//! Stage 1 of HIVE: how likely a prompt is to be looked at again, from its history alone.

use serde::{Deserialize, Serialize};

use super::exploration::Exploration;
use super::history::TrailingRun;
use crate::error::{ConfigError, check_number};

/// Keeps the normalised entropy finite.
const EPS: f64 = 1e-8;

/// Constants of Stage 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Stage1Config {
    /// Weight of the reward history against that of the response entropy, from 0 to 1. HIVE's
    /// deployed runs use 1, with which entropy has no influence.
    pub lambda: f64,
    /// Smallest score of a reward history, above 0: nothing is removed for good.
    pub p_floor: f64,
    /// Entropy score of a prompt that was never visited, from 0 to 1.
    pub unseen_s_ent: f64,
}

impl Default for Stage1Config {
    fn default() -> Self {
        Self {
            lambda: 1.0,
            p_floor: 0.01,
            unseen_s_ent: 1.0,
        }
    }
}

impl Stage1Config {
    /// Checks the ranges.
    ///
    /// # Errors
    /// The first key whose value is outside its range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let unit = |value: f64| (0.0..=1.0).contains(&value);
        check_number("lambda", self.lambda, "from 0 to 1", unit)?;
        let is_chance = |value: f64| value > 0.0 && value <= 1.0;
        check_number("p_floor", self.p_floor, "above 0 and at most 1", is_chance)?;
        check_number("unseen_s_ent", self.unseen_s_ent, "from 0 to 1", unit)
    }

    /// Probability with which a prompt passes.
    ///
    /// ```text
    /// P = lambda max(p_kind^length, p_floor) + (1 - lambda) s_ent
    /// ```
    ///
    /// HIVE (arXiv 2603.25184), appendix. `entropy` is the prompt's latest response entropy, if it
    /// was ever visited.
    pub fn acceptance(
        &self,
        run: TrailingRun,
        entropy: Option<f64>,
        exploration: Exploration,
        range: Option<EntropyRange>,
    ) -> f64 {
        let chance = run.kind.map_or(1.0, |kind| exploration.chance(kind));
        let rewards = reward_score(chance, run.length, self.p_floor);
        let entropies = entropy_score(entropy, range, self.unseen_s_ent);
        self.lambda * rewards + (1.0 - self.lambda) * entropies
    }
}

/// `max(p^length, floor)`; 1 for an empty run.
///
/// By multiplication, so that it is the same everywhere; it ends at the floor.
pub fn reward_score(p: f64, length: u32, floor: f64) -> f64 {
    let mut score = 1.0;
    for _ in 0..length {
        score *= p;
        if score <= floor {
            return floor;
        }
    }
    score
}

/// Smallest and largest of the latest response entropies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EntropyRange {
    /// Smallest.
    pub min: f64,
    /// Largest; above `min`.
    pub max: f64,
}

impl EntropyRange {
    /// The range of some entropies; none if fewer than two are distinct.
    pub fn of(entropies: impl IntoIterator<Item = f64>) -> Option<Self> {
        let (min, max) = entropies
            .into_iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(min, max), entropy| {
                (min.min(entropy), max.max(entropy))
            });
        (min < max).then_some(Self { min, max })
    }
}

/// `(H - min) / (max - min + 1e-8)`; `unseen` without an entropy, 1 without a range.
pub fn entropy_score(entropy: Option<f64>, range: Option<EntropyRange>, unseen: f64) -> f64 {
    match (entropy, range) {
        (None, _) => unseen,
        (Some(_), None) => 1.0,
        (Some(entropy), Some(EntropyRange { min, max })) => (entropy - min) / (max - min + EPS),
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::RunKind;
    use super::*;

    #[test]
    fn the_score_halves_down_to_the_floor() {
        let expected = [1.0, 0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625, 0.01];
        for (length, expected) in expected.into_iter().enumerate() {
            assert_eq!(reward_score(0.5, length as u32, 0.01), expected);
        }
        assert_eq!(reward_score(0.95, u32::MAX, 0.01), 0.01);
    }

    #[test]
    fn an_unseen_prompt_always_passes() {
        let exploration = Exploration::default();
        for lambda in [1.0, 0.5] {
            let config = Stage1Config {
                lambda,
                ..Stage1Config::default()
            };
            let run = TrailingRun::default();
            assert_eq!(config.acceptance(run, None, exploration, None), 1.0);
        }
    }

    #[test]
    fn lambda_weighs_history_against_entropy() {
        let range = EntropyRange::of([0.5, 2.5, 1.0]);
        let config = Stage1Config {
            lambda: 0.25,
            ..Stage1Config::default()
        };
        let run = TrailingRun {
            length: 2,
            kind: Some(RunKind::Hard),
        };
        let exploration = Exploration {
            p_easy: 0.1,
            p_hard: 0.6,
        };
        let found = config.acceptance(run, Some(1.5), exploration, range);
        assert!((found - (0.25 * 0.36 + 0.75 * 0.5)).abs() < 1e-8, "{found}");
        assert_eq!(entropy_score(Some(3.0), None, 0.3), 1.0);
        assert_eq!(entropy_score(None, range, 0.3), 0.3);
        assert_eq!(EntropyRange::of([1.0, 1.0]), None);
        assert_eq!(EntropyRange::of([]), None);
    }

    #[test]
    fn a_lambda_outside_the_unit_is_refused() {
        for lambda in [-0.1, 1.1, f64::NAN] {
            let config = Stage1Config {
                lambda,
                ..Stage1Config::default()
            };
            assert_eq!(config.validate().unwrap_err().key, "lambda");
        }
        let config = Stage1Config {
            p_floor: 0.0,
            ..Stage1Config::default()
        };
        assert_eq!(config.validate().unwrap_err().key, "p_floor");
        assert!(Stage1Config::default().validate().is_ok());
    }
}
