//! What can be wrong with a configuration.

use std::path::PathBuf;

use thiserror::Error;

/// A value that cannot be used, named by its key.
#[derive(Debug, Error, Clone, PartialEq)]
#[error("`{key} = {value}` is not possible: {allowed}")]
pub struct InvalidValue {
    /// Dotted key, such as `rollout.temperature`.
    pub key: String,
    /// What was given.
    pub value: String,
    /// What is allowed, and what to do.
    pub allowed: String,
}

impl InvalidValue {
    /// Builds the error from displayable parts.
    pub fn new(key: &str, value: impl core::fmt::Display, allowed: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            value: value.to_string(),
            allowed: allowed.into(),
        }
    }
}

/// Where a key was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a recipe.
    Recipe {
        /// File, or name of the embedded recipe.
        name: String,
        /// Line, counted from 1.
        line: usize,
    },
    /// On the command line, as typed.
    CommandLine(String),
    /// Nowhere: the built-in value.
    Default,
}

impl core::fmt::Display for Place {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Recipe { name, line } => write!(f, "{name} line {line}"),
            Self::CommandLine(typed) => f.write_str(typed),
            Self::Default => f.write_str("built-in value"),
        }
    }
}

/// A configuration that cannot become a run. Every variant is a usage error (exit code 2).
#[derive(Debug, Error)]
pub enum ConfigError {
    /// `--recipe` names neither a file nor an embedded recipe.
    #[error("find recipe `{name}`: no such file, and the embedded recipes are {}", known.join(", "))]
    NoRecipe {
        /// What was asked for.
        name: String,
        /// The embedded recipes.
        known: Vec<String>,
    },
    /// The recipe's file cannot be read.
    #[error("read recipe {}", path.display())]
    ReadRecipe {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Following the bases of a recipe leads back to it.
    #[error("read {place}: the base {title} is built on this recipe; give it another base")]
    BaseCycle {
        /// Where the base is named.
        place: Place,
        /// The recipe that comes again.
        title: String,
    },
    /// The text is not TOML.
    #[error("read {place}: {message}")]
    Syntax {
        /// Where.
        place: Place,
        /// What the parser says.
        message: String,
    },
    /// An override has no `=` or no dotted key.
    #[error("read `{typed}`: expected section.key=value, such as --set run.steps=50")]
    NotAnOverride {
        /// What was typed.
        typed: String,
    },
    /// A key that does not exist.
    #[error("read {place}: no key is called `{key}`; {hint}")]
    UnknownKey {
        /// Where it was written.
        place: Place,
        /// The dotted key.
        key: String,
        /// The nearest known key, or the keys that exist there.
        hint: String,
    },
    /// A value of the wrong type, or no variant of an option.
    #[error("read {place}: `{key} = {value}` should be {expected}")]
    WrongType {
        /// Where it was written.
        place: Place,
        /// The dotted key.
        key: String,
        /// The value as TOML.
        value: String,
        /// What it should be.
        expected: String,
    },
    /// An option lacks one of its parameters.
    #[error("read {place}: `{key}` is missing")]
    MissingKey {
        /// Where its table was written.
        place: Place,
        /// The dotted key.
        key: String,
    },
    /// A value out of its range.
    #[error("use {place}")]
    Invalid {
        /// Where it was written.
        place: Place,
        /// Which value, and what is allowed.
        source: InvalidValue,
    },
    /// The configuration cannot be written as TOML.
    #[error("write the configuration as TOML: {message}")]
    Write {
        /// Why not.
        message: String,
    },
}
