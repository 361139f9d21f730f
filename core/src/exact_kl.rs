//! Exact KL divergence over the vocabulary, in chunks of rows.
//!
//! The sampled estimators of [`kl`](crate::kl) look at one token per position. Summing over the
//! vocabulary instead integrates the sampled token out (Rao-Blackwell): the same expectation
//! with less variance, for a second pass through the output heads. Amini et al., "Better
//! Estimation of the KL Divergence Between Language Models", arXiv 2504.10637.
//!
//! The clip works on each vocabulary entry's log-ratio. There is no sequence-level clip here: a
//! whole sequence's log-ratio is not a sum over one position's vocabulary.

use alloc::vec::Vec;
use core::ops::Range;

use burn::tensor::Tensor;

use crate::head::{ChunkLogits, Head, HeadGradients, ScoringSettings, stack_columns};
use crate::mask::as_float;
use crate::shape::expect_axis;

/// Exact KL per position and what the clip did to it.
#[derive(Clone, Debug)]
pub struct ExactKl {
    /// KL(policy‖ref) in nats, with the clip, `[M]`, untracked.
    pub values: Tensor<1>,
    /// Clipped minus unclipped value, the clip's bias, `[M]`, untracked.
    pub clip_biases: Tensor<1>,
    /// `sum_v p_v max(abs(l_v) - tau, 0)`: how far the clip moved the log-ratio on average, `[M]`,
    /// untracked.
    pub clip_excesses: Tensor<1>,
    /// Policy probability of the vocabulary entries whose log-ratio was clipped, 0 to 1, `[M]`,
    /// untracked.
    pub clip_fracs: Tensor<1>,
}

/// Hidden states and head weight of the policy and of the reference, on the same rows.
#[derive(Clone, Debug)]
pub struct HeadPair {
    /// Hidden states of the policy, `[M, D]`.
    pub policy_hidden: Tensor<2>,
    /// Head weight of the policy, `[V, D]`.
    pub policy_head: Tensor<2>,
    /// Hidden states of the reference, `[M, D']`.
    pub ref_hidden: Tensor<2>,
    /// Head weight of the reference, `[V, D']`.
    pub ref_head: Tensor<2>,
}

/// KL(policy‖ref) of each row's next-token distribution, over the whole vocabulary; not
/// aggregated.
///
/// ```text
/// l_v = log p_v - log q_v,   KL = sum_v p_v clip(l_v, -tau, tau)
/// bias = sum_v p_v (clip(l_v) - l_v)
/// ```
///
/// p the policy, q the reference, both at the settings' temperature; the logits' products are
/// computed in their precision. Clipped KL regularisation: Tang, Chen, He, arXiv 2602.21765.
///
/// Gradient: none flows; [`exact_kl_backward`] computes it. Autodiff of the inputs is dropped.
///
/// # Shapes
///
/// - `heads`: see [`HeadPair`]
/// - result: `[M]` each
///
/// # Panics
///
/// If M or V differ between policy and reference, or the widths within one of them.
pub fn exact_kl(heads: HeadPair, tau: Option<f64>, settings: &ScoringSettings) -> ExactKl {
    let pair = Pair::new(heads, settings);
    let (mut values, mut fracs) = (Vec::new(), Vec::new());
    let (mut biases, mut excesses) = (Vec::new(), Vec::new());
    for rows in pair.policy.chunks() {
        let (probs, log_ratio) = pair.chunk(rows);
        let (clipped, is_inside) = clip(log_ratio.clone(), tau);
        let moved = clipped.clone() - log_ratio;
        // Not one minus the mass inside: without a clip this has to be exactly 0.
        let is_outside = is_inside.neg().add_scalar(1.0);
        fracs.push((probs.clone() * is_outside).sum_dim(1));
        excesses.push((probs.clone() * moved.clone().abs()).sum_dim(1));
        biases.push((probs.clone() * moved).sum_dim(1));
        values.push((probs * clipped).sum_dim(1));
    }
    ExactKl {
        values: stack_columns(values, &pair.policy),
        clip_biases: stack_columns(biases, &pair.policy),
        clip_excesses: stack_columns(excesses, &pair.policy),
        clip_fracs: stack_columns(fracs, &pair.policy),
    }
}

/// Gradients of a loss over [`exact_kl`]'s values, with respect to the policy's side.
///
/// With c the clipped log-ratios and m their indicator of not being clipped,
///
/// ```text
/// dKL/dz_v = p_v (c_v - KL) + p_v (m_v - sum_u p_u m_u)
/// ```
///
/// and z the logits over the temperature, as in
/// [`token_scores_backward`](crate::logprob::token_scores_backward).
///
/// Without a clip the second term vanishes. A clipped entry's log-ratio passes no gradient, its
/// probability does.
///
/// # Shapes
///
/// - `heads`: as given to [`exact_kl`]; `grad_values`: `[M]`
/// - result: `hidden` `[M, D]`, `head` `[V, D]`
///
/// # Panics
///
/// As [`exact_kl`], or if M differs.
pub fn exact_kl_backward(
    heads: HeadPair,
    grad_values: Tensor<1>,
    tau: Option<f64>,
    settings: &ScoringSettings,
) -> HeadGradients {
    let pair = Pair::new(heads, settings);
    let num_rows = pair.policy.num_rows();
    expect_axis(
        "grad_values",
        "M",
        grad_values.dims()[0],
        "policy_hidden",
        num_rows,
    );
    let grad_values = settings.over_temperature(grad_values.inner().unsqueeze_dim::<2>(1));
    pair.policy.pull_back(|rows| {
        let grad = grad_values.clone().slice([rows.clone()]);
        let (probs, log_ratio) = pair.chunk(rows);
        let (clipped, is_inside) = clip(log_ratio, tau);
        // p (x - sum p x) with x = c + m covers both terms.
        let x = clipped + is_inside;
        let mean = (probs.clone() * x.clone()).sum_dim(1);
        (x - mean) * probs * grad
    })
}

/// Policy and reference on the same rows and vocabulary.
struct Pair {
    policy: Head,
    reference: Head,
}

impl Pair {
    fn new(heads: HeadPair, settings: &ScoringSettings) -> Self {
        let policy = Head::new(heads.policy_hidden, heads.policy_head, settings);
        let reference = Head::new(heads.ref_hidden, heads.ref_head, settings);
        let (num_rows, vocab_size) = (policy.num_rows(), policy.vocab_size());
        expect_axis(
            "ref_hidden",
            "M",
            reference.num_rows(),
            "policy_hidden",
            num_rows,
        );
        expect_axis(
            "ref_head",
            "V",
            reference.vocab_size(),
            "policy_head",
            vocab_size,
        );
        Self { policy, reference }
    }

    /// Policy probabilities and log-ratios of some rows, `[r, V]` each.
    fn chunk(&self, rows: Range<usize>) -> (Tensor<2>, Tensor<2>) {
        let reference = self.reference.chunk(rows.clone());
        let ref_logprobs = reference.shifted - reference.log_sum;
        let ChunkLogits {
            shifted,
            probs,
            log_sum,
        } = self.policy.chunk(rows);
        (probs, shifted - log_sum - ref_logprobs)
    }
}

/// The clipped log-ratios and 1 where the clip did not act, `[r, V]` each.
fn clip(log_ratio: Tensor<2>, tau: Option<f64>) -> (Tensor<2>, Tensor<2>) {
    match tau {
        None => {
            let ones = log_ratio.ones_like();
            (log_ratio, ones)
        }
        Some(tau) => {
            let is_inside = log_ratio.clone().abs().lower_equal_scalar(tau);
            (
                log_ratio.clone().clamp(-tau, tau),
                as_float(is_inside, &log_ratio),
            )
        }
    }
}
