//! One micro-batch through the policy and back, without ever holding its logits.
//!
//! The trunk is recorded by autodiff up to the hidden states of the completion tokens. From there
//! `rlvr-core` computes log-probs and entropies in chunks, the loss is formed over those small
//! vectors, and its gradient is put back into the trunk's graph by hand.

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use rlvr_core::{
    ExactKl, HeadGradients, HeadPair, TokenScores, exact_kl, exact_kl_backward, inject,
    token_scores, token_scores_backward,
};

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
#[derive(Debug)]
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

impl Forward {
    /// KL(policy‖ref) over the whole vocabulary at each completion token, untracked; `self` is the
    /// policy's pass.
    pub fn exact_kl(&self, reference: &Self, tau: Option<f64>, max_logits_bytes: usize) -> ExactKl {
        exact_kl(self.heads(reference), tau, max_logits_bytes)
    }

    fn heads(&self, reference: &Self) -> HeadPair {
        HeadPair {
            policy_hidden: self.hidden.clone().inner(),
            policy_head: self.head.clone().inner(),
            ref_hidden: reference.hidden.clone().inner(),
            ref_head: reference.head.clone().inner(),
        }
    }
}

/// Gradients of a loss with respect to what was computed from the hidden states, `[M]` each.
#[derive(Debug)]
pub struct ScoreGradients<'a> {
    /// With respect to the log-probs.
    pub logprobs: Tensor<1>,
    /// With respect to the entropies, if the loss has them.
    pub entropies: Option<Tensor<1>>,
    /// With respect to the exact KL, if the loss has it.
    pub exact_kl: Option<ExactKlGradient<'a>>,
}

/// Gradient of a loss with respect to [`Forward::exact_kl`].
#[derive(Debug)]
pub struct ExactKlGradient<'a> {
    /// With respect to its values, `[M]`.
    pub values: Tensor<1>,
    /// The reference's pass.
    pub reference: &'a Forward,
    /// The clip that was given.
    pub tau: Option<f64>,
}

/// Parameter gradients of a loss whose gradients with respect to the scores are given.
pub fn backward(
    policy: &Decoder,
    forward: Forward,
    batch: &MicroBatch,
    gradients: ScoreGradients<'_>,
    settings: &ScoringSettings,
) -> GradientsParams {
    let mut head_gradients = token_scores_backward(
        forward.hidden.clone().inner(),
        forward.head.clone().inner(),
        batch.targets.clone(),
        gradients.logprobs,
        gradients.entropies,
        settings.max_logits_bytes,
    );
    if let Some(kl) = gradients.exact_kl {
        let heads = forward.heads(kl.reference);
        let part = exact_kl_backward(heads, kl.values, kl.tau, settings.max_logits_bytes);
        head_gradients = HeadGradients {
            hidden: head_gradients.hidden + part.hidden,
            head: head_gradients.head + part.head,
        };
    }
    let Forward { hidden, head, .. } = forward;
    let surrogate = inject(hidden, head_gradients.hidden) + inject(head, head_gradients.head);
    GradientsParams::from_grads(surrogate.backward(), policy)
}

/// [`forward`] under frozen weights.
///
/// # Panics
/// If `frozen` records gradients: it must be the `valid()` form.
pub fn frozen_forward(frozen: &Decoder, batch: &MicroBatch, settings: &ScoringSettings) -> Forward {
    let forward = forward(frozen, batch, settings);
    assert!(
        !forward.hidden.is_autodiff(),
        "frozen_forward: the decoder must not record gradients"
    );
    forward
}

/// Log-probs of every completion token under frozen weights, `[M]`.
///
/// # Panics
/// As [`frozen_forward`].
pub fn logprobs(frozen: &Decoder, batch: &MicroBatch, settings: &ScoringSettings) -> Tensor<1> {
    frozen_forward(frozen, batch, settings).scores.logprobs
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
