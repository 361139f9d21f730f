//! From TOML values to the configuration, remembering the key at which reading stopped.

use serde::Serialize;
use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess,
    Visitor, value::MapAccessDeserializer,
};
use toml::{Table, Value};

use super::explain::ReadError;
use super::sections::RunConfig;
use super::write::UNSET;

/// Reads the configuration; keys that are absent take their built-in value.
pub(super) fn run_config(root: &Table) -> Result<RunConfig, ReadError> {
    read(root)
}

fn read<'de, T: Deserialize<'de> + Serialize>(root: &'de Table) -> Result<T, ReadError> {
    let config = T::deserialize(MapAccessDeserializer::new(TableReader::new(root)))?;
    // Serde ignores keys beside a variant without parameters, whatever it is told to deny: what
    // was understood is written again, and what is missing there was not understood.
    let understood = Value::try_from(&config).map_err(de::Error::custom)?;
    match ignored(root, &understood) {
        Some(path) => Err(ReadError::unknown_key(path)),
        None => Ok(config),
    }
}

/// Path of a key that was given but not understood.
fn ignored(given: &Table, understood: &Value) -> Option<Vec<String>> {
    given.iter().find_map(|(key, value)| {
        let inner = match (value, understood.get(key)) {
            (Value::String(text), None) if text == UNSET => return None,
            (_, None) => Vec::new(),
            (Value::Table(given), Some(understood)) => ignored(given, understood)?,
            (Value::Array(given), Some(Value::Array(understood))) => {
                ignored_in_list(given, understood)?
            }
            (_, Some(_)) => return None,
        };
        Some([vec![key.clone()], inner].concat())
    })
}

fn ignored_in_list(given: &[Value], understood: &[Value]) -> Option<Vec<String>> {
    let pairs = given.iter().zip(understood).enumerate();
    let mut found = pairs.filter_map(|(index, (given, understood))| {
        let inner = ignored(given.as_table()?, understood)?;
        Some([vec![index.to_string()], inner].concat())
    });
    found.next()
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
            other => Err(ReadError::not_a_variant(other, variants)),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Place;

    #[derive(Debug, Default, PartialEq, Serialize, serde::Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Section {
        option: Choice,
        absent: Option<Choice>,
        list: Vec<Choice>,
    }

    #[derive(Debug, Default, PartialEq, Serialize, serde::Deserialize)]
    #[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
    enum Choice {
        #[default]
        Plain,
        WithTokens {
            tokens: usize,
            weight: f64,
        },
    }

    fn section(text: &str) -> Result<Section, String> {
        let root: Table = format!("[loss]\n{text}").parse().unwrap();
        let place = Place::CommandLine("--set x".into());
        let mut sections: std::collections::BTreeMap<String, Section> =
            read(&root).map_err(|error: ReadError| error.explain(place, &root).to_string())?;
        Ok(sections.remove("loss").unwrap())
    }

    #[test]
    fn options_with_parameters_are_read() {
        let with_tokens = Choice::WithTokens {
            tokens: 3,
            weight: 1.0,
        };
        let text = "option = { kind = \"with_tokens\", tokens = 3, weight = 1 }\nabsent = \"none\"";
        let expected = Section {
            option: with_tokens,
            absent: None,
            list: vec![],
        };
        assert_eq!(section(text).unwrap(), expected);
        let written = toml::to_string(&expected).unwrap();
        let read_back: Section = read(&written.parse().unwrap()).unwrap();
        assert_eq!(read_back, expected);
    }

    #[test]
    fn wrong_parameters_of_an_option_are_named() {
        for (text, expected) in [
            (
                "option = { kind = \"plain\", tokens = 3 }",
                "no key is called `loss.option.tokens`",
            ),
            (
                "list = [{ kind = \"plain\" }, { kind = \"plain\", tokens = 3 }]",
                "no key is called `loss.list.1.tokens`",
            ),
            (
                "option = { kind = \"with_tokens\", tokens = 3 }",
                "`loss.option.weight` is missing",
            ),
            (
                "option = { kind = \"with_tokens\", tokens = -3, weight = 1 }",
                "`loss.option.tokens = -3` should be a whole number, 0 or more",
            ),
            (
                "option = { kind = \"with_token\" }",
                "one of plain, with_tokens; the nearest is with_tokens",
            ),
            ("option = { }", "`loss.option.kind` is missing"),
            ("option = \"plain\"", "`loss.option = \"plain\"` should be"),
        ] {
            let error = section(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
