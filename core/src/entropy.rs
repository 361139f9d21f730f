//! Entropy per position from logits that already exist; for small vocabularies and tests.
//!
//! From hidden states and an output head, use [`token_scores`](crate::logprob::token_scores).

use burn::tensor::Tensor;
use burn::tensor::activation::{log_softmax, softmax};

use crate::head::at_least_f32;

/// Entropy of the distribution over the last axis, in nats; not aggregated.
///
/// ```text
/// H = - sum_v p_v log p_v,   p = softmax(logits)
/// ```
///
/// Shannon, "A Mathematical Theory of Communication", 1948.
///
/// Gradient: to `logits`, `dH/dz_v = -p_v (log p_v + H)`. A logit of minus infinity is not
/// allowed: its `0 * inf` is NaN.
///
/// # Shapes
///
/// - `logits`: `[.., V]`
/// - result: `[.., 1]`, in 32 bits or more
///
/// # Panics
///
/// If the rank is 0.
pub fn entropy<const D: usize>(logits: Tensor<D>) -> Tensor<D> {
    let axis = D - 1;
    let logits = at_least_f32(logits);
    let probs = softmax(logits.clone(), axis);
    (probs * log_softmax(logits, axis)).sum_dim(axis).neg()
}
