//! The run's configuration: one section per stage, validated into ready values.

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
