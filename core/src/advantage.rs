//! Group-relative advantages: plain 64-bit arithmetic on the host, no tensors.
//!
//! One scalar reward per rollout; the advantage is what is left after a baseline and a scale,
//! both stated in the config because the field does not agree on them (ddof and eps of the
//! standard deviation in particular). Rewards are never overwritten.

use alloc::vec::Vec;

use num_traits::Float;
use serde::{Deserialize, Serialize};

use crate::error::{ConfigError, check_number};

/// What is subtracted from a reward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Baseline {
    /// The mean of the rollout's group (GRPO).
    #[default]
    GroupMean,
    /// The mean of the *other* rollouts of the group (RLOO).
    LeaveOneOut,
    /// Nothing (REINFORCE).
    None,
}

/// What the difference is divided by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Scale {
    /// Nothing (Dr. GRPO).
    #[default]
    None,
    /// `std + eps` of the group's rewards (GRPO).
    GroupStd {
        /// The variance divides by `G - ddof`: 0 population, 1 Bessel's correction.
        ddof: usize,
        /// Added to the standard deviation.
        eps: f64,
    },
    /// `std + eps` of all rewards of the step (around their common mean).
    BatchStd {
        /// The variance divides by `P G - ddof`.
        ddof: usize,
        /// Added to the standard deviation.
        eps: f64,
    },
}

/// Baseline and scale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdvantageConfig {
    /// What is subtracted from a reward.
    pub baseline: Baseline,
    /// What the difference is divided by.
    pub scale: Scale,
}

/// Why a group carries no learning signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Degenerate {
    /// No rollout: nothing to compare.
    Empty,
    /// One rollout: a baseline from the group is that rollout itself, or nothing.
    SingleRollout,
    /// All rewards are exactly equal.
    AllEqual,
    /// A reward is NaN or infinite; the whole group is set aside.
    NonFinite,
}

/// Advantages of one group, in the order of its rewards.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupAdvantages {
    /// One advantage per rollout; all exactly 0 if the group is degenerate, unless there is no
    /// baseline.
    pub advantages: Vec<f64>,
    /// Why there is no signal, if there is none.
    pub degenerate: Option<Degenerate>,
}

impl GroupAdvantages {
    /// True if every advantage is exactly zero: the policy term of such a group has no gradient.
    pub fn is_zero(&self) -> bool {
        self.advantages.iter().all(|&a| a == 0.0)
    }
}

impl AdvantageConfig {
    /// Checks the combination against the configured group size.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the group size is 0; if it is 1 and a baseline or a group's standard
    /// deviation is asked for; if `ddof` is above 1; if `eps` is negative or not finite.
    pub fn validate(&self, group_size: usize) -> Result<(), ConfigError> {
        if group_size == 0 {
            return Err(ConfigError::new("group_size", 0, "at least 1"));
        }
        if group_size == 1 {
            self.validate_single_rollout()?;
        }
        match self.scale {
            Scale::None => Ok(()),
            Scale::GroupStd { ddof, eps } | Scale::BatchStd { ddof, eps } => {
                if ddof > 1 {
                    let allowed = "0 (population) or 1 (Bessel's correction)";
                    return Err(ConfigError::new("scale.ddof", ddof, allowed));
                }
                check_number("scale.eps", eps, "a number of at least 0", |v| v >= 0.0)
            }
        }
    }

    /// A group of one has no standard deviation and no baseline of its own.
    fn validate_single_rollout(&self) -> Result<(), ConfigError> {
        if let Scale::GroupStd { ddof, .. } = self.scale {
            let allowed = "with group_size = 1 there is no standard deviation of a group: use \
                           scale none or batch_std, or a group_size of at least 2";
            return Err(ConfigError::new(
                "scale",
                alloc::format!("group_std (ddof {ddof})"),
                allowed,
            ));
        }
        let name = match self.baseline {
            Baseline::None => return Ok(()),
            Baseline::GroupMean => "group_mean",
            Baseline::LeaveOneOut => "leave_one_out",
        };
        let allowed = "with group_size = 1 only baseline none leaves an advantage: use it, or a \
                       group_size of at least 2";
        Err(ConfigError::new("baseline", name, allowed))
    }
}

/// Advantages of every group of a step.
///
/// ```text
/// GroupMean     A_i = (r_i - mean_j r_j) / s
/// LeaveOneOut   A_i = (r_i - mean_{j != i} r_j) / s
/// None          A_i = r_i / s
/// s = 1, or sqrt(sum (r - mean)^2 / (count - ddof)) + eps over the group or over the step
/// ```
///
/// DeepSeekMath (GRPO), arXiv 2402.03300, section 4.1.2; leave-one-out: Ahmadian et al., arXiv
/// 2402.14740; no scale: Liu et al. (Dr. GRPO), arXiv 2503.20783.
///
/// A degenerate group is reported, not hidden: its advantages are exactly zero when a baseline
/// is used, and `r / s` without one (zeros if the rewards are not finite, which also leave the
/// step's standard deviation).
pub fn group_advantages<R: AsRef<[f64]>>(
    rewards: &[R],
    config: AdvantageConfig,
) -> Vec<GroupAdvantages> {
    let step_scale = match config.scale {
        Scale::BatchStd { ddof, eps } => {
            let usable = rewards
                .iter()
                .map(AsRef::as_ref)
                .filter(|group| group.iter().all(|r| r.is_finite()));
            let all: Vec<f64> = usable.flatten().copied().collect();
            standard_deviation(&all, ddof) + eps
        }
        Scale::None | Scale::GroupStd { .. } => 1.0,
    };
    rewards
        .iter()
        .map(|group| one_group(group.as_ref(), config, step_scale))
        .collect()
}

/// Advantages of one group, `step_scale` being the scale that is not the group's own.
fn one_group(rewards: &[f64], config: AdvantageConfig, step_scale: f64) -> GroupAdvantages {
    let degenerate = degeneracy(rewards);
    let has_no_signal = match degenerate {
        None => false,
        Some(Degenerate::NonFinite | Degenerate::Empty) => true,
        Some(Degenerate::SingleRollout | Degenerate::AllEqual) => config.baseline != Baseline::None,
    };
    if has_no_signal {
        let advantages = alloc::vec![0.0; rewards.len()];
        return GroupAdvantages {
            advantages,
            degenerate,
        };
    }
    let scale = match config.scale {
        Scale::GroupStd { ddof, eps } => standard_deviation(rewards, ddof) + eps,
        Scale::None | Scale::BatchStd { .. } => step_scale,
    };
    let advantages = centred(rewards, config.baseline)
        .into_iter()
        .map(|difference| if scale > 0.0 { difference / scale } else { 0.0 })
        .collect();
    GroupAdvantages {
        advantages,
        degenerate,
    }
}

/// Rewards minus their baseline.
fn centred(rewards: &[f64], baseline: Baseline) -> Vec<f64> {
    let count = rewards.len() as f64;
    let sum: f64 = rewards.iter().sum();
    let minus = |baseline: &dyn Fn(f64) -> f64| rewards.iter().map(|&r| r - baseline(r)).collect();
    match baseline {
        Baseline::GroupMean => minus(&|_| sum / count),
        Baseline::LeaveOneOut => minus(&|r| (sum - r) / (count - 1.0)),
        Baseline::None => rewards.to_vec(),
    }
}

/// Why these rewards carry no signal, if so. Equality is exact, not within a tolerance.
fn degeneracy(rewards: &[f64]) -> Option<Degenerate> {
    match rewards {
        [] => Some(Degenerate::Empty),
        _ if rewards.iter().any(|r| !r.is_finite()) => Some(Degenerate::NonFinite),
        [_] => Some(Degenerate::SingleRollout),
        [first, rest @ ..] if rest.iter().all(|r| r == first) => Some(Degenerate::AllEqual),
        _ => None,
    }
}

/// `sqrt(sum (x - mean)^2 / (count - ddof))`; 0 if nothing is left to divide by.
fn standard_deviation(values: &[f64], ddof: usize) -> f64 {
    if values.len() <= ddof {
        return 0.0;
    }
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let squares: f64 = values.iter().map(|v| (v - mean) * (v - mean)).sum();
    Float::sqrt(squares / (values.len() - ddof) as f64)
}
