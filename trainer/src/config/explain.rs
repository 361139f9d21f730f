//! What can be wrong with a value, in words for people.
//!
//! Serde's own error type is a text. This one is structured, so that a message can name the dotted
//! key, the value, what was expected, and the nearest key that exists.

use core::fmt;

use serde::de::{self, Expected, Unexpected};
use toml::{Table, Value};

use super::auto_sizes::may_be_automatic;
use super::error::{ConfigError, Place};
use super::sections::RunConfig;

/// What went wrong, and at which key.
#[derive(Debug)]
pub(super) struct ReadError {
    path: Vec<String>,
    problem: Problem,
}

#[derive(Debug)]
enum Problem {
    UnknownKey {
        known: &'static [&'static str],
    },
    UnknownVariant {
        given: String,
        known: &'static [&'static str],
    },
    MissingKey,
    WrongType {
        given: String,
        expected: String,
    },
    Other(String),
}

impl ReadError {
    fn new(problem: Problem) -> Self {
        Self {
            path: Vec::new(),
            problem,
        }
    }

    /// A key that was read by nobody.
    pub(super) fn unknown_key(path: Vec<String>) -> Self {
        let problem = Problem::UnknownKey { known: &["kind"] };
        Self { path, problem }
    }

    /// A value that is no variant of an option.
    pub(super) fn not_a_variant(given: &Value, variants: &[&str]) -> Self {
        Self::new(Problem::WrongType {
            given: given.to_string(),
            expected: format!("one of {}", variants.join(", ")),
        })
    }

    /// The same error, seen from the table or list around it.
    pub(super) fn inside(mut self, key: &str) -> Self {
        self.path.insert(0, key.into());
        self
    }

    /// The dotted key.
    pub(super) fn key(&self) -> String {
        self.path.join(".")
    }

    /// Serde reads the parameters of an option from a copy, where the reader loses the key. If one
    /// entry of the table has the value that was wrong, that is the key.
    fn descend(&mut self, root: &Table) {
        let (Problem::WrongType { given, .. }, Some(Value::Table(table))) =
            (&self.problem, lookup(root, &self.path))
        else {
            return;
        };
        let is_it = |(_, value): &(&String, &Value)| value.to_string() == *given;
        if let Some((key, _)) = table.iter().find(is_it) {
            self.path.push(key.clone());
        }
    }

    /// The message for people.
    pub(super) fn explain(mut self, place: Place, root: &Table) -> ConfigError {
        self.descend(root);
        let key = self.key();
        let written = lookup(root, &self.path);
        let shown = |given: String| match written {
            Some(value) if !value.is_table() => value.to_string(),
            _ => given,
        };
        let (value, expected) = match self.problem {
            Problem::UnknownKey { known } => {
                let hint = hint(&self.path, known);
                return ConfigError::UnknownKey { place, key, hint };
            }
            Problem::MissingKey => return ConfigError::MissingKey { place, key },
            Problem::UnknownVariant { given, known } => {
                let nearest = nearest(&given, known.iter().copied());
                let nearest = nearest.map_or(String::new(), |it| format!("; the nearest is {it}"));
                let expected = format!("one of {}{nearest}", known.join(", "));
                (shown(format!("{given:?}")), expected)
            }
            Problem::WrongType { given, expected } if may_be_automatic(&key) => {
                (shown(given), format!("{expected}, or \"auto\""))
            }
            Problem::WrongType { given, expected } => (shown(given), expected),
            Problem::Other(message) => (shown("a table".into()), message),
        };
        ConfigError::WrongType {
            place,
            key,
            value,
            expected,
        }
    }
}

fn lookup<'a>(root: &'a Table, path: &[String]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    rest.iter()
        .try_fold(root.get(first)?, |value, part| match value {
            Value::Array(items) => items.get(part.parse::<usize>().ok()?),
            other => other.get(part.as_str()),
        })
}

/// The nearest key that exists: a neighbour, or a key of another section with the same ending.
fn hint(path: &[String], known: &[&str]) -> String {
    let Some((last, parents)) = path.split_last() else {
        return String::new();
    };
    let prefix: String = parents.iter().map(|part| format!("{part}.")).collect();
    if let Some(name) = nearest(last, known.iter().copied()) {
        return format!("the nearest is `{prefix}{name}`");
    }
    let elsewhere = elsewhere(last);
    if elsewhere.is_empty() {
        return format!("known here: {}", known.join(", "));
    }
    format!("the nearest is {}", elsewhere.join(" or "))
}

/// Keys of other sections that have this very name.
fn elsewhere(name: &str) -> Vec<String> {
    let defaults = Table::try_from(RunConfig::default()).unwrap_or_default();
    let has_it = |section: &Value| section.get(name).is_some();
    let sections = defaults.iter().filter(|(_, section)| has_it(section));
    sections
        .map(|(section, _)| format!("`{section}.{name}`"))
        .collect()
}

/// The most similar name, if one is similar enough to be what was meant.
fn nearest<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.map(|name| (strsim::normalized_damerau_levenshtein(given, name), name));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 >= 0.6).then_some(best.1)
}

/// A value as TOML writes it.
fn written(given: Unexpected<'_>) -> String {
    match given {
        Unexpected::Bool(flag) => flag.to_string(),
        Unexpected::Unsigned(number) => number.to_string(),
        Unexpected::Signed(number) => number.to_string(),
        Unexpected::Float(number) => Value::Float(number).to_string(),
        Unexpected::Str(text) => Value::from(text).to_string(),
        other => other.to_string(),
    }
}

/// Serde's words for a type in words for people.
fn expectation(expected: &dyn Expected) -> String {
    let text = expected.to_string();
    match text.as_str() {
        "usize" | "u64" | "u32" | "u16" | "u8" => "a whole number, 0 or more".into(),
        "isize" | "i64" | "i32" => "a whole number".into(),
        "f64" | "f32" => "a number".into(),
        "a boolean" => "true or false".into(),
        "a string" | "str" | "path string" => "a text".into(),
        "a sequence" => "a list".into(),
        _ => match text.strip_prefix("an array of length ") {
            Some(length) => format!("a list of {length}"),
            None if text.starts_with("struct ") => "a table".into(),
            None => text,
        },
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.key(), self.problem)
    }
}

impl std::error::Error for ReadError {}

impl de::Error for ReadError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(Problem::Other(message.to_string()))
    }

    fn invalid_type(given: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(Problem::WrongType {
            given: written(given),
            expected: expectation(expected),
        })
    }

    fn invalid_value(given: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(given, expected)
    }

    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        Self::new(Problem::WrongType {
            given: format!("{length} values"),
            expected: expectation(expected),
        })
    }

    fn unknown_variant(given: &str, known: &'static [&'static str]) -> Self {
        let given = given.into();
        Self::new(Problem::UnknownVariant { given, known })
    }

    fn unknown_field(field: &str, known: &'static [&'static str]) -> Self {
        Self::new(Problem::UnknownKey { known }).inside(field)
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(Problem::MissingKey).inside(field)
    }
}
