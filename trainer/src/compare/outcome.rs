//! What one run showed, read from its directory.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use thiserror::Error;

use super::statistics::{interpolate, reach};
use crate::metrics::{LogError, StepMetrics, read_records};
use crate::record::PromptId;
use crate::selection::SelectionLine;

/// A run directory does not hold a finished run.
#[derive(Debug, Error)]
pub enum OutcomeError {
    /// A log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The run has no evaluation.
    #[error("compare {run}: it has no evaluation; set eval.every and hold problems out")]
    NoEvaluation {
        /// The run.
        run: String,
    },
}

/// A held-out problem at one evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub struct Problem {
    /// Step of the evaluation.
    pub step: u64,
    /// The problem.
    pub prompt_id: PromptId,
    /// Right completions.
    pub num_correct: usize,
    /// Completions.
    pub num_samples: usize,
}

/// A run at one evaluation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CurvePoint {
    /// Step.
    pub step: u64,
    /// Held-out accuracy.
    pub accuracy: f64,
    /// Lower end of its 95 % interval, clustered by problem.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Completions generated since the start.
    pub completions: f64,
    /// Tokens of them.
    pub tokens: f64,
    /// Seconds of training, audits and evaluations apart.
    pub secs: f64,
}

/// What accuracy is set against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    /// Completions.
    Completions,
    /// Generated tokens.
    Tokens,
    /// Seconds.
    Secs,
}

impl Curve {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Completions, Self::Tokens, Self::Secs];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Completions => "completions",
            Self::Tokens => "generated tokens",
            Self::Secs => "seconds",
        }
    }

    /// The cost at a point.
    pub fn of(self, point: &CurvePoint) -> f64 {
        match self {
            Self::Completions => point.completions,
            Self::Tokens => point.tokens,
            Self::Secs => point.secs,
        }
    }
}

/// What a run showed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Evaluations, first to last.
    pub points: Vec<CurvePoint>,
    /// Accuracy on the test half of the held-out problems at the evaluation that is best on the
    /// validation half.
    pub best_test_accuracy: f64,
    /// The step of that evaluation.
    pub best_step: u64,
    /// Mixed groups by all groups generated.
    pub mixed_frac: f64,
    /// Epochs of the stream.
    pub epochs: f64,
    /// Tokens of scored prompts.
    pub scored_tokens: f64,
    /// Seconds of the gate: history filter, entropies, and forward passes of scored prompts.
    pub gate_secs: f64,
    /// Steps that trained on too few groups.
    pub num_short_steps: u64,
    /// Steps whose window held a warning, by its name.
    pub warnings: BTreeMap<String, u64>,
}

impl Outcome {
    /// The last evaluation.
    pub fn last(&self) -> CurvePoint {
        self.points.last().copied().unwrap_or_default()
    }

    /// Accuracy against a cost.
    pub fn curve(&self, curve: Curve) -> Vec<(f64, f64)> {
        let pair = |point: &CurvePoint| (curve.of(point), point.accuracy);
        self.points.iter().map(pair).collect()
    }

    /// The cost at which an accuracy is first reached.
    pub fn reach(&self, curve: Curve, accuracy: f64) -> Option<f64> {
        reach(&self.curve(curve), accuracy)
    }

    /// The accuracy at a cost.
    pub fn accuracy_at(&self, curve: Curve, cost: f64) -> Option<f64> {
        interpolate(&self.curve(curve), cost)
    }
}

/// Reads a finished run.
///
/// # Errors
/// If a log is missing, damaged or without evaluations.
pub fn read_outcome(dir: &Path) -> Result<Outcome, OutcomeError> {
    let metrics: Vec<StepMetrics> = read_records(&dir.join("metrics.jsonl"))?;
    let lines: Vec<SelectionLine> = read_records(&dir.join("selection.jsonl"))?;
    let problems: Vec<Problem> = read_records(&dir.join("eval.jsonl"))?;
    let points = points(&metrics, &lines);
    let (Some((best_step, best_test_accuracy)), Some(last)) = (best(&problems), lines.last())
    else {
        let run = dir.display().to_string();
        return Err(OutcomeError::NoEvaluation { run });
    };
    let totals = last.totals;
    let gate = |line: &SelectionLine| {
        let timing = line.timing;
        timing.stage1_secs + timing.score_prefill_secs + timing.entropy_secs
    };
    let mut warnings = BTreeMap::new();
    for warning in lines.iter().flat_map(|line| &line.warnings) {
        *warnings.entry(format!("{warning:?}")).or_insert(0) += 1;
    }
    Ok(Outcome {
        points,
        best_test_accuracy,
        best_step,
        mixed_frac: totals.num_groups_mixed as f64 / totals.num_groups_generated.max(1) as f64,
        epochs: metrics.last().and_then(|it| it.epoch).unwrap_or_default(),
        scored_tokens: totals.scored_tokens as f64,
        gate_secs: lines.iter().map(gate).sum(),
        num_short_steps: totals.num_short_steps,
        warnings,
    })
}

fn points(metrics: &[StepMetrics], lines: &[SelectionLine]) -> Vec<CurvePoint> {
    let mut costs = BTreeMap::from([(0, (0.0, 0.0, 0.0))]);
    let mut secs = 0.0;
    for line in lines {
        secs += line.timing.step_secs;
        let totals = line.totals;
        let (completions, tokens) = (totals.num_completions, totals.completion_tokens);
        costs.insert(line.step, (completions as f64, tokens as f64, secs));
    }
    let point = |metrics: &StepMetrics| {
        let accuracy = metrics.eval_accuracy?;
        let (completions, tokens, secs) = *costs.get(&metrics.step)?;
        Some(CurvePoint {
            step: metrics.step,
            accuracy,
            low: metrics.eval_accuracy_low.unwrap_or(accuracy),
            high: metrics.eval_accuracy_high.unwrap_or(accuracy),
            completions,
            tokens,
            secs,
        })
    };
    metrics.iter().filter_map(point).collect()
}

/// The evaluation after the start that is best on the validation half (ties: the first), and its
/// accuracy on the other half. The halves are the even and the odd prompt ids.
fn best(problems: &[Problem]) -> Option<(u64, f64)> {
    let mut by_step: BTreeMap<u64, [(f64, f64); 2]> = BTreeMap::new();
    for problem in problems {
        let half =
            &mut by_step.entry(problem.step).or_default()[(problem.prompt_id.0 % 2) as usize];
        half.0 += problem.num_correct as f64 / problem.num_samples.max(1) as f64;
        half.1 += 1.0;
    }
    let share = |(right, all): (f64, f64)| if all > 0.0 { right / all } else { 0.0 };
    let mut best: Option<(f64, u64, f64)> = None;
    for (step, [validation, test]) in by_step {
        if best.is_none_or(|(highest, _, _)| share(validation) > highest) {
            best = Some((share(validation), step, share(test)));
        }
    }
    best.map(|(_, step, test)| (step, test))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_step_is_chosen_on_one_half_and_reported_on_the_other() {
        let problem = |step: u64, id: u64, num_correct: usize| Problem {
            step,
            prompt_id: PromptId(id),
            num_correct,
            num_samples: 2,
        };
        let problems = [
            problem(5, 2, 1),
            problem(5, 3, 2),
            problem(10, 2, 2),
            problem(10, 3, 1),
            problem(15, 2, 2),
            problem(15, 3, 2),
        ];
        // Validation is the even half: best first at step 10, where the test half has 0.5.
        assert_eq!(best(&problems), Some((10, 0.5)));
        assert_eq!(best(&[]), None);
    }

    #[test]
    fn a_run_is_read_at_its_costs() {
        let point = |completions: f64, accuracy: f64| CurvePoint {
            completions,
            tokens: 10.0 * completions,
            accuracy,
            ..CurvePoint::default()
        };
        let outcome = Outcome {
            points: vec![point(0.0, 0.2), point(100.0, 0.6)],
            ..Outcome::default()
        };
        let reached = outcome.reach(Curve::Completions, 0.4).unwrap();
        assert!((reached - 50.0).abs() < 1e-9);
        assert_eq!(outcome.reach(Curve::Tokens, 0.7), None);
        let found = outcome.accuracy_at(Curve::Tokens, 250.0).unwrap();
        assert!((found - 0.3).abs() < 1e-12);
        assert_eq!(outcome.last().accuracy, 0.6);
    }
}
