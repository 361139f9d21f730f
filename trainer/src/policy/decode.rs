//! One decode step: a token per row against the key-value cache, activations laid out `[D, R]`.
//!
//! A step multiplies a few rows with every weight, so reading the weights is its price. With rows
//! as the last axis, `[out, in] x [in, R]` reads each weight once, front to back; `[R, in] x [in,
//! out]` walks down columns a page apart and takes 1.5 to 1.9 times as long on a CPU (two cores,
//! SmolLM2-135M, 32 rows). Hence [`DecodeWeights`]: the block weights once more, transposed, made
//! at the start of a rollout and dropped at its end. Without the copy the same code reads the
//! trained weights through a transposed view.
//!
//! The prompt's keys and values are copied into every slot of its group, not shared: attention
//! over a shared prompt reads less, but for SmolLM2-135M (46 kB per token, 32 slots, 150 prompt
//! tokens) that is 0.2 GB of a step's 0.8 GB and less than a tenth of its time, for 0.2 GB of
//! memory, and the copy itself takes a millisecond per completion. A tiny model has 4 kB per token
//! and notices nothing. In return a slot is all there is to a sequence.

use burn::nn::{Linear, RmsNorm};
use burn::tensor::activation::silu;
use burn::tensor::{DType, Int, Tensor, TensorData};

use super::cache::{KvCache, LayerCache, StepIndex};
use super::config::ModelConfig;
use super::decoder::{Block, Decoder};
use super::rope::{RopeColumns, RopeTable};

/// The weights of a decoder, laid out for decoding.
#[derive(Debug)]
pub struct DecodeWeights {
    config: ModelConfig,
    embedding: Tensor<2>,
    head: Tensor<2>,
    norm: Norm,
    blocks: Vec<DecodeBlock>,
}

#[derive(Debug)]
struct DecodeBlock {
    input_norm: Norm,
    /// Queries, keys and values.
    attention: Projections<3>,
    query_norm: Option<Norm>,
    key_norm: Option<Norm>,
    output: Projection,
    inner_norm: Norm,
    /// Gate and up.
    inner: Projections<2>,
    down: Projection,
}

/// Projections of one input. Copied weights are one matrix, one part above the other: a product
/// with few columns is worth two threads only if it has enough rows.
#[derive(Debug)]
enum Projections<const N: usize> {
    Joined {
        all: Box<Projection>,
        rows: [usize; N],
    },
    Apart([Projection; N]),
}

/// `weight`: `[out, in]`, `bias`: `[out, 1]`.
#[derive(Debug)]
struct Projection {
    weight: Tensor<2>,
    bias: Option<Tensor<2>>,
}

/// `gamma`: `[D]`.
#[derive(Debug)]
struct Norm {
    gamma: Tensor<1>,
    eps: f64,
}

impl DecodeWeights {
    /// Lays the weights out. `is_copy` decides between transposed copies and transposed views of
    /// the block weights; embedding and head are never copied.
    pub fn new(decoder: &Decoder, is_copy: bool) -> Self {
        Self {
            config: decoder.config().clone(),
            embedding: decoder.embed_tokens.weight.val(),
            head: decoder.head_weight(),
            norm: Norm::new(&decoder.norm),
            blocks: decoder
                .layers
                .iter()
                .map(|block| DecodeBlock::new(block, is_copy))
                .collect(),
        }
    }

    /// Logits of one token per row, row `r` in slot `r` of the cache at `positions[r]`. The cache
    /// is written. At least two rows, so that none takes the kernel of a single one.
    ///
    /// # Shapes
    /// - `tokens`, `positions`: `[R]`
    /// - output: `[R, V]`
    ///
    /// # Panics
    /// If there are less than two rows, or not one position per token.
    pub fn step(
        &self,
        tokens: &[u32],
        positions: &[usize],
        rope: &RopeTable,
        cache: &mut KvCache,
    ) -> Tensor<2> {
        let rows = tokens.len();
        assert!(rows >= 2, "step: at least two rows, given {rows}");
        assert_eq!(positions.len(), rows, "step: one position per token [R]");
        let device = self.embedding.device();
        let step = cache.step_index(positions);
        let rope = rope.columns(positions, &device);
        let tokens: Vec<i64> = tokens.iter().map(|token| i64::from(*token)).collect();
        let tokens = Tensor::<1, Int>::from_data(TensorData::new(tokens, [rows]), &device);
        let mut x = transposed(self.embedding.clone().select(0, tokens));
        for (block, cache) in self.blocks.iter().zip(&mut cache.layers) {
            x = block.step(x, &rope, cache, &step, &self.config);
        }
        self.project(self.norm.forward(x))
    }

    /// Logits of final hidden states, in the order of summation of [`DecodeWeights::step`].
    ///
    /// # Shapes
    /// - `hidden`: `[R, D]`
    /// - output: `[R, V]`
    pub fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        self.project(transposed(hidden))
    }

    /// `[D, R]` to `[R, V]`. A single row would take another kernel, so it goes as a pair.
    fn project(&self, x: Tensor<2>) -> Tensor<2> {
        if x.dims()[1] > 1 {
            return self.head.clone().matmul(x).transpose();
        }
        let pair = Tensor::cat(vec![x.clone(), x], 1);
        self.head.clone().matmul(pair).narrow(1, 0, 1).transpose()
    }
}

impl DecodeBlock {
    fn new(block: &Block, is_copy: bool) -> Self {
        let projection = |linear: &Linear| Projection::new(linear, is_copy);
        let attention = &block.self_attn;
        Self {
            input_norm: Norm::new(&block.input_layernorm),
            attention: Projections::new(
                [&attention.q_proj, &attention.k_proj, &attention.v_proj],
                is_copy,
            ),
            query_norm: attention.q_norm.as_ref().map(Norm::new),
            key_norm: attention.k_norm.as_ref().map(Norm::new),
            output: projection(&attention.o_proj),
            inner_norm: Norm::new(&block.post_attention_layernorm),
            inner: Projections::new([&block.mlp.gate_proj, &block.mlp.up_proj], is_copy),
            down: projection(&block.mlp.down_proj),
        }
    }

    /// `[D, R]` to `[D, R]`.
    fn step(
        &self,
        x: Tensor<2>,
        rope: &RopeColumns,
        cache: &mut LayerCache,
        step: &StepIndex,
        config: &ModelConfig,
    ) -> Tensor<2> {
        let normed = self.input_norm.forward(x.clone());
        let x = x + self.attend(normed, rope, cache, step, config);
        let normed = self.inner_norm.forward(x.clone());
        let [gate, up] = self.inner.forward(normed);
        x + self.down.forward(silu(gate) * up)
    }

    fn attend(
        &self,
        x: Tensor<2>,
        rope: &RopeColumns,
        cache: &mut LayerCache,
        step: &StepIndex,
        config: &ModelConfig,
    ) -> Tensor<2> {
        let [_, rows] = x.dims();
        let (heads, kv_heads, width) = (config.num_heads, config.num_kv_heads, config.head_dim);
        let split = |flat: Tensor<2>, heads| flat.reshape([heads, width, rows]);
        let [queries, keys, values] = self.attention.forward(x);
        let mut queries = split(queries, heads);
        let mut keys = split(keys, kv_heads);
        let values = split(values, kv_heads);
        if let Some(norm) = &self.query_norm {
            queries = norm.forward_heads(queries);
        }
        if let Some(norm) = &self.key_norm {
            keys = norm.forward_heads(keys);
        }
        cache.write(step, rope.rotate(keys), values);
        let queries = rope.rotate(queries).reshape([heads * width, rows]);
        let attended = cache.attend(step, queries, config.heads());
        self.output.forward(attended)
    }
}

impl<const N: usize> Projections<N> {
    fn new(linears: [&Linear; N], is_copy: bool) -> Self {
        if !is_copy {
            return Self::Apart(linears.map(|linear| Projection::new(linear, false)));
        }
        let weights = linears.map(|linear| linear.weight.val());
        let rows = weights.each_ref().map(|weight| weight.dims()[1]);
        let biases = linears.map(|linear| linear.bias.as_ref().map(|bias| bias.val()));
        let biases: Option<Vec<Tensor<1>>> = biases.into_iter().collect();
        let all = Projection {
            weight: transposed(Tensor::cat(weights.to_vec(), 1)),
            bias: biases.map(|biases| Tensor::cat(biases, 0).unsqueeze_dim(1)),
        };
        let all = Box::new(all);
        Self::Joined { all, rows }
    }

    /// `[in, R]` to `[out, R]` of each part.
    fn forward(&self, x: Tensor<2>) -> [Tensor<2>; N] {
        match self {
            Self::Apart(parts) => parts.each_ref().map(|part| part.forward(x.clone())),
            Self::Joined { all, rows } => {
                let joined = all.forward(x);
                let mut start = 0;
                rows.map(|rows| {
                    start += rows;
                    joined.clone().narrow(0, start - rows, rows)
                })
            }
        }
    }
}

impl Projection {
    fn new(linear: &Linear, is_copy: bool) -> Self {
        let weight = linear.weight.val();
        Self {
            weight: match is_copy {
                true => transposed(weight),
                false => weight.transpose(),
            },
            bias: linear.bias.as_ref().map(|b| b.val().unsqueeze_dim(1)),
        }
    }

    /// `[in, R]` to `[out, R]`.
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let product = self.weight.clone().matmul(x);
        match &self.bias {
            Some(bias) => product + bias.clone(),
            None => product,
        }
    }
}

impl Norm {
    fn new(norm: &RmsNorm) -> Self {
        Self {
            gamma: norm.gamma.val(),
            eps: norm.epsilon,
        }
    }

    /// `[D, R]`.
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let gamma = self.gamma.clone().unsqueeze_dim(1);
        rms_norm(x, 0, gamma, self.eps)
    }

    /// `[heads, K, R]`.
    fn forward_heads(&self, x: Tensor<3>) -> Tensor<3> {
        let [width] = self.gamma.dims();
        let gamma = self.gamma.clone().reshape([1, width, 1]);
        rms_norm(x, 1, gamma, self.eps)
    }
}

/// Zhang and Sennrich, "Root Mean Square Layer Normalization" (2019), arXiv:1910.07467, along
/// `dim`, computed in f32.
fn rms_norm<const D: usize>(x: Tensor<D>, dim: usize, gamma: Tensor<D>, eps: f64) -> Tensor<D> {
    let dtype = x.dtype();
    let square = x.clone().cast(DType::F32).square();
    let rms = (square.mean_dim(dim) + eps).sqrt();
    (x / rms.cast(dtype)) * gamma
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
            let weights = DecodeWeights::new(&decoder, is_copy);
            let tokens: Vec<Vec<u32>> = (0..2u32)
                .map(|row| (0..90).map(|t| (t * 7 + row * 5) % 48).collect())
                .collect();
            let expected = full(&decoder, &tokens);
            let mut cache = KvCache::new(&config, 2, 90, &device);
            let rope = RopeTable::new(&config, 90);
            let prompt: Vec<i64> = tokens
                .iter()
                .flat_map(|r| r[..5].to_vec())
                .map(i64::from)
                .collect();
            let prompt = Tensor::from_data(TensorData::new(prompt, [2, 5]), &device);
            let lengths = [5, 3];
            let prefill = decoder.prefill(prompt, &lengths);
            let logits = values(weights.logits(prefill.last_hidden.clone()));
            for (slot, length) in lengths.into_iter().enumerate() {
                cache.write_prompt(slot, &prefill.layers, slot, length);
                assert_close(
                    &logits[slot * 48..][..48],
                    &expected[slot * 90 + length - 1],
                );
            }
            for step in 0..85 {
                let positions = [5 + step, 3 + step];
                let inputs = [tokens[0][positions[0]], tokens[1][positions[1]]];
                let logits = values(weights.step(&inputs, &positions, &rope, &mut cache));
                for (row, position) in positions.into_iter().enumerate() {
                    assert_close(&logits[row * 48..][..48], &expected[row * 90 + position]);
                }
            }
        }
    }
}
