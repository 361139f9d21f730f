//! The shape of a decoder: one struct for the Llama, Qwen2 and Qwen3 families.

use rlvr_backends::kernels::Heads;
use serde::{Deserialize, Serialize};

/// The families that one decoder covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// `LlamaForCausalLM`.
    Llama,
    /// `Qwen2ForCausalLM`: biases on q, k and v.
    Qwen2,
    /// `Qwen3ForCausalLM`: RMS norm on the heads of q and k.
    Qwen3,
}

/// How the rotary frequencies are stretched for long contexts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum RopeScaling {
    /// Plain frequencies.
    None,
    /// Every frequency divided by `factor`.
    Linear {
        /// Divisor.
        factor: f64,
    },
    /// Llama 3's smooth interpolation between scaled and unscaled frequencies.
    Llama3 {
        /// Divisor of the low frequencies.
        factor: f64,
        /// Wavelengths above `original_max_position_embeddings / low_freq_factor` are scaled.
        low_freq_factor: f64,
        /// Wavelengths below `original_max_position_embeddings / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// Context length before stretching.
        original_max_position_embeddings: usize,
    },
}

/// Shape of a decoder. Field names follow Hugging Face's `config.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// Family.
    pub architecture: Architecture,
    /// V: rows of the embedding.
    pub vocab_size: usize,
    /// D: model width.
    pub hidden_size: usize,
    /// Width of the feed-forward block.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub num_layers: usize,
    /// H: query heads.
    pub num_heads: usize,
    /// Key and value heads; divides `num_heads`.
    pub num_kv_heads: usize,
    /// K: width of a head.
    pub head_dim: usize,
    /// Guard of the RMS norm.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Stretching of the rotary frequencies.
    pub rope_scaling: RopeScaling,
    /// Longest context.
    pub max_position_embeddings: usize,
    /// True if the head is the embedding.
    pub tie_word_embeddings: bool,
    /// True if q, k and v have biases.
    pub attention_bias: bool,
    /// True if q and k are normalised per head.
    pub qk_norm: bool,
}

impl ModelConfig {
    /// How the columns of queries, keys and values divide into heads.
    pub fn heads(&self) -> Heads {
        Heads {
            num_kv_heads: self.num_kv_heads,
            group: self.num_heads / self.num_kv_heads,
            width: self.head_dim,
        }
    }
}
