//! One micro-batch through the policy and back, without ever holding its logits.
//!
//! The trunk runs over packed rows up to the hidden states of the completion tokens. From there
//! `rlvr-core` computes log-probs and entropies in chunks, the loss is formed over those small
//! vectors, and its gradient goes back through head and trunk by hand.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{GradientCheckpointingStrategy, IndexingUpdateOp, Tensor};
use rlvr_backends::kernels::{add, token_scores, token_scores_backward};
pub use rlvr_core::ScoringSettings;
use rlvr_core::{ExactKl, HeadGradients, HeadPair, TokenScores, exact_kl, exact_kl_backward};

use crate::batch::MicroBatch;
use crate::policy::decoder::Decoder;
use crate::policy::packed::{Keep, Trace};

/// Forward state of a micro-batch, kept for the backward pass. Nothing in it is tracked.
#[derive(Debug)]
pub struct Forward {
    /// Hidden states of the completion tokens, `[M, D]`.
    hidden: Tensor<2>,
    /// Head weight, `[V, D]`.
    head: Tensor<2>,
    settings: ScoringSettings,
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
    let (hidden, trace) = policy.packed_hidden(&batch.packed, keep, settings.precision);
    let hidden = hidden.select(0, batch.positions.clone());
    let scores = token_scores(
        hidden.clone(),
        head.clone(),
        batch.targets.clone(),
        settings,
    );
    Forward {
        hidden,
        head,
        settings: *settings,
        trace,
        scores,
    }
}

impl Forward {
    /// KL(policy‖ref) over the whole vocabulary at each completion token, untracked; `self` is the
    /// policy's pass.
    pub fn exact_kl(&self, reference: &Self, tau: Option<f64>) -> ExactKl {
        exact_kl(self.heads(reference), tau, &self.settings)
    }

    fn heads(&self, reference: &Self) -> HeadPair {
        HeadPair {
            policy_hidden: self.hidden.clone(),
            policy_head: self.head.clone(),
            ref_hidden: reference.hidden.clone(),
            ref_head: reference.head.clone(),
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
///
/// # Panics
/// If the forward pass was one of a frozen policy.
pub fn backward(
    policy: &Decoder,
    forward: Forward,
    batch: &MicroBatch,
    gradients: ScoreGradients<'_>,
) -> GradientsParams {
    let mut head_gradients = token_scores_backward(
        forward.hidden.clone(),
        forward.head.clone(),
        batch.targets.clone(),
        gradients.logprobs,
        gradients.entropies,
        &forward.settings,
    );
    if let Some(kl) = gradients.exact_kl {
        let heads = forward.heads(kl.reference);
        let part = exact_kl_backward(heads, kl.values, kl.tau, &forward.settings);
        head_gradients = HeadGradients {
            hidden: head_gradients.hidden + part.hidden,
            head: head_gradients.head + part.head,
        };
    }
    backward_from_head(policy, forward, batch, head_gradients)
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
        gradients.hidden,
        IndexingUpdateOp::Add,
    );
    policy.packed_backward(&batch.packed, trace, grad_hidden, gradients.head)
}

/// [`forward`] under frozen weights.
///
/// # Panics
/// If `frozen` records gradients: it must be the `valid()` form.
pub fn frozen_forward(frozen: &Decoder, batch: &MicroBatch, settings: &ScoringSettings) -> Forward {
    let forward = forward(frozen, batch, settings);
    assert!(
        forward.trace.is_none(),
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
    struct Add {
        sum: GradientsParams,
        gradients: GradientsParams,
    }
    impl ModuleVisitor for Add {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let Some(new) = self.gradients.remove::<D>(param.id) else {
                return;
            };
            let sum = match self.sum.remove::<D>(param.id) {
                Some(sum) => add(sum, new),
                None => new,
            };
            self.sum.register(param.id, sum);
        }
    }
    let Some(sum) = sum else { return gradients };
    let mut both = Add { sum, gradients };
    module.visit(&mut both);
    both.sum
}
