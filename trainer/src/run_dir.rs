//! The directory that a run leaves behind.
//!
//! ```text
//! runs/tiny-1/
//!   config.toml         the resolved configuration; a recipe that repeats the run
//!   metrics.jsonl       one line per step
//!   eval.jsonl          one line per evaluated problem
//!   fresh.jsonl         one line per prompt rolled out afresh for the report
//!   report.json, .html  predictions beside measurements
//!   completions.jsonl   one line per logged rollout, with its reward and the reason
//!   selection.jsonl     one line per step: what selection counted and where it stands
//!   groups.jsonl        one line per group that was rolled out, without its texts
//!   edge_map.json, .svg utility over pass rate and entropy, if it was measured
//!   reward-model/       a copy of the learned reward, if there is one
//!   checkpoints/        see the module `checkpoint`
//!   lock                held while a process writes here
//! ```

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Parent of run directories that have no given place.
const RUNS: &str = "runs";

/// Folder of a run's copy of its learned reward.
pub const REWARD_MODEL: &str = "reward-model";

/// A run directory cannot be used.
#[derive(Debug, Error)]
pub enum RunDirError {
    /// There is a run already.
    #[error(
        "start a run in {}: there is one already; continue it with --resume {}, or choose another --out",
        path.display(), path.display()
    )]
    Exists {
        /// The directory.
        path: PathBuf,
    },
    /// There is no run to resume.
    #[error("resume {}: there is no run (no config.toml)", path.display())]
    NoRun {
        /// The directory.
        path: PathBuf,
    },
    /// There is no run to resume anywhere.
    #[error("resume the newest run: there is none in {}/; name one with --resume DIR", parent.display())]
    NoRuns {
        /// Where runs would be.
        parent: PathBuf,
    },
    /// Another process writes there.
    #[error("use {}: another process is writing there", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("use {}", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl RunDirError {
    /// True if other words on the command line would help.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Exists { .. } | Self::NoRun { .. } | Self::NoRuns { .. } => true,
            Self::Locked { .. } | Self::Io { .. } => false,
        }
    }
}

/// A run directory, locked until this value is dropped or the process ends.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    _lock: File,
}

impl RunDir {
    /// Makes the directory of a new run at `out`, or as the first free `runs/<name>-<n>`.
    pub fn create(out: Option<&Path>, name: &str) -> Result<Self, RunDirError> {
        match out {
            Some(path) => Self::create_at(path),
            None => Self::create_numbered(Path::new(RUNS), name),
        }
    }

    fn create_at(path: &Path) -> Result<Self, RunDirError> {
        fs::create_dir_all(path).map_err(|source| io_error(path, source))?;
        let run_dir = Self::lock(path)?;
        let is_run = [run_dir.config(), run_dir.metrics(), run_dir.checkpoints()];
        if is_run.iter().any(|path| path.exists()) {
            let path = path.into();
            return Err(RunDirError::Exists { path });
        }
        Ok(run_dir)
    }

    fn create_numbered(parent: &Path, name: &str) -> Result<Self, RunDirError> {
        fs::create_dir_all(parent).map_err(|source| io_error(parent, source))?;
        let mut number = 1u64;
        loop {
            let path = parent.join(format!("{name}-{number}"));
            // Making the directory is what claims the number, also against other processes.
            match fs::create_dir(&path) {
                Ok(()) => return Self::lock(&path),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(source) => return Err(io_error(&path, source)),
            }
        }
    }

    /// Opens the directory of a run that exists, to continue it.
    pub fn resume(path: &Path) -> Result<Self, RunDirError> {
        let lock_path = path.join("config.toml");
        if !lock_path.is_file() {
            let path = path.into();
            return Err(RunDirError::NoRun { path });
        }
        Self::lock(path)
    }

    /// The run in `runs/` whose configuration was written last.
    pub fn newest() -> Result<PathBuf, RunDirError> {
        newest_in(Path::new(RUNS))
    }

    fn lock(path: &Path) -> Result<Self, RunDirError> {
        let lock_path = path.join("lock");
        let fail = |source| io_error(&lock_path, source);
        let lock = File::create(&lock_path).map_err(fail)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path: path.into(),
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => {
                let path = path.into();
                Err(RunDirError::Locked { path })
            }
            Err(TryLockError::Error(source)) => Err(fail(source)),
        }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The resolved configuration.
    pub fn config(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    /// Metrics, one line per step.
    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// Evaluated problems.
    pub fn eval(&self) -> PathBuf {
        self.path.join("eval.jsonl")
    }

    /// Logged rollouts.
    pub fn completions(&self) -> PathBuf {
        self.path.join("completions.jsonl")
    }

    /// Fresh rollouts.
    pub fn fresh(&self) -> PathBuf {
        self.path.join("fresh.jsonl")
    }

    /// What selection did, one line per step.
    pub fn selection(&self) -> PathBuf {
        self.path.join("selection.jsonl")
    }

    /// Groups that were rolled out.
    pub fn groups(&self) -> PathBuf {
        self.path.join("groups.jsonl")
    }

    /// Utility over pass rate and response entropy, without the ending.
    pub fn edge_map(&self) -> PathBuf {
        self.path.join("edge_map")
    }

    /// The copy of the learned reward, if the run has one.
    pub fn reward_model(&self) -> PathBuf {
        self.path.join(REWARD_MODEL)
    }

    /// Checkpoints.
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// Writes the resolved configuration, whole or not at all.
    pub fn write_config(&self, toml: &str) -> Result<(), RunDirError> {
        let temporary = self.path.join("config.toml.tmp");
        fs::write(&temporary, toml)
            .and_then(|()| File::open(&temporary)?.sync_all())
            .and_then(|()| fs::rename(&temporary, self.config()))
            .map_err(|source| io_error(&self.config(), source))
    }
}

fn newest_in(parent: &Path) -> Result<PathBuf, RunDirError> {
    let none = || RunDirError::NoRuns {
        parent: parent.into(),
    };
    let written = |path: &Path| fs::metadata(path.join("config.toml")).ok()?.modified().ok();
    let entries = fs::read_dir(parent).map_err(|_| none())?;
    let runs = entries.filter_map(|entry| {
        let path = entry.ok()?.path();
        Some((written(&path)?, path))
    });
    let newest = runs.max().ok_or_else(none)?;
    Ok(newest.1)
}

fn io_error(path: &Path, source: io::Error) -> RunDirError {
    let path = path.into();
    RunDirError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_taken_in_turn() {
        let folder = tempfile::tempdir().unwrap();
        let runs = folder.path().join("runs");
        let first = RunDir::create_numbered(&runs, "tiny").unwrap();
        let second = RunDir::create_numbered(&runs, "tiny").unwrap();
        assert_eq!(first.path(), runs.join("tiny-1"));
        assert_eq!(second.path(), runs.join("tiny-2"));
        assert!(newest_in(&runs).unwrap_err().is_usage());
        first.write_config("a = 1").unwrap();
        assert_eq!(newest_in(&runs).unwrap(), first.path());
        assert!(newest_in(&folder.path().join("no")).is_err());
    }

    #[test]
    fn a_run_is_not_overwritten_but_resumed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("here/there");
        assert!(matches!(
            RunDir::resume(&path),
            Err(RunDirError::NoRun { .. })
        ));
        let run = RunDir::create(Some(&path), "x").unwrap();
        run.write_config("a = 1").unwrap();
        let error = RunDir::resume(&path).unwrap_err();
        assert!(matches!(error, RunDirError::Locked { .. }), "{error}");
        drop(run);
        let error = RunDir::create(Some(&path), "x").unwrap_err();
        assert!(
            error.is_usage() && error.to_string().contains("--resume"),
            "{error}"
        );
        let run = RunDir::resume(&path).unwrap();
        assert_eq!(fs::read_to_string(run.config()).unwrap(), "a = 1");
    }

    #[test]
    fn an_empty_folder_may_become_a_run() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::create(Some(folder.path()), "x").unwrap();
        assert_eq!(run.path(), folder.path());
    }
}
