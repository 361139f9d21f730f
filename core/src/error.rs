//! The one error of this crate: a configured value that cannot be used.

use alloc::string::{String, ToString};
use core::fmt::{Display, Formatter};

/// A configured value outside its allowed range.
///
/// Nothing else in this crate fails: wrong shapes are misuse and panic, and unusable data
/// (equal rewards, an empty completion) is an ordinary result with a reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Dotted key relative to the section that was validated, for instance `kl.coef`.
    pub key: String,
    /// The value as it was given.
    pub value: String,
    /// What is allowed, and where it helps, what to do instead.
    pub allowed: String,
}

impl ConfigError {
    /// An error about `key`, which has the unusable `value`.
    pub fn new(key: &str, value: impl Display, allowed: &str) -> Self {
        Self {
            key: key.to_string(),
            value: value.to_string(),
            allowed: allowed.to_string(),
        }
    }

    /// The same error seen from an enclosing section: `coef` becomes `kl.coef`.
    #[must_use]
    pub fn within(mut self, section: &str) -> Self {
        self.key = alloc::format!("{section}.{}", self.key);
        self
    }
}

impl Display for ConfigError {
    fn fmt(&self, f: &mut Formatter<'_>) -> core::fmt::Result {
        let Self {
            key,
            value,
            allowed,
        } = self;
        write!(f, "{key} = {value} is not allowed: {allowed}")
    }
}

impl core::error::Error for ConfigError {}

/// Accepts a finite `value` for which `is_allowed` holds.
///
/// # Errors
///
/// [`ConfigError`] with `key`, the value and `allowed` otherwise.
pub(crate) fn check_number(
    key: &str,
    value: f64,
    allowed: &str,
    is_allowed: impl Fn(f64) -> bool,
) -> Result<(), ConfigError> {
    if value.is_finite() && is_allowed(value) {
        Ok(())
    } else {
        Err(ConfigError::new(key, value, allowed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_names_key_value_and_range() {
        let error = check_number("coef", -1.0, "a number of at least 0", |v| v >= 0.0)
            .expect_err("negative")
            .within("kl");
        assert_eq!(
            error.to_string(),
            "kl.coef = -1 is not allowed: a number of at least 0"
        );
        assert!(check_number("coef", f64::NAN, "finite", |_| true).is_err());
        assert!(check_number("coef", f64::INFINITY, "finite", |_| true).is_err());
        assert!(check_number("coef", 0.5, "finite", |_| true).is_ok());
    }
}
