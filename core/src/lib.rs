//! Algorithms of reinforcement learning with verifiable rewards, as pure functions over Burn
//! tensors: no device is named, no random number drawn, nothing read or written.
//!
//! ```text
//! hidden states -> logprob -> ratio -> surrogate -+
//!                    |                  kl -------+-> aggregate -> loss   (composed by grpo)
//!                    +-> entropy -----------------+
//! rewards -> advantage -----------^
//! ```
//!
//! Everything is per token first and aggregated second, with the batch's own denominators
//! passed in. Positions outside a mask may hold anything, NaN included.
//!
//! # Shapes
//!
//! | letter | axis | letter | axis |
//! | --- | --- | --- | --- |
//! | P | prompts in the step | C | completion positions, padded |
//! | G | rollouts per prompt | V | vocabulary |
//! | N | rows: P·G prompt-major, or a micro-batch of them | M | packed completion tokens |
//! | D | model width | | |
//!
//! Natural logarithms and nats throughout. Log-probs are computed in 32 bits or more.
//!
//! # Features
//!
//! `std` is off by default: the crate needs `alloc` alone.

#![cfg_attr(not(feature = "std"), no_std)]

extern crate alloc;

pub mod advantage;
pub mod aggregate;
pub mod controller;
pub mod entropy;
pub mod error;
pub mod exact_kl;
pub mod grpo;
pub mod head;
pub mod importance;
pub mod inject;
pub mod kl;
pub mod logprob;
pub mod mask;
pub mod overlong;
pub mod penalty;
pub mod precision;
pub mod ratio;
pub mod selection;
mod shape;
pub mod sums;
pub mod surrogate;

pub use advantage::{
    AdvantageConfig, Baseline, Degenerate, GroupAdvantages, Scale, group_advantages,
};
pub use aggregate::{Aggregation, Denominators, aggregate};
pub use controller::{AdaptiveEntropy, AdaptiveEntropyConfig, AdaptiveKl, AdaptiveKlConfig};
pub use entropy::entropy;
pub use error::ConfigError;
pub use exact_kl::{ExactKl, HeadPair, exact_kl, exact_kl_backward};
pub use grpo::{GrpoBatch, GrpoLoss, GrpoLossConfig, GrpoLossOutput};
pub use head::{HeadGradients, ScoringSettings, rows_per_chunk};
pub use importance::{
    ImportanceBound, ImportanceCorrection, ImportanceLevel, ImportanceWeights, importance_weights,
};
pub use inject::inject;
pub use kl::{
    ClipGradient, ClipLevel, KlClip, KlEstimator, KlPenalty, KlTerms, LossKl, estimate, kl_terms,
};
pub use logprob::{
    TokenScores, token_entropies, token_logprobs, token_scores, token_scores_backward,
};
pub use mask::{fill_outside, masked_mean, masked_row_mean, masked_row_sum, masked_sum};
pub use overlong::{Overlong, mask_truncated, soft_overlong_penalty};
pub use penalty::{penalty_to_go, sequence_penalties, token_penalties};
pub use precision::Precision;
pub use ratio::{
    MAX_LOG_RATIO, RatioLevel, log_ratio, ratio, sequence_log_ratio, summed_log_ratio,
};
pub use selection::exploration::{AtTarget, Exploration, ExplorationConfig, Shares};
pub use selection::gate::{Band, Candidate, Gate, Gated, by_entropy, keep_smallest};
pub use selection::greso::{GresoRuns, NextRound, next_round};
pub use selection::history::{GroupKind, RewardLevels, RunKind, TrailingRun, classify, is_mixed};
pub use selection::mopps::{BetaPosterior, nearest, variance_score, within};
pub use selection::rank::{average_ranks, median, quartile, spearman};
pub use selection::sizing::{RoundSize, pool_target, pool_target_of};
pub use selection::stage1::{EntropyRange, Stage1Config, entropy_score, reward_score};
pub use selection::uniform::uniform;
pub use sums::{LossSums, PendingSums};
pub use surrogate::{Surrogate, SurrogateTerms, cispo_surrogate, clipped_surrogate, surrogate};
