//! The files a run writes while it runs: metrics, completions, evaluated problems.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::metrics::{JsonlLog, LogError, StepMetrics, read_records};
use crate::progress::Progress;
use crate::record::{Group, PromptId, StopReason};
use crate::report::fresh::FreshLine;
use crate::report::live::prediction_line;
use crate::run_dir::RunDir;
use crate::selection::edge_map::EdgeMap;
use crate::selection::{GroupRecord, SelectionLine, Warning};

/// The open files of a run.
pub struct RunLog {
    metrics: JsonlLog,
    completions: JsonlLog,
    evaluations: JsonlLog,
    fresh: JsonlLog,
    selection: JsonlLog,
    groups: JsonlLog,
    groups_path: PathBuf,
    edge_map_path: PathBuf,
    warned: Vec<Warning>,
    max_completions: usize,
    save_secs: Option<f64>,
    /// The live view.
    pub progress: Progress,
}

/// One line of `completions.jsonl`.
#[derive(Serialize)]
struct CompletionLine<'a> {
    step: u64,
    prompt_id: PromptId,
    rollout_index: u32,
    prompt: &'a str,
    completion: &'a str,
    reference_answer: &'a str,
    extracted: Option<&'a str>,
    reason: &'a str,
    is_correct: bool,
    reward: f64,
    components: &'a [(String, f64)],
    advantage: f64,
    stop: StopReason,
    num_tokens: usize,
    entropy_mean: f64,
    sampler_logprob_mean: f64,
}

/// One line of `eval.jsonl`: a held-out problem with its first completion.
#[derive(Serialize)]
struct EvalLine<'a> {
    step: u64,
    prompt_id: PromptId,
    prompt: &'a str,
    reference_answer: &'a str,
    num_correct: usize,
    num_samples: usize,
    completion: &'a str,
    reason: &'a str,
}

impl RunLog {
    /// New files; refuses to overwrite.
    ///
    /// # Errors
    /// If a file exists or cannot be created.
    pub fn create(
        dir: &RunDir,
        max_completions: Option<usize>,
        progress: Progress,
    ) -> Result<Self, LogError> {
        Ok(Self {
            metrics: JsonlLog::create(&dir.metrics())?,
            completions: JsonlLog::create(&dir.completions())?,
            evaluations: JsonlLog::create(&dir.eval())?,
            fresh: JsonlLog::create(&dir.fresh())?,
            selection: JsonlLog::create(&dir.selection())?,
            groups: JsonlLog::create(&dir.groups())?,
            groups_path: dir.groups(),
            edge_map_path: dir.edge_map(),
            warned: Vec::new(),
            max_completions: max_completions.unwrap_or(usize::MAX),
            save_secs: None,
            progress,
        })
    }

    /// New files in place of those of an earlier process that was stopped before its first
    /// checkpoint: nothing of it can be continued.
    ///
    /// # Errors
    /// If a file cannot be replaced.
    pub fn restart(
        dir: &RunDir,
        max_completions: Option<usize>,
        progress: Progress,
    ) -> Result<Self, LogError> {
        for path in [
            dir.metrics(),
            dir.completions(),
            dir.eval(),
            dir.fresh(),
            dir.selection(),
            dir.groups(),
        ] {
            match std::fs::remove_file(&path) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    return Err(LogError::Io {
                        action: "remove",
                        path,
                        source,
                    });
                }
                _ => {}
            }
        }
        Self::create(dir, max_completions, progress)
    }

    /// The files of an earlier process, cut back to what was complete at `step`.
    ///
    /// # Errors
    /// If a file is damaged or cannot be replaced.
    pub fn resume(
        dir: &RunDir,
        step: u64,
        max_completions: Option<usize>,
        progress: Progress,
    ) -> Result<Self, LogError> {
        let (metrics, _) = JsonlLog::resume(&dir.metrics(), step)?;
        let (completions, _) = JsonlLog::resume(&dir.completions(), step)?;
        let (evaluations, _) = JsonlLog::resume(&dir.eval(), step)?;
        let (fresh, _) = JsonlLog::resume(&dir.fresh(), step)?;
        let (selection, _) = JsonlLog::resume(&dir.selection(), step)?;
        let (groups, _) = JsonlLog::resume(&dir.groups(), step)?;
        let max_completions = max_completions.unwrap_or(usize::MAX);
        Ok(Self {
            metrics,
            completions,
            evaluations,
            fresh,
            selection,
            groups,
            groups_path: dir.groups(),
            edge_map_path: dir.edge_map(),
            warned: Vec::new(),
            max_completions,
            save_secs: None,
            progress,
        })
    }

    /// Appends a step's line.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn metrics(&mut self, mut metrics: StepMetrics) -> Result<(), LogError> {
        metrics.timing.save_secs = self.save_secs.take();
        self.metrics.append(&metrics)?;
        if let Some(words) = prediction_line(&metrics) {
            self.progress.note(&words);
        }
        self.progress.step(&metrics);
        Ok(())
    }

    /// Remembers how long a save took, for the next line.
    pub fn saved(&mut self, secs: f64) {
        self.save_secs = Some(secs);
    }

    /// Appends rollouts of a step, group after group, up to the configured number.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn completions(
        &mut self,
        step: u64,
        groups: &[Group],
        advantages: &[Vec<f64>],
    ) -> Result<(), LogError> {
        let rollouts = groups
            .iter()
            .zip(advantages)
            .flat_map(|(group, advantages)| {
                group
                    .rollouts
                    .iter()
                    .zip(advantages)
                    .map(move |(rollout, advantage)| (group, rollout, advantage))
            });
        for (group, rollout, &advantage) in rollouts.take(self.max_completions) {
            let (completion, reward) = (&rollout.completion, &rollout.reward);
            self.completions.append(&CompletionLine {
                step,
                prompt_id: group.prompt.id,
                rollout_index: completion.index,
                prompt: &group.prompt.prompt_text,
                completion: &rollout.completion_text,
                reference_answer: &group.prompt.reference_answer,
                extracted: reward.extracted.as_deref(),
                reason: &reward.reason,
                is_correct: reward.is_correct,
                reward: reward.total,
                components: &reward.components,
                advantage,
                stop: completion.stop,
                num_tokens: completion.tokens.len(),
                entropy_mean: mean(&completion.entropies),
                sampler_logprob_mean: mean(&completion.sampler_logprobs),
            })?;
        }
        Ok(())
    }

    /// Appends an evaluation, one line per problem.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn evaluation(&mut self, step: u64, groups: &[Group]) -> Result<(), LogError> {
        for group in groups {
            let Some(first) = group.rollouts.first() else {
                continue;
            };
            self.evaluations.append(&EvalLine {
                step,
                prompt_id: group.prompt.id,
                prompt: &group.prompt.prompt_text,
                reference_answer: &group.prompt.reference_answer,
                num_correct: group
                    .rollouts
                    .iter()
                    .filter(|it| it.reward.is_correct)
                    .count(),
                num_samples: group.rollouts.len(),
                completion: &first.completion_text,
                reason: &first.reward.reason,
            })?;
        }
        Ok(())
    }

    /// Appends a prompt that was rolled out afresh.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn fresh(&mut self, line: &FreshLine) -> Result<(), LogError> {
        self.fresh.append(line)
    }

    /// Shows a warning in the live view.
    pub fn warn(&self, warning: Option<String>) {
        if let Some(warning) = warning {
            self.progress.note(&format!("warning: {warning}"));
        }
    }

    /// Where completions go.
    pub fn completions_path(&self) -> &Path {
        self.completions.path()
    }

    /// Appends what selection did in a step and the groups it rolled out, and shows warnings that
    /// did not hold before.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn selection(
        &mut self,
        line: &SelectionLine,
        records: &[GroupRecord],
    ) -> Result<(), LogError> {
        self.selection.append(line)?;
        for record in records {
            self.groups.append(record)?;
        }
        let is_new = |it: &&Warning| !self.warned.contains(it);
        for warning in line.warnings.iter().filter(is_new) {
            self.progress
                .note(&format!("warning after step {}: {warning}", line.step));
        }
        self.warned.clone_from(&line.warnings);
        Ok(())
    }

    /// Writes where the learning edge was, if utilities were measured.
    ///
    /// # Errors
    /// If `groups.jsonl` cannot be read or the disk refuses.
    pub fn edge_map(&self, num_steps: u64) -> Result<(), LogError> {
        let records: Vec<GroupRecord> = read_records(&self.groups_path)?;
        let Some(map) = EdgeMap::of(&records, num_steps) else {
            return Ok(());
        };
        let path = self.edge_map_path.with_extension("json");
        let text = serde_json::to_string_pretty(&map).map_err(|source| LogError::Json {
            path: path.clone(),
            source,
        })?;
        for (path, text) in [
            (path, text + "\n"),
            (self.edge_map_path.with_extension("svg"), map.to_svg()),
        ] {
            std::fs::write(&path, text).map_err(|source| LogError::Io {
                action: "write",
                path,
                source,
            })?;
        }
        Ok(())
    }

    /// Makes everything durable.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn sync(&self) -> Result<(), LogError> {
        self.metrics.sync()?;
        self.completions.sync()?;
        self.evaluations.sync()?;
        self.fresh.sync()?;
        self.selection.sync()?;
        self.groups.sync()
    }
}

fn mean(values: &[f32]) -> f64 {
    values.iter().map(|&value| f64::from(value)).sum::<f64>() / values.len().max(1) as f64
}
