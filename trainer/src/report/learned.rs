//! A run against a learned reward: reward, truth and bounds per checkpoint and number of pairs.
//!
//! Over-optimisation shows as the learned reward rising with KL while the truth stalls or falls: the
//! signed error grows, and the bounds on its absolute value have to stay above it. Every bound holds at
//! delta by itself, not all of them at once.

use core::fmt::Write;

use serde::Serialize;

use super::fresh::{FreshLine, PromptSet};
use super::fresh_statistics::fresh_statistics;
use super::live::{column, log_ratios, verdicts};
use super::predict::{DeltaSplit, measured};
use super::row::{Measured, Row};
use super::run_files::Additions;
use super::shift_rows;
use super::statistics::StatisticsError;
use crate::config::RunConfig;
use crate::reward_model::file::Head;

/// Reward, truth and bounds along a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Learned {
    /// What the heads are worth under the base model, by number of pairs; the last one is the reward.
    pub heads: Vec<HeadSummary>,
    /// Steps with fresh rollouts.
    pub checkpoints: Vec<Checkpoint>,
}

/// A head under the base model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct HeadSummary {
    /// Pairs of its fit, m.
    pub num_pairs: usize,
    /// Held-out pairs ranked right.
    pub pair_accuracy: f64,
    /// Expected calibration error.
    pub calibration_error: f64,
    /// Mean |reward - truth|.
    pub mean_absolute_error: f64,
}

/// Fresh held-out rollouts of one step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Checkpoint {
    /// Steps that were complete.
    pub step: u64,
    /// KL(policy, start) per sequence in nats, estimator k1.
    pub kl: Measured,
    /// Share of right completions.
    pub truth: Measured,
    /// What each head says of the same completions.
    pub heads: Vec<HeadPoint>,
}

/// One head on the completions of one step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct HeadPoint {
    /// Pairs of its fit.
    pub num_pairs: usize,
    /// Mean learned reward.
    pub reward: Measured,
    /// Mean of reward minus truth.
    pub error: Measured,
    /// Mean of |reward - truth|: what the bounds are about.
    pub absolute_error: Measured,
    /// R1, chi-square as published: an estimate.
    pub chi_square: f64,
    /// False if few rollouts have most of the weight, so that R1 is probably too low.
    pub is_chi_square_reliable: bool,
    /// R2, total variation, certified.
    pub total_variation: f64,
    /// R4, clipped chi-square, certified.
    pub clipped_chi_square: f64,
    /// R8, graded directly on these rollouts, certified: what a verifier buys.
    pub graded: f64,
}

/// Collects what the fresh rollouts of all steps say of the heads; `None` without heads or rollouts.
///
/// # Errors
/// If a theorem refuses its input.
pub fn learned(
    config: &RunConfig,
    fresh: &[FreshLine],
    heads: &[Head],
    additions: Additions,
) -> Result<Option<Learned>, StatisticsError> {
    let mut steps: Vec<u64> = fresh.iter().map(|line| line.step).collect();
    steps.dedup();
    let mut checkpoints = Vec::new();
    for step in steps {
        let of_step: Vec<FreshLine> = fresh.iter().filter(|it| it.step == step).cloned().collect();
        checkpoints.extend(checkpoint(config, step, &of_step, heads, additions)?);
    }
    let summary = |head: &Head| HeadSummary {
        num_pairs: head.num_pairs,
        pair_accuracy: head.pair_accuracy.value,
        calibration_error: head.calibration_error,
        mean_absolute_error: head.errors.iter().map(|e| e.abs()).sum::<f64>()
            / head.errors.len() as f64,
    };
    let has_any = !heads.is_empty() && !checkpoints.is_empty();
    Ok(has_any.then(|| Learned {
        heads: heads.iter().map(summary).collect(),
        checkpoints,
    }))
}

/// The checkpoint of a step; `None` if its completions were not scored under the start, or are too
/// few for an interval.
fn checkpoint(
    config: &RunConfig,
    step: u64,
    lines: &[FreshLine],
    heads: &[Head],
    additions: Additions,
) -> Result<Option<Checkpoint>, StatisticsError> {
    let Ok(l) = column("log_ratio_ref", lines, PromptSet::HeldOut, log_ratios) else {
        return Ok(None);
    };
    let truth = column("correct", lines, PromptSet::HeldOut, verdicts)?;
    let mut points = Vec::new();
    for placed in heads.iter().enumerate() {
        let Some(statistics) = fresh_statistics(config, lines, additions, Some(placed))? else {
            return Ok(None);
        };
        let Some(set) = &statistics.held_out else {
            return Ok(None);
        };
        let mut rows = Vec::new();
        shift_rows::rows(&statistics, set, DeltaSplit::of(&statistics), &mut rows)?;
        let row = |id: &str| rows.iter().find(|row| row.id.split(' ').next() == Some(id));
        let value = |id: &str| row(id).and_then(|row| row.predicted).unwrap_or(1.0);
        let error = set.rewards.zip(&set.truth, |reward, truth| reward - truth);
        points.push(HeadPoint {
            num_pairs: placed.1.num_pairs,
            reward: measured(&set.rewards)?,
            absolute_error: measured(&error.map(f64::abs))?,
            error: measured(&error)?,
            chi_square: value("R1"),
            is_chi_square_reliable: row("R1").is_some_and(|row: &Row| row.note.is_empty()),
            total_variation: value("R2"),
            clipped_chi_square: value("R4"),
            graded: value("R8"),
        });
    }
    Ok(Some(Checkpoint {
        step,
        kl: measured(&l)?,
        truth: measured(&truth)?,
        heads: points,
    }))
}

/// The tables for a terminal: the run's reward along the run, then every head at its end.
pub fn table(found: &Learned) -> String {
    let mut text = String::from(
        "\nlearned reward and truth on held-out prompts; bounds on mean |reward - truth|\n",
    );
    let heading = |first: &str| {
        format!(
            "{first:>6} {:>8} {:>8} {:>8} {:>8} {:>8} {:>9} {:>8} {:>8} {:>8}\n",
            "KL", "reward", "truth", "error", "|error|", "R1", "R2", "R4", "R8"
        )
    };
    text += &heading("step");
    for at in &found.checkpoints {
        if let Some(head) = at.heads.last() {
            text += &line(at.step as usize, at, head);
        }
    }
    if let Some(at) = found.checkpoints.last() {
        let _ = write!(
            text,
            "by number of pairs, step {}\n{}",
            at.step,
            heading("pairs")
        );
        for head in &at.heads {
            text += &line(head.num_pairs, at, head);
        }
    }
    text += "R1 chi-square as published, an estimate (* one rollout has over 5 % of the weight: too \
             low); R2 total variation, R4 clipped chi-square, R8 graded directly: certified, each \
             by itself\n";
    text
}

fn line(first: usize, at: &Checkpoint, head: &HeadPoint) -> String {
    // An error is never above 1, so a larger bound says nothing.
    let chi_square = match head.chi_square {
        value if value > 1.0 => ">1".into(),
        value => format!("{value:.4}"),
    };
    let mark = match head.is_chi_square_reliable {
        true => ' ',
        false => '*',
    };
    format!(
        "{first:>6} {:>8.3} {:>8.4} {:>8.4} {:>+8.4} {:>8.4} {chi_square:>8}{mark} {:>8.4} {:>8.4} \
         {:>8.4}\n",
        at.kl.value,
        head.reward.value,
        at.truth.value,
        head.error.value,
        head.absolute_error.value,
        head.total_variation,
        head.clipped_chi_square,
        head.graded,
    )
}
