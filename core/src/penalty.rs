//! KL in the reward instead of the loss.

use burn::tensor::{Bool, Tensor};

use crate::kl::{KlPenalty, kl_terms};
use crate::mask::{fill_outside, masked_row_sum};
use crate::ratio::log_ratio;

/// KL penalty of each token against the reference, to be taken from the reward; not aggregated.
///
/// ```text
/// b[n,c] = coef KL(policy‖ref)[n,c]
/// ```
///
/// with the estimator and clip of [`kl_terms`]. Ziegler et al., arXiv 1909.08593, eq. 2 (there
/// with k1).
///
/// Gradient: none; a reward is a constant.
///
/// # Shapes
///
/// - `policy_logprobs` (at sampling time, that is old), `ref_logprobs`, `completion_mask`,
///   result: `[N, C]`; the result is 0 outside the mask
///
/// # Panics
///
/// If the shapes differ.
pub fn token_penalties(
    policy_logprobs: Tensor<2>,
    ref_logprobs: Tensor<2>,
    completion_mask: Tensor<2, Bool>,
    penalty: KlPenalty,
) -> Tensor<2> {
    let mask = completion_mask.inner();
    let log_r = log_ratio(ref_logprobs.inner(), policy_logprobs.inner(), mask.clone());
    let terms = kl_terms(log_r, mask, penalty.estimator, penalty.clip);
    terms.values.mul_scalar(penalty.coef)
}

/// Penalty of each sequence: the sum of its token penalties, to be subtracted from the rollout's
/// reward *before* the advantages are formed.
///
/// # Shapes
///
/// - `token_penalties`, `completion_mask`: `[N, C]`
/// - result: `[N]`
///
/// # Panics
///
/// If the shapes differ.
pub fn sequence_penalties(
    token_penalties: Tensor<2>,
    completion_mask: Tensor<2, Bool>,
) -> Tensor<1> {
    masked_row_sum(token_penalties.inner(), completion_mask.inner()).squeeze_dim(1)
}

/// Penalty from each token to the end of its completion, to be subtracted from that token's
/// advantage ([`GrpoBatch::token_penalties`](crate::grpo::GrpoBatch)): a token answers for what
/// follows it, not for what came before.
///
/// ```text
/// B[n,c] = sum_{j >= c} b[n,j]
/// ```
///
/// Hu et al. (REINFORCE++), arXiv 2501.03262, with discount 1.
///
/// # Shapes
///
/// - `token_penalties`, `completion_mask`, result: `[N, C]`; 0 outside the mask
///
/// # Panics
///
/// If the shapes differ.
pub fn penalty_to_go(token_penalties: Tensor<2>, completion_mask: Tensor<2, Bool>) -> Tensor<2> {
    let mask = completion_mask.inner();
    let penalties = fill_outside(token_penalties.inner(), mask.clone(), 0.0);
    let total = penalties.clone().sum_dim(1);
    let before = penalties.clone().cumsum(1) - penalties;
    fill_outside(total - before, mask, 0.0)
}
