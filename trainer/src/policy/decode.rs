//! One decode step: a token per row against the key-value cache.
//!
//! A step multiplies a few rows with every weight, so reading the weights is its price. Stored
//! `[out, in]` a weight is read once, front to back; the layout of training, `[in, out]`, is walked
//! down columns a page apart. Hence [`DecodeWeights`]: the block weights once more, transposed,
//! made at the start of a rollout and dropped at its end. Without the copy the same code reads the
//! trained weights through a transposed view, with the same bits.
//!
//! In half precision the copy holds the weights rounded, in half the bytes, and the head with them:
//! a product would round a weight at every step otherwise, which is what happens without the copy.
//!
//! The prompt's keys and values are copied into every slot of its group, not shared: attention
//! over a shared prompt reads less, but for SmolLM2-135M (46 kB per token, 32 slots, 150 prompt
//! tokens) that is 0.2 GB of a step's 0.8 GB and less than a tenth of its time, for 0.2 GB of
//! memory, and the copy itself takes a millisecond per completion. A tiny model has 4 kB per token
//! and notices nothing. In return a slot is all there is to a sequence.

use burn::nn::{Linear, RmsNorm};
use burn::tensor::{Int, Tensor, TensorData};
use rlvr_backends::Precision;
use rlvr_backends::kernels::{Projection, Rotation, project, rotate, swiglu};

use super::cache::{KvCache, LayerCache, StepIndex};
use super::config::ModelConfig;
use super::decoder::{Block, Decoder};
use super::packed::{head_norm, norm};
use super::rope::RopeTable;

/// The weights of a decoder, laid out for decoding.
#[derive(Debug)]
pub struct DecodeWeights {
    config: ModelConfig,
    precision: Precision,
    embedding: Tensor<2>,
    head: Projection,
    norm: RmsNorm,
    blocks: Vec<DecodeBlock>,
}

#[derive(Debug)]
struct DecodeBlock {
    input_norm: RmsNorm,
    /// Queries, keys and values.
    attention: [Projection; 3],
    query_norm: Option<RmsNorm>,
    key_norm: Option<RmsNorm>,
    output: Projection,
    inner_norm: RmsNorm,
    /// Gate and up.
    inner: [Projection; 2],
    down: Projection,
}

impl DecodeWeights {
    /// Lays the weights out for products in `precision`. `is_copy` decides between transposed
    /// copies and transposed views of the block weights; the embedding is never copied, the head only
    /// if it is rounded.
    pub fn new(decoder: &Decoder, is_copy: bool, precision: Precision) -> Self {
        let layout = Layout { is_copy, precision };
        Self {
            config: decoder.config().clone(),
            precision,
            embedding: decoder.embed_tokens.weight.val(),
            head: Projection {
                weight: layout.stored(decoder.head_weight()),
                bias: None,
            },
            norm: decoder.norm.clone(),
            blocks: decoder
                .layers
                .iter()
                .map(|block| DecodeBlock::new(block, layout))
                .collect(),
        }
    }

    /// Logits of one token per row, row `r` in slot `r` of the cache at `positions[r]`. The cache
    /// is written.
    ///
    /// # Shapes
    /// - `tokens`, `positions`: `[R]`
    /// - output: `[R, V]`
    ///
    /// # Panics
    /// If there is not one position per token.
    pub fn step(
        &self,
        tokens: Tensor<1, Int>,
        positions: &[usize],
        rope: &RopeTable,
        cache: &mut KvCache,
    ) -> Tensor<2> {
        let [rows] = tokens.dims();
        assert_eq!(positions.len(), rows, "step: one position per token [R]");
        let step = cache.step_index(positions);
        let rotation = rope.rows(positions, &self.embedding.device());
        let mut x = self.embedding.clone().select(0, tokens);
        for (block, cache) in self.blocks.iter().zip(&mut cache.layers) {
            x = block.step(x, &rotation, cache, &step, self);
        }
        self.logits(norm(&self.norm, x))
    }

    /// Tokens of the host, for [`DecodeWeights::step`].
    pub fn upload(&self, tokens: &[u32]) -> Tensor<1, Int> {
        let tokens: Vec<i64> = tokens.iter().map(|token| i64::from(*token)).collect();
        let rows = tokens.len();
        Tensor::from_data(TensorData::new(tokens, [rows]), &self.embedding.device())
    }

    /// Logits of final hidden states.
    ///
    /// # Shapes
    /// - `hidden`: `[R, D]`
    /// - output: `[R, V]`
    pub fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        apply(&self.head, hidden, self.precision)
    }
}

impl DecodeBlock {
    fn new(block: &Block, layout: Layout) -> Self {
        let projection = |linear: &Linear| layout.of(linear);
        let (attention, mlp) = (&block.self_attn, &block.mlp);
        Self {
            input_norm: block.input_layernorm.clone(),
            attention: [&attention.q_proj, &attention.k_proj, &attention.v_proj].map(projection),
            query_norm: attention.q_norm.clone(),
            key_norm: attention.k_norm.clone(),
            output: projection(&attention.o_proj),
            inner_norm: block.post_attention_layernorm.clone(),
            inner: [&mlp.gate_proj, &mlp.up_proj].map(projection),
            down: projection(&mlp.down_proj),
        }
    }

    /// `[R, D]` to `[R, D]`.
    fn step(
        &self,
        x: Tensor<2>,
        rotation: &Rotation,
        cache: &mut LayerCache,
        step: &StepIndex,
        weights: &DecodeWeights,
    ) -> Tensor<2> {
        let normed = norm(&self.input_norm, x.clone());
        let x = x + self.attend(normed, rotation, cache, step, weights);
        let normed = norm(&self.inner_norm, x.clone());
        let [gate, up] = project(normed, self.inner.each_ref(), weights.precision);
        x + apply(&self.down, swiglu(gate, up), weights.precision)
    }

    fn attend(
        &self,
        x: Tensor<2>,
        rotation: &Rotation,
        cache: &mut LayerCache,
        step: &StepIndex,
        weights: &DecodeWeights,
    ) -> Tensor<2> {
        let (config, precision) = (&weights.config, weights.precision);
        let [queries, keys, values] = project(x, self.attention.each_ref(), precision);
        let queries = head_norm(&self.query_norm, queries, config.head_dim);
        let keys = head_norm(&self.key_norm, keys, config.head_dim);
        cache.write(step, rotate(keys, rotation), values);
        let attended = cache.attend(step, rotate(queries, rotation), config.heads());
        apply(&self.output, attended, precision)
    }
}

fn apply(projection: &Projection, x: Tensor<2>, precision: Precision) -> Tensor<2> {
    let [output] = project(x, [projection], precision);
    output
}

/// How weights are laid out.
#[derive(Clone, Copy)]
struct Layout {
    is_copy: bool,
    precision: Precision,
}

impl Layout {
    fn of(self, linear: &Linear) -> Projection {
        let weight = self.stored(linear.weight.val());
        Projection {
            weight: match self.is_copy {
                true => transposed(weight),
                false => weight.transpose(),
            },
            bias: linear.bias.as_ref().map(|bias| bias.val()),
        }
    }

    /// Rounded, if a copy is wanted at all.
    fn stored(self, weight: Tensor<2>) -> Tensor<2> {
        match self.is_copy {
            true => self.precision.operand(weight),
            false => weight,
        }
    }
}

/// A transposed copy. Reshaping a transposed view is what makes it one.
fn transposed(x: Tensor<2>) -> Tensor<2> {
    let [rows, columns] = x.dims();
    x.transpose()
        .reshape([rows * columns])
        .reshape([columns, rows])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::config::{Architecture, RopeScaling};
    use crate::policy::decoder::tests::tiny_config;
    use burn::tensor::Device;

    fn configs() -> Vec<ModelConfig> {
        let llama = tiny_config();
        let qwen2 = ModelConfig {
            architecture: Architecture::Qwen2,
            attention_bias: true,
            tie_word_embeddings: false,
            ..llama.clone()
        };
        let qwen3 = ModelConfig {
            architecture: Architecture::Qwen3,
            qk_norm: true,
            num_kv_heads: 4,
            rope_scaling: RopeScaling::Linear { factor: 2.0 },
            ..llama.clone()
        };
        vec![llama, qwen2, qwen3]
    }

    fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().try_to_vec::<f32>().unwrap()
    }

    fn assert_close(got: &[f32], expected: &[f32]) {
        assert_eq!(got.len(), expected.len());
        for (a, b) in got.iter().zip(expected) {
            assert!((a - b).abs() < 2e-5, "{a} and {b}");
        }
    }

    /// Logits of the full forward, `[N * T, V]`.
    fn full(decoder: &Decoder, tokens: &[Vec<u32>]) -> Vec<Vec<f32>> {
        let device = Device::default();
        let (rows, columns) = (tokens.len(), tokens[0].len());
        let flat: Vec<i64> = tokens.iter().flatten().map(|t| i64::from(*t)).collect();
        let input = Tensor::from_data(TensorData::new(flat, [rows, columns]), &device);
        let hidden = decoder.hidden(input).reshape([rows * columns, 32]);
        let logits = values(hidden.matmul(decoder.head_weight().transpose()));
        logits.chunks(48).map(<[f32]>::to_vec).collect()
    }

    #[test]
    fn decoding_equals_the_full_forward() {
        let device = Device::default();
        for (config, is_copy) in configs()
            .into_iter()
            .flat_map(|c| [(c.clone(), true), (c, false)])
        {
            let decoder = Decoder::init(&config, 1, &device);
            let weights = DecodeWeights::new(&decoder, is_copy, Precision::F32);
            let tokens: Vec<Vec<u32>> = (0..2u32)
                .map(|row| (0..90).map(|t| (t * 7 + row * 5) % 48).collect())
                .collect();
            let expected = full(&decoder, &tokens);
            let mut cache = KvCache::new(&config, 2, 90, Precision::F32, &device);
            let rope = RopeTable::new(&config, 90);
            let lengths = [5, 3];
            let prompts = [&tokens[0][..5], &tokens[1][..3]];
            let prefill = decoder.prefill(&prompts, Precision::F32);
            let logits = values(weights.logits(prefill.last_hidden.clone()));
            for (slot, length) in lengths.into_iter().enumerate() {
                cache.write_prompt(slot, &prefill.layers, &prefill.rows[slot]);
                assert_close(
                    &logits[slot * 48..][..48],
                    &expected[slot * 90 + length - 1],
                );
            }
            for step in 0..85 {
                let positions = [5 + step, 3 + step];
                let inputs = [tokens[0][positions[0]], tokens[1][positions[1]]];
                let logits =
                    values(weights.step(weights.upload(&inputs), &positions, &rope, &mut cache));
                for (row, position) in positions.into_iter().enumerate() {
                    assert_close(&logits[row * 48..][..48], &expected[row * 90 + position]);
                }
            }
        }
    }
}
