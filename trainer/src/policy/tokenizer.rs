//! Text to tokens and back, by a model folder's `tokenizer.json`.

use std::path::{Path, PathBuf};

use thiserror::Error;

/// A tokenizer that cannot be used.
#[derive(Debug, Error)]
pub enum TokenizerError {
    /// There is no `tokenizer.json`.
    #[error(
        "`{}` is missing: a model folder needs its tokenizer (older formats are not read; \
         `transformers` writes tokenizer.json with `AutoTokenizer.from_pretrained(..).\
         save_pretrained(..)`)", .path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file is not a tokenizer.
    #[error("`{}` is not a tokenizer: {reason}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What the tokenizer library said.
        reason: String,
    },
    /// A text cannot be encoded.
    #[error("the tokenizer cannot encode a text of {text_bytes} bytes: {reason}")]
    Encode {
        /// Length of the text.
        text_bytes: usize,
        /// What the tokenizer library said.
        reason: String,
    },
}

/// A tokenizer. Truncation and padding that the file may ask for are switched off: lengths are the
/// trainer's business, and a prompt that is cut in silence is a wrong prompt.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    vocab_size: usize,
}

impl Tokenizer {
    /// Reads `tokenizer.json`.
    pub fn open(path: &Path) -> Result<Self, TokenizerError> {
        if !path.exists() {
            return Err(TokenizerError::Missing { path: path.into() });
        }
        let malformed = |reason: tokenizers::Error| TokenizerError::Malformed {
            path: path.into(),
            reason: reason.to_string(),
        };
        let mut inner = tokenizers::Tokenizer::from_file(path).map_err(malformed)?;
        inner.with_truncation(None).map_err(malformed)?;
        inner.with_padding(None);
        let largest = inner.get_vocab(true).into_values().max();
        Ok(Self {
            inner,
            vocab_size: largest.map_or(0, |id| id as usize + 1),
        })
    }

    /// One more than the largest token id, added tokens included: the rows that an embedding needs.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The tokens of `text`. With `add_special` the tokens that the tokenizer puts around a whole
    /// text (such as a start token) are added; a rendered chat template already has them. Special
    /// tokens written in the text are recognised either way.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, TokenizerError> {
        let encoding = self.inner.encode_fast(text, add_special);
        let encoding = encoding.map_err(|reason| TokenizerError::Encode {
            text_bytes: text.len(),
            reason: reason.to_string(),
        })?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of `tokens`, with or without the special ones. Ids that the tokenizer does not know
    /// (rows of a padded embedding) have no text; bytes that are not UTF-8 become U+FFFD.
    pub fn decode(&self, tokens: &[u32], skip_special: bool) -> String {
        // The library's decoders fail on malformed configurations only, and those do not open.
        self.inner.decode(tokens, skip_special).unwrap_or_default()
    }

    /// The id of a token given by its exact text.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// Words separated by blanks, a start token around whole texts, and truncation to three tokens.
    fn tokenizer_json() -> Value {
        json!({
            "version": "1.0",
            "truncation": { "direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0 },
            "padding": null,
            "added_tokens": [
                { "id": 0, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false,
                  "normalized": false, "special": true },
                { "id": 5, "content": "<think>", "single_word": false, "lstrip": false,
                  "rstrip": false, "normalized": false, "special": false },
            ],
            "normalizer": null,
            "pre_tokenizer": { "type": "WhitespaceSplit" },
            "post_processor": { "type": "TemplateProcessing",
                "single": [{ "SpecialToken": { "id": "<s>", "type_id": 0 } },
                           { "Sequence": { "id": "A", "type_id": 0 } }],
                "pair": [{ "Sequence": { "id": "A", "type_id": 0 } },
                         { "Sequence": { "id": "B", "type_id": 1 } }],
                "special_tokens": { "<s>": { "id": "<s>", "ids": [0], "tokens": ["<s>"] } } },
            "decoder": null,
            "model": { "type": "WordLevel", "unk_token": "?",
                       "vocab": { "<s>": 0, "?": 1, "one": 2, "two": 3, "three": 4 } },
        })
    }

    fn open(json: &Value) -> Result<Tokenizer, TokenizerError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        std::fs::write(&path, json.to_string()).unwrap();
        Tokenizer::open(&path)
    }

    #[test]
    fn texts_and_tokens_with_and_without_special_ones() {
        let tokenizer = open(&tokenizer_json()).unwrap();
        assert_eq!(tokenizer.vocab_size(), 6, "added tokens count");
        let text = "one two three two <think> one";
        let tokens = tokenizer.encode(text, false).unwrap();
        assert_eq!(tokens, [2, 3, 4, 3, 5, 2], "not truncated");
        let around = tokenizer.encode("one", true).unwrap();
        assert_eq!(around, [0, 2]);
        assert_eq!(tokenizer.decode(&around, true), "one");
        assert_eq!(tokenizer.decode(&around, false), "<s> one");
        assert_eq!(tokenizer.decode(&tokens, true), text);
        assert_eq!(tokenizer.encode("<s> one", false).unwrap(), [0, 2]);
        assert_eq!(tokenizer.decode(&[2, 999], true), "one");
        assert_eq!(tokenizer.token_id("<think>"), Some(5));
    }

    #[test]
    fn a_missing_or_malformed_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let missing = Tokenizer::open(&folder.path().join("tokenizer.json")).unwrap_err();
        assert!(missing.to_string().contains("tokenizer.json` is missing"));
        let malformed = open(&json!({ "version": "1.0" })).unwrap_err().to_string();
        assert!(
            malformed.contains("tokenizer.json` is not a tokenizer"),
            "{malformed}"
        );
    }
}
