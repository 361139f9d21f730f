//! A module with the decoder's parameter tree and nothing else, and folders made from it.

use std::path::Path;

use burn::module::{Module, Param};
use burn::nn::{
    Embedding, EmbeddingConfig, Initializer, Linear, LinearConfig, RmsNorm, RmsNormConfig,
};
use burn::tensor::{Device, Tensor};
use serde_json::{Value, json};
use trainer::policy::config::ModelConfig;

/// Projections of an attention block.
#[derive(Module, Debug)]
pub struct Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    o_proj: Linear,
    q_norm: Option<RmsNorm>,
    k_norm: Option<RmsNorm>,
}

/// Projections of a feed-forward block.
#[derive(Module, Debug)]
pub struct FeedForward {
    gate_proj: Linear,
    up_proj: Linear,
    down_proj: Linear,
}

/// One block.
#[derive(Module, Debug)]
pub struct Block {
    self_attn: Attention,
    mlp: FeedForward,
    input_layernorm: RmsNorm,
    post_attention_layernorm: RmsNorm,
}

/// The parameter tree of a decoder.
#[derive(Module, Debug)]
pub struct Tree {
    embed_tokens: Embedding,
    layers: Vec<Block>,
    norm: RmsNorm,
    lm_head: Option<Param<Tensor<2>>>,
}

fn norm(width: usize, device: &Device) -> RmsNorm {
    let mut norm = RmsNormConfig::new(width).init(device);
    norm.gamma = Initializer::Uniform { min: 0.5, max: 1.5 }.init([width], device);
    norm
}

fn linear(from: usize, to: usize, bias: bool, device: &Device) -> Linear {
    LinearConfig::new(from, to).with_bias(bias).init(device)
}

impl Tree {
    /// Random values for every parameter.
    pub fn random(config: &ModelConfig, device: &Device) -> Self {
        let width = config.hidden_size;
        let heads = config.num_heads * config.head_dim;
        let kv_heads = config.num_kv_heads * config.head_dim;
        let bias = config.attention_bias;
        let head_norm = || config.qk_norm.then(|| norm(config.head_dim, device));
        let block = |_| Block {
            self_attn: Attention {
                q_proj: linear(width, heads, bias, device),
                k_proj: linear(width, kv_heads, bias, device),
                v_proj: linear(width, kv_heads, bias, device),
                o_proj: linear(heads, width, false, device),
                q_norm: head_norm(),
                k_norm: head_norm(),
            },
            mlp: FeedForward {
                gate_proj: linear(width, config.intermediate_size, false, device),
                up_proj: linear(width, config.intermediate_size, false, device),
                down_proj: linear(config.intermediate_size, width, false, device),
            },
            input_layernorm: norm(width, device),
            post_attention_layernorm: norm(width, device),
        };
        let head = EmbeddingConfig::new(config.vocab_size, width)
            .init(device)
            .weight;
        Self {
            embed_tokens: EmbeddingConfig::new(config.vocab_size, width).init(device),
            layers: (0..config.num_layers).map(block).collect(),
            norm: norm(width, device),
            lm_head: (!config.tie_word_embeddings).then_some(head),
        }
    }

    /// True if the optimizer would find every parameter tracked.
    pub fn is_tracked(&self) -> bool {
        self.embed_tokens.weight.val().is_require_grad()
            && self.layers[0]
                .self_attn
                .q_proj
                .weight
                .val()
                .is_require_grad()
            && self.norm.gamma.val().is_require_grad()
    }

    /// Values of the first key projection, `[in, out]`, and of the embedding.
    pub fn probes(&self) -> [Vec<f32>; 2] {
        let key = self.layers[0].self_attn.k_proj.weight.val();
        [key, self.embed_tokens.weight.val()].map(|tensor| tensor.try_to_vec_as().unwrap())
    }
}

/// A small `config.json` of the named architecture.
pub fn config_json(architecture: &str, tied: bool) -> Value {
    json!({
        "architectures": [architecture],
        "vocab_size": 12, "hidden_size": 8, "intermediate_size": 20,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "head_dim": 6, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "tie_word_embeddings": tied,
        "bos_token_id": 1, "eos_token_id": 2, "initializer_range": 0.02,
    })
}

/// A tokenizer over whole words with `num_tokens` tokens; the last one is an added token.
pub fn tokenizer_json(num_tokens: usize) -> Value {
    let words = (3..num_tokens - 1).map(|id| (format!("w{id}"), id));
    let named = [("<unk>", 0), ("<s>", 1), ("</s>", 2)];
    let named = named.map(|(word, id)| (word.to_string(), id));
    let vocab: serde_json::Map<_, _> = named
        .into_iter()
        .chain(words)
        .map(|(word, id)| (word, json!(id)))
        .collect();
    let added = |id: usize, content: &str| {
        json!({ "id": id, "content": content, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true })
    };
    json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "added_tokens": [added(1, "<s>"), added(2, "</s>"), added(num_tokens - 1, "<pad>")],
        "pre_tokenizer": { "type": "WhitespaceSplit" },
        "post_processor": null, "decoder": null,
        "model": { "type": "WordLevel", "unk_token": "<unk>", "vocab": vocab },
    })
}

/// Writes the JSON files of a folder, without weights.
pub fn write_source(folder: &Path, architecture: &str, tied: bool) {
    let write = |name: &str, value: Value| {
        std::fs::write(folder.join(name), format!("{value:#}")).unwrap();
    };
    write("config.json", config_json(architecture, tied));
    write("tokenizer.json", tokenizer_json(12));
    write(
        "tokenizer_config.json",
        json!({ "bos_token": "<s>", "eos_token": { "__type": "AddedToken", "content": "</s>" }, "pad_token": "<pad>",
                "tokenizer_class": "PreTrainedTokenizerFast" }),
    );
    write(
        "generation_config.json",
        json!({ "eos_token_id": [2, 11, 2], "bos_token_id": 1 }),
    );
    let template =
        "{{ bos_token }}{% for m in messages %}\n{{ m.role }}: {{ m.content }}\n{% endfor %}";
    std::fs::write(folder.join("chat_template.jinja"), template).unwrap();
}
