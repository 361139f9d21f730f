//! Which tokens end a completion.

use std::path::Path;

use serde_json::{Map, Value};
use thiserror::Error;

use super::json_file::{JsonFileError, read_optional_object};
use super::tokenizer::Tokenizer;

/// The file that `transformers` takes stop tokens from first.
pub const GENERATION_FILE: &str = "generation_config.json";

/// Stop tokens that cannot be used.
#[derive(Debug, Error)]
pub enum GenerationError {
    /// A JSON file is damaged.
    #[error(transparent)]
    Json(#[from] JsonFileError),
    /// `eos_token_id` is not what it should be.
    #[error("`{file}` has `eos_token_id = {value}`: expected {expected}")]
    BadStopId {
        /// The file.
        file: String,
        /// What it says.
        value: String,
        /// What is possible.
        expected: String,
    },
}

/// The stop tokens of a model folder, in the order of the file that names them: the first of
/// `generation_config.json`, `config.json` (both `eos_token_id`, one id or several) and
/// `tokenizer_config.json` (`eos_token`, a text). Empty where none does: completions then end at
/// their longest length alone.
pub fn stop_ids(
    folder: &Path,
    tokenizer: &Tokenizer,
    vocab_size: usize,
) -> Result<Vec<u32>, GenerationError> {
    for name in [GENERATION_FILE, "config.json"] {
        let path = folder.join(name);
        let object = read_optional_object(&path)?.unwrap_or_default();
        let ids = ids_in(&object, &path, vocab_size)?;
        if !ids.is_empty() {
            return Ok(ids);
        }
    }
    let object = read_optional_object(&folder.join("tokenizer_config.json"))?.unwrap_or_default();
    let token = object.get("eos_token").and_then(token_text);
    Ok(token
        .and_then(|token| tokenizer.token_id(token))
        .into_iter()
        .collect())
}

/// The text of a special token, which is a string or an object with `content`.
pub fn token_text(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}

fn ids_in(
    object: &Map<String, Value>,
    path: &Path,
    vocab_size: usize,
) -> Result<Vec<u32>, GenerationError> {
    let listed: &[Value] = match object.get("eos_token_id") {
        None | Some(Value::Null) => &[],
        Some(Value::Array(ids)) => ids,
        Some(id) => std::slice::from_ref(id),
    };
    let mut ids = Vec::new();
    for value in listed {
        let id = value.as_u64().filter(|&id| id < vocab_size as u64);
        let id = id.ok_or_else(|| GenerationError::BadStopId {
            file: path.display().to_string(),
            value: value.to_string(),
            expected: format!("token ids below vocab_size = {vocab_size}"),
        })?;
        if !ids.contains(&(id as u32)) {
            ids.push(id as u32);
        }
    }
    Ok(ids)
}
