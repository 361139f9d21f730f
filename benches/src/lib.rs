//! Criterion benches of the trainer's hot paths: `cargo bench -p rlvr-benches`.
//!
//! One file per path beside this folder; each names its shapes, its dtype and its device.

pub mod history;
pub mod load;

use trainer::policy::config::{Architecture, ModelConfig, RopeScaling};

/// The shape of the embedded tiny model.
pub fn tiny() -> ModelConfig {
    llama(64, 128, 384, 4, [4, 2, 32])
}

/// The shape of SmolLM2-135M.
pub fn smollm2() -> ModelConfig {
    llama(49_152, 576, 1536, 30, [9, 3, 64])
}

/// A small shape for benches of growth, with room for long contexts.
pub fn small() -> ModelConfig {
    ModelConfig {
        max_position_embeddings: 8192,
        ..llama(512, 192, 512, 2, [3, 1, 64])
    }
}

/// `heads`: query heads, key-value heads, head width.
fn llama(
    vocab: usize,
    width: usize,
    inner: usize,
    layers: usize,
    heads: [usize; 3],
) -> ModelConfig {
    ModelConfig {
        architecture: Architecture::Llama,
        vocab_size: vocab,
        hidden_size: width,
        intermediate_size: inner,
        num_layers: layers,
        num_heads: heads[0],
        num_kv_heads: heads[1],
        head_dim: heads[2],
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: RopeScaling::None,
        max_position_embeddings: 2048,
        tie_word_embeddings: true,
        attention_bias: false,
        qk_norm: false,
    }
}
