//! Log-probabilities of given tokens and exact entropies, from hidden states and the output head.
//!
//! Works in chunks of rows: neither direction ever holds a `[rows, V]` tensor larger than the
//! caller's byte budget, and no log-softmax is recorded for autodiff. The caller runs the trunk
//! with autodiff, takes scores here without, forms a loss over the `[M]` results, and hands the
//! loss's small gradients to [`token_scores_backward`], whose result
//! [`inject`](crate::inject::inject) puts back into the trunk's graph.
//!
//! Rows are packed completion tokens: row m holds the hidden state *before* token `targets[m]`.
//! Both calls take the temperature of sampling. Dividing the hidden states by it instead would be
//! another distribution in half precision: it comes before their rounding, the sampler's after it.

use alloc::vec::Vec;

use burn::tensor::{IndexingUpdateOp, Int, Tensor};

use crate::head::{Head, HeadGradients, ScoringSettings, stack_columns};
use crate::shape::expect_axis;

/// Log-probabilities and entropies of packed tokens.
#[derive(Clone, Debug)]
pub struct TokenScores {
    /// `log p(target)` in nats, `[M]`, untracked.
    pub logprobs: Tensor<1>,
    /// Entropy of the whole next-token distribution in nats, `[M]`, untracked.
    pub entropies: Tensor<1>,
}

/// Log-probability of each target token and entropy of each row's distribution; not aggregated.
///
/// ```text
/// z = hidden head^T / temperature,  log p_j = z_j - log sum_k exp z_k
/// logprob = log p_target,   entropy = - sum_j p_j log p_j
/// ```
///
/// The product is computed in the settings' precision, all that follows in 32 bits or more.
///
/// Gradient: none flows; [`token_scores_backward`] computes it. Autodiff of the inputs is
/// dropped.
///
/// # Shapes
///
/// - `hidden`: `[M, D]`, packed rows (no padding)
/// - `head`: `[V, D]`
/// - `targets`: `[M]`, each below V
/// - result: `[M]` each, in 32 bits or more
///
/// # Panics
///
/// If D or M differ between the inputs, or (backend-dependent) if a target is not below V.
pub fn token_scores(
    hidden: Tensor<2>,
    head: Tensor<2>,
    targets: Tensor<1, Int>,
    settings: &ScoringSettings,
) -> TokenScores {
    let head = Head::new(hidden, head, settings);
    expect_axis("targets", "M", targets.dims()[0], "hidden", head.num_rows());
    let targets = targets.inner();
    let (mut logprobs, mut entropies) = (Vec::new(), Vec::new());
    for rows in head.chunks() {
        let chunk = head.chunk(rows.clone());
        let target = targets.clone().slice([rows]).unsqueeze_dim(1);
        logprobs.push(chunk.shifted.clone().gather(1, target) - chunk.log_sum.clone());
        entropies.push(chunk.into_entropy());
    }
    TokenScores {
        logprobs: stack_columns(logprobs, &head),
        entropies: stack_columns(entropies, &head),
    }
}

/// Log-probability of each target token alone: [`token_scores`] without the entropy's pass over
/// the vocabulary.
///
/// # Shapes
///
/// - `hidden`: `[M, D]`; `head`: `[V, D]`; `targets`: `[M]`; result: `[M]`
///
/// # Panics
///
/// As [`token_scores`].
pub fn token_logprobs(
    hidden: Tensor<2>,
    head: Tensor<2>,
    targets: Tensor<1, Int>,
    settings: &ScoringSettings,
) -> Tensor<1> {
    let head = Head::new(hidden, head, settings);
    expect_axis("targets", "M", targets.dims()[0], "hidden", head.num_rows());
    let targets = targets.inner();
    let parts = head
        .chunks()
        .map(|rows| {
            let chunk = head.chunk(rows.clone());
            let target = targets.clone().slice([rows]).unsqueeze_dim(1);
            chunk.shifted.gather(1, target) - chunk.log_sum
        })
        .collect();
    stack_columns(parts, &head)
}

/// Entropy of each row's distribution alone, when no target is known.
///
/// # Shapes
///
/// - `hidden`: `[M, D]`; `head`: `[V, D]`; result: `[M]`
///
/// # Panics
///
/// If D differs between the inputs.
pub fn token_entropies(
    hidden: Tensor<2>,
    head: Tensor<2>,
    settings: &ScoringSettings,
) -> Tensor<1> {
    let head = Head::new(hidden, head, settings);
    let parts = head
        .chunks()
        .map(|rows| head.chunk(rows).into_entropy())
        .collect();
    stack_columns(parts, &head)
}

/// Gradients of a loss over [`token_scores`] with respect to hidden states and head weight.
///
/// The logits are computed again, chunk by chunk; with `g` and `h` the loss's gradients with
/// respect to log-prob and entropy of a row,
///
/// ```text
/// dL/dz_j = g (1[j = target] - p_j) - h p_j (log p_j + H)
/// dL/dhidden = dL/dz head / temperature,   dL/dhead = (dL/dz)^T hidden / temperature
/// ```
///
/// (softmax minus one-hot; the second term is the derivative of `H = - sum_j p_j log p_j`). `dL/dz`
/// is divided before it is rounded for the products.
///
/// Gradient: this is one; nothing flows through it.
///
/// # Shapes
///
/// - `hidden`: `[M, D]`; `head`: `[V, D]`; `targets`: `[M]`, as given to [`token_scores`]
/// - `grad_logprobs`, `grad_entropies`: `[M]`
/// - result: `hidden` `[M, D]`, `head` `[V, D]`
///
/// # Panics
///
/// If M or D differ between the inputs, or (backend-dependent) if a target is not below V.
pub fn token_scores_backward(
    hidden: Tensor<2>,
    head: Tensor<2>,
    targets: Tensor<1, Int>,
    grad_logprobs: Tensor<1>,
    grad_entropies: Option<Tensor<1>>,
    settings: &ScoringSettings,
) -> HeadGradients {
    let head = Head::new(hidden, head, settings);
    let num_rows = head.num_rows();
    expect_axis("targets", "M", targets.dims()[0], "hidden", num_rows);
    expect_axis(
        "grad_logprobs",
        "M",
        grad_logprobs.dims()[0],
        "hidden",
        num_rows,
    );
    if let Some(grad) = &grad_entropies {
        expect_axis("grad_entropies", "M", grad.dims()[0], "hidden", num_rows);
    }
    let targets: Tensor<2, Int> = targets.inner().unsqueeze_dim(1);
    let slope = |grad: Tensor<1>| settings.over_temperature(grad.inner().unsqueeze_dim::<2>(1));
    let grad_logprobs = slope(grad_logprobs);
    let grad_entropies = grad_entropies.map(slope);
    head.pull_back(|rows| {
        let chunk = head.chunk(rows.clone());
        let grad = grad_logprobs.clone().slice([rows.clone()]);
        let target = targets.clone().slice([rows.clone()]);
        let minus_probs = match &grad_entropies {
            None => chunk.probs * grad.clone().neg(),
            Some(grad_entropies) => {
                // log p + H = shifted - mean_shifted: the log-sum cancels.
                let grad_entropy = grad_entropies.clone().slice([rows]);
                let offset = grad_entropy.clone() * chunk.mean_shifted() - grad.clone();
                (chunk.shifted * grad_entropy.neg() + offset) * chunk.probs
            }
        };
        minus_probs.scatter(1, target, grad, IndexingUpdateOp::Add)
    })
}
