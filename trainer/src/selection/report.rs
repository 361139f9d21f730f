//! One line of `selection.jsonl`.

use rlvr_core::RunKind;
use serde::{Deserialize, Serialize};

use super::audit_config::AuditConfig;
use super::collected::Collected;
use super::counts::{AuditCounts, StepCounts};
use super::source::SourceStats;
use super::state::{SelectionState, Totals};
use super::window::{EdgeStats, Warning, warnings};

/// What selection did in a step and where it stands; everything before `timing` is the same in
/// two runs of one configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SelectionLine {
    /// Step, counted from 1.
    pub step: u64,
    /// Counts of the step.
    pub counts: StepCounts,
    /// Counts of its audit.
    pub audit: AuditCounts,
    /// Sums since the start.
    pub totals: Totals,
    /// True if fewer groups were trained on than configured.
    pub is_short: bool,
    /// Exploration probability of easy prompts after the step.
    pub p_easy: f64,
    /// Exploration probability of hard prompts after the step.
    pub p_hard: f64,
    /// Epoch of the stream, counted from 0.
    pub epoch: u64,
    /// Prompts by the length of their trailing run, runs of easy groups.
    pub easy_runs: Vec<u64>,
    /// Prompts by the length of their trailing run, runs of hard groups.
    pub hard_runs: Vec<u64>,
    /// SHA-256 of the state.
    pub state_digest: String,
    /// Correlations of this step.
    pub edge: Option<EdgeStats>,
    /// Correlations of the latest steps.
    pub edge_window: Option<EdgeStats>,
    /// What holds against the gate.
    pub warnings: Vec<Warning>,
    /// Times.
    pub timing: SelectionTiming,
}

/// Seconds of a step, by what they went into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SelectionTiming {
    /// Stage 1: pulling prompts and the history filter.
    pub stage1_secs: f64,
    /// Forward passes of scored prompts, which the kept ones' completions share.
    pub score_prefill_secs: f64,
    /// Vocabulary projection and entropies of scored prompts.
    pub entropy_secs: f64,
    /// Rollouts: other prefills, decoding and sampling.
    pub rollout_secs: f64,
    /// Grading.
    pub reward_secs: f64,
    /// Log-probs, backward passes and optimizer.
    pub update_secs: f64,
    /// The step without audits and utilities, evaluation and checkpoint not included.
    pub step_secs: f64,
    /// The audit.
    pub audit_secs: f64,
    /// Utilities.
    pub utility_secs: f64,
}

impl SelectionTiming {
    /// Adds what the source took.
    pub(super) fn add(&mut self, stats: &SourceStats) {
        self.score_prefill_secs += stats.score.prefill_secs;
        self.entropy_secs += stats.score.entropy_secs;
        self.rollout_secs += stats.rollout.wall_secs;
        self.reward_secs += stats.grade_secs;
    }
}

impl SelectionLine {
    /// The line of a step; `state` is that after it.
    ///
    /// # Errors
    /// If the state cannot be written.
    pub fn new(
        step: u64,
        collected: &Collected,
        state: &SelectionState,
        config: &AuditConfig,
        timing: SelectionTiming,
    ) -> Result<Self, serde_json::Error> {
        let edge_window = EdgeStats::of(&state.window);
        let holding = edge_window.as_ref().map(|it| warnings(it, config));
        Ok(Self {
            step,
            counts: collected.counts.clone(),
            audit: collected.audit,
            totals: state.totals,
            is_short: collected.is_short,
            p_easy: state.exploration.p_easy,
            p_hard: state.exploration.p_hard,
            epoch: state.epoch(),
            easy_runs: run_lengths(state, RunKind::Easy),
            hard_runs: run_lengths(state, RunKind::Hard),
            state_digest: state.digest()?,
            edge: EdgeStats::of([collected.window()]),
            edge_window,
            warnings: holding.unwrap_or_default(),
            timing,
        })
    }
}

/// Prompts by the length of their trailing run, from 1; index 0 is length 1.
fn run_lengths(state: &SelectionState, kind: RunKind) -> Vec<u64> {
    let mut lengths = Vec::new();
    for history in state.histories.values() {
        let length = history.run.length as usize;
        if history.run.kind == Some(kind) && length > 0 {
            if lengths.len() < length {
                lengths.resize(length, 0);
            }
            lengths[length - 1] += 1;
        }
    }
    lengths
}
