//! The least work of a stage, and the least time it takes: Williams, Waterman and Patterson,
//! "Roofline: an insightful visual performance model" (2009), doi:10.1145/1498765.1498785.
//!
//! Counted is what the mathematics needs, whatever the code does: every weight that multiplies is
//! 2 FLOPs per row forwards and 4 backwards, a prompt runs once for its group, causal attention
//! reads half of a square, and what one pass makes for the next costs no memory traffic.

use rlvr_backends::Precision;

use super::Load;
use super::peaks::Peaks;
use crate::policy::cache::kv_bytes;
use crate::policy::config::ModelConfig;
use crate::rollout::memory::num_weights;

/// Operations, and bytes between memory and processor.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// Multiplications and additions.
    pub flops: f64,
    /// Read and written.
    pub bytes: f64,
}

impl Work {
    /// Seconds at the measured peaks, if the two overlap perfectly.
    pub fn secs_at(self, peaks: &Peaks) -> f64 {
        (self.flops / peaks.flops_per_sec).max(self.bytes / peaks.bytes_per_sec)
    }
}

/// What is counted once per model.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    /// Weights of the blocks.
    trunk: f64,
    /// Weights of the output head.
    head: f64,
    /// FLOPs of attention per pair of query and key, all blocks.
    pair: f64,
    /// Bytes of one weight as it is multiplied.
    weight_bytes: f64,
    /// Bytes of the keys and values of a token.
    token_bytes: f64,
    /// Weights in all.
    weights: f64,
}

impl Counts {
    /// Of a model whose products are in `precision`.
    pub fn new(model: &ModelConfig, precision: Precision) -> Self {
        let head = model.vocab_size * model.hidden_size;
        let embeddings = if model.tie_word_embeddings { 1 } else { 2 } * head;
        let weights = num_weights(model);
        Self {
            trunk: (weights - embeddings as u64) as f64,
            head: head as f64,
            pair: (4 * model.num_layers * model.num_heads * model.head_dim) as f64,
            weight_bytes: precision.value_bytes() as f64,
            token_bytes: kv_bytes(model, 1, precision) as f64,
            weights: weights as f64,
        }
    }

    /// Every prompt once, up to the logits of what follows it.
    pub fn prefill(&self, load: &Load) -> Work {
        let (prompts, tokens) = (load.num_prompts as f64, load.prompt_tokens as f64);
        let pairs = prompts * tokens * (tokens + 1.0) / 2.0;
        Work {
            flops: 2.0 * (self.trunk * prompts * tokens + self.head * prompts) + self.pair * pairs,
            bytes: (self.trunk + self.head) * self.weight_bytes
                + prompts * tokens * self.token_bytes,
        }
    }

    /// The decode step that makes token `index` (from 1) of every completion: all weights, every
    /// completion's keys and values, and those of each prompt once are read.
    pub fn decode_step(&self, load: &Load, index: usize) -> Work {
        let rows = (load.num_prompts * load.group) as f64;
        let context = (load.prompt_tokens + index) as f64;
        let stored = (load.num_prompts * load.prompt_tokens) as f64 + rows * index as f64;
        Work {
            flops: rows * (2.0 * (self.trunk + self.head) + self.pair * context),
            bytes: (self.trunk + self.head) * self.weight_bytes + stored * self.token_bytes,
        }
    }

    /// Forwards and backwards over prompts and completions; the last token of a completion is
    /// scored, not read. Activations are taken to stay in caches.
    pub fn update(&self, load: &Load) -> Work {
        let (prompts, tokens) = (load.num_prompts as f64, load.prompt_tokens as f64);
        let (group, new) = (load.group as f64, load.new_tokens as f64);
        let rows = prompts * (tokens + group * (new - 1.0));
        let scored = prompts * group * new;
        let own = (new - 1.0) * new / 2.0;
        let pairs = tokens * (tokens + 1.0) / 2.0 + group * ((new - 1.0) * tokens + own);
        Work {
            flops: 6.0 * (self.trunk * rows + self.head * scored)
                + 3.0 * self.pair * prompts * pairs,
            bytes: self.weights * (2.0 * self.weight_bytes + F32),
        }
    }

    /// AdamW in f32: weight and moments read and written, gradient read.
    pub fn optimizer(&self) -> Work {
        Work {
            flops: 0.0,
            bytes: 7.0 * F32 * self.weights,
        }
    }
}

/// Bytes of an f32.
const F32: f64 = size_of::<f32>() as f64;

#[cfg(test)]
mod tests {
    use super::super::shapes::smollm2;
    use super::*;

    const LOAD: Load = Load {
        num_prompts: 2,
        group: 3,
        prompt_tokens: 5,
        new_tokens: 4,
    };

    /// Every row of every product, and every pair of query and key, one by one.
    #[test]
    fn flops_are_those_of_rows_and_pairs_counted_one_by_one() {
        let model = smollm2();
        let counts = Counts::new(&model, Precision::F32);
        let trunk = 106_203_456.0;
        let head = 28_311_552.0;
        assert_eq!(counts.trunk + counts.head, 134_515_008.0);
        assert_eq!(counts.head, head);
        let per_pair = 2.0 * 2.0 * 30.0 * 9.0 * 64.0;
        let mut prefill = 0.0;
        let (mut rows, mut pairs) = (0.0, 0.0);
        for _ in 0..LOAD.num_prompts {
            for position in 0..LOAD.prompt_tokens {
                prefill += 2.0 * trunk + per_pair * (position + 1) as f64;
                (rows, pairs) = (rows + 1.0, pairs + (position + 1) as f64);
            }
            prefill += 2.0 * head;
            for position in (0..LOAD.group).flat_map(|_| 0..LOAD.new_tokens - 1) {
                let context = LOAD.prompt_tokens + position + 1;
                (rows, pairs) = (rows + 1.0, pairs + context as f64);
            }
        }
        assert_eq!(counts.prefill(&LOAD).flops, prefill);
        let scored = (LOAD.num_prompts * LOAD.group * LOAD.new_tokens) as f64;
        let update = 6.0 * trunk * rows + 6.0 * head * scored + 3.0 * per_pair * pairs;
        assert_eq!(counts.update(&LOAD).flops, update);
        let step = 6.0 * (2.0 * trunk + 2.0 * head + per_pair * 7.0);
        assert_eq!(counts.decode_step(&LOAD, 2).flops, step);
    }

    #[test]
    fn bytes_follow_the_precision_and_the_larger_edge_counts() {
        let model = smollm2();
        let [full, half] = [Precision::F32, Precision::Bf16]
            .map(|precision| Counts::new(&model, precision).decode_step(&LOAD, 1).bytes);
        assert_eq!(full, 2.0 * half);
        // Two prompts of five tokens, and one more token in each of six completions.
        assert_eq!(half, 2.0 * 134_515_008.0 + (2.0 * 5.0 + 6.0) * 23_040.0);
        let peaks = Peaks {
            flops_per_sec: 10.0,
            matmul_size: 1,
            bytes_per_sec: 2.0,
        };
        let work = |flops, bytes| Work { flops, bytes }.secs_at(&peaks);
        assert_eq!([work(100.0, 2.0), work(10.0, 8.0)], [10.0, 4.0]);
    }
}
