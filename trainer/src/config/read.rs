//! From TOML values to the configuration, with errors that know their key.
//!
//! Serde's own error type is a text. This reader's is structured, so that a message can name the
//! dotted key, the value, what was expected, and the nearest key that exists.

use core::fmt;

use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, Expected, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, Visitor, value::MapAccessDeserializer,
};
use toml::{Table, Value};

use super::error::{ConfigError, Place};
use super::sections::RunConfig;
use super::write::UNSET;

/// Reads the configuration; keys that are absent take their built-in value.
pub(super) fn run_config(root: &Table) -> Result<RunConfig, ReadError> {
    RunConfig::deserialize(MapAccessDeserializer::new(TableReader::new(root)))
}

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

    fn inside(mut self, key: &str) -> Self {
        self.path.insert(0, key.into());
        self
    }

    /// The dotted key.
    pub(super) fn key(&self) -> String {
        self.path.join(".")
    }

    /// The message for people.
    pub(super) fn explain(self, place: Place, root: &Table) -> ConfigError {
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
            given: given.to_string(),
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

/// Reads one value.
struct ValueReader<'a>(&'a Value);

impl<'de> Deserializer<'de> for ValueReader<'de> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.0 {
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Integer(number) => match u64::try_from(*number) {
                Ok(number) => visitor.visit_u64(number),
                Err(_) => visitor.visit_i64(*number),
            },
            Value::Float(number) => visitor.visit_f64(*number),
            Value::Boolean(flag) => visitor.visit_bool(*flag),
            Value::Datetime(date) => visitor.visit_string(date.to_string()),
            Value::Array(items) => visitor.visit_seq(ListReader { items, index: 0 }),
            Value::Table(table) => visitor.visit_map(TableReader::new(table)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.0 {
            Value::String(text) if text == UNSET => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        match self.0 {
            Value::String(text) => visitor.visit_enum(
                IntoDeserializer::<ReadError>::into_deserializer(text.as_str()),
            ),
            Value::Table(table) => {
                let reader = MapAccessDeserializer::new(TableReader::new(table));
                reader.deserialize_enum(name, variants, visitor)
            }
            other => Err(ReadError::new(Problem::WrongType {
                given: other.to_string(),
                expected: format!("one of {}", variants.join(", ")),
            })),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

/// Reads a list, naming the index in errors.
struct ListReader<'a> {
    items: &'a [Value],
    index: usize,
}

impl<'de> SeqAccess<'de> for ListReader<'de> {
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, ReadError> {
        let Some(item) = self.items.get(self.index) else {
            return Ok(None);
        };
        let index = self.index.to_string();
        self.index += 1;
        let read = seed.deserialize(ValueReader(item));
        read.map(Some).map_err(|error| error.inside(&index))
    }
}

/// Reads a table, naming the key in errors.
struct TableReader<'a> {
    entries: toml::map::Iter<'a, String, Value>,
    current: Option<(&'a str, &'a Value)>,
}

impl<'a> TableReader<'a> {
    fn new(table: &'a Table) -> Self {
        Self {
            entries: table.iter(),
            current: None,
        }
    }
}

impl<'de> MapAccess<'de> for TableReader<'de> {
    type Error = ReadError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, ReadError> {
        let Some((key, value)) = self.entries.next() else {
            return Ok(None);
        };
        self.current = Some((key, value));
        seed.deserialize(IntoDeserializer::<ReadError>::into_deserializer(
            key.as_str(),
        ))
        .map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ReadError> {
        let Some((key, value)) = self.current.take() else {
            return Err(de::Error::custom("a key before its value"));
        };
        seed.deserialize(ValueReader(value))
            .map_err(|error| error.inside(key))
    }
}
