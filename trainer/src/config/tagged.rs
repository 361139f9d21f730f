//! An option with parameters, written as its bare name or as a table: `method = "hive"` is
//! `method = { kind = "hive" }`.

use core::fmt;
use core::marker::PhantomData;

use serde::de::value::{MapAccessDeserializer, MapDeserializer};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

/// Reads a value of an enum that is tagged by `kind`.
///
/// # Errors
/// If it is neither a text nor a table, or not a variant.
pub fn name_or_table<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    deserializer.deserialize_any(NameOrTable(PhantomData))
}

struct NameOrTable<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for NameOrTable<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name, or a table with `kind`")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<T, E> {
        let pair = core::iter::once(("kind", name));
        T::deserialize(MapDeserializer::new(pair))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}
