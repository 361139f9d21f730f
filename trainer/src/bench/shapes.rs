//! Shapes of decoders that are measured without their weights.

use crate::policy::config::{Architecture, ModelConfig, RopeScaling};

/// The names of [`named`].
pub const NAMES: [&str; 4] = ["tiny", "small", "smollm2-135m", "qwen2.5-0.5b"];

/// A shape by its name.
pub fn named(name: &str) -> Option<ModelConfig> {
    match name {
        "tiny" => Some(tiny()),
        "small" => Some(small()),
        "smollm2-135m" => Some(smollm2()),
        "qwen2.5-0.5b" => Some(qwen2_5()),
        _ => None,
    }
}

/// The shape of the embedded tiny model.
pub fn tiny() -> ModelConfig {
    llama(64, 128, 384, 4, [4, 2, 32])
}

/// A small shape for growth, with room for long contexts.
pub fn small() -> ModelConfig {
    ModelConfig {
        max_position_embeddings: 8192,
        ..llama(512, 192, 512, 2, [3, 1, 64])
    }
}

/// The shape of SmolLM2-135M.
pub fn smollm2() -> ModelConfig {
    llama(49_152, 576, 1536, 30, [9, 3, 64])
}

/// The shape of Qwen2.5-0.5B.
pub fn qwen2_5() -> ModelConfig {
    ModelConfig {
        architecture: Architecture::Qwen2,
        rms_norm_eps: 1e-6,
        rope_theta: 1e6,
        max_position_embeddings: 32_768,
        attention_bias: true,
        ..llama(151_936, 896, 4864, 24, [14, 2, 64])
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::memory::num_weights;

    #[test]
    fn names_and_sizes_are_those_of_the_models() {
        for name in NAMES {
            assert!(named(name).is_some(), "{name}");
        }
        assert_eq!(named("gpt-2"), None);
        // As counted in the published checkpoints.
        assert_eq!(num_weights(&smollm2()), 134_515_008);
        assert_eq!(num_weights(&qwen2_5()), 494_032_768);
    }
}
