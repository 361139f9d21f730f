//! One micro-batch through the policy and back, without ever holding its logits.
//!
//! The trunk is recorded by autodiff up to the hidden states of the completion tokens. From there
//! `rlvr-core` computes log-probs and entropies in chunks, the loss is formed over those small
//! vectors, and its gradient is put back into the trunk's graph by hand.

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use rlvr_core::{TokenScores, inject, token_scores, token_scores_backward};

use crate::batch::MicroBatch;
use crate::policy::decoder::Decoder;

/// How log-probs are computed; the same for every forward of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoringSettings {
    /// Logits are divided by this, as when sampling.
    pub temperature: f64,
    /// No `[rows, V]` tensor larger than this ever exists.
    pub max_logits_bytes: usize,
}

/// Forward state of a micro-batch, kept for the backward pass.
pub struct Forward {
    /// Hidden states of the completion tokens divided by the temperature, `[M, D]`.
    hidden: Tensor<2>,
    /// Head weight, `[V, D]`.
    head: Tensor<2>,
    /// Log-probs and entropies, `[M]`, untracked.
    pub scores: TokenScores,
}

/// Scores the completion tokens of `batch`. Tracked if `policy` is on an autodiff device.
pub fn forward(policy: &Decoder, batch: &MicroBatch, settings: &ScoringSettings) -> Forward {
    let hidden = policy.hidden(batch.tokens.clone());
    let [num_rows, width, model_width] = hidden.dims();
    let hidden = hidden
        .reshape([num_rows * width, model_width])
        .select(0, batch.positions.clone())
        .div_scalar(settings.temperature);
    let head = policy.head_weight();
    let scores = token_scores(
        hidden.clone().inner(),
        head.clone().inner(),
        batch.targets.clone(),
        settings.max_logits_bytes,
    );
    Forward {
        hidden,
        head,
        scores,
    }
}

/// Parameter gradients of a loss whose gradients with respect to the scores are given, `[M]` each.
pub fn backward(
    policy: &Decoder,
    forward: Forward,
    batch: &MicroBatch,
    grad_logprobs: Tensor<1>,
    grad_entropies: Option<Tensor<1>>,
    settings: &ScoringSettings,
) -> GradientsParams {
    let Forward { hidden, head, .. } = forward;
    let head_gradients = token_scores_backward(
        hidden.clone().inner(),
        head.clone().inner(),
        batch.targets.clone(),
        grad_logprobs,
        grad_entropies,
        settings.max_logits_bytes,
    );
    let surrogate = inject(hidden, head_gradients.hidden) + inject(head, head_gradients.head);
    GradientsParams::from_grads(surrogate.backward(), policy)
}

/// Log-probs of every completion token under frozen weights, one vector per row of `batch`.
///
/// # Panics
/// If `frozen` records gradients: it must be the `valid()` form.
pub fn logprobs(frozen: &Decoder, batch: &MicroBatch, settings: &ScoringSettings) -> Tensor<1> {
    let forward = forward(frozen, batch, settings);
    assert!(
        !forward.hidden.is_autodiff(),
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
