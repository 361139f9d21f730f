//! A [`ModelConfig`] written as `config.json`.

use serde_json::{Map, Value, json};

use super::config::{Architecture, ModelConfig, RopeScaling};

/// The `config.json` of `config`, laid over `source` so that keys which the trainer does not know
/// survive (token ids, for instance). Weights are always saved as 32-bit floats, and it says so.
pub fn config_json(config: &ModelConfig, source: &Map<String, Value>) -> Map<String, Value> {
    let mut object = source.clone();
    let (architecture, model_type) = match config.architecture {
        Architecture::Llama => ("LlamaForCausalLM", "llama"),
        Architecture::Qwen2 => ("Qwen2ForCausalLM", "qwen2"),
        Architecture::Qwen3 => ("Qwen3ForCausalLM", "qwen3"),
    };
    let ours = [
        ("architectures", json!([architecture])),
        ("model_type", json!(model_type)),
        ("vocab_size", json!(config.vocab_size)),
        ("hidden_size", json!(config.hidden_size)),
        ("intermediate_size", json!(config.intermediate_size)),
        ("num_hidden_layers", json!(config.num_layers)),
        ("num_attention_heads", json!(config.num_heads)),
        ("num_key_value_heads", json!(config.num_kv_heads)),
        ("head_dim", json!(config.head_dim)),
        ("hidden_act", json!("silu")),
        ("rms_norm_eps", json!(config.rms_norm_eps)),
        (
            "max_position_embeddings",
            json!(config.max_position_embeddings),
        ),
        ("tie_word_embeddings", json!(config.tie_word_embeddings)),
    ];
    for (key, value) in ours {
        object.insert(key.into(), value);
    }
    write_rope(config, &mut object);
    write_dtype(&mut object);
    object
}

/// Keeps the style of rotary settings that the source has; the older one otherwise, which every
/// version of `transformers` reads.
fn write_rope(config: &ModelConfig, object: &mut Map<String, Value>) {
    let scaling = match config.rope_scaling {
        RopeScaling::None => json!({ "rope_type": "default" }),
        RopeScaling::Linear { factor } => json!({ "rope_type": "linear", "factor": factor }),
        RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_position_embeddings,
        } => json!({
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": low_freq_factor,
            "high_freq_factor": high_freq_factor,
            "original_max_position_embeddings": original_max_position_embeddings,
        }),
    };
    if object.get("rope_parameters").is_some_and(Value::is_object) {
        let mut parameters = scaling;
        parameters["rope_theta"] = json!(config.rope_theta);
        object.insert("rope_parameters".into(), parameters);
        object.shift_remove("rope_scaling");
        object.shift_remove("rope_theta");
    } else {
        let is_plain = config.rope_scaling == RopeScaling::None;
        let scaling = if is_plain { Value::Null } else { scaling };
        object.insert("rope_scaling".into(), scaling);
        object.insert("rope_theta".into(), json!(config.rope_theta));
    }
}

/// `dtype` is the newer name of `torch_dtype`; both are understood, and a file may hold both.
fn write_dtype(object: &mut Map<String, Value>) {
    let float32 = json!("float32");
    match object.get_mut("dtype") {
        Some(dtype) => {
            *dtype = float32.clone();
            if let Some(dtype) = object.get_mut("torch_dtype") {
                *dtype = float32;
            }
        }
        None => {
            object.insert("torch_dtype".into(), float32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::config_file::read_config;
    use super::*;

    fn read(value: &Value) -> ModelConfig {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        std::fs::write(&path, value.to_string()).unwrap();
        read_config(&path).unwrap()
    }

    fn source(architecture: &str, key: &str, value: Value) -> Value {
        let mut source = json!({
            "architectures": [architecture], "dtype": "bfloat16", "eos_token_id": [1, 2],
            "vocab_size": 100, "hidden_size": 16, "intermediate_size": 32,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
            "max_position_embeddings": 64,
        });
        source[key] = value;
        source
    }

    #[test]
    fn what_is_written_reads_back_and_keeps_unknown_keys() {
        let llama3 = json!({
            "factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
            "original_max_position_embeddings": 32, "rope_type": "llama3", "rope_theta": 5e5,
        });
        let linear = json!({ "type": "linear", "factor": 3.0 });
        for source in [
            source("LlamaForCausalLM", "rope_parameters", llama3),
            source("Qwen2ForCausalLM", "rope_scaling", linear),
            source("Qwen3ForCausalLM", "tie_word_embeddings", json!(true)),
        ] {
            let config = read(&source);
            let written = config_json(&config, source.as_object().unwrap());
            assert_eq!(written["eos_token_id"], json!([1, 2]));
            assert_eq!(written["dtype"], "float32");
            assert_eq!(
                written.contains_key("rope_parameters"),
                source.get("rope_parameters").is_some()
            );
            assert_eq!(read(&Value::Object(written)), config);
            let from_nothing = Value::Object(config_json(&config, &Map::new()));
            assert_eq!(from_nothing["torch_dtype"], "float32");
            assert_eq!(read(&from_nothing), config);
        }
    }
}
