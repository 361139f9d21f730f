//! Values as Python writes them: `repr`, and `json.dumps` with its options.

use minijinja::value::{Value, ValueKind};
use serde_json::Value as Json;

/// How `json.dumps` writes; the default is Python's, except that text stays as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JsonStyle {
    /// Escape everything beyond ASCII.
    pub ensure_ascii: bool,
    /// One item per line, indented by this many blanks per level.
    pub indent: Option<usize>,
    /// Between items, and between a key and its value.
    pub separators: Option<(String, String)>,
    /// Keys in the order of their code points.
    pub sort_keys: bool,
}

/// Python's `json.dumps`.
pub fn json_dumps(value: &Json, style: &JsonStyle) -> String {
    let mut text = String::new();
    dump(value, style, 0, &mut text);
    text
}

fn dump(value: &Json, style: &JsonStyle, level: usize, text: &mut String) {
    match value {
        Json::Null => text.push_str("null"),
        Json::Bool(flag) => text.push_str(if *flag { "true" } else { "false" }),
        Json::Number(number) => text.push_str(&json_number(number)),
        Json::String(string) => dump_string(string, style, text),
        Json::Array(items) => {
            let writers = items.iter().map(|item| (None, item));
            dump_items(['[', ']'], writers.collect(), style, level, text);
        }
        Json::Object(object) => {
            let mut items: Vec<_> = object.iter().map(|(key, item)| (Some(key), item)).collect();
            if style.sort_keys {
                items.sort_by_key(|(key, _)| *key);
            }
            dump_items(['{', '}'], items, style, level, text);
        }
    }
}

fn dump_items(
    brackets: [char; 2],
    items: Vec<(Option<&String>, &Json)>,
    style: &JsonStyle,
    level: usize,
    text: &mut String,
) {
    let default_item = if style.indent.is_some() { "," } else { ", " };
    let (item_separator, key_separator) = match &style.separators {
        Some((item, key)) => (item.as_str(), key.as_str()),
        None => (default_item, ": "),
    };
    let new_line = |level: usize, text: &mut String| {
        if let Some(width) = style.indent {
            text.push('\n');
            text.extend(std::iter::repeat_n(' ', width * level));
        }
    };
    let is_empty = items.is_empty();
    text.push(brackets[0]);
    for (index, (key, item)) in items.into_iter().enumerate() {
        if index > 0 {
            text.push_str(item_separator);
        }
        new_line(level + 1, text);
        if let Some(key) = key {
            dump_string(key, style, text);
            text.push_str(key_separator);
        }
        dump(item, style, level + 1, text);
    }
    if !is_empty {
        new_line(level, text);
    }
    text.push(brackets[1]);
}

fn dump_string(string: &str, style: &JsonStyle, text: &mut String) {
    let quoted = Json::from(string).to_string();
    if !style.ensure_ascii {
        text.push_str(&quoted);
        return;
    }
    for character in quoted.chars() {
        if character.is_ascii() {
            text.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                text.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
}

fn json_number(number: &serde_json::Number) -> String {
    match (number.is_f64(), number.as_f64()) {
        (true, Some(float)) => python_float(float),
        _ => number.to_string(),
    }
}

/// Python's `repr` of a float: the shortest digits that read back, with an exponent below 1e-4 and
/// from 1e16 on.
fn python_float(float: f64) -> String {
    let scientific = format!("{float:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else {
        return scientific.to_lowercase();
    };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = float.to_string();
        return if plain.contains('.') {
            plain
        } else {
            plain + ".0"
        };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// Python's `repr`, for the values that templates handle; `str` differs for strings alone.
pub fn python_repr(value: &Value) -> String {
    match value.kind() {
        ValueKind::Undefined => String::new(),
        ValueKind::None => "None".into(),
        ValueKind::Bool => if value.is_true() { "True" } else { "False" }.into(),
        ValueKind::String => quote(value.as_str().unwrap_or_default()),
        ValueKind::Number if value.is_integer() => value.to_string(),
        ValueKind::Number => {
            f64::try_from(value.clone()).map_or_else(|_| value.to_string(), python_float)
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let items = value.try_iter().into_iter().flatten();
            let items: Vec<String> = items.map(|item| python_repr(&item)).collect();
            format!("[{}]", items.join(", "))
        }
        ValueKind::Map => {
            let keys = value.try_iter().into_iter().flatten();
            let items = keys.map(|key| {
                let item = value.get_item(&key).unwrap_or_default();
                format!("{}: {}", python_repr(&key), python_repr(&item))
            });
            format!("{{{}}}", items.collect::<Vec<_>>().join(", "))
        }
        _ => value.to_string(),
    }
}

/// A string literal: single quotes, unless only they occur in the text.
fn quote(text: &str) -> String {
    let mark = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    let mut quoted = String::from(mark);
    for character in text.chars() {
        match character {
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\\' => quoted.push_str("\\\\"),
            _ if character == mark => quoted.extend(['\\', mark]),
            _ if character.is_ascii_control() => {
                quoted.push_str(&format!("\\x{:02x}", character as u32));
            }
            _ => quoted.push(character),
        }
    }
    quoted.push(mark);
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn floats_are_written_as_python_writes_them() {
        for (float, text) in [
            (1.0, "1.0"),
            (0.1, "0.1"),
            (-2.5, "-2.5"),
            (1e16, "1e+16"),
            (1.5e-7, "1.5e-07"),
            (0.0001, "0.0001"),
            (123456789012345.0, "123456789012345.0"),
            (1e300, "1e+300"),
        ] {
            assert_eq!(python_float(float), text);
        }
    }

    #[test]
    fn reprs_are_python_literals() {
        let value =
            Value::from_serialize(json!([null, true, 1, 1.0, "it's", "a\"b'\n", {"k": []}]));
        assert_eq!(
            python_repr(&value),
            r#"[None, True, 1, 1.0, "it's", 'a"b\'\n', {'k': []}]"#
        );
    }
}
