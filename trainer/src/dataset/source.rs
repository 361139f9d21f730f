//! Files to records, each with its place.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde_json::Value;

use super::error::{DatasetError, Place};
use super::row::Row;

/// The records of a `.jsonl` or `.json` file: one object a line, or one array of objects.
pub(crate) fn read_json(path: &Path) -> Result<Vec<(Place, Row)>, DatasetError> {
    let failed = |source| DatasetError::Read {
        path: path.to_path_buf(),
        source,
    };
    let mut reader = BufReader::new(File::open(path).map_err(failed)?);
    let start = reader.fill_buf().map_err(failed)?;
    let is_marked = start.starts_with(b"\xEF\xBB\xBF");
    if is_marked {
        reader.consume(3);
    }
    let first = reader.fill_buf().map_err(failed)?;
    let is_array = first.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    let rows = if is_array {
        array(reader, path)?
    } else {
        lines(reader, path)?
    };
    if rows.is_empty() {
        return Err(DatasetError::Empty {
            path: path.to_path_buf(),
        });
    }
    Ok(rows)
}

fn array(reader: impl BufRead, path: &Path) -> Result<Vec<(Place, Row)>, DatasetError> {
    let values: Vec<Value> =
        serde_json::from_reader(reader).map_err(|error| DatasetError::Json {
            place: Place::Line(path.to_path_buf(), error.line()),
            reason: error.to_string(),
        })?;
    values
        .into_iter()
        .enumerate()
        .map(|(index, value)| {
            let place = Place::Record(path.to_path_buf(), index + 1);
            Ok((place.clone(), object(value, place)?))
        })
        .collect()
}

/// Blank lines are skipped but counted.
fn lines(mut reader: impl BufRead, path: &Path) -> Result<Vec<(Place, Row)>, DatasetError> {
    let mut rows = Vec::new();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let num_bytes =
            reader
                .read_until(b'\n', &mut line)
                .map_err(|source| DatasetError::Read {
                    path: path.to_path_buf(),
                    source,
                })?;
        if num_bytes == 0 {
            break;
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let place = Place::Line(path.to_path_buf(), number);
        let value = serde_json::from_slice(&line).map_err(|error| DatasetError::Json {
            place: place.clone(),
            reason: format!("{} at column {}", category(&error), error.column()),
        })?;
        rows.push((place.clone(), object(value, place)?));
    }
    Ok(rows)
}

fn category(error: &serde_json::Error) -> &'static str {
    match error.classify() {
        serde_json::error::Category::Eof => "the line ends too early",
        serde_json::error::Category::Io => "the line cannot be read",
        serde_json::error::Category::Syntax | serde_json::error::Category::Data => "syntax error",
    }
}

fn object(value: Value, place: Place) -> Result<Row, DatasetError> {
    match value {
        Value::Object(row) => Ok(row),
        other => Err(DatasetError::Json {
            place,
            reason: format!("found {}", kind(&other)),
        }),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn read(content: &[u8]) -> Result<Vec<(Place, Row)>, DatasetError> {
        let mut file = tempfile::Builder::new()
            .suffix(".jsonl")
            .tempfile()
            .unwrap();
        file.write_all(content).unwrap();
        read_json(file.path())
    }

    #[test]
    fn lines_and_arrays() {
        let rows = read(b"\xEF\xBB\xBF{\"a\": 1}\n\n{\"a\": 2}").unwrap();
        assert_eq!(rows.len(), 2);
        assert!(rows[1].0.to_string().ends_with(":3"), "{}", rows[1].0);
        let rows = read(b" [\n{\"a\": 1},\n{\"a\": 2}]").unwrap();
        assert!(rows[1].0.to_string().ends_with(": record 2"));
    }

    #[test]
    fn faults_name_file_and_line() {
        for (content, place, reason) in [
            (&b"{\"a\": 1}\n{\"a\": \n"[..], ":2: ", "ends too early"),
            (b"{\"a\": 1}\n[1]\n", ":2: ", "found an array"),
            (b"{\"a\": 1} x\n", ":1: ", "syntax error at column"),
            (b"{\"a\": \"\xFF\"}\n", ":1: ", "syntax error"),
            (b"[{\"a\": 1},\n{\"a\"]", ":2: ", "line 2"),
            (b"[1]", ": record 1: ", "found a number"),
            (b"", "", "is empty"),
            (b"\n \n", "", "is empty"),
            (b"[]", "", "is empty"),
        ] {
            let message = read(content).unwrap_err().to_string();
            assert!(
                message.contains(place) && message.contains(reason),
                "{message}"
            );
        }
        let message = read_json(Path::new("no/such.jsonl"))
            .unwrap_err()
            .to_string();
        assert!(message.contains("no/such.jsonl"), "{message}");
    }
}
