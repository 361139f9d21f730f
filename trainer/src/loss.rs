//! The loss of one micro-batch: rows through the policy, GRPO's loss over their scores, and back to
//! parameter gradients.
//!
//! The loss is formed over small packed vectors (log-probs, entropies, exact KL) that are leaves of
//! a graph of their own; what it says about them is put back into the policy's graph by
//! [`crate::gradient`].

use std::time::Instant;

use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorReadError};
use rlvr_core::{
    Denominators, ExactKl, GrpoBatch, GrpoLoss, KlPenalty, KlTerms, LossKl, LossSums,
    penalty_to_go, token_penalties,
};

use crate::batch::{MicroBatch, Row};
use crate::gradient::{
    ExactKlGradient, Forward, ScoreGradients, ScoringSettings, backward, forward, frozen_forward,
};
use crate::policy::decoder::Decoder;

/// Everything a micro-batch needs besides the policy and its rows.
pub(crate) struct LossContext<'a> {
    pub(crate) loss: &'a GrpoLoss,
    pub(crate) reference: Option<&'a Decoder>,
    pub(crate) scoring: ScoringSettings,
    /// KL penalty in the reward; needs a reference.
    pub(crate) kl_in_reward: Option<KlPenalty>,
    /// Without gradients.
    pub(crate) device: Device,
}

/// Result of one micro-batch.
pub(crate) struct MicroBatchResult {
    pub(crate) gradients: GradientsParams,
    pub(crate) sums: LossSums,
    /// Log-probs under the current weights, one vector per row.
    pub(crate) old_logprobs: Vec<Vec<f32>>,
    /// Seconds of the reference's forward.
    pub(crate) frozen_secs: f64,
}

/// Forward, loss and backward of one micro-batch.
///
/// # Errors
/// If the device cannot be read.
pub(crate) fn microbatch_gradients(
    policy: &Decoder,
    rows: &[&Row],
    context: &LossContext<'_>,
    denominators: Denominators,
) -> Result<MicroBatchResult, TensorReadError> {
    let scoring = &context.scoring;
    let batch = MicroBatch::new(rows, &context.device);
    let started = Instant::now();
    let reference = context
        .reference
        .map(|reference| frozen_forward(reference, &batch, scoring));
    let frozen_secs = started.elapsed().as_secs_f64();

    let pass = forward(policy, &batch, scoring);
    let current = pass.scores.logprobs.clone();
    let leaves = Leaves::new(&pass, reference.as_ref(), context);
    let output = context.loss.forward(
        loss_batch(&batch, &leaves, &current, reference.as_ref(), context),
        denominators,
    );
    let gradients = leaves.gradients(&output.loss, reference.as_ref());
    let gradients = backward(policy, pass, &batch, gradients);
    Ok(MicroBatchResult {
        gradients,
        sums: output.sums.read()?,
        old_logprobs: batch.split(&current.try_into_vec_as::<f32>()?),
        frozen_secs,
    })
}

/// What the loss is formed from, packed, as leaves of its own small graph.
struct Leaves {
    /// `[M]`, tracked.
    logprobs: Tensor<1>,
    /// `[M]`; tracked if the loss has an entropy term.
    entropies: Tensor<1>,
    /// The divergence with its values tracked, and its clip, if the loss has it.
    exact_kl: Option<(ExactKl, Option<f64>)>,
}

impl Leaves {
    fn new(pass: &Forward, reference: Option<&Forward>, context: &LossContext<'_>) -> Self {
        let config = context.loss.config();
        let leaf = |values: Tensor<1>| values.autodiff().require_grad();
        let entropies = pass.scores.entropies.clone();
        let penalty = config.kl.filter(|kl| kl.estimator == LossKl::Exact);
        let exact_kl = penalty.zip(reference).map(|(penalty, reference)| {
            let tau = penalty.clip.map(|clip| clip.tau);
            let kl = pass.exact_kl(reference, tau);
            let values = leaf(kl.values);
            (ExactKl { values, ..kl }, tau)
        });
        Self {
            logprobs: leaf(pass.scores.logprobs.clone()),
            entropies: match config.entropy_coef {
                0.0 => entropies.autodiff(),
                _ => leaf(entropies),
            },
            exact_kl,
        }
    }

    /// The loss's gradients with respect to the leaves.
    fn gradients<'a>(
        &self,
        loss: &Tensor<1>,
        reference: Option<&'a Forward>,
    ) -> ScoreGradients<'a> {
        let gradients = loss.backward();
        let logprobs = self.logprobs.grad(&gradients);
        let exact_kl = self.exact_kl.as_ref().zip(reference);
        ScoreGradients {
            logprobs: logprobs.unwrap_or_else(|| self.logprobs.clone().inner().zeros_like()),
            entropies: self.entropies.grad(&gradients),
            exact_kl: exact_kl.and_then(|((kl, tau), reference)| {
                Some(ExactKlGradient {
                    values: kl.values.grad(&gradients)?,
                    reference,
                    tau: *tau,
                })
            }),
        }
    }
}

/// The padded batch that the loss sees.
fn loss_batch(
    batch: &MicroBatch,
    leaves: &Leaves,
    current: &Tensor<1>,
    reference: Option<&Forward>,
    context: &LossContext<'_>,
) -> GrpoBatch {
    let unpack = |values: &Tensor<1>| batch.unpack(values.clone());
    // First inner step: the policy is its own old policy, no second forward is needed.
    let old_logprobs = batch.old_logprobs.clone();
    let old_logprobs = old_logprobs.unwrap_or_else(|| unpack(current));
    let ref_logprobs = reference.map(|pass| unpack(&pass.scores.logprobs));
    let in_reward = context.kl_in_reward.zip(ref_logprobs.clone());
    let token_penalties = in_reward.map(|(kl, reference)| {
        let mask = batch.completion_mask.clone();
        let penalties = token_penalties(old_logprobs.clone(), reference, mask.clone(), kl);
        penalty_to_go(penalties, mask)
    });
    GrpoBatch {
        policy_logprobs: unpack(&leaves.logprobs),
        old_logprobs,
        ref_logprobs,
        exact_kl: leaves.exact_kl.as_ref().map(|(kl, _)| KlTerms {
            values: unpack(&kl.values),
            clip_biases: unpack(&kl.clip_biases),
            clip_excesses: unpack(&kl.clip_excesses),
            clip_counts: unpack(&kl.clip_fracs),
        }),
        sampler_logprobs: Some(batch.sampler_logprobs.clone()),
        entropies: Some(unpack(&leaves.entropies)),
        advantages: batch.advantages.clone(),
        token_penalties,
        completion_mask: batch.completion_mask.clone(),
    }
}
