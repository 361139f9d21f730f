//! What a rollout will need, computed before anything is allocated.

use rlvr_backends::kernels::{COLUMN_BUCKET, attention_bytes};
use rlvr_backends::{Precision, RowLayout};

use super::{RolloutConfig, RolloutError};
use crate::policy::cache::{CacheShape, kv_bytes};
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
    /// Where the device starts rows.
    pub layout: RowLayout,
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
    /// Logits of one decode step and the sampling buffers: on the host, until it is known better.
    pub logits_bytes: u64,
    /// Completions decoded at once.
    pub num_slots: usize,
    /// Tokens of the longest sequence that fits into the cache.
    pub sequence_tokens: usize,
    /// The cache of a single completion with its prompt.
    pub slot_bytes: u64,
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
    let matrices: usize = block_matrices(config).iter().map(|[a, b]| a * b).sum();
    let block = matrices + block_vectors(config);
    (config.num_layers * block + outside) as u64
}

/// The matrices of one block, `[in, out]`.
fn block_matrices(config: &ModelConfig) -> [[usize; 2]; 7] {
    let (width, inner) = (config.hidden_size, config.intermediate_size);
    let queries = config.num_heads * config.head_dim;
    let keys = config.num_kv_heads * config.head_dim;
    [
        [width, queries],
        [width, keys],
        [width, keys],
        [queries, width],
        [width, inner],
        [width, inner],
        [inner, width],
    ]
}

/// Number of weights of one block outside its matrices.
fn block_vectors(config: &ModelConfig) -> usize {
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
    biases + head_norms + 2 * config.hidden_size
}

/// Bytes of the weights of a decoder, and so of their gradients and of one moment. What was loaded
/// has the gaps of `layout`, and so have gradients; what an update leaves has none.
pub fn weights_bytes(config: &ModelConfig, layout: RowLayout) -> u64 {
    let row = |columns| layout.row_bytes(columns, size_of::<f32>());
    let matrices = block_matrices(config).map(|[rows, columns]| rows as u64 * row(columns));
    let block = matrices.iter().sum::<u64>() + block_vectors(config) as u64 * F32;
    let heads = if config.tie_word_embeddings { 1 } else { 2 };
    let outside = heads * config.vocab_size as u64 * row(config.hidden_size);
    config.num_layers as u64 * block + outside + config.hidden_size as u64 * F32
}

/// Bytes of the weights that are stored once more for decoding, transposed: the blocks, and the head
/// if it is rounded.
fn copy_bytes(config: &ModelConfig, precision: Precision, layout: RowLayout) -> u64 {
    let value_bytes = precision.value_bytes();
    let row = |columns| layout.row_bytes(columns, value_bytes);
    let matrices = block_matrices(config).map(|[columns, rows]| rows as u64 * row(columns));
    let block = matrices.iter().sum::<u64>() + (block_vectors(config) * value_bytes) as u64;
    let head = match precision {
        Precision::F32 | Precision::F32Split => 0,
        Precision::Bf16 => config.vocab_size as u64 * row(config.hidden_size),
    };
    config.num_layers as u64 * block + head
}

/// What keys and values of `bytes` take row by row, as prompts leave them; those of a cache have no
/// gaps.
pub fn kv_with_gaps(
    bytes: u64,
    config: &ModelConfig,
    precision: Precision,
    layout: RowLayout,
) -> u64 {
    let columns = config.num_kv_heads * config.head_dim;
    layout.with_gaps(bytes, columns, precision.value_bytes())
}

/// What a rollout asks of its cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Tokens of the longest prompt.
    pub longest_prompt: usize,
    /// Prompts.
    pub num_prompts: usize,
    /// Completions of the prompt that has the fewest.
    pub least_group: usize,
    /// Completions in all.
    pub num_completions: usize,
    /// Tokens of a completion.
    pub max_new_tokens: usize,
}

/// Prompts that a worker stores for each whole group that its slots hold. The completions that run
/// at one time are of more prompts than their number says, because the last of a group are still
/// running when later groups have begun: of up to three times as many where lengths are spread as
/// an exponential distribution is. A prompt without a place would wait, and slots with it.
const PROMPTS_PER_GROUP: usize = 4;

impl Demand {
    /// Of one prompt length, and equally many completions of every prompt.
    pub fn of_groups(
        longest_prompt: usize,
        [num_prompts, group]: [usize; 2],
        max_new_tokens: usize,
    ) -> Self {
        Self {
            longest_prompt,
            num_prompts,
            least_group: group,
            num_completions: num_prompts * group,
            max_new_tokens,
        }
    }

    /// Caches of `num_slots` slots in all, shared out to workers.
    fn shapes(&self, config: &ModelConfig, num_slots: usize, workers: usize) -> Vec<CacheShape> {
        let context = config.max_position_embeddings;
        let columns = |tokens: usize| tokens.min(context).next_multiple_of(COLUMN_BUCKET);
        let workers = workers.min(num_slots).max(1);
        let slots = |worker| num_slots / workers + usize::from(worker < num_slots % workers);
        let shape = |slots: usize| {
            let groups = slots.div_ceil(self.least_group.max(1));
            let prompts = slots.min(PROMPTS_PER_GROUP * groups);
            CacheShape {
                slots,
                columns: columns(self.max_new_tokens),
                prompt_slots: prompts.min(self.num_prompts).max(1),
                prompt_columns: columns(self.longest_prompt),
            }
        };
        (0..workers).map(|worker| shape(slots(worker))).collect()
    }

    /// A cache for each worker, as large as the budget, the configured bound and the work allow.
    ///
    /// # Errors
    /// If the budget holds no completion.
    pub fn caches(
        &self,
        config: &ModelConfig,
        rollout: &RolloutConfig,
        precision: Precision,
    ) -> Result<Vec<CacheShape>, RolloutError> {
        let shapes = |slots| self.shapes(config, slots, rollout.num_workers);
        let bytes = |slots| total_bytes(&shapes(slots), config, precision);
        let most = rollout.max_slots.min(self.num_completions).max(1);
        let fits = |slots| bytes(slots) <= rollout.kv_budget_bytes;
        if !fits(1) {
            return Err(RolloutError::BudgetTooSmall {
                budget_bytes: rollout.kv_budget_bytes,
                needed_bytes: bytes(1),
                column_tokens: shapes(1).iter().map(CacheShape::sequence_tokens).sum(),
            });
        }
        Ok(shapes(largest(1, most, fits)))
    }
}

/// The largest number from `least` to `most` that fits, where smaller ones fit better; `least` if
/// none does.
pub(crate) fn largest(least: usize, most: usize, fits: impl Fn(usize) -> bool) -> usize {
    if fits(most) {
        return most;
    }
    let (mut low, mut high) = (least, most);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        match fits(middle) {
            true => low = middle,
            false => high = middle,
        }
    }
    low
}

/// Bytes of some caches.
pub fn total_bytes(shapes: &[CacheShape], config: &ModelConfig, precision: Precision) -> u64 {
    let bytes = shapes.iter().map(|shape| shape.bytes(config, precision));
    bytes.sum()
}

/// Estimates a rollout.
///
/// # Errors
/// As [`Demand::caches`].
pub fn estimate(
    config: &ModelConfig,
    rollout: &RolloutConfig,
    demand: &Demand,
    attention: AttentionPath,
) -> Result<MemoryEstimate, RolloutError> {
    let AttentionPath {
        precision,
        holds_scores,
        layout,
    } = attention;
    let longest_prompt = demand.longest_prompt;
    let caches = demand.caches(config, rollout, precision)?;
    let num_slots = caches.iter().map(|cache| cache.slots).sum();
    let tokens = rollout.prefill_tokens.max(longest_prompt) as u64;
    let row = |width| layout.row_bytes(width, size_of::<f32>());
    let per_token = 4 * row(config.hidden_size) + 3 * row(config.intermediate_size);
    let scores = match holds_scores {
        true => {
            let bytes = attention_bytes(tokens as usize, longest_prompt, config.heads());
            layout.with_gaps(bytes, longest_prompt, size_of::<f32>())
        }
        false => 0,
    };
    let kv = kv_bytes(config, tokens as usize, precision);
    let workers = rollout.num_workers as u64;
    // A row of logits on the device, on the host, and the f64 weights of a sampling thread.
    let logits_row = row(config.vocab_size) + config.vocab_size as u64 * F32;
    let sampling_threads = 8;
    Ok(MemoryEstimate {
        weights_bytes: weights_bytes(config, layout),
        copy_bytes: match rollout.copy_weights {
            true => copy_bytes(config, precision, layout),
            false => 0,
        },
        kv_bytes: total_bytes(&caches, config, precision),
        prefill_bytes: workers
            * (tokens * per_token + scores + kv_with_gaps(kv, config, precision, layout)),
        logits_bytes: (num_slots as u64 + sampling_threads) * logits_row,
        num_slots,
        sequence_tokens: caches[0].sequence_tokens(),
        slot_bytes: total_bytes(&demand.shapes(config, 1, 1), config, precision),
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

    fn rollout(kv_budget_bytes: u64, max_slots: usize, num_workers: usize) -> RolloutConfig {
        RolloutConfig {
            kv_budget_bytes,
            max_slots,
            num_workers,
            ..RolloutConfig::default()
        }
    }

    #[test]
    fn slots_follow_the_budget() {
        let config = tiny_config();
        let slot_bytes = kv_bytes(&config, 64, Precision::F32);
        assert_eq!(2 * kv_bytes(&config, 64, Precision::Bf16), slot_bytes);
        assert_eq!(slot_bytes, 2 * 2 * 2 * 8 * 64 * 4);
        let slots = |budget: u64, max_slots: usize, completions: usize| {
            let demand = Demand::of_groups(20, [completions, 1], 30);
            let caches = demand.caches(&config, &rollout(budget, max_slots, 1), Precision::F32);
            caches.map(|caches| caches[0].slots)
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
    fn a_prompt_is_stored_once_for_its_completions() {
        let config = tiny_config();
        let caches = |groups: [usize; 2], max_slots: usize, workers: usize| {
            let demand = Demand::of_groups(33, groups, 30);
            let rollout = rollout(1 << 30, max_slots, workers);
            demand.caches(&config, &rollout, Precision::F32).unwrap()
        };
        // All at once: a slot per prompt.
        let shape = CacheShape {
            slots: 64,
            columns: 32,
            prompt_slots: 8,
            prompt_columns: 64,
        };
        assert_eq!(caches([8, 8], 64, 1), [shape]);
        let tokens = 64 * 32 + 8 * 64;
        let bytes = kv_bytes(&config, tokens, Precision::F32);
        assert_eq!(shape.bytes(&config, Precision::F32), bytes);
        // In turn: four times as many as whole groups fit.
        let prompt_slots = |groups, max_slots, workers| {
            let caches = caches(groups, max_slots, workers);
            caches.iter().map(|it| it.prompt_slots).collect::<Vec<_>>()
        };
        assert_eq!(prompt_slots([100, 8], 64, 1), [32]);
        assert_eq!(prompt_slots([100, 8], 65, 2), [20, 16]);
        // One completion each: a prompt for every slot.
        assert_eq!(prompt_slots([100, 1], 64, 1), [64]);
    }

    #[test]
    fn an_estimate_names_every_part() {
        let config = tiny_config();
        let rollout = RolloutConfig::default();
        let demand = Demand::of_groups(20, [1000, 1], 30);
        let of = |precision, holds_scores| {
            let attention = AttentionPath {
                precision,
                holds_scores,
                layout: RowLayout::DENSE,
            };
            estimate(&config, &rollout, &demand, attention).unwrap()
        };
        let estimate = of(Precision::F32, false);
        assert_eq!(estimate.num_slots, 64);
        let bytes = 64 * kv_bytes(&config, 64, Precision::F32);
        assert_eq!(estimate.kv_bytes, bytes);
        assert!(estimate.total_bytes() > estimate.kv_bytes + estimate.weights_bytes);
        let scores = 5 * 2048 * (config.num_heads * 20) as u64 * F32;
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
