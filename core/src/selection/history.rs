//! What the rewards of a group say about its prompt, and the run of groups that taught nothing.

use serde::{Deserialize, Serialize};

/// What the rewards of one group say about its prompt.
///
/// A group whose rewards are all equal has advantages of zero: it costs rollouts and teaches
/// nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupKind {
    /// The rewards are not all equal.
    Mixed,
    /// Every completion is right.
    Easy,
    /// No completion is right, and all earned what a wrong answer earns.
    Hard,
    /// All equal, but neither: with a reward for form, nothing was answered at all.
    Other,
}

/// The type of a run of groups without variance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunKind {
    /// The latest group was all right.
    Easy,
    /// The latest group was all wrong.
    Hard,
}

/// What a wrong completion can earn.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum RewardLevels {
    /// One value for all wrong completions.
    Binary,
    /// A wrong answer in the requested form earns this, anything else less.
    Shaped {
        /// The reward of a wrong answer.
        answered: f64,
    },
}

/// True if the rewards are not all equal, which is what dynamic sampling, GRESO and HIVE train on.
///
/// Compares the largest with the smallest, never a standard deviation with zero: three rewards of
/// 0.1 have a floating-point deviation of 1.4e-17. A group of fewer than two is not mixed.
pub fn is_mixed(rewards: &[f64]) -> bool {
    rewards.iter().any(|reward| *reward != rewards[0])
}

/// The kind of a group with `num_correct` right completions.
pub fn classify(rewards: &[f64], num_correct: usize, levels: RewardLevels) -> GroupKind {
    if is_mixed(rewards) {
        return GroupKind::Mixed;
    }
    match (num_correct, levels) {
        (0, RewardLevels::Binary) => GroupKind::Hard,
        (0, RewardLevels::Shaped { answered }) if rewards.first() == Some(&answered) => {
            GroupKind::Hard
        }
        (all, _) if all > 0 && all == rewards.len() => GroupKind::Easy,
        _ => GroupKind::Other,
    }
}

/// Groups without variance at the end of a prompt's history: the trailing run.
///
/// A mixed group ends it. Its type is that of the latest group, and groups of either type lengthen
/// it, as HIVE's product formula says; GRESO counts the types apart
/// ([`GresoRuns`](super::greso::GresoRuns)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrailingRun {
    /// Groups in the run.
    pub length: u32,
    /// Its type; none while it is empty.
    pub kind: Option<RunKind>,
}

impl TrailingRun {
    /// The run after one more visit.
    #[must_use]
    pub fn after(self, kind: GroupKind) -> Self {
        let kind = match kind {
            GroupKind::Mixed => return Self::default(),
            GroupKind::Easy => RunKind::Easy,
            // Nothing answered is as hard as answered wrongly.
            GroupKind::Hard | GroupKind::Other => RunKind::Hard,
        };
        Self {
            length: self.length.saturating_add(1),
            kind: Some(kind),
        }
    }

    /// The run at the end of a whole history, oldest visit first.
    pub fn of(history: &[GroupKind]) -> Self {
        let visit = |run: Self, kind: &GroupKind| run.after(*kind);
        history.iter().fold(Self::default(), visit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use GroupKind::{Easy, Hard, Mixed, Other};

    #[test]
    fn a_mixed_group_ends_the_run() {
        let length = |history: &[GroupKind]| TrailingRun::of(history).length;
        assert_eq!(length(&[Mixed, Easy, Hard]), 2);
        assert_eq!(length(&[Easy, Easy, Mixed, Hard]), 1);
        assert_eq!(length(&[Hard, Easy, Mixed]), 0);
        assert_eq!(TrailingRun::of(&[]), TrailingRun::default());
        let run = TrailingRun::of(&[Easy, Easy, Hard]);
        assert_eq!((run.length, run.kind), (3, Some(RunKind::Hard)));
        assert_eq!(TrailingRun::of(&[Hard, Other]).kind, Some(RunKind::Hard));
    }

    #[test]
    fn a_group_has_one_kind() {
        use RewardLevels::{Binary, Shaped};
        let shaped = Shaped { answered: 0.1 };
        let one_of_eight = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        assert_eq!(classify(&one_of_eight, 1, Binary), Mixed);
        assert_eq!(classify(&[1.0; 8], 8, Binary), Easy);
        assert_eq!(classify(&[0.0; 8], 0, Binary), Hard);
        assert_eq!(classify(&[0.1; 3], 0, shaped), Hard);
        assert_eq!(classify(&[0.0; 8], 0, shaped), Other);
        assert_eq!(classify(&[0.0, 0.1], 0, shaped), Mixed);
        // Right and wrong completions that earn the same.
        assert_eq!(classify(&[0.1, 0.1], 1, shaped), Other);
        assert_eq!(classify(&[], 0, shaped), Other);
    }

    #[test]
    fn equal_rewards_are_equal_whatever_their_deviation_says() {
        let rewards = [0.1, 0.1, 0.1];
        let mean = rewards.iter().sum::<f64>() / 3.0;
        let variance = rewards.iter().map(|r| (r - mean) * (r - mean)).sum::<f64>() / 3.0;
        assert!(variance > 0.0, "the trap this guards against");
        assert!(!is_mixed(&rewards));
        assert!(is_mixed(&[0.1, 0.1, 0.2]));
        assert!(!is_mixed(&[0.3]) && !is_mixed(&[]));
    }
}
