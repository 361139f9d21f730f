//! GRESO as its published code has it, where that differs from HIVE's Stage 1.
//!
//! `Infini-AI-Lab/GRESO`, commit b277843. Its means 0.98 and 0.11 tell the types apart only for
//! groups of at most nine with a reward of 0 or 1: at ten, one right completion gives 0.10.

use num_traits::Float;
use serde::{Deserialize, Serialize};

use super::exploration::Exploration;
use super::history::RunKind;
use super::sizing::RoundSize;
use super::stage1::reward_score;

/// Largest group size at which the means identify the types.
pub const MAX_GROUP_SIZE: usize = 9;

/// A group of at least this mean reward lengthens the easy run.
const EASY_MEAN: f64 = 0.98;

/// A group of at most this mean reward lengthens the hard run.
const HARD_MEAN: f64 = 0.11;

/// Trailing runs by type; at most one is not empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GresoRuns {
    /// Trailing groups that count as easy.
    pub easy: u32,
    /// Trailing groups that count as hard.
    pub hard: u32,
}

impl GresoRuns {
    /// The runs after a group of this mean reward.
    #[must_use]
    pub fn after(self, mean_reward: f64) -> Self {
        match mean_reward {
            mean if mean >= EASY_MEAN => Self {
                easy: self.easy.saturating_add(1),
                hard: 0,
            },
            mean if mean <= HARD_MEAN => Self {
                easy: 0,
                hard: self.hard.saturating_add(1),
            },
            _ => Self::default(),
        }
    }

    /// The run that is not empty.
    pub fn current(self) -> Option<(RunKind, u32)> {
        match self {
            Self { easy: 0, hard: 0 } => None,
            Self { easy: 0, hard } => Some((RunKind::Hard, hard)),
            Self { easy, .. } => Some((RunKind::Easy, easy)),
        }
    }

    /// True if the prompt is passed over: the easy draw falls below `1 - max(p_easy^easy, floor)`
    /// or, after a hard group, the hard draw below `1 - max(p_hard^hard, floor)`.
    pub fn skips(self, draws: [f64; 2], exploration: Exploration, floor: f64) -> bool {
        let skips = |draw: f64, p: f64, length: u32| draw < 1.0 - reward_score(p, length, floor);
        skips(draws[0], exploration.p_easy, self.easy)
            || (self.hard > 0 && skips(draws[1], exploration.p_hard, self.hard))
    }
}

/// What follows a round that left the batch short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextRound {
    /// Prompts to roll out.
    pub target: usize,
    /// True if the step trains on what it has after that round.
    pub is_last: bool,
}

/// The next round of GRESO's code, when `mixed` of the `rolled` groups of the *latest* round were
/// mixed and `missing` groups are needed.
///
/// Without a mixed group its code divides by zero; here the round is then of full size and not the
/// last.
pub fn next_round(missing: usize, mixed: usize, rolled: usize, size: &RoundSize) -> NextRound {
    if mixed == 0 || rolled == 0 {
        return NextRound {
            target: size.candidates,
            is_last: false,
        };
    }
    let mixed_share = mixed as f64 / rolled as f64;
    let estimate = Float::trunc(missing as f64 / mixed_share * size.factor) as usize;
    NextRound {
        target: estimate.min(size.candidates).max(size.at_least),
        is_last: estimate <= size.candidates,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_breaks_when_the_type_changes() {
        let runs = [1.0, 1.0, 0.0]
            .into_iter()
            .fold(GresoRuns::default(), GresoRuns::after);
        assert_eq!(runs, GresoRuns { easy: 0, hard: 1 });
        assert_eq!(runs.current(), Some((RunKind::Hard, 1)));
        // With a reward for form, all 0, all 0.1 and mixes of both are hard.
        let shaped = [0.0, 0.1, 0.05]
            .into_iter()
            .fold(GresoRuns::default(), GresoRuns::after);
        assert_eq!(shaped.hard, 3);
    }

    #[test]
    fn one_right_of_eight_is_not_hard_and_of_ten_it_is() {
        assert_eq!(GresoRuns::default().after(0.125), GresoRuns::default());
        assert_eq!(GresoRuns::default().after(0.1).hard, 1);
        assert_eq!(MAX_GROUP_SIZE, 9);
    }

    #[test]
    fn draws_below_the_skip_probability_skip() {
        let exploration = Exploration {
            p_easy: 0.5,
            p_hard: 0.8,
        };
        let easy = GresoRuns { easy: 2, hard: 0 };
        assert!(easy.skips([0.74, 0.0], exploration, 0.01));
        assert!(!easy.skips([0.75, 0.0], exploration, 0.01));
        let hard = GresoRuns { easy: 0, hard: 1 };
        assert!(hard.skips([0.0, 0.19], exploration, 0.01));
        assert!(!hard.skips([0.0, 0.21], exploration, 0.01));
        assert!(!GresoRuns::default().skips([0.0, 0.0], exploration, 0.01));
    }

    #[test]
    fn a_small_estimate_makes_the_next_round_the_last() {
        let size = RoundSize {
            candidates: 384,
            at_least: 64,
            factor: 1.25,
        };
        let next = |kept: usize, mixed: usize, rolled: usize| {
            let found = next_round(256 - kept, mixed, rolled, &size);
            (found.target, found.is_last)
        };
        assert_eq!(next(200, 192, 384), (140, true));
        // An estimate of 780.
        assert_eq!(next(100, 96, 384), (384, false));
        // An estimate of 15.
        assert_eq!(next(250, 192, 384), (64, true));
        assert_eq!(next(250, 0, 384), (384, false));
    }
}
