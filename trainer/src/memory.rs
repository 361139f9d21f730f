//! What a run will need, computed before anything is allocated.

use crate::config::RunConfig;
use crate::policy::config::ModelConfig;
use crate::policy::packed::Keep;
use crate::rollout::memory::{estimate, num_weights};
use crate::rollout::{MemoryEstimate, RolloutError};

/// Bytes of an f32.
const F32: u64 = 4;

/// Predicted peak memory of a run, in bytes. Rollout and update do not overlap, so the larger of
/// the two counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunMemory {
    /// Weights, gradients and the two moments of AdamW, and the new weights while they are made.
    pub training_bytes: u64,
    /// A frozen reference policy, if a KL term needs one.
    pub reference_bytes: u64,
    /// Cache, prefill and logits of the rollouts, weights not counted again.
    pub rollout_bytes: u64,
    /// Kept activations of one micro-batch, and one chunk of logits with the head's gradient.
    pub update_bytes: u64,
    /// The rollouts in detail.
    pub rollout: MemoryEstimate,
}

impl RunMemory {
    /// The peak.
    pub fn total_bytes(&self) -> u64 {
        self.training_bytes + self.reference_bytes + self.rollout_bytes.max(self.update_bytes)
    }
}

/// Predicts the peak memory of a run whose longest prompt has `longest_prompt` tokens.
///
/// The update keeps what [`Keep`] says for every packed row of a micro-batch, and works on one
/// block at a time: a few vectors per row of the model and the feed-forward width, and the gradient
/// of the output head twice while it is summed over chunks of logits.
///
/// # Errors
/// If the cache budget holds less than two completions.
pub fn run_memory(
    model: &ModelConfig,
    config: &RunConfig,
    longest_prompt: usize,
    needs_reference: bool,
) -> Result<RunMemory, RolloutError> {
    let rollouts = config.selection.prompts_per_step * config.rollout.group_size;
    let rollout = estimate(model, &config.rollout, longest_prompt, rollouts)?;
    let weights = num_weights(model) * F32;
    let longest =
        (longest_prompt + config.rollout.max_new_tokens).min(model.max_position_embeddings);
    // A prompt counts once; the last token of a completion is not run.
    let group = longest_prompt + config.rollout.group_size * (longest - longest_prompt);
    let rows = (config.selection.prompts_per_step * group)
        .min(config.update.max_tokens_per_microbatch)
        .max(longest) as u64;
    let keep = match config.update.gradient_checkpointing {
        true => Keep::Inputs,
        false => Keep::Products,
    };
    let working = 8 * model.hidden_size + 6 * model.intermediate_size;
    let activations = rows * (keep.values_per_row(model) + working) as u64 * F32;
    let head = (model.vocab_size * model.hidden_size) as u64 * F32;
    Ok(RunMemory {
        training_bytes: 5 * weights,
        reference_bytes: if needs_reference { weights } else { 0 },
        rollout_bytes: rollout.total_bytes() - rollout.weights_bytes,
        update_bytes: activations + 2 * head + config.update.max_logits_bytes as u64,
        rollout,
    })
}
