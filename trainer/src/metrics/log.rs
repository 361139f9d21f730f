//! Files of one JSON record per line, appended in step order.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A log cannot be written, or cannot be continued.
#[derive(Debug, Error)]
pub enum LogError {
    /// The file system refused.
    #[error("{action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A line before the last is no record.
    #[error("continue {} line {line}: {message}; repair or remove the line", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Line, counted from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// A record cannot be written as JSON.
    #[error("write {}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: serde_json::Error,
    },
}

/// What a resumed log holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Lines up to the checkpoint's step.
    pub num_lines: usize,
    /// Lines after it, dropped: their steps are done again.
    pub num_dropped: usize,
    /// True if the last line was cut when the run was killed; it is dropped.
    pub has_torn_line: bool,
}

/// An append-only file of records. Every record has the key `step`.
#[derive(Debug)]
pub struct JsonlLog {
    path: PathBuf,
    file: File,
}

/// The only part of a record that the log itself reads.
#[derive(Deserialize)]
struct StepOnly {
    step: u64,
}

impl JsonlLog {
    /// Starts a new, empty file; refuses one that exists.
    pub fn create(path: &Path) -> Result<Self, LogError> {
        let options = OpenOptions::new().append(true).create_new(true).clone();
        Self::open(path, &options, "create")
    }

    /// Continues a file after the checkpoint of `step`: later lines and a torn last one go. The
    /// file is replaced as a whole, so that a crash here loses nothing; a missing file is empty.
    pub fn resume(path: &Path, step: u64) -> Result<(Self, Kept), LogError> {
        let kept = if path.exists() {
            truncate(path, step)?
        } else {
            Kept::default()
        };
        let options = OpenOptions::new().append(true).create(true).clone();
        Ok((Self::open(path, &options, "open")?, kept))
    }

    fn open(path: &Path, options: &OpenOptions, action: &'static str) -> Result<Self, LogError> {
        let file = options
            .open(path)
            .map_err(|source| io_error(action, path, source))?;
        let path = path.into();
        Ok(Self { path, file })
    }

    /// Appends one record in a single write, so that a killed run tears at most its last line.
    pub fn append(&mut self, record: &impl Serialize) -> Result<(), LogError> {
        let mut line = serde_json::to_vec(record).map_err(|source| LogError::Json {
            path: self.path.clone(),
            source,
        })?;
        line.push(b'\n');
        self.file
            .write_all(&line)
            .map_err(|source| io_error("write", &self.path, source))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes everything appended so far durable; called before a checkpoint is saved.
    pub fn sync(&self) -> Result<(), LogError> {
        self.file
            .sync_all()
            .map_err(|source| io_error("flush", &self.path, source))
    }
}

/// All records of a file, oldest first.
///
/// # Errors
/// If the file cannot be read or a line is no such record.
pub fn read_records<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, LogError> {
    let text = fs::read_to_string(path).map_err(|source| io_error("read", path, source))?;
    let lines = text.lines().enumerate();
    let record = |(index, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| LogError::Damaged {
            path: path.into(),
            line: index + 1,
            message: error.to_string(),
        })
    };
    lines.map(record).collect()
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> LogError {
    let path = path.into();
    LogError::Io {
        action,
        path,
        source,
    }
}

/// Rewrites the file with the lines up to `step`.
fn truncate(path: &Path, step: u64) -> Result<Kept, LogError> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".tmp");
    let temporary = path.with_file_name(name);
    let read = |source| io_error("read", path, source);
    let write = |source| io_error("write", &temporary, source);
    let mut reader = BufReader::new(File::open(path).map_err(read)?);
    let mut writer = BufWriter::new(File::create(&temporary).map_err(write)?);
    let mut kept = Kept::default();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if reader.read_until(b'\n', &mut line).map_err(read)? == 0 {
            break;
        }
        if line.last() != Some(&b'\n') {
            kept.has_torn_line = true;
            break;
        }
        if step_of(path, number, &line)? > step {
            kept.num_dropped += 1;
            continue;
        }
        kept.num_lines += 1;
        writer.write_all(&line).map_err(write)?;
    }
    let file = writer
        .into_inner()
        .map_err(|error| write(error.into_error()))?;
    file.sync_all().map_err(write)?;
    fs::rename(&temporary, path).map_err(|source| io_error("replace", path, source))?;
    Ok(kept)
}

fn step_of(path: &Path, number: usize, line: &[u8]) -> Result<u64, LogError> {
    let record: Result<StepOnly, _> = serde_json::from_slice(line);
    let damaged = |error: serde_json::Error| LogError::Damaged {
        path: path.into(),
        line: number,
        message: error.to_string(),
    };
    record.map(|it| it.step).map_err(damaged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn lines(steps: std::ops::RangeInclusive<u64>) -> String {
        steps
            .map(|step| format!("{{\"step\":{step},\"x\":1}}\n"))
            .collect()
    }

    #[test]
    fn a_resumed_log_is_as_if_nothing_had_been_interrupted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        for torn in ["", "{\"step\":6,", "{\"step\":6,\"x\":1}"] {
            fs::write(&path, lines(0..=5) + torn).unwrap();
            let (mut log, kept) = JsonlLog::resume(&path, 3).unwrap();
            let expected = Kept {
                num_lines: 4,
                num_dropped: 2,
                has_torn_line: !torn.is_empty(),
            };
            assert_eq!(kept, expected);
            log.append(&json!({"step": 4, "x": 1})).unwrap();
            log.append(&json!({"step": 5, "x": 1})).unwrap();
            log.sync().unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), lines(0..=5));
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn several_lines_of_a_step_stay_together() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("completions.jsonl");
        fs::write(&path, lines(1..=1) + &lines(1..=2) + &lines(2..=2)).unwrap();
        let (_, kept) = JsonlLog::resume(&path, 1).unwrap();
        assert_eq!((kept.num_lines, kept.num_dropped), (2, 2));
    }

    #[test]
    fn a_damaged_line_is_named_and_nothing_is_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let text = lines(1..=2) + "oops\n" + &lines(3..=3);
        fs::write(&path, &text).unwrap();
        let error = JsonlLog::resume(&path, 9).unwrap_err().to_string();
        assert!(error.contains("metrics.jsonl line 3"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }

    #[test]
    fn a_new_log_does_not_overwrite_and_a_missing_one_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let (mut log, kept) = JsonlLog::resume(&path, 4).unwrap();
        assert_eq!(kept, Kept::default());
        log.append(&json!({"step": 5})).unwrap();
        let error = JsonlLog::create(&path).unwrap_err().to_string();
        assert!(error.contains("metrics.jsonl"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"step\":5}\n");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_disk_names_the_file() {
        let mut log = JsonlLog {
            path: "metrics.jsonl".into(),
            file: OpenOptions::new().write(true).open("/dev/full").unwrap(),
        };
        let error = log.append(&json!({"step": 1})).unwrap_err();
        assert_eq!(error.to_string(), "write metrics.jsonl");
        let LogError::Io { source, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(source.kind(), io::ErrorKind::StorageFull);
    }
}
