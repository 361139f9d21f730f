//! The directory of checkpoints of one run.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error::{CheckpointError, Damage};
use super::manifest::{Manifest, flush_dir};
use super::retention::Retention;
use crate::config::ConfigIdentity;

/// Any error of a writer.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

const TEMPORARY: &str = ".tmp-";
const PREFIX: &str = "step-";

/// What a checkpoint says about itself, besides its step.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckpointMeta {
    /// The configuration of the run.
    pub config: ConfigIdentity,
    /// Held-out accuracy, for `keep_best`; larger is better.
    pub score: Option<f64>,
}

/// A whole checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// Its directory.
    pub path: PathBuf,
    /// What it says about itself.
    pub manifest: Manifest,
}

/// A damaged checkpoint.
#[derive(Debug)]
pub struct Rejected {
    /// Its directory.
    pub path: PathBuf,
    /// What is wrong.
    pub damage: Damage,
}

impl core::fmt::Display for Rejected {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { path, damage } = self;
        write!(f, "passed over the checkpoint {}: {damage}", path.display())
    }
}

/// The newest whole checkpoint, and the newer ones that are not.
#[derive(Debug, Default)]
pub struct Search {
    /// What to resume from; `None` if there is no whole checkpoint.
    pub found: Option<Checkpoint>,
    /// Newer ones that are damaged, newest first, for the user to read.
    pub rejected: Vec<Rejected>,
}

/// The directory of checkpoints of one run. One process at a time writes to it.
#[derive(Clone, Debug)]
pub struct CheckpointStore {
    dir: PathBuf,
    retention: Retention,
}

impl CheckpointStore {
    /// Opens the directory, made if necessary, and removes what interrupted saves left behind.
    pub fn new(dir: &Path, retention: Retention) -> Result<Self, CheckpointError> {
        let store = Self {
            dir: dir.into(),
            retention,
        };
        fs::create_dir_all(dir).map_err(|source| store.directory_error(dir, source))?;
        for (name, path) in store.entries()? {
            if name.starts_with(TEMPORARY) {
                remove(&path).map_err(|source| store.directory_error(&path, source))?;
            }
        }
        Ok(store)
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes a checkpoint: `write` fills the directory it is given. Older checkpoints that
    /// nothing asks to keep are removed afterwards.
    pub fn save(
        &self,
        step: u64,
        meta: CheckpointMeta,
        write: &mut dyn FnMut(&Path) -> Result<(), BoxError>,
    ) -> Result<Checkpoint, CheckpointError> {
        let temporary = self.dir.join(format!("{TEMPORARY}{}", name_of(step)));
        let saved = self.write_and_rename(step, meta, write, &temporary);
        match saved {
            Ok(checkpoint) => {
                self.prune()?;
                Ok(checkpoint)
            }
            Err(source) => {
                // The cause matters more than a directory that the next run removes anyway.
                let _ = remove(&temporary);
                Err(CheckpointError::Save {
                    step,
                    dir: self.dir.clone(),
                    before: self
                        .latest_valid()
                        .ok()
                        .and_then(|it| it.found)
                        .map(|it| it.path),
                    source,
                })
            }
        }
    }

    fn write_and_rename(
        &self,
        step: u64,
        meta: CheckpointMeta,
        write: &mut dyn FnMut(&Path) -> Result<(), BoxError>,
        temporary: &Path,
    ) -> Result<Checkpoint, BoxError> {
        let path = self.dir.join(name_of(step));
        remove(temporary)?;
        fs::create_dir(temporary)?;
        write(temporary)?;
        let manifest = Manifest::seal(temporary, step, meta.score, meta.config)?;
        // A checkpoint of this step can only be a damaged one that the run resumed behind.
        let replaced = self
            .dir
            .join(format!("{TEMPORARY}replaced-{}", name_of(step)));
        if path.exists() {
            fs::rename(&path, &replaced)?;
        }
        fs::rename(temporary, &path)?;
        flush_dir(&self.dir)?;
        remove(&replaced)?;
        Ok(Checkpoint { path, manifest })
    }

    /// The newest checkpoint whose files are all as they were written.
    pub fn latest_valid(&self) -> Result<Search, CheckpointError> {
        let mut search = Search::default();
        for path in self.newest_first()? {
            let manifest = Manifest::read(&path);
            match manifest.and_then(|it| it.verify(&path).map(|()| it)) {
                Ok(manifest) => {
                    search.found = Some(Checkpoint { path, manifest });
                    break;
                }
                Err(damage) => search.rejected.push(Rejected { path, damage }),
            }
        }
        Ok(search)
    }

    fn prune(&self) -> Result<(), CheckpointError> {
        // One whose manifest is damaged counts for nothing and is left for a person to look at.
        let read = |path: PathBuf| Manifest::read(&path).ok();
        let known = self.newest_first()?.into_iter().filter_map(read);
        let known: Vec<_> = known.map(|it| (it.step, it.score)).collect();
        for step in self.retention.superfluous(&known) {
            let path = self.dir.join(name_of(step));
            // Renamed first: a half-removed directory must not look like a checkpoint.
            let doomed = self.dir.join(format!("{TEMPORARY}old-{}", name_of(step)));
            fs::rename(&path, &doomed)
                .and_then(|()| remove(&doomed))
                .map_err(|source| self.directory_error(&path, source))?;
        }
        Ok(())
    }

    /// Directories named like checkpoints.
    fn newest_first(&self) -> Result<Vec<PathBuf>, CheckpointError> {
        let step_of = |name: &str| name.strip_prefix(PREFIX)?.parse::<u64>().ok();
        let entries = self.entries()?.into_iter();
        let mut found: Vec<(u64, PathBuf)> = entries
            .filter_map(|(name, path)| Some((step_of(&name)?, path)))
            .collect();
        found.sort();
        Ok(found.into_iter().rev().map(|(_, path)| path).collect())
    }

    fn entries(&self) -> Result<Vec<(String, PathBuf)>, CheckpointError> {
        let read = || -> io::Result<Vec<(String, PathBuf)>> {
            let mut entries = Vec::new();
            for entry in fs::read_dir(&self.dir)? {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                entries.push((name, entry.path()));
            }
            Ok(entries)
        };
        read().map_err(|source| self.directory_error(&self.dir, source))
    }

    fn directory_error(&self, path: &Path, source: io::Error) -> CheckpointError {
        let path = path.into();
        CheckpointError::Directory { path, source }
    }
}

impl Checkpoint {
    /// Refuses a checkpoint of a run whose configuration differs in a key that matters. One of an
    /// earlier version does not differ in what it did not know yet.
    pub fn check_config(&self, now: &ConfigIdentity) -> Result<(), CheckpointError> {
        let differences = self.manifest.config.differences_since(now)?;
        if differences.is_empty() {
            return Ok(());
        }
        let path = self.path.clone();
        Err(CheckpointError::OtherConfig { path, differences })
    }
}

/// Six digits sort by name up to a million steps; more digits are read as well.
fn name_of(step: u64) -> String {
    format!("{PREFIX}{step:06}")
}

/// Removes a directory if it is there.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
