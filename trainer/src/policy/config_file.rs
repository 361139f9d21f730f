//! `config.json` of a model folder, read into a [`ModelConfig`].
//!
//! Reading follows the defaults of Hugging Face `transformers` for the three families and accepts
//! both styles of rotary settings: `rope_theta` with `rope_scaling`, and `rope_parameters`. Whatever
//! would make the decoder compute something else than the checkpoint means is an error.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use thiserror::Error;

use super::config::{Architecture, ModelConfig, RopeScaling};
use super::json_file::{JsonFileError, read_object};

/// Base of the rotary frequencies where a config names none.
const DEFAULT_ROPE_THETA: f64 = 10_000.0;

/// A `config.json` that cannot be used.
#[derive(Debug, Error)]
pub enum ConfigFileError {
    /// Missing, unreadable or not a JSON object.
    #[error(transparent)]
    Json(#[from] JsonFileError),
    /// A key without a default is absent.
    #[error("`{}` lacks the key `{key}`", .path.display())]
    MissingKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
    },
    /// A key has a value of the wrong type or out of range.
    #[error("`{}` has `{key} = {value}`: expected {expected}", .path.display())]
    BadValue {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What the file says.
        value: String,
        /// What is possible.
        expected: String,
    },
    /// The checkpoint needs something that the decoder does not do.
    #[error("`{}` asks for `{key} = {value}`, which is not supported: {supported}", .path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What the file says.
        value: String,
        /// What is supported.
        supported: String,
    },
}

/// Reads `config.json`.
pub fn read_config(path: &Path) -> Result<ModelConfig, ConfigFileError> {
    let object = read_object(path)?;
    let reader = Reader {
        path,
        prefix: "",
        object: &object,
    };
    let config = reader.model_config()?;
    reader.check_supported(config.architecture)?;
    reader.check_ranges(&config)?;
    Ok(config)
}

/// A JSON object together with where it stands, for the error messages.
struct Reader<'a> {
    path: &'a Path,
    prefix: &'a str,
    object: &'a Map<String, Value>,
}

impl Reader<'_> {
    /// The value of `key`; JSON's null counts as absent.
    fn value(&self, key: &str) -> Option<&Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    fn missing(&self, key: &str) -> ConfigFileError {
        ConfigFileError::MissingKey {
            path: self.path.into(),
            key: format!("{}{key}", self.prefix),
        }
    }

    fn bad(&self, key: &str, value: impl ToString, expected: &str) -> ConfigFileError {
        ConfigFileError::BadValue {
            path: self.path.into(),
            key: format!("{}{key}", self.prefix),
            value: value.to_string(),
            expected: expected.into(),
        }
    }

    fn unsupported(&self, key: &str, value: impl ToString, supported: &str) -> ConfigFileError {
        ConfigFileError::Unsupported {
            path: self.path.into(),
            key: format!("{}{key}", self.prefix),
            value: value.to_string(),
            supported: supported.into(),
        }
    }

    fn optional_size(&self, key: &str) -> Result<Option<usize>, ConfigFileError> {
        self.value(key)
            .map(|value| match value.as_u64() {
                Some(size) if size > 0 => Ok(size as usize),
                _ => Err(self.bad(key, value, "a positive integer")),
            })
            .transpose()
    }

    fn size(&self, key: &str) -> Result<usize, ConfigFileError> {
        self.optional_size(key)?.ok_or_else(|| self.missing(key))
    }

    fn optional_number(&self, key: &str) -> Result<Option<f64>, ConfigFileError> {
        self.value(key)
            .map(|value| match value.as_f64() {
                Some(number) if number.is_finite() && number > 0.0 => Ok(number),
                _ => Err(self.bad(key, value, "a positive number")),
            })
            .transpose()
    }

    fn number(&self, key: &str) -> Result<f64, ConfigFileError> {
        self.optional_number(key)?.ok_or_else(|| self.missing(key))
    }

    fn flag(&self, key: &str) -> Result<bool, ConfigFileError> {
        self.value(key).map_or(Ok(false), |value| {
            value
                .as_bool()
                .ok_or_else(|| self.bad(key, value, "true or false"))
        })
    }

    fn architecture(&self) -> Result<Architecture, ConfigFileError> {
        let supported = "LlamaForCausalLM, Qwen2ForCausalLM and Qwen3ForCausalLM are";
        if let Some(names) = self.value("architectures") {
            return match names[0].as_str() {
                Some("LlamaForCausalLM") => Ok(Architecture::Llama),
                Some("Qwen2ForCausalLM") => Ok(Architecture::Qwen2),
                Some("Qwen3ForCausalLM") => Ok(Architecture::Qwen3),
                _ => Err(self.unsupported("architectures", names, supported)),
            };
        }
        let model_type = self
            .value("model_type")
            .ok_or_else(|| self.missing("architectures"))?;
        match model_type.as_str() {
            Some("llama") => Ok(Architecture::Llama),
            Some("qwen2") => Ok(Architecture::Qwen2),
            Some("qwen3") => Ok(Architecture::Qwen3),
            _ => Err(self.unsupported("model_type", model_type, supported)),
        }
    }

    fn model_config(&self) -> Result<ModelConfig, ConfigFileError> {
        let architecture = self.architecture()?;
        let hidden_size = self.size("hidden_size")?;
        let num_heads = self.size("num_attention_heads")?;
        let max_position_embeddings = self.size("max_position_embeddings")?;
        let head_dim = match (self.optional_size("head_dim")?, architecture) {
            (Some(head_dim), _) => head_dim,
            (None, Architecture::Qwen3) => 128,
            (None, Architecture::Llama | Architecture::Qwen2) => hidden_size / num_heads,
        };
        let (rope_theta, rope_scaling) = self.rope(max_position_embeddings)?;
        Ok(ModelConfig {
            architecture,
            vocab_size: self.size("vocab_size")?,
            hidden_size,
            intermediate_size: self.size("intermediate_size")?,
            num_layers: self.size("num_hidden_layers")?,
            num_heads,
            num_kv_heads: self
                .optional_size("num_key_value_heads")?
                .unwrap_or(num_heads),
            head_dim,
            rms_norm_eps: self.optional_number("rms_norm_eps")?.unwrap_or(1e-6),
            rope_theta,
            rope_scaling,
            max_position_embeddings,
            tie_word_embeddings: self.flag("tie_word_embeddings")?,
            attention_bias: architecture == Architecture::Qwen2,
            qk_norm: architecture == Architecture::Qwen3,
        })
    }

    /// Rotary base and scaling, from either style.
    fn rope(&self, max_positions: usize) -> Result<(f64, RopeScaling), ConfigFileError> {
        let outer_theta = self.optional_number("rope_theta")?;
        let key = ["rope_scaling", "rope_parameters"]
            .into_iter()
            .find(|key| self.value(key).is_some_and(|value| value != &json!({})));
        let Some(key) = key else {
            return Ok((outer_theta.unwrap_or(DEFAULT_ROPE_THETA), RopeScaling::None));
        };
        let value = &self.object[key];
        let object = value
            .as_object()
            .ok_or_else(|| self.bad(key, value, "an object"))?;
        let inner = Reader {
            path: self.path,
            prefix: &format!("{key}."),
            object,
        };
        let theta = inner.optional_number("rope_theta")?.or(outer_theta);
        Ok((
            theta.unwrap_or(DEFAULT_ROPE_THETA),
            inner.rope_scaling(max_positions)?,
        ))
    }

    fn rope_scaling(&self, max_positions: usize) -> Result<RopeScaling, ConfigFileError> {
        if self
            .optional_number("partial_rotary_factor")?
            .unwrap_or(1.0)
            != 1.0
        {
            let value = &self.object["partial_rotary_factor"];
            return Err(self.unsupported("partial_rotary_factor", value, "only 1 is"));
        }
        let supported = "default, linear and llama3 are";
        let key = if self.value("rope_type").is_some() {
            "rope_type"
        } else {
            "type"
        };
        match self.value(key).map(|value| (value, value.as_str())) {
            None if self.object.values().any(Value::is_object) => {
                Err(self.unsupported("", "one setting per layer type", supported))
            }
            None | Some((_, Some("default"))) => Ok(RopeScaling::None),
            Some((_, Some("linear"))) => Ok(RopeScaling::Linear {
                factor: self.number("factor")?,
            }),
            Some((_, Some("llama3"))) => self.llama3(max_positions),
            Some((value, _)) => Err(self.unsupported(key, value, supported)),
        }
    }

    fn llama3(&self, max_positions: usize) -> Result<RopeScaling, ConfigFileError> {
        let low_freq_factor = self.number("low_freq_factor")?;
        let high_freq_factor = self.number("high_freq_factor")?;
        if high_freq_factor <= low_freq_factor {
            return Err(self.bad(
                "high_freq_factor",
                high_freq_factor,
                "more than low_freq_factor",
            ));
        }
        Ok(RopeScaling::Llama3 {
            factor: self.number("factor")?,
            low_freq_factor,
            high_freq_factor,
            original_max_position_embeddings: self
                .optional_size("original_max_position_embeddings")?
                .unwrap_or(max_positions),
        })
    }

    /// Settings that change what a checkpoint computes and that the decoder does not have.
    fn check_supported(&self, architecture: Architecture) -> Result<(), ConfigFileError> {
        if let Some(act) = self.value("hidden_act").filter(|act| *act != "silu") {
            return Err(self.unsupported("hidden_act", act, "only silu is"));
        }
        if self.flag("mlp_bias")? {
            return Err(self.unsupported("mlp_bias", true, "only false is"));
        }
        if architecture != Architecture::Qwen2 && self.flag("attention_bias")? {
            let supported = "attention biases come with Qwen2ForCausalLM only";
            return Err(self.unsupported("attention_bias", true, supported));
        }
        self.check_attention_window()?;
        if self.value("quantization_config").is_some() {
            let supported = "only f32, f16 and bf16 weights are";
            return Err(self.unsupported("quantization_config", "{..}", supported));
        }
        Ok(())
    }

    /// A sliding window is an error only where a layer would use it: many configs carry the key
    /// with the switch off. Where the layers are not listed, `transformers` slides those from
    /// `max_window_layers` on.
    fn check_attention_window(&self) -> Result<(), ConfigFileError> {
        let supported = "only full attention in every layer is";
        if let Some(types) = self.value("layer_types") {
            let full = |kinds: &Vec<Value>| kinds.iter().all(|kind| kind == "full_attention");
            return match types.as_array().is_some_and(full) {
                true => Ok(()),
                false => Err(self.unsupported("layer_types", types, supported)),
            };
        }
        let slides_from = self
            .value("max_window_layers")
            .and_then(Value::as_u64)
            .unwrap_or(28);
        if self.flag("use_sliding_window")?
            && self.value("sliding_window").is_some()
            && self.size("num_hidden_layers")? as u64 > slides_from
        {
            return Err(self.unsupported("use_sliding_window", true, supported));
        }
        Ok(())
    }

    fn check_ranges(&self, config: &ModelConfig) -> Result<(), ConfigFileError> {
        if !config.num_heads.is_multiple_of(config.num_kv_heads) {
            let expected = format!("a divisor of num_attention_heads = {}", config.num_heads);
            return Err(self.bad("num_key_value_heads", config.num_kv_heads, &expected));
        }
        let derived = self.value("head_dim").is_none() && !config.qk_norm;
        if derived && !config.hidden_size.is_multiple_of(config.num_heads) {
            let expected = format!("a multiple of num_attention_heads = {}", config.num_heads);
            return Err(self.bad("hidden_size", config.hidden_size, &expected));
        }
        if !config.head_dim.is_multiple_of(2) || config.head_dim == 0 {
            return Err(self.bad("head_dim", config.head_dim, "a positive even number"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &Value) -> Result<ModelConfig, ConfigFileError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        std::fs::write(&path, value.to_string()).unwrap();
        read_config(&path)
    }

    fn base(architecture: &str) -> Value {
        json!({
            "architectures": [architecture],
            "vocab_size": 100, "hidden_size": 16, "intermediate_size": 32,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
            "max_position_embeddings": 64,
        })
    }

    fn with(mut value: Value, key: &str, to: Value) -> Value {
        value[key] = to;
        value
    }

    fn message(value: &Value) -> String {
        read(value).unwrap_err().to_string()
    }

    #[test]
    fn families_differ_in_biases_norms_and_head_width() {
        let llama = read(&base("LlamaForCausalLM")).unwrap();
        assert_eq!(
            (llama.head_dim, llama.attention_bias, llama.qk_norm),
            (4, false, false)
        );
        assert_eq!((llama.rms_norm_eps, llama.rope_theta), (1e-6, 10_000.0));
        assert!(!llama.tie_word_embeddings);
        let qwen2 = read(&base("Qwen2ForCausalLM")).unwrap();
        assert_eq!(
            (qwen2.head_dim, qwen2.attention_bias, qwen2.qk_norm),
            (4, true, false)
        );
        let qwen3 = read(&base("Qwen3ForCausalLM")).unwrap();
        assert_eq!(
            (qwen3.head_dim, qwen3.attention_bias, qwen3.qk_norm),
            (128, false, true)
        );
    }

    #[test]
    fn both_styles_of_rotary_settings_are_read() {
        let llama3 = json!({
            "factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
            "original_max_position_embeddings": 8192, "rope_type": "llama3",
        });
        let older = with(base("LlamaForCausalLM"), "rope_scaling", llama3.clone());
        let older = read(&with(older, "rope_theta", json!(500_000.0))).unwrap();
        let parameters = with(llama3, "rope_theta", json!(500_000.0));
        let newer = read(&with(
            base("LlamaForCausalLM"),
            "rope_parameters",
            parameters,
        ))
        .unwrap();
        assert_eq!(older, newer);
        assert_eq!(older.rope_theta, 500_000.0);
        assert!(matches!(
            older.rope_scaling,
            RopeScaling::Llama3 {
                original_max_position_embeddings: 8192,
                ..
            }
        ));
        let linear = json!({ "type": "linear", "factor": 2.0 });
        let linear = read(&with(base("LlamaForCausalLM"), "rope_scaling", linear)).unwrap();
        assert_eq!(linear.rope_scaling, RopeScaling::Linear { factor: 2.0 });
        let plain = json!({ "rope_type": "default", "rope_theta": 7.0 });
        let plain = read(&with(base("Qwen2ForCausalLM"), "rope_parameters", plain)).unwrap();
        assert_eq!(
            (plain.rope_theta, plain.rope_scaling),
            (7.0, RopeScaling::None)
        );
    }

    #[test]
    fn what_the_decoder_lacks_is_named() {
        let unknown = message(&base("MambaForCausalLM"));
        assert!(unknown.contains("config.json") && unknown.contains("MambaForCausalLM"));
        assert!(unknown.contains("Qwen3ForCausalLM"), "{unknown}");
        let llama = || base("LlamaForCausalLM");
        let yarn = message(&with(
            llama(),
            "rope_scaling",
            json!({ "rope_type": "yarn" }),
        ));
        assert!(yarn.contains("rope_scaling.rope_type = \"yarn\""), "{yarn}");
        assert!(yarn.contains("llama3"), "{yarn}");
        for (key, value) in [
            ("mlp_bias", json!(true)),
            ("attention_bias", json!(true)),
            ("hidden_act", json!("gelu")),
            (
                "layer_types",
                json!(["full_attention", "sliding_attention"]),
            ),
            ("quantization_config", json!({ "bits": 4 })),
        ] {
            let found = message(&with(llama(), key, value));
            assert!(
                found.contains(key) && found.contains("not supported"),
                "{found}"
            );
        }
    }

    #[test]
    fn a_sliding_window_matters_only_where_a_layer_uses_it() {
        let switched_on = with(base("Qwen2ForCausalLM"), "use_sliding_window", json!(true));
        let windowed = with(switched_on, "sliding_window", json!(32));
        assert!(
            read(&windowed).is_ok(),
            "layers below max_window_layers do not slide"
        );
        let sliding = message(&with(windowed, "max_window_layers", json!(1)));
        assert!(sliding.contains("use_sliding_window"), "{sliding}");
        let off = with(base("Qwen2ForCausalLM"), "sliding_window", json!(32));
        assert!(read(&with(off, "max_window_layers", json!(0))).is_ok());
    }

    #[test]
    fn impossible_values_name_the_key() {
        let llama = || base("LlamaForCausalLM");
        for (key, value) in [
            ("hidden_size", json!(-1)),
            ("hidden_size", json!(18)),
            ("num_key_value_heads", json!(3)),
            ("head_dim", json!(3)),
            ("rms_norm_eps", json!("small")),
            ("tie_word_embeddings", json!(1)),
        ] {
            let found = message(&with(llama(), key, value));
            assert!(found.contains(&format!("`{key} = ")), "{found}");
        }
        let absent = message(&with(llama(), "vocab_size", Value::Null));
        assert!(absent.contains("lacks the key `vocab_size`"), "{absent}");
    }
}
