//! What can go wrong with checkpoints.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::store::BoxError;
use crate::config::{ConfigError, KeyDifference};

/// A checkpoint cannot be written, found or used.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// Writing failed; nothing that existed before was changed.
    #[error(
        "save the checkpoint of step {step} in {}{}; {}",
        dir.display(), full_disk(source.as_ref()), intact(before)
    )]
    Save {
        /// The step.
        step: u64,
        /// The directory of all checkpoints.
        dir: PathBuf,
        /// The newest checkpoint that is still there.
        before: Option<PathBuf>,
        /// Why.
        source: BoxError,
    },
    /// The directory of checkpoints cannot be made, read or tidied.
    #[error("use the checkpoint directory {}", path.display())]
    Directory {
        /// Which path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The checkpoint belongs to a run with other values.
    #[error(
        "resume {}: the configuration differs: {}; set these keys back, or start a new run \
         (only run.steps, run.out, backend.threads and log.* may change)",
        path.display(), list(differences)
    )]
    OtherConfig {
        /// The checkpoint.
        path: PathBuf,
        /// Every key that differs.
        differences: Vec<KeyDifference>,
    },
    /// A configuration cannot be written down to be compared.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// Why a checkpoint is not used.
#[derive(Debug, Error)]
pub enum Damage {
    /// A file cannot be read.
    #[error("{file} cannot be read ({source})")]
    Unreadable {
        /// Path inside the checkpoint.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// The manifest is no manifest.
    #[error("manifest.json is damaged ({reason})")]
    Manifest {
        /// In which way.
        reason: String,
    },
    /// A file was cut or extended.
    #[error("{file} has {found} bytes instead of {expected}")]
    Size {
        /// Path inside the checkpoint.
        file: String,
        /// Size on the disk.
        found: u64,
        /// Size when it was written.
        expected: u64,
    },
    /// A file was changed.
    #[error("{file} does not match its SHA-256")]
    Checksum {
        /// Path inside the checkpoint.
        file: String,
    },
}

fn full_disk(error: &(dyn std::error::Error + Send + Sync + 'static)) -> &'static str {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        if matches!(
            kind,
            Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        ) {
            return ": the disk is full, free some space and resume";
        }
        cause = error.source();
    }
    ""
}

fn intact(before: &Option<PathBuf>) -> String {
    match before {
        Some(path) => format!("the checkpoint before it, {}, is intact", path.display()),
        None => "there was none before it".into(),
    }
}

fn list(differences: &[KeyDifference]) -> String {
    let texts: Vec<String> = differences.iter().map(ToString::to_string).collect();
    texts.join(", ")
}
