//! Reward shift: bounds on `E_theta|e|`, the reward error `e = r - r*` in `[-1, 1]` under the
//! deployed policy, from what is known under the distribution D_tr the reward was fitted on.
//!
//! Log-weights are `log w = log pi_theta - log pi_old`, of completions drawn from pi_theta.
//! Nothing certifies `E w` or a KL divergence from samples, because w is unbounded; total
//! variation, hockey-stick and clipped chi-square need means of bounded variables only. A
//! verifiable reward has e = 0 and needs none of this: [`Bound::zero`](crate::Bound::zero).

pub mod chi_square;
pub mod clipped;
pub mod donsker_varadhan;
pub mod hockey_stick;
pub mod mixture;
pub mod processing;
