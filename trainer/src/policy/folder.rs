//! A Hugging Face model folder, opened whole: everything but the weights themselves.

use std::path::{Path, PathBuf};

use thiserror::Error;

use super::config::ModelConfig;
use super::config_file::{ConfigFileError, read_config};
use super::generation::{GenerationError, stop_ids};
use super::template::{ChatTemplate, TemplateError};
use super::tokenizer::{Tokenizer, TokenizerError};

/// A folder that is not a usable model.
#[derive(Debug, Error)]
pub enum FolderError {
    /// Nothing is there.
    #[error("there is no model folder `{}`", .path.display())]
    Missing {
        /// The path.
        path: PathBuf,
    },
    /// Something else is there.
    #[error("`{}` is not a folder; give the folder that holds config.json", .path.display())]
    NotAFolder {
        /// The path.
        path: PathBuf,
    },
    /// `config.json` cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigFileError),
    /// `tokenizer.json` cannot be used.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The chat template cannot be used.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The stop tokens cannot be used.
    #[error(transparent)]
    Generation(#[from] GenerationError),
    /// The tokenizer makes ids that have no embedding.
    #[error(
        "`{}` has tokens up to id {}, but config.json says vocab_size = {vocab_size}: the \
         tokenizer and the model do not belong together", .path.display(), .tokenizer_size - 1
    )]
    TokenizerTooLarge {
        /// The tokenizer's file.
        path: PathBuf,
        /// One more than its largest id.
        tokenizer_size: usize,
        /// Rows of the embedding.
        vocab_size: usize,
    },
}

/// What a model folder says, weights aside.
#[derive(Debug)]
pub struct ModelFolder {
    /// Where it is.
    pub path: PathBuf,
    /// The decoder's shape.
    pub config: ModelConfig,
    /// Text to tokens and back.
    pub tokenizer: Tokenizer,
    /// How a conversation becomes text; base models have none.
    pub template: Option<ChatTemplate>,
    /// Tokens that end a completion; see [`stop_ids`].
    pub stop_ids: Vec<u32>,
}

impl ModelFolder {
    /// Opens and checks the folder. An embedding with more rows than the tokenizer has tokens is
    /// fine (checkpoints pad it); one with fewer is an error.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        if !path.exists() {
            return Err(FolderError::Missing { path: path.into() });
        }
        if !path.is_dir() {
            return Err(FolderError::NotAFolder { path: path.into() });
        }
        let config = read_config(&path.join("config.json"))?;
        let tokenizer = Tokenizer::open(&path.join("tokenizer.json"))?;
        if tokenizer.vocab_size() > config.vocab_size {
            return Err(FolderError::TokenizerTooLarge {
                path: path.join("tokenizer.json"),
                tokenizer_size: tokenizer.vocab_size(),
                vocab_size: config.vocab_size,
            });
        }
        let template = ChatTemplate::open(path)?;
        let stop_ids = stop_ids(path, &tokenizer, config.vocab_size)?;
        Ok(Self {
            path: path.into(),
            config,
            tokenizer,
            template,
            stop_ids,
        })
    }
}
