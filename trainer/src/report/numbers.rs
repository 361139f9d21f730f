//! JSON numbers that may be NaN or infinite, as some writers put them.

use serde::{Deserialize, Deserializer, de};

/// A number, or one of the words that Python writes where JSON has no number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Number(pub f64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Number(f64),
            Word(String),
            Null(()),
        }
        match Raw::deserialize(deserializer)? {
            Raw::Number(value) => Ok(Self(value)),
            Raw::Null(()) => Ok(Self(f64::NAN)),
            Raw::Word(word) => word.parse().map(Self).map_err(de::Error::custom),
        }
    }
}

/// The bare words that stand for numbers in what Python's `json` writes.
const WORDS: [&str; 3] = ["-Infinity", "Infinity", "NaN"];

/// Puts quotation marks around bare `NaN`, `Infinity` and `-Infinity`, so that a reader can name
/// the number instead of a column of the text.
pub fn quote_non_finite(text: &str) -> String {
    let (mut quoted, mut rest, mut is_string) = (String::with_capacity(text.len()), text, false);
    while let Some(first) = rest.chars().next() {
        let word = WORDS
            .iter()
            .find(|word| !is_string && rest.starts_with(**word));
        let taken = match word {
            Some(word) => {
                quoted += &format!("\"{word}\"");
                word.len()
            }
            // An escaped character cannot end the string.
            None if is_string && first == '\\' => {
                let pair: String = rest.chars().take(2).collect();
                quoted += &pair;
                pair.len()
            }
            None => {
                is_string ^= first == '"';
                quoted.push(first);
                first.len_utf8()
            }
        };
        rest = &rest[taken..];
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_words_are_numbers_and_words_in_strings_are_not() {
        let text = r#"{"NaN é": [NaN, -Infinity, Infinity, 1.5, null], "a\"NaN": []}"#;
        let quoted = quote_non_finite(text);
        let read: std::collections::BTreeMap<String, Vec<Number>> =
            serde_json::from_str(&quoted).unwrap();
        let values = &read["NaN é"];
        assert!(values[0].0.is_nan() && values[4].0.is_nan());
        assert_eq!(values[1].0, f64::NEG_INFINITY);
        assert_eq!((values[2].0, values[3].0), (f64::INFINITY, 1.5));
        assert!(read.contains_key("a\"NaN"));
    }
}
