//! Parquet files to records.

use std::fs::File;
use std::path::Path;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row as TableRow};
use serde_json::Value;

use super::error::{DatasetError, Place};
use super::row::Row;

/// The records of a parquet file; columns that are neither text nor number are left out.
pub(crate) fn read_parquet(path: &Path) -> Result<Vec<(Place, Row)>, DatasetError> {
    let failed = |error: parquet::errors::ParquetError| DatasetError::Parquet {
        path: path.to_path_buf(),
        reason: error.to_string(),
    };
    let file = File::open(path).map_err(|source| DatasetError::Read {
        path: path.to_path_buf(),
        source,
    })?;
    let reader = SerializedFileReader::new(file).map_err(failed)?;
    let mut rows = Vec::new();
    for (index, row) in reader.get_row_iter(None).map_err(failed)?.enumerate() {
        let place = Place::Record(path.to_path_buf(), index + 1);
        rows.push((place, record(&row.map_err(failed)?)));
    }
    if rows.is_empty() {
        return Err(DatasetError::Empty {
            path: path.to_path_buf(),
        });
    }
    Ok(rows)
}

fn record(row: &TableRow) -> Row {
    row.get_column_iter()
        .filter_map(|(name, field)| Some((name.clone(), value(field)?)))
        .collect()
}

fn value(field: &Field) -> Option<Value> {
    Some(match field {
        Field::Null => Value::Null,
        Field::Bool(value) => Value::from(*value),
        Field::Byte(value) => Value::from(*value),
        Field::Short(value) => Value::from(*value),
        Field::Int(value) => Value::from(*value),
        Field::Long(value) => Value::from(*value),
        Field::UByte(value) => Value::from(*value),
        Field::UShort(value) => Value::from(*value),
        Field::UInt(value) => Value::from(*value),
        Field::ULong(value) => Value::from(*value),
        Field::Float(value) => Value::from(*value),
        Field::Double(value) => Value::from(*value),
        Field::Str(value) => Value::from(value.as_str()),
        // Text columns without the text annotation.
        Field::Bytes(value) => Value::from(value.as_utf8().ok()?),
        _ => return None,
    })
}
