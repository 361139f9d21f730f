//! What a rollout will need, computed before anything is allocated.

use rlvr_backends::Precision;

use super::{RolloutConfig, RolloutError};
use crate::policy::cache::{COLUMN_BUCKET, KvCache};
use crate::policy::config::ModelConfig;

/// Bytes of an f32.
const F32: u64 = size_of::<f32>() as u64;

/// How a rollout computes, as far as its memory depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionPath {
    /// What products are computed in.
    pub precision: Precision,
    /// Whether attention holds the scores of a prompt, as its portable path does and its kernel
    /// does not.
    pub holds_scores: bool,
}

/// Memory of a rollout by purpose. Sizes are upper bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryEstimate {
    /// The policy.
    pub weights_bytes: u64,
    /// The copy of its blocks that is laid out for decoding, and of its head if that is rounded.
    pub copy_bytes: u64,
    /// The key-value cache.
    pub kv_bytes: u64,
    /// Activations, scores, and keys and values of the largest prefill batch.
    pub prefill_bytes: u64,
    /// Logits of one decode step and the sampling buffers.
    pub logits_bytes: u64,
    /// Completions decoded at once.
    pub num_slots: usize,
    /// Tokens that one slot holds.
    pub slot_tokens: usize,
}

impl MemoryEstimate {
    /// Everything together.
    pub fn total_bytes(&self) -> u64 {
        self.weights_bytes
            + self.copy_bytes
            + self.kv_bytes
            + self.prefill_bytes
            + self.logits_bytes
    }
}

/// Number of weights of a decoder.
pub fn num_weights(config: &ModelConfig) -> u64 {
    let heads = if config.tie_word_embeddings { 1 } else { 2 };
    let outside = heads * config.vocab_size * config.hidden_size + config.hidden_size;
    config.num_layers as u64 * block_weights(config) + outside as u64
}

/// Number of weights of one block.
fn block_weights(config: &ModelConfig) -> u64 {
    let (width, inner) = (config.hidden_size, config.intermediate_size);
    let queries = config.num_heads * config.head_dim;
    let keys = config.num_kv_heads * config.head_dim;
    let biases = if config.attention_bias {
        queries + 2 * keys
    } else {
        0
    };
    let head_norms = if config.qk_norm {
        2 * config.head_dim
    } else {
        0
    };
    let attention = width * (2 * queries + 2 * keys) + biases + head_norms;
    (attention + 3 * width * inner + 2 * width) as u64
}

/// Weights that are stored once more for decoding.
fn copied_weights(config: &ModelConfig, precision: Precision) -> u64 {
    let head = match precision {
        Precision::F32 => 0,
        Precision::Bf16 => (config.vocab_size * config.hidden_size) as u64,
    };
    config.num_layers as u64 * block_weights(config) + head
}

/// Tokens of a slot that holds prompts up to `longest_prompt` and their completions.
pub fn slot_tokens(config: &ModelConfig, longest_prompt: usize, max_new_tokens: usize) -> usize {
    let longest = longest_prompt.saturating_add(max_new_tokens);
    longest
        .min(config.max_position_embeddings)
        .next_multiple_of(COLUMN_BUCKET)
}

/// Slots of `slot_tokens` tokens in `slot_bytes` each that the budget, the configured bound and the
/// work allow.
///
/// # Errors
/// If the budget holds no slot.
pub fn num_slots(
    rollout: &RolloutConfig,
    slot_tokens: usize,
    slot_bytes: u64,
    num_completions: usize,
) -> Result<usize, RolloutError> {
    let affordable = (rollout.kv_budget_bytes / slot_bytes.max(1)) as usize;
    if affordable == 0 {
        return Err(RolloutError::BudgetTooSmall {
            budget_bytes: rollout.kv_budget_bytes,
            needed_bytes: slot_bytes,
            column_tokens: slot_tokens,
        });
    }
    let wanted = rollout.max_slots.min(num_completions);
    Ok(wanted.max(1).min(affordable))
}

/// Estimates a rollout of `num_completions` completions of prompts up to `longest_prompt` tokens.
///
/// # Errors
/// As [`num_slots`].
pub fn estimate(
    config: &ModelConfig,
    rollout: &RolloutConfig,
    longest_prompt: usize,
    num_completions: usize,
    attention: AttentionPath,
) -> Result<MemoryEstimate, RolloutError> {
    let AttentionPath {
        precision,
        holds_scores,
    } = attention;
    let slot_tokens = slot_tokens(config, longest_prompt, rollout.max_new_tokens);
    let slot_bytes = KvCache::slot_bytes(config, slot_tokens, precision);
    let num_slots = num_slots(rollout, slot_tokens, slot_bytes, num_completions)?;
    let tokens = rollout.prefill_tokens.max(longest_prompt) as u64;
    let per_token = 4 * config.hidden_size + 3 * config.intermediate_size;
    let scores = match holds_scores {
        true => 3 * config.num_heads * longest_prompt,
        false => 0,
    };
    let workers = rollout.num_workers as u64;
    // A row of logits on the device, on the host, and the f64 weights of a sampling thread.
    let logits_row = config.vocab_size as u64 * 2 * F32;
    let sampling_threads = 8;
    Ok(MemoryEstimate {
        weights_bytes: num_weights(config) * F32,
        copy_bytes: match rollout.copy_weights {
            true => copied_weights(config, precision) * precision.value_bytes() as u64,
            false => 0,
        },
        kv_bytes: num_slots as u64 * slot_bytes,
        prefill_bytes: workers
            * (tokens * (per_token + scores) as u64 * F32
                + KvCache::slot_bytes(config, tokens as usize, precision)),
        logits_bytes: (num_slots as u64 + sampling_threads) * logits_row,
        num_slots,
        slot_tokens,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::decoder::Decoder;
    use crate::policy::decoder::tests::tiny_config;
    use burn::module::Module;
    use burn::tensor::Device;

    #[test]
    fn weights_are_counted_as_the_module_counts_them() {
        let mut config = tiny_config();
        let count =
            |config: &ModelConfig| Decoder::init(config, 0, &Device::default()).num_params() as u64;
        assert_eq!(num_weights(&config), count(&config));
        config.tie_word_embeddings = false;
        config.attention_bias = true;
        config.qk_norm = true;
        assert_eq!(num_weights(&config), count(&config));
    }

    #[test]
    fn slots_follow_the_budget() {
        let config = tiny_config();
        let slot_bytes = KvCache::slot_bytes(&config, 64, Precision::F32);
        let half = KvCache::slot_bytes(&config, 64, Precision::Bf16);
        assert_eq!(2 * half, slot_bytes);
        assert_eq!(slot_bytes, 2 * 2 * 2 * 8 * 64 * 4);
        let slots = |budget: u64, max_slots: usize, completions: usize| {
            let rollout = RolloutConfig {
                kv_budget_bytes: budget,
                max_slots,
                ..RolloutConfig::default()
            };
            num_slots(&rollout, 64, slot_bytes, completions)
        };
        assert_eq!(slots(7 * slot_bytes, 32, 100), Ok(7));
        assert_eq!(slots(7 * slot_bytes, 3, 100), Ok(3));
        assert_eq!(slots(7 * slot_bytes, 32, 1), Ok(1));
        assert!(matches!(
            slots(slot_bytes - 1, 32, 100),
            Err(RolloutError::BudgetTooSmall { needed_bytes, .. }) if needed_bytes == slot_bytes
        ));
    }

    #[test]
    fn an_estimate_names_every_part() {
        let config = tiny_config();
        let rollout = RolloutConfig {
            max_new_tokens: 30,
            ..RolloutConfig::default()
        };
        let of = |precision, holds_scores| {
            let attention = AttentionPath {
                precision,
                holds_scores,
            };
            estimate(&config, &rollout, 20, 1000, attention).unwrap()
        };
        let estimate = of(Precision::F32, false);
        assert_eq!(estimate.slot_tokens, 64);
        assert_eq!(estimate.num_slots, 64);
        assert_eq!(
            estimate.kv_bytes,
            64 * KvCache::slot_bytes(&config, 64, Precision::F32)
        );
        assert!(estimate.total_bytes() > estimate.kv_bytes + estimate.weights_bytes);
        let scores = 2048 * (3 * config.num_heads * 20) as u64 * F32;
        assert_eq!(
            of(Precision::F32, true).prefill_bytes,
            estimate.prefill_bytes + scores
        );
        let half = of(Precision::Bf16, false);
        assert_eq!(2 * half.kv_bytes, estimate.kv_bytes);
        assert_eq!(half.weights_bytes, estimate.weights_bytes);
        let head = (config.vocab_size * config.hidden_size) as u64;
        assert_eq!(2 * half.copy_bytes, estimate.copy_bytes + 4 * head);
    }
}
