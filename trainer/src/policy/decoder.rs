//! One decoder for the Llama, Qwen2 and Qwen3 families.
//!
//! A pre-norm transformer with RMS norm, rotary positions, grouped-query attention and SwiGLU
//! (Touvron et al., "LLaMA", 2023, arXiv:2302.13971). Qwen2 adds biases on q, k and v; Qwen3 adds
//! a norm on every query and key head. Field names mirror the Hugging Face checkpoint, so loading
//! is a walk over module paths.
//!
//! | letter | axis | letter | axis |
//! | --- | --- | --- | --- |
//! | N | sequences | H, Hkv | query heads, key-value heads |
//! | T, S | positions, cache columns | K | head width |
//! | R | rows of a decode step | D, V | model width, vocabulary |

use burn::module::{Module, Param};
use burn::nn::{Embedding, Linear, RmsNorm};
use burn::tensor::activation::silu;
use burn::tensor::{Device, Int, Tensor, TensorData};

use super::attention::{Attention, causal_bias};
use super::config::ModelConfig;
use super::rope::RopeTable;
use crate::record::PromptId;
use crate::seed::{Stage, stream};

/// Standard deviation of fresh weights.
const INIT_STD: f64 = 0.02;

/// The feed-forward half of a block: `down(silu(gate(x)) * up(x))`.
///
/// Shazeer, "GLU Variants Improve Transformer" (2020), arXiv:2002.05202.
#[derive(Module, Debug)]
pub struct Mlp {
    /// `[D, F]`.
    pub gate_proj: Linear,
    /// `[D, F]`.
    pub up_proj: Linear,
    /// `[F, D]`.
    pub down_proj: Linear,
}

/// One transformer block.
#[derive(Module, Debug)]
pub struct Block {
    /// Attention.
    pub self_attn: Attention,
    /// Feed-forward.
    pub mlp: Mlp,
    /// Norm before attention.
    pub input_layernorm: RmsNorm,
    /// Norm before the feed-forward.
    pub post_attention_layernorm: RmsNorm,
}

/// The decoder, head included.
#[derive(Module, Debug)]
pub struct Decoder {
    /// `[V, D]`.
    pub embed_tokens: Embedding,
    /// The blocks, first to last.
    pub layers: Vec<Block>,
    /// Norm after the last block.
    pub norm: RmsNorm,
    /// The head, `[V, D]`; none if it is the embedding.
    pub lm_head: Option<Param<Tensor<2>>>,
    #[module(skip)]
    config: ModelConfig,
}

impl Decoder {
    /// Fresh weights: normal with standard deviation 0.02, norms 1, biases 0.
    ///
    /// Drawn on the host from [`Stage::Init`] streams, one per weight, so the same seed gives the
    /// same bits on every run and device.
    pub fn init(config: &ModelConfig, seed: u64, device: &Device) -> Self {
        Self::build(config, Some(seed), device)
    }

    /// Weights of zero, to be replaced by those of a checkpoint.
    pub fn zeroed(config: &ModelConfig, device: &Device) -> Self {
        Self::build(config, None, device)
    }

    fn build(config: &ModelConfig, seed: Option<u64>, device: &Device) -> Self {
        let mut init = Initializer {
            seed,
            next: 0,
            device,
        };
        let (vocab, width) = (config.vocab_size, config.hidden_size);
        let embed_tokens = Embedding {
            weight: init.normal([vocab, width]),
        };
        let layers = (0..config.num_layers)
            .map(|_| Block::init(config, &mut init))
            .collect();
        Self {
            embed_tokens,
            layers,
            norm: init.norm(width, config),
            lm_head: (!config.tie_word_embeddings).then(|| init.normal([vocab, width])),
            config: config.clone(),
        }
    }

    /// The shape.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The head weight: `lm_head`, or the embedding when tied.
    ///
    /// # Shapes
    /// - output: `[V, D]`
    pub fn head_weight(&self) -> Tensor<2> {
        match &self.lm_head {
            Some(head) => head.val(),
            None => self.embed_tokens.weight.val(),
        }
    }

    /// Hidden states after the final norm. Rows are right-padded; attention is causal, so padding
    /// is never seen by a token before it and needs no mask. Gradient flows to every weight but
    /// an untied head.
    ///
    /// # Shapes
    /// - `tokens`: `[N, T]`, column `t` at position `t`
    /// - output: `[N, T, D]`
    pub fn hidden(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        let [rows, columns] = tokens.dims();
        // Constants live beside the weights, on the tape or off it.
        let device = self.embed_tokens.weight.val().device();
        let rope = RopeTable::new(&self.config, columns).all(&device);
        let bias = causal_bias(columns, &device);
        let mut x = self.embed(tokens);
        for block in &self.layers {
            let attended =
                block
                    .self_attn
                    .forward(block.input_layernorm.forward(x.clone()), &rope, &bias);
            x = block.feed_forward(x + attended);
        }
        let width = self.config.hidden_size;
        self.norm.forward(x).reshape([rows, columns, width])
    }

    /// `[N, T]` to `[N * T, D]`.
    fn embed(&self, tokens: Tensor<2, Int>) -> Tensor<2> {
        let [rows, columns] = tokens.dims();
        let embedded = self.embed_tokens.forward(tokens);
        embedded.reshape([rows * columns, self.config.hidden_size])
    }
}

impl Block {
    fn init(config: &ModelConfig, init: &mut Initializer) -> Self {
        let (width, inner) = (config.hidden_size, config.intermediate_size);
        let (heads, kv_heads) = (config.num_heads, config.num_kv_heads);
        let head_dim = config.head_dim;
        let bias = config.attention_bias;
        let head_norm = |init: &Initializer| config.qk_norm.then(|| init.norm(head_dim, config));
        Self {
            self_attn: Attention {
                q_proj: init.linear(width, heads * head_dim, bias),
                k_proj: init.linear(width, kv_heads * head_dim, bias),
                v_proj: init.linear(width, kv_heads * head_dim, bias),
                o_proj: init.linear(heads * head_dim, width, false),
                q_norm: head_norm(init),
                k_norm: head_norm(init),
                num_kv_heads: kv_heads,
                head_dim,
            },
            mlp: Mlp {
                gate_proj: init.linear(width, inner, false),
                up_proj: init.linear(width, inner, false),
                down_proj: init.linear(inner, width, false),
            },
            input_layernorm: init.norm(width, config),
            post_attention_layernorm: init.norm(width, config),
        }
    }

    fn feed_forward(&self, x: Tensor<2>) -> Tensor<2> {
        let normed = self.post_attention_layernorm.forward(x.clone());
        let gate = silu(self.mlp.gate_proj.forward(normed.clone()));
        let up = self.mlp.up_proj.forward(normed);
        x + self.mlp.down_proj.forward(gate * up)
    }
}

/// Draws one weight after the other, each from its own stream.
struct Initializer<'a> {
    /// None makes zeros.
    seed: Option<u64>,
    next: u64,
    device: &'a Device,
}

impl Initializer<'_> {
    fn normal(&mut self, shape: [usize; 2]) -> Param<Tensor<2>> {
        let Some(seed) = self.seed else {
            return Param::from_tensor(Tensor::zeros(shape, self.device));
        };
        let mut draws = stream(seed, Stage::Init, self.next, PromptId(0), 0);
        self.next += 1;
        let values: Vec<f32> = (0..shape[0] * shape[1])
            .map(|_| (INIT_STD * draws.normal()) as f32)
            .collect();
        Param::from_data(TensorData::new(values, shape), self.device)
    }

    fn linear(&mut self, inputs: usize, outputs: usize, bias: bool) -> Linear {
        Linear {
            weight: self.normal([inputs, outputs]),
            bias: bias.then(|| self.constant(0.0, outputs)),
        }
    }

    fn norm(&self, width: usize, config: &ModelConfig) -> RmsNorm {
        RmsNorm {
            gamma: self.constant(1.0, width),
            epsilon: config.rms_norm_eps,
        }
    }

    fn constant(&self, value: f32, length: usize) -> Param<Tensor<1>> {
        Param::from_data(TensorData::new(vec![value; length], [length]), self.device)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::policy::config::{Architecture, RopeScaling};

    pub(crate) fn tiny_config() -> ModelConfig {
        ModelConfig {
            architecture: Architecture::Llama,
            vocab_size: 48,
            hidden_size: 32,
            intermediate_size: 40,
            num_layers: 2,
            num_heads: 4,
            num_kv_heads: 2,
            head_dim: 8,
            rms_norm_eps: 1e-5,
            rope_theta: 10_000.0,
            rope_scaling: RopeScaling::None,
            max_position_embeddings: 256,
            tie_word_embeddings: true,
            attention_bias: false,
            qk_norm: false,
        }
    }

    fn tokens(rows: usize, columns: usize, device: &Device) -> Tensor<2, Int> {
        let values: Vec<i64> = (0..rows * columns).map(|i| (i * 7 % 48) as i64).collect();
        Tensor::from_data(TensorData::new(values, [rows, columns]), device)
    }

    fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().try_to_vec::<f32>().unwrap()
    }

    #[test]
    fn fresh_weights_depend_on_the_seed_alone() {
        let device = Device::default();
        let weights = |seed| {
            values(
                Decoder::init(&tiny_config(), seed, &device).layers[1]
                    .mlp
                    .up_proj
                    .weight
                    .val(),
            )
        };
        assert_eq!(weights(3), weights(3));
        assert_ne!(weights(3), weights(4));
        let std = (weights(3).iter().map(|w| w * w).sum::<f32>() / 1280.0).sqrt();
        assert!((std - 0.02).abs() < 0.002, "std {std}");
    }

    #[test]
    fn padding_to_the_right_changes_nothing() {
        let device = Device::default();
        let decoder = Decoder::init(&tiny_config(), 0, &device);
        let long = tokens(2, 40, &device);
        let short = values(decoder.hidden(long.clone().narrow(1, 0, 9)));
        let padded = values(decoder.hidden(long).narrow(1, 0, 9));
        for (a, b) in short.iter().zip(&padded) {
            assert!((a - b).abs() < 1e-5, "{a} and {b}");
        }
    }

    #[test]
    fn every_weight_of_a_tied_model_gets_a_gradient() {
        let device = Device::default().autodiff();
        let decoder = Decoder::init(&tiny_config(), 0, &device);
        let loss = decoder.hidden(tokens(2, 6, &device)).square().sum();
        let grads = loss.backward();
        let block = &decoder.layers[0];
        for weight in [
            &block.self_attn.q_proj.weight,
            &block.self_attn.k_proj.weight,
            &block.mlp.gate_proj.weight,
            &decoder.embed_tokens.weight,
        ] {
            let grad = weight.val().grad(&grads).expect("a gradient");
            assert!(values(grad.abs().sum())[0] > 0.0);
        }
    }
}
