//! Reading the small JSON files of a model folder, with errors that name the file.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use thiserror::Error;

/// A JSON file that cannot be used.
#[derive(Debug, Error)]
pub enum JsonFileError {
    /// The file is not there.
    #[error("`{}` is missing", .path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file is there and cannot be read.
    #[error("`{}` cannot be read: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not JSON.
    #[error("`{}` is not valid JSON: {source}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Line, column and reason.
        source: serde_json::Error,
    },
    /// The file is JSON, but not an object.
    #[error("`{}` does not hold a JSON object", .path.display())]
    NotAnObject {
        /// The file.
        path: PathBuf,
    },
}

/// The JSON object in `path`.
pub fn read_object(path: &Path) -> Result<Map<String, Value>, JsonFileError> {
    let text = std::fs::read(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => JsonFileError::Missing { path: path.into() },
        _ => JsonFileError::Unreadable {
            path: path.into(),
            source,
        },
    })?;
    match serde_json::from_slice(&text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(JsonFileError::NotAnObject { path: path.into() }),
        Err(source) => Err(JsonFileError::Malformed {
            path: path.into(),
            source,
        }),
    }
}

/// The JSON object in `path`, or `None` where there is no such file.
pub fn read_optional_object(path: &Path) -> Result<Option<Map<String, Value>>, JsonFileError> {
    match read_object(path) {
        Ok(object) => Ok(Some(object)),
        Err(JsonFileError::Missing { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unusable_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("some.json");
        assert!(read_optional_object(&path).unwrap().is_none());
        let missing = read_object(&path).unwrap_err().to_string();
        assert!(missing.contains("some.json` is missing"), "{missing}");
        std::fs::write(&path, "{\"a\": 1,\n").unwrap();
        let malformed = read_object(&path).unwrap_err().to_string();
        assert!(malformed.contains("some.json") && malformed.contains("line 2"));
        std::fs::write(&path, "[1]").unwrap();
        let array = read_object(&path).unwrap_err().to_string();
        assert!(array.contains("some.json` does not hold"), "{array}");
        std::fs::write(&path, "{\"a\": 1}").unwrap();
        assert_eq!(read_object(&path).unwrap()["a"], 1);
    }
}
