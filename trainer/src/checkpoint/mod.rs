//! Checkpoints that are whole or not there.
//!
//! A checkpoint is a directory of any files. It is written under a temporary name, every file is
//! flushed to the disk and listed with its size and SHA-256 in `manifest.json`, and only then the
//! directory gets its name `step-000123`. A crash at any point leaves the earlier checkpoints as
//! they were, and a damaged one is recognised and passed over.
//!
//! ```text
//! checkpoints/step-000120/manifest.json     step, configuration, score, size and SHA-256 per file
//!                         manifest.sha256   SHA-256 of manifest.json, as `sha256sum` writes it
//!                         ...               the files
//!             .tmp-step-000140/             interrupted; removed by the next run
//! ```

mod error;
mod manifest;
mod retention;
mod store;

pub use error::{CheckpointError, Damage};
pub(crate) use manifest::checksum;
pub use manifest::{FileEntry, Manifest};
pub use retention::Retention;
pub use store::{BoxError, Checkpoint, CheckpointMeta, CheckpointStore, Rejected, Search};

#[cfg(test)]
mod tests;
