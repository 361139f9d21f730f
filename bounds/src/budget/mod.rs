//! How to spend a budget for evaluation and certification. Rules, not bounds; they say nothing
//! about the quality of a gradient.

pub mod pairs;
pub mod rollouts;

pub use pairs::{Allocation, PairRate, alloc_prompts_pairs};
pub use rollouts::{RolloutChoice, k_star_hoeffding, k_star_variance};
