//! What a run will need, computed before anything is allocated.

use crate::config::RunConfig;
use crate::policy::cache::KvCache;
use crate::policy::config::ModelConfig;
use crate::policy::packed::Keep;
use crate::rollout::memory::{estimate, num_weights};
use crate::rollout::{MemoryEstimate, RolloutError};
use crate::selection::Plan;

/// Bytes of an f32.
const F32: u64 = 4;

/// Predicted peak memory of a run, in bytes. Rollout and update do not overlap, so the larger of
/// the two counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunMemory {
    /// Weights, gradients and the two moments of AdamW, and the new weights while they are made.
    pub training_bytes: u64,
    /// A frozen copy of the model of the start, if a KL term, a learned reward or the report needs
    /// one.
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

/// Keys and values that wait for an entropy gate, and the logits of its entropies.
fn gate_bytes(model: &ModelConfig, config: &RunConfig, longest_prompt: usize) -> u64 {
    let selection = &config.selection;
    if !selection.has_entropy_gate() {
        return 0;
    }
    // A pool may exceed its target by one raw batch less one.
    let target = Plan::new(config).pool_target(selection.candidate_target());
    let prompts = (target + selection.rounds.raw_batch) as u64;
    let waiting = prompts * KvCache::slot_bytes(model, longest_prompt);
    let positions = config.rollout.prefill_tokens.max(longest_prompt) as u64;
    let logits = positions * model.vocab_size as u64 * F32;
    // Logits, their shifted copy and their softmax.
    waiting.min(selection.kv_pool_bytes) + 3 * logits.min(selection.entropy_logits_bytes as u64)
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
        rollout_bytes: rollout.total_bytes() - rollout.weights_bytes
            + gate_bytes(model, config, longest_prompt),
        update_bytes: activations + 2 * head + config.update.max_logits_bytes as u64,
        rollout,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::decoder::tests::tiny_config;
    use crate::selection::{Hive, SelectionMethod};

    #[test]
    fn an_entropy_gate_is_counted_up_to_its_budgets() {
        let (model, mut config) = (tiny_config(), RunConfig::default());
        config.selection.prompts_per_step = 8;
        let bytes = |config: &RunConfig| {
            let found = run_memory(&model, config, 20, false);
            found.expect("two completions fit").rollout_bytes
        };
        let without = bytes(&config);
        config.selection.method = SelectionMethod::Hive(Hive::default());
        // 24 prompts are asked for, and up to 32 more come with the last raw batch.
        let waiting = (24 + 32) * KvCache::slot_bytes(&model, 20);
        let logits = 3 * 2048 * 48 * F32;
        assert_eq!(bytes(&config), without + waiting + logits);
        config.selection.kv_pool_bytes = 1000;
        config.selection.entropy_logits_bytes = 4000;
        assert_eq!(bytes(&config), without + 1000 + 3 * 4000);
    }
}
