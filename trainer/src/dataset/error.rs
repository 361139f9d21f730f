//! What can go wrong between a spec and a dataset.

use std::path::PathBuf;

use rlvr_verifier::Reason;
use thiserror::Error;

/// Where a record stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A line of a text file, from 1.
    Line(PathBuf, usize),
    /// A record of an array or of a table, from 1.
    Record(PathBuf, usize),
    /// A problem of a procedural task, from 0.
    Task(String, u64),
}

impl core::fmt::Display for Place {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Line(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Record(path, record) => write!(f, "{}: record {record}", path.display()),
            Self::Task(name, index) => write!(f, "{name}: problem {index}"),
        }
    }
}

/// Why no dataset could be loaded.
#[derive(Debug, Error)]
pub enum DatasetError {
    /// The text of a spec is not one.
    #[error("data spec `{spec}`: {reason}")]
    Spec {
        /// The spec as given.
        spec: String,
        /// What is wrong and what is possible.
        reason: String,
    },
    /// A file cannot be opened or read.
    #[error("read data file {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file holds no record.
    #[error("data file {path} is empty: give a file with at least one record", path = path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A record is not valid JSON.
    #[error("{place}: not a JSON object: {reason}; every line must be one whole object")]
    Json {
        /// Where.
        place: Place,
        /// What the parser said.
        reason: String,
    },
    /// A record lacks a key.
    #[error("{place}: no {wanted} (keys here: {found}); name the keys with data.fields")]
    MissingField {
        /// Where.
        place: Place,
        /// What was looked for.
        wanted: String,
        /// The keys of the record.
        found: String,
    },
    /// A value of a record is neither text nor number, or is blank.
    #[error("{place}: `{key}` must be a text that is not blank; correct or remove the record")]
    BadField {
        /// Where.
        place: Place,
        /// The key.
        key: String,
    },
    /// A worked solution without an answer in it.
    #[error(
        "{place}: the solution holds no \\boxed{{}} and the record has no answer; add an `answer`"
    )]
    NoAnswer {
        /// Where.
        place: Place,
    },
    /// The verifier cannot read a reference answer.
    #[error(
        "{place}: reference answer `{reference_answer}` cannot be read ({reason}); correct it, or set data.unreadable = \"drop\""
    )]
    Unreadable {
        /// Where.
        place: Place,
        /// The reference answer.
        reference_answer: String,
        /// Why.
        reason: Reason,
    },
    /// A table is damaged or of an unknown kind.
    #[error("read parquet file {path}: {reason}", path = path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        reason: String,
    },
    /// The hub did not give what was asked for.
    #[error("fetch dataset {spec} from {endpoint}: {reason}")]
    Hub {
        /// The spec.
        spec: String,
        /// The address asked.
        endpoint: String,
        /// What went wrong and what to do.
        reason: String,
    },
    /// Nothing is left to train on.
    #[error("no problem is left to train on: {report}; lower data.held_out_frac or give more data")]
    NoTrain {
        /// Where the problems went.
        report: String,
    },
    /// Nothing is left to evaluate on.
    #[error(
        "no problem is left to hold out: {report}; raise data.held_out_frac, give more data, or set data.held_out_size = 0"
    )]
    NoHeldOut {
        /// Where the problems went.
        report: String,
    },
}

impl DatasetError {
    pub(crate) fn spec(spec: &str, reason: impl Into<String>) -> Self {
        Self::Spec {
            spec: spec.to_string(),
            reason: reason.into(),
        }
    }
}
