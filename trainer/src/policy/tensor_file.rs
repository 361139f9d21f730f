//! One safetensors file, read a tensor at a time.
//!
//! Layout (<https://github.com/huggingface/safetensors>): eight bytes with the length of the header,
//! the header (JSON: name -> dtype, shape, byte range), the values in little-endian order. The
//! header is checked against the length of the file before any value is read, so a file that was
//! cut short is an error at once and not in the middle of a load.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use burn::tensor::{bf16, f16};
use safetensors::tensor::{Dtype, Metadata};
use serde_json::Value;
use thiserror::Error;

/// Bytes of the length in front of the header.
const LENGTH_BYTES: u64 = 8;

/// Longest header that is believed, as in the reference implementation.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// Values converted at a time.
const CHUNK_VALUES: usize = 1 << 18;

/// A safetensors file that cannot be used.
#[derive(Debug, Error)]
pub enum TensorFileError {
    /// The file cannot be opened or read.
    #[error("`{}` cannot be read: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is shorter than its header says.
    #[error(
        "`{}` is truncated: tensor `{tensor}` ends at byte {needed_bytes}, the file at \
         {found_bytes}; download or copy it again", .path.display()
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// First tensor that is not there whole.
        tensor: String,
        /// Where that tensor ends.
        needed_bytes: u64,
        /// Where the file ends.
        found_bytes: u64,
    },
    /// The header is not one.
    #[error("`{}` is not a valid safetensors file: {reason}", .path.display())]
    BadHeader {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A tensor has a number format that is not read.
    #[error("`{}` holds tensor `{tensor}` as {dtype}: F32, F16 and BF16 are read", .path.display())]
    UnknownDtype {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its number format.
        dtype: String,
    },
}

/// An open safetensors file with its header read and checked.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    file: File,
    metadata: Metadata,
    data_start: u64,
}

impl TensorFile {
    /// Opens `path` and checks its header.
    pub fn open(path: &Path) -> Result<Self, TensorFileError> {
        let unreadable = |source| TensorFileError::Unreadable {
            path: path.into(),
            source,
        };
        let mut file = File::open(path).map_err(unreadable)?;
        let file_bytes = file.metadata().map_err(unreadable)?.len();
        let header = read_header(path, &mut file, file_bytes)?;
        let metadata = parse_header(path, &header)?;
        let opened = Self {
            path: path.into(),
            file,
            metadata,
            data_start: LENGTH_BYTES + header.len() as u64,
        };
        opened.check_length(file_bytes)?;
        Ok(opened)
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names of the tensors, in file order.
    pub fn names(&self) -> Vec<String> {
        self.metadata.offset_keys()
    }

    /// Shape of a tensor, if the file holds it.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.metadata.info(name).map(|info| info.shape.as_slice())
    }

    /// The values `range` of tensor `name`, in row-major order, as f32.
    ///
    /// # Panics
    /// If the file does not hold the tensor or the range goes beyond it.
    pub fn read(&self, name: &str, range: Range<usize>) -> Result<Vec<f32>, TensorFileError> {
        let info = self.metadata.info(name);
        let info = info.unwrap_or_else(|| panic!("read: no tensor {name}"));
        let num_values: usize = info.shape.iter().product();
        assert!(
            range.end <= num_values,
            "read: {range:?} of {num_values} values"
        );
        let value_bytes = self.value_bytes(name, info.dtype)?;
        let start = info.data_offsets.0 + range.start * value_bytes;
        let mut values = Vec::with_capacity(range.len());
        let mut buffer = vec![0; range.len().min(CHUNK_VALUES) * value_bytes];
        let mut file = &self.file;
        let unreadable = |source| TensorFileError::Unreadable {
            path: self.path.clone(),
            source,
        };
        file.seek(SeekFrom::Start(self.data_start + start as u64))
            .map_err(unreadable)?;
        while values.len() < range.len() {
            let count = (range.len() - values.len()).min(CHUNK_VALUES);
            let bytes = &mut buffer[..count * value_bytes];
            file.read_exact(bytes).map_err(unreadable)?;
            convert(info.dtype, bytes, &mut values);
        }
        Ok(values)
    }

    fn value_bytes(&self, name: &str, dtype: Dtype) -> Result<usize, TensorFileError> {
        match dtype {
            Dtype::F32 => Ok(4),
            Dtype::F16 | Dtype::BF16 => Ok(2),
            other => Err(TensorFileError::UnknownDtype {
                path: self.path.clone(),
                tensor: name.into(),
                dtype: other.to_string(),
            }),
        }
    }

    fn check_length(&self, file_bytes: u64) -> Result<(), TensorFileError> {
        for name in self.names() {
            let end = self
                .metadata
                .info(&name)
                .map_or(0, |info| info.data_offsets.1);
            let needed_bytes = self.data_start + end as u64;
            if needed_bytes > file_bytes {
                return Err(TensorFileError::Truncated {
                    path: self.path.clone(),
                    tensor: name,
                    needed_bytes,
                    found_bytes: file_bytes,
                });
            }
        }
        let surplus_bytes = file_bytes - self.data_start - self.metadata.data_len() as u64;
        if surplus_bytes > 0 {
            let reason = format!("{surplus_bytes} bytes after the last tensor");
            return Err(bad_header(&self.path, reason));
        }
        Ok(())
    }
}

fn bad_header(path: &Path, reason: impl Into<String>) -> TensorFileError {
    TensorFileError::BadHeader {
        path: path.into(),
        reason: reason.into(),
    }
}

fn read_header(path: &Path, file: &mut File, file_bytes: u64) -> Result<Vec<u8>, TensorFileError> {
    let unreadable = |source| TensorFileError::Unreadable {
        path: path.into(),
        source,
    };
    if file_bytes < LENGTH_BYTES {
        return Err(bad_header(path, format!("it has only {file_bytes} bytes")));
    }
    let mut length = [0; LENGTH_BYTES as usize];
    file.read_exact(&mut length).map_err(unreadable)?;
    let header_bytes = u64::from_le_bytes(length);
    if header_bytes > MAX_HEADER_BYTES || header_bytes > file_bytes - LENGTH_BYTES {
        let reason = format!("a header of {header_bytes} bytes in a file of {file_bytes}");
        return Err(bad_header(path, reason));
    }
    let mut header = vec![0; header_bytes as usize];
    file.read_exact(&mut header).map_err(unreadable)?;
    Ok(header)
}

fn parse_header(path: &Path, header: &[u8]) -> Result<Metadata, TensorFileError> {
    serde_json::from_slice(header).map_err(|source| {
        unknown_dtype(path, header).unwrap_or_else(|| bad_header(path, source.to_string()))
    })
}

/// The first tensor whose dtype no version of the format names, if that is what is wrong.
fn unknown_dtype(path: &Path, header: &[u8]) -> Option<TensorFileError> {
    let header: Value = serde_json::from_slice(header).ok()?;
    header.as_object()?.iter().find_map(|(name, info)| {
        let dtype = info.get("dtype").filter(|_| name != "__metadata__")?;
        match serde_json::from_value::<Dtype>(dtype.clone()) {
            Ok(_) => None,
            Err(_) => Some(TensorFileError::UnknownDtype {
                path: path.into(),
                tensor: name.clone(),
                dtype: dtype
                    .as_str()
                    .map_or_else(|| dtype.to_string(), String::from),
            }),
        }
    })
}

/// Appends the values in `bytes`; the formats that [`TensorFile::value_bytes`] lets through.
fn convert(dtype: Dtype, bytes: &[u8], values: &mut Vec<f32>) {
    match dtype {
        Dtype::F16 => values.extend(
            bytes
                .as_chunks()
                .0
                .iter()
                .map(|chunk| f16::from_le_bytes(*chunk).to_f32()),
        ),
        Dtype::BF16 => values.extend(
            bytes
                .as_chunks()
                .0
                .iter()
                .map(|chunk| bf16::from_le_bytes(*chunk).to_f32()),
        ),
        _ => values.extend(
            bytes
                .as_chunks()
                .0
                .iter()
                .map(|chunk| f32::from_le_bytes(*chunk)),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with the given header text and number of data bytes.
    fn file(folder: &Path, header: &str, data: &[u8]) -> PathBuf {
        let path = folder.join("model.safetensors");
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn one(dtype: &str, shape: &str, end: usize) -> String {
        format!(r#"{{"w":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[0,{end}]}}}}"#)
    }

    fn message(header: &str, data: &[u8]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = file(folder.path(), header, data);
        let message = match TensorFile::open(&path) {
            Err(error) => error.to_string(),
            Ok(opened) => opened.read("w", 0..1).unwrap_err().to_string(),
        };
        assert!(message.contains("model.safetensors"), "{message}");
        message
    }

    #[test]
    fn three_formats_become_f32() {
        let folder = tempfile::tempdir().unwrap();
        let values = [1.5f32, -0.25, 65504.0, 0.0];
        let as_f32 = values
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .collect::<Vec<_>>();
        let as_f16 = values
            .map(f16::from_f32)
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .collect();
        let as_bf16 = values
            .map(bf16::from_f32)
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .collect();
        for (dtype, data, third) in [
            ("F32", as_f32, 65504.0),
            ("F16", as_f16, 65504.0),
            ("BF16", as_bf16, 65536.0),
        ] {
            let path = file(folder.path(), &one(dtype, "[2,2]", data.len()), &data);
            let opened = TensorFile::open(&path).unwrap();
            assert_eq!(opened.shape("w"), Some(&[2, 2][..]));
            assert_eq!(opened.read("w", 0..4).unwrap(), [1.5, -0.25, third, 0.0]);
            assert_eq!(opened.read("w", 1..3).unwrap(), [-0.25, third]);
        }
    }

    #[test]
    fn reading_crosses_chunks() {
        let folder = tempfile::tempdir().unwrap();
        let num_values = 2 * CHUNK_VALUES + 3;
        let data: Vec<u8> = (0..num_values)
            .flat_map(|x| (x as f32).to_le_bytes())
            .collect();
        let header = one("F32", &format!("[{num_values}]"), data.len());
        let opened = TensorFile::open(&file(folder.path(), &header, &data)).unwrap();
        let values = opened.read("w", 0..num_values).unwrap();
        assert!(
            values
                .iter()
                .enumerate()
                .all(|(index, value)| *value == index as f32)
        );
    }

    #[test]
    fn a_damaged_file_is_named_with_its_tensor() {
        let truncated = message(&one("F32", "[4]", 16), &[0; 12]);
        assert!(truncated.contains("truncated: tensor `w`"), "{truncated}");
        let surplus = message(&one("F32", "[4]", 16), &[0; 20]);
        assert!(
            surplus.contains("4 bytes after the last tensor"),
            "{surplus}"
        );
        let unknown = message(&one("F3", "[4]", 16), &[0; 16]);
        assert!(unknown.contains("tensor `w` as F3: F32, F16"), "{unknown}");
        let integers = message(&one("I64", "[2]", 16), &[0; 16]);
        assert!(
            integers.contains("tensor `w` as I64: F32, F16"),
            "{integers}"
        );
        let sizes = message(&one("F32", "[5]", 16), &[0; 16]);
        assert!(sizes.contains("not a valid safetensors file"), "{sizes}");
        let text = message("{\"w\":", &[]);
        assert!(text.contains("not a valid safetensors file"), "{text}");
    }

    #[test]
    fn a_header_that_cannot_be_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        for bytes in [&b"abc"[..], &[255; 16], &[9, 0, 0, 0, 0, 0, 0, 0, b'{']] {
            std::fs::write(&path, bytes).unwrap();
            let error = TensorFile::open(&path).unwrap_err();
            assert!(
                matches!(error, TensorFileError::BadHeader { .. }),
                "{error}"
            );
        }
    }
}
