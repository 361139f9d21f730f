//! The runs of a comparison: child processes of this program, one directory per arm and seed.
//!
//! ```text
//! OUT/runs/hive/seed-17/     a run directory
//! OUT/runs/hive/seed-17.log  what it printed
//! ```
//!
//! A run that is complete is not repeated and one that was stopped is resumed, so a comparison can
//! be stopped and started at will. A run that fails is listed, and the others go on.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use thiserror::Error;

use super::arms::Arm;
use crate::config::{ConfigError, ConfigIdentity, RecipeText, RunConfig};
use crate::metrics::{StepMetrics, read_records};

/// One run.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// The arm.
    pub arm: Arm,
    /// Its seed.
    pub seed: u64,
    /// Its resolved configuration.
    pub config: RunConfig,
    /// Its directory.
    pub dir: PathBuf,
}

/// How a run stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobState {
    /// It has all its steps.
    Complete,
    /// It was not started or not finished.
    Open,
    /// It ended with an error, whose last line this is.
    Failed(String),
}

/// A comparison's runs cannot be made.
#[derive(Debug, Error)]
pub enum RunsError {
    /// The directory holds a run of another configuration.
    #[error(
        "compare in {}: it holds a run of another configuration ({differences}); choose another \
         --out", dir.display()
    )]
    OtherConfig {
        /// The run.
        dir: PathBuf,
        /// The keys that differ.
        differences: String,
    },
    /// A configuration cannot be read or written.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The file system or the child process.
    #[error("run {}", path.display())]
    Io {
        /// The run or file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

/// The runs of a comparison and how to start them.
#[derive(Clone, Debug)]
pub struct Runs {
    /// This program.
    pub program: PathBuf,
    /// In the order in which they are started: seed after seed, so that what is there so far is
    /// paired.
    pub jobs: Vec<Job>,
    /// Runs at once.
    pub num_at_once: usize,
}

impl Job {
    /// How it stands, as far as its directory says.
    ///
    /// # Errors
    /// If the directory holds a run of another configuration.
    pub fn state(&self) -> Result<JobState, RunsError> {
        let config_path = self.dir.join("config.toml");
        if !config_path.is_file() {
            return Ok(JobState::Open);
        }
        let recipe = RecipeText::read(&config_path)?;
        let found = crate::cli::resolve(&recipe, &[], Vec::new())?;
        let mut differences = ConfigIdentity::of(&found)?.differences(&self.identity()?);
        // The run has numbers where its device decided.
        differences.retain(|it| !self.config.automatic.has_name(&it.key));
        if !differences.is_empty() || found.run.steps != self.config.run.steps {
            let words: Vec<String> = differences.iter().map(ToString::to_string).collect();
            let steps = format!(
                "run.steps {} and {}",
                found.run.steps, self.config.run.steps
            );
            return Err(RunsError::OtherConfig {
                dir: self.dir.clone(),
                differences: if words.is_empty() {
                    steps
                } else {
                    words.join(", ")
                },
            });
        }
        let metrics: Vec<StepMetrics> =
            read_records(&self.dir.join("metrics.jsonl")).unwrap_or_default();
        let last = metrics.last().map_or(0, |it| it.step);
        Ok(match last >= self.config.run.steps {
            true => JobState::Complete,
            false => JobState::Open,
        })
    }

    fn identity(&self) -> Result<ConfigIdentity, RunsError> {
        Ok(ConfigIdentity::of(&self.config)?)
    }

    /// Where its words go.
    pub fn log_path(&self) -> PathBuf {
        self.dir.with_extension("log")
    }

    /// Starts or resumes it and waits for its end.
    fn complete(&self, program: &Path) -> Result<JobState, RunsError> {
        if self.state()? == JobState::Complete {
            return Ok(JobState::Complete);
        }
        let io_error = |path: &Path| {
            let path = path.to_path_buf();
            move |source| RunsError::Io { path, source }
        };
        let log_path = self.log_path();
        if let Some(parent) = self.dir.parent() {
            std::fs::create_dir_all(parent).map_err(io_error(parent))?;
        }
        let log = File::create(&log_path).map_err(io_error(&log_path))?;
        let mut command = Command::new(program);
        command.arg("train");
        if self.dir.join("config.toml").is_file() {
            command.arg("--resume").arg(&self.dir);
        } else {
            let recipe = self.dir.with_extension("toml");
            std::fs::write(&recipe, self.config.to_toml()?).map_err(io_error(&recipe))?;
            command
                .arg("--recipe")
                .arg(recipe)
                .arg("--out")
                .arg(&self.dir);
        }
        let errors = log.try_clone().map_err(io_error(&log_path))?;
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        let status = command.status().map_err(io_error(program))?;
        match (status.success(), self.state()?) {
            (true, JobState::Complete) => Ok(JobState::Complete),
            _ => Ok(JobState::Failed(self.last_words())),
        }
    }

    fn last_words(&self) -> String {
        let text = std::fs::read_to_string(self.log_path()).unwrap_or_default();
        let last = text.lines().rev().find(|line| !line.trim().is_empty());
        last.unwrap_or("it ended without a word").to_string()
    }
}

impl Runs {
    /// Completes every run, several at once, and calls `report` after each with its place and
    /// state. The states are in the order of the jobs.
    ///
    /// # Errors
    /// The first run that could not be started.
    pub fn complete(
        &self,
        report: &(dyn Fn(usize, &JobState) + Sync),
    ) -> Result<Vec<JobState>, RunsError> {
        let next = AtomicUsize::new(0);
        let states = Mutex::new(vec![None; self.jobs.len()]);
        let work = || -> Result<(), RunsError> {
            loop {
                let place = next.fetch_add(1, Ordering::Relaxed);
                let Some(job) = self.jobs.get(place) else {
                    return Ok(());
                };
                let state = job.complete(&self.program)?;
                report(place, &state);
                if let Ok(mut states) = states.lock() {
                    states[place] = Some(state);
                }
            }
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..self.num_at_once).map(|_| scope.spawn(work)).collect();
            workers
                .into_iter()
                .try_for_each(|worker| match worker.join() {
                    Ok(result) => result,
                    Err(panic) => std::panic::resume_unwind(panic),
                })
        })?;
        let states = states.into_inner().unwrap_or_default();
        Ok(states
            .into_iter()
            .map(|it| it.unwrap_or(JobState::Open))
            .collect())
    }
}
