//! One micro-batch through the policy and back, without ever holding its logits.
//!
//! The trunk runs over packed rows up to the hidden states of the completion tokens. From there
//! `rlvr-core` computes log-probs and entropies in chunks, the loss is formed over those small
//! vectors, and its gradient goes back through head and trunk by hand.

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{GradientCheckpointingStrategy, IndexingUpdateOp, Tensor};
use rlvr_backends::kernels::{token_scores, token_scores_backward};
use rlvr_core::{HeadGradients, TokenScores};

use crate::batch::MicroBatch;
use crate::policy::decoder::Decoder;
use crate::policy::packed::{Keep, Trace};

/// How log-probs are computed; the same for every forward of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoringSettings {
    /// Logits are divided by this, as when sampling.
    pub temperature: f64,
    /// No `[rows, V]` tensor larger than this ever exists.
    pub max_logits_bytes: usize,
}

/// Forward state of a micro-batch, kept for the backward pass. Nothing in it is tracked.
pub struct Forward {
    /// Hidden states of the completion tokens divided by the temperature, `[M, D]`.
    hidden: Tensor<2>,
    /// Head weight, `[V, D]`.
    head: Tensor<2>,
    /// What the trunk keeps; none if the policy is frozen.
    trace: Option<Trace>,
    /// Log-probs and entropies, `[M]`.
    pub scores: TokenScores,
}

/// Scores the completion tokens of `batch`. Activations are kept for [`backward`] if `policy` is on
/// an autodiff device; with gradient checkpointing only the inputs of its blocks are.
pub fn forward(policy: &Decoder, batch: &MicroBatch, settings: &ScoringSettings) -> Forward {
    let head = policy.head_weight();
    let keep = match head.device().gradient_checkpointing_strategy() {
        None => Keep::Nothing,
        Some(GradientCheckpointingStrategy::Disabled) => Keep::Products,
        Some(GradientCheckpointingStrategy::Balanced) => Keep::Inputs,
    };
    let head = head.inner();
    let (hidden, trace) = policy.packed_hidden(&batch.packed, keep);
    let hidden = hidden
        .select(0, batch.positions.clone())
        .div_scalar(settings.temperature);
    let scores = token_scores(
        hidden.clone(),
        head.clone(),
        batch.targets.clone(),
        settings.max_logits_bytes,
    );
    Forward {
        hidden,
        head,
        trace,
        scores,
    }
}

/// Parameter gradients of a loss whose gradients with respect to the scores are given, `[M]` each.
///
/// # Panics
/// If the forward pass was one of a frozen policy.
pub fn backward(
    policy: &Decoder,
    forward: Forward,
    batch: &MicroBatch,
    grad_logprobs: Tensor<1>,
    grad_entropies: Option<Tensor<1>>,
    settings: &ScoringSettings,
) -> GradientsParams {
    let head_gradients = token_scores_backward(
        forward.hidden.clone(),
        forward.head.clone(),
        batch.targets.clone(),
        grad_logprobs,
        grad_entropies,
        settings.max_logits_bytes,
    );
    backward_from_head(policy, forward, batch, head_gradients, settings)
}

/// Parameter gradients of a loss, from its gradients with respect to the inputs of the output head.
///
/// # Panics
/// If the forward pass was one of a frozen policy.
pub fn backward_from_head(
    policy: &Decoder,
    forward: Forward,
    batch: &MicroBatch,
    gradients: HeadGradients,
    settings: &ScoringSettings,
) -> GradientsParams {
    let Some(trace) = forward.trace else {
        panic!("backward: the policy is frozen, nothing was kept");
    };
    let [_, width] = forward.hidden.dims();
    let num_rows = batch.packed.tokens.dims()[0];
    // Rows that predict no completion token get none; the last of a prompt gets one per completion.
    let grad_hidden = Tensor::zeros([num_rows, width], &forward.hidden.device()).select_assign(
        0,
        batch.positions.clone(),
        gradients.hidden.div_scalar(settings.temperature),
        IndexingUpdateOp::Add,
    );
    policy.packed_backward(&batch.packed, trace, grad_hidden, gradients.head)
}

/// Log-probs of every completion token under frozen weights, one vector per row of `batch`.
///
/// # Panics
/// If `frozen` records gradients: it must be the `valid()` form.
pub fn logprobs(frozen: &Decoder, batch: &MicroBatch, settings: &ScoringSettings) -> Tensor<1> {
    let forward = forward(frozen, batch, settings);
    assert!(
        forward.trace.is_none(),
        "logprobs: the decoder must not record gradients"
    );
    forward.scores.logprobs
}

/// Adds `gradients` of one micro-batch to those of the ones before.
pub fn accumulate<M: Module>(
    module: &M,
    sum: Option<GradientsParams>,
    gradients: GradientsParams,
) -> GradientsParams {
    let Some(sum) = sum else { return gradients };
    let mut accumulator = burn::optim::GradientsAccumulator::new();
    accumulator.accumulate(module, sum);
    accumulator.accumulate(module, gradients);
    accumulator.grads()
}
