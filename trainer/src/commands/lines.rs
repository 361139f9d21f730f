//! JSON lines in, JSON lines out: the shape of `generate` and `score`.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use thiserror::Error;

/// A file of records cannot be read.
#[derive(Debug, Error)]
pub enum LinesError {
    /// The file cannot be opened or read.
    #[error("read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A line is not such a record.
    #[error("read {} line {line}: {message}; expected an object such as {example}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        message: String,
        /// A good line.
        example: &'static str,
    },
    /// There is no record.
    #[error("read {}: it has no record; expected lines such as {example}", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// A good line.
        example: &'static str,
    },
}

/// Every record of a file, or of standard input for `-`. Blank lines are skipped but counted.
///
/// # Errors
/// If the file cannot be read, a line is malformed, or there is no record.
pub fn read_lines<T: DeserializeOwned>(
    path: &Path,
    example: &'static str,
) -> Result<Vec<T>, LinesError> {
    let io = |source| LinesError::Io {
        path: path.into(),
        source,
    };
    let reader: Box<dyn BufRead> = if path == Path::new("-") {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(BufReader::new(File::open(path).map_err(io)?))
    };
    let mut records = Vec::new();
    for (index, text) in reader.lines().enumerate() {
        let text = text.map_err(io)?;
        if text.trim().is_empty() {
            continue;
        }
        records.push(
            serde_json::from_str(&text).map_err(|error| LinesError::Malformed {
                path: path.into(),
                line: index + 1,
                message: error.to_string(),
                example,
            })?,
        );
    }
    if records.is_empty() {
        return Err(LinesError::Empty {
            path: path.into(),
            example,
        });
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    struct Record {
        prompt: String,
    }

    #[test]
    fn malformed_lines_are_named_and_blank_ones_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("in.jsonl");
        std::fs::write(&path, "{\"prompt\":\"a\"}\n\n{\"prompt\":\"b\",\"x\":1}\n").unwrap();
        let records: Vec<Record> = read_lines(&path, "{}").unwrap();
        assert_eq!(records[1].prompt, "b");
        std::fs::write(&path, "{\"prompt\":\"a\"}\n\n{\"prompt\":3}\n").unwrap();
        let error = read_lines::<Record>(&path, "{}").unwrap_err().to_string();
        assert!(error.contains("in.jsonl line 3"), "{error}");
        std::fs::write(&path, "\n").unwrap();
        assert!(matches!(
            read_lines::<Record>(&path, "{}"),
            Err(LinesError::Empty { .. })
        ));
    }
}
