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

use burn::nn::{Linear, RmsNorm};
use burn::tensor::{Device, Int, Tensor, TensorData};
use rlvr_backends::kernels::{
    DecodeRows, Drawing, Projected, Projection, add_rms_norm, project, project_and_draw,
    project_raw, rms_norm_operand, swiglu, swiglu_operand,
};
use rlvr_backends::{Precision, is_host};

use super::cache::{KvCache, LayerCache};
use super::config::ModelConfig;
use super::decoder::{Block, Decoder};
use super::packed::head_norm;

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
    attention: Projections<3>,
    query_norm: Option<RmsNorm>,
    key_norm: Option<RmsNorm>,
    output: Projection,
    inner_norm: RmsNorm,
    /// Gate and up.
    inner: Projections<2>,
    down: Projection,
}

/// Projections of the same rows.
#[derive(Debug)]
enum Projections<const N: usize> {
    /// Each by itself: what the CPU does in one go anyway.
    Apart([Projection; N]),
    /// Side by side: a device does one product where it would do several smaller ones.
    Together(Box<Projection>),
}

impl<const N: usize> Projections<N> {
    /// Together on devices where they are copied; head norms need them apart.
    fn new(parts: [Projection; N], is_together: bool) -> Self {
        if !is_together {
            return Self::Apart(parts);
        }
        let weights = parts.iter().map(|it| it.weight.clone()).collect();
        let biases: Option<Vec<_>> = parts.iter().map(|it| it.bias.clone()).collect();
        Self::Together(Box::new(Projection {
            weight: Tensor::cat(weights, 0),
            bias: biases.map(|biases| Tensor::cat(biases, 0)),
        }))
    }
}

impl DecodeWeights {
    /// Lays the weights out for products in `precision`. `is_copy` decides between transposed
    /// copies and transposed views of the block weights; the embedding is never copied, the head only
    /// if it is rounded.
    pub fn new(decoder: &Decoder, is_copy: bool, precision: Precision) -> Self {
        Self::laid_out(
            decoder,
            Layout {
                is_copy,
                is_together: is_copy && !is_host(&decoder.head_weight().device()),
                precision,
            },
        )
    }

    fn laid_out(decoder: &Decoder, layout: Layout) -> Self {
        Self {
            config: decoder.config().clone(),
            precision: layout.precision,
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

    /// Final hidden states of one token per row, row `r` in slot `r` of the cache, as the last column
    /// that `rows` says it sees. The cache is written.
    ///
    /// # Shapes
    /// - `tokens`: `[R]`
    /// - output: `[R, D]`, an operand
    ///
    /// # Panics
    /// If `rows` are not R.
    pub fn step(
        &self,
        tokens: Tensor<1, Int>,
        rows: &DecodeRows,
        cache: &mut KvCache,
    ) -> Tensor<2> {
        let mut stream = Stream {
            x: self.embedding.clone().select(0, tokens),
            delta: None,
        };
        for (block, cache) in self.blocks.iter().zip(&mut cache.layers) {
            stream = block.step(stream, cache, rows, self);
        }
        let (_, hidden) = stream.norm(&self.norm, self.precision);
        hidden
    }

    /// Where it decodes.
    pub fn device(&self) -> Device {
        self.embedding.device()
    }

    /// Tokens of the host, for [`DecodeWeights::step`].
    pub fn upload(&self, tokens: &[u32]) -> Tensor<1, Int> {
        let tokens: Vec<i64> = tokens.iter().map(|token| i64::from(*token)).collect();
        let rows = tokens.len();
        Tensor::from_data(TensorData::new(tokens, [rows]), &self.embedding.device())
    }

    /// Logits of final hidden states, as the device leaves them, in f32 or rounded to the precision.
    ///
    /// # Shapes
    /// - `hidden`: `[R, D]`
    /// - output: `[R, V]`
    pub fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        project_raw(hidden, &self.head, self.precision)
    }

    /// Tokens drawn from these logits, with log-prob and entropy; the logits may never be in memory.
    ///
    /// # Shapes
    /// - `hidden`: `[R, D]`, at least one row; `uniforms`: `[R, 1]`
    /// - output: `[R, 3]`, as of [`rlvr_backends::kernels::draw`]
    ///
    /// # Panics
    /// As [`project_and_draw`].
    pub fn draw(&self, hidden: Tensor<2>, uniforms: Tensor<2>, drawing: &Drawing) -> Tensor<2> {
        project_and_draw(hidden, &self.head, uniforms, drawing, self.precision)
    }
}

/// The residual stream, before what the last product adds to it: sum and norm are one operation.
struct Stream {
    /// `[R, D]`, f32.
    x: Tensor<2>,
    /// `[R, D]`, as a product left it.
    delta: Option<Tensor<2>>,
}

impl Stream {
    /// The sum, and its norm as an operand.
    fn norm(self, norm: &RmsNorm, precision: Precision) -> (Tensor<2>, Tensor<2>) {
        let (gamma, eps) = (norm.gamma.val(), norm.epsilon);
        match self.delta {
            None => {
                let normed = rms_norm_operand(self.x.clone(), gamma, eps, precision);
                (self.x, normed)
            }
            Some(delta) => {
                let [x, normed] = add_rms_norm(self.x, delta, gamma, eps, precision);
                (x, normed)
            }
        }
    }
}

impl DecodeBlock {
    fn new(block: &Block, layout: Layout) -> Self {
        let projection = |linear: &Linear| layout.of(linear);
        let (attention, mlp) = (&block.self_attn, &block.mlp);
        let inner = [&mlp.gate_proj, &mlp.up_proj].map(projection);
        let heads = [&attention.q_proj, &attention.k_proj, &attention.v_proj].map(projection);
        let has_head_norms = attention.q_norm.is_some() || attention.k_norm.is_some();
        Self {
            input_norm: block.input_layernorm.clone(),
            attention: Projections::new(heads, layout.is_together && !has_head_norms),
            query_norm: attention.q_norm.clone(),
            key_norm: attention.k_norm.clone(),
            output: projection(&attention.o_proj),
            inner_norm: block.post_attention_layernorm.clone(),
            inner: Projections::new(inner, layout.is_together),
            down: projection(&mlp.down_proj),
        }
    }

    fn step(
        &self,
        stream: Stream,
        cache: &mut LayerCache,
        step: &DecodeRows,
        weights: &DecodeWeights,
    ) -> Stream {
        let precision = weights.precision;
        let (x, normed) = stream.norm(&self.input_norm, precision);
        let attended = self.attend(normed, cache, step, weights);
        let delta = Some(project_raw(attended, &self.output, precision));
        let (x, normed) = Stream { x, delta }.norm(&self.inner_norm, precision);
        let gated = match &self.inner {
            Projections::Apart(parts) => {
                let [gate, up] = project(normed, parts.each_ref(), precision);
                swiglu(gate, up, precision)
            }
            Projections::Together(both) => {
                swiglu_operand(project_raw(normed, both, precision), precision)
            }
        };
        let delta = Some(project_raw(gated, &self.down, precision));
        Stream { x, delta }
    }

    /// `[R, D]` to `[R, H * K]`.
    fn attend(
        &self,
        x: Tensor<2>,
        cache: &mut LayerCache,
        step: &DecodeRows,
        weights: &DecodeWeights,
    ) -> Tensor<2> {
        let (config, precision) = (&weights.config, weights.precision);
        let projected = match &self.attention {
            Projections::Apart(parts) => {
                let [queries, keys, values] = project(x, parts.each_ref(), precision);
                Projected::Apart {
                    queries: head_norm(&self.query_norm, queries, config.head_dim),
                    keys: head_norm(&self.key_norm, keys, config.head_dim),
                    values,
                }
            }
            Projections::Together(all) => Projected::Together(project_raw(x, all, precision)),
        };
        cache.attend(step, projected)
    }
}

/// How weights are laid out.
#[derive(Clone, Copy)]
struct Layout {
    is_copy: bool,
    is_together: bool,
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
    use crate::policy::cache::CacheShape;
    use crate::policy::config::{Architecture, RopeScaling};
    use crate::policy::decoder::tests::tiny_config;
    use rlvr_backends::kernels::RowSpan;

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
        let layouts = [(false, false), (true, false), (true, true)];
        for (config, (is_copy, is_together)) in configs()
            .into_iter()
            .flat_map(|config| layouts.map(|layout| (config.clone(), layout)))
        {
            let decoder = Decoder::init(&config, 1, &device);
            let layout = Layout {
                is_copy,
                is_together,
                precision: Precision::F32,
            };
            let weights = DecodeWeights::laid_out(&decoder, layout);
            let tokens: Vec<Vec<u32>> = (0..2u32)
                .map(|row| (0..90).map(|t| (t * 7 + row * 5) % 48).collect())
                .collect();
            let expected = full(&decoder, &tokens);
            let shape = CacheShape {
                slots: 2,
                columns: 85,
                prompt_slots: 3,
                prompt_columns: 5,
            };
            let mut cache = KvCache::new(&config, shape, Precision::F32, &device);
            let lengths = [5, 3];
            let prompts = [&tokens[0][..5], &tokens[1][..3]];
            let prefill = decoder.prefill(&prompts, Precision::F32);
            let logits = values(weights.logits(prefill.last_hidden.clone()));
            for (slot, length) in lengths.into_iter().enumerate() {
                cache.write_prompt(2 - slot, &prefill.layers, &prefill.rows[slot]);
                assert_close(
                    &logits[slot * 48..][..48],
                    &expected[slot * 90 + length - 1],
                );
            }
            for step in 0..85 {
                let positions = [5 + step, 3 + step];
                let spans = [0, 1].map(|row| RowSpan {
                    prompt_slot: 2 - row,
                    prompt_columns: lengths[row],
                    own_columns: step + 1,
                });
                let inputs = [tokens[0][positions[0]], tokens[1][positions[1]]];
                let rows = cache.rows(spans.to_vec());
                let hidden = weights.step(weights.upload(&inputs), &rows, &mut cache);
                let logits = values(weights.logits(hidden));
                for (row, position) in positions.into_iter().enumerate() {
                    assert_close(&logits[row * 48..][..48], &expected[row * 90 + position]);
                }
            }
        }
    }
}
