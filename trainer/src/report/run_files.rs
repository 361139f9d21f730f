//! A run directory to statistics, report and picture.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::fresh::FreshLine;
use super::fresh_statistics::fresh_statistics;
use super::history::{Point, full_point, point};
use super::html;
use super::learned::{Learned, learned};
use super::predict::report;
use super::row::Report;
use super::statistics::{Complexity, Rollouts, Statistics, StatisticsError, Table};
use crate::config::{ConfigError, Layers, RecipeText};
use crate::metrics::StepMetrics;
use crate::reward_model::file::{Description, FileError};
use crate::run_dir::REWARD_MODEL;

/// A run directory cannot be reported on.
#[derive(Debug, Error)]
pub enum ReportError {
    /// A file cannot be read or written.
    #[error("{action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A line is no record.
    #[error("read {} line {line}: {source}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Why not.
        source: serde_json::Error,
    },
    /// Neither fresh rollouts nor an evaluation.
    #[error(
        "report on {}: it has neither fresh rollouts nor an evaluation of two problems; let the run \
         end, with report.prompts above 0 and held-out problems", path.display()
    )]
    Nothing {
        /// The run directory.
        path: PathBuf,
    },
    /// The configuration cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A theorem refused.
    #[error(transparent)]
    Statistics(#[from] StatisticsError),
    /// The reward model of the run cannot be read.
    #[error(transparent)]
    RewardModel(#[from] FileError),
    /// The page cannot be made.
    #[error("write the page: {0}")]
    Page(#[from] minijinja::Error),
    /// The JSON cannot be made.
    #[error("write the report: {0}")]
    Json(#[from] serde_json::Error),
}

/// What the user adds to what the run knows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Additions {
    /// Policies compared on the held-out prompts.
    pub candidates: Option<u64>,
    /// Size of the class of policies.
    pub complexity: Option<Complexity>,
    /// Failure probability instead of the run's.
    pub delta: Option<f64>,
}

/// A report with its picture.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunReport {
    /// Step whose policy it is about.
    pub step: u64,
    /// Where the numbers come from.
    pub source: String,
    /// Table.
    #[serde(flatten)]
    pub report: Report,
    /// Picture.
    pub history: Vec<Point>,
    /// Learned reward beside truth, if the run has one.
    pub learned: Option<Learned>,
}

/// The part of a line of `eval.jsonl` that counts.
#[derive(Deserialize)]
struct EvalCounts {
    step: u64,
    num_correct: usize,
    num_samples: usize,
}

/// Reads a run directory and reports on its newest fresh rollouts, or else its newest evaluation.
///
/// # Errors
/// [`ReportError`].
pub fn run_report(dir: &Path, additions: Additions) -> Result<RunReport, ReportError> {
    let recipe = RecipeText::read(&dir.join("config.toml"))?;
    let config = Layers::new(&recipe)?.resolve()?;
    let metrics = metrics_of(dir)?;
    let fresh: Vec<FreshLine> = lines(&dir.join("fresh.jsonl"))?;
    let evaluations = evaluations(lines(&dir.join("eval.jsonl"))?)?;
    let delta = additions.delta.unwrap_or(config.report.delta);
    let mut history = BTreeMap::new();
    for (&step, table) in &evaluations {
        let at_step = metrics.iter().find(|it| it.step == step);
        let train = at_step.and_then(|it| it.correct_frac);
        // At another temperature the difference would not be an error of generalisation.
        let train = train.filter(|_| config.eval.temperature == config.rollout.temperature);
        history.insert(step, point(step, table, train, delta)?);
    }
    let is_learned = fresh.iter().any(|line| !line.learned.is_empty());
    let heads = match is_learned {
        true => Description::load(&dir.join(REWARD_MODEL))?.heads,
        false => Vec::new(),
    };
    let mut newest = None;
    for step in steps(&fresh) {
        let of_step: Vec<FreshLine> = fresh.iter().filter(|it| it.step == step).cloned().collect();
        let head = heads.iter().enumerate().next_back();
        let Some(mut statistics) = fresh_statistics(&config, &of_step, additions, head)? else {
            continue;
        };
        // The rule may have moved the clip since the configuration was written.
        let at_step = metrics.iter().find(|it| it.step == step);
        statistics.tau = at_step.and_then(|it| it.kl_clip_tau).or(statistics.tau);
        let found = report(&statistics)?;
        let error = found.measured_error;
        if let Some(point) = full_point(step, &statistics, error)? {
            history.insert(step, point);
        }
        let source = format!("fresh rollouts of step {step} (fresh.jsonl)");
        newest = Some((step, source, found));
    }
    let (step, source, report) = match newest {
        Some(found) => found,
        None => evaluation_report(dir, evaluations, additions, delta)?,
    };
    Ok(RunReport {
        step,
        source,
        report,
        history: history.into_values().collect(),
        learned: learned(&config, &fresh, &heads, additions)?,
    })
}

/// Writes `report.json` and `report.html` into the run directory; returns the page's path.
///
/// # Errors
/// If the disk refuses.
pub fn write(dir: &Path, found: &RunReport) -> Result<PathBuf, ReportError> {
    let (json, page) = (dir.join("report.json"), dir.join("report.html"));
    let title = format!("Predicted and measured generalisation: {}", dir.display());
    let html = html::page(
        &title,
        &found.report,
        &found.history,
        found.learned.as_ref(),
    )?;
    for (path, text) in [
        (&json, serde_json::to_string_pretty(found)? + "\n"),
        (&page, html),
    ] {
        fs::write(path, text).map_err(|source| ReportError::Io {
            action: "write",
            path: path.clone(),
            source,
        })?;
    }
    Ok(page)
}

/// The metrics of a run directory.
///
/// # Errors
/// If the file is damaged.
pub fn metrics_of(dir: &Path) -> Result<Vec<StepMetrics>, ReportError> {
    lines(&dir.join("metrics.jsonl"))
}

/// Records of a file; none if it does not exist. A torn last line is passed over.
fn lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, ReportError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => {
            return Err(ReportError::Io {
                action: "read",
                path: path.into(),
                source,
            });
        }
    };
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let records = whole.lines().enumerate().map(|(index, line)| {
        serde_json::from_str(line).map_err(|source| ReportError::Line {
            path: path.into(),
            line: index + 1,
            source,
        })
    });
    records.collect()
}

fn steps(fresh: &[FreshLine]) -> Vec<u64> {
    let mut steps: Vec<u64> = fresh.iter().map(|line| line.step).collect();
    steps.sort_unstable();
    steps.dedup();
    steps
}

/// Verdicts of each evaluation of at least two problems. The order of a prompt's verdicts is
/// lost, and no bound depends on it.
fn evaluations(counts: Vec<EvalCounts>) -> Result<BTreeMap<u64, Table>, ReportError> {
    let mut rows: BTreeMap<u64, Vec<Vec<f64>>> = BTreeMap::new();
    for line in counts {
        let right = |index: usize| f64::from(u8::from(index < line.num_correct));
        let row = (0..line.num_samples).map(right).collect();
        rows.entry(line.step).or_default().push(row);
    }
    let mut tables = BTreeMap::new();
    for (step, rows) in rows.into_iter().filter(|(_, rows)| rows.len() >= 2) {
        tables.insert(step, Table::new("eval.jsonl", &rows)?);
    }
    Ok(tables)
}

/// A run without fresh rollouts: its newest evaluation, held-out rows only.
fn evaluation_report(
    dir: &Path,
    evaluations: BTreeMap<u64, Table>,
    additions: Additions,
    delta: f64,
) -> Result<(u64, String, Report), ReportError> {
    let Some((step, rewards)) = evaluations.into_iter().next_back() else {
        let path = dir.into();
        return Err(ReportError::Nothing { path });
    };
    let statistics = Statistics {
        delta,
        kl_coef: 0.0,
        tau: None,
        held_out: Some(Rollouts {
            truth: rewards.clone(),
            is_verified: true,
            log_ratio_ref: None,
            log_ratio_old: None,
            rewards,
        }),
        train: None,
        candidates: additions.candidates,
        complexity: additions.complexity,
        reward_errors: Vec::new(),
        cost: None,
    };
    let source = format!("evaluation of step {step} (eval.jsonl); there are no fresh rollouts");
    Ok((step, source, report(&statistics)?))
}
