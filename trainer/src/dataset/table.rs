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

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use parquet::basic::Compression;
    use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    use super::*;

    const SCHEMA: &str = "message problems {
        required binary question (UTF8);
        optional binary answer (UTF8);
        required int64 level;
    }";

    /// A parquet file with questions and answers; a blank answer is written as null.
    pub(crate) fn table(rows: &[(&str, &str)]) -> Vec<u8> {
        let schema = Arc::new(parse_message_type(SCHEMA).unwrap());
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .build();
        let mut writer =
            SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties)).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let questions: Vec<ByteArray> = rows.iter().map(|row| row.0.into()).collect();
        let mut column = group.next_column().unwrap().unwrap();
        let typed = column.typed::<ByteArrayType>();
        typed.write_batch(&questions, None, None).unwrap();
        column.close().unwrap();
        let levels: Vec<i16> = rows
            .iter()
            .map(|row| i16::from(!row.1.is_empty()))
            .collect();
        let answers: Vec<ByteArray> = rows
            .iter()
            .filter(|row| !row.1.is_empty())
            .map(|row| row.1.into())
            .collect();
        let mut column = group.next_column().unwrap().unwrap();
        let typed = column.typed::<ByteArrayType>();
        typed.write_batch(&answers, Some(&levels), None).unwrap();
        column.close().unwrap();
        let numbers: Vec<i64> = (0..rows.len() as i64).collect();
        let mut column = group.next_column().unwrap().unwrap();
        let typed = column.typed::<Int64Type>();
        typed.write_batch(&numbers, None, None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
        writer.into_inner().unwrap()
    }

    fn read(content: &[u8]) -> Result<Vec<(Place, Row)>, DatasetError> {
        let mut file = tempfile::Builder::new()
            .suffix(".parquet")
            .tempfile()
            .unwrap();
        file.write_all(content).unwrap();
        read_parquet(file.path())
    }

    #[test]
    fn text_and_numbers_become_records() {
        let rows = read(&table(&[("1+1", "#### 2"), ("2+2", "")])).unwrap();
        assert_eq!(rows[0].1["question"], "1+1");
        assert_eq!(rows[0].1["answer"], "#### 2");
        assert_eq!(rows[1].1["answer"], Value::Null);
        assert_eq!(rows[1].1["level"], 1);
        assert!(rows[1].0.to_string().ends_with(": record 2"));
    }

    #[test]
    fn damaged_files_are_named() {
        let whole = table(&[("1+1", "#### 2")]);
        for content in [&whole[..whole.len() / 2], &[], b"not a table at all"] {
            let message = read(content).unwrap_err().to_string();
            assert!(message.starts_with("read parquet file "), "{message}");
        }
        let message = read(&table(&[])).unwrap_err().to_string();
        assert!(message.contains("is empty"), "{message}");
    }
}
