//! Predicted parts beside the measured error, evaluation by evaluation: what the picture shows.

use rlvr_bounds::{Range, Sample, certify_fixed_best, clip_term, tail};
use serde::Serialize;

use super::predict::{Clip, DeltaSplit, distribution, measured, named};
use super::row::Measured;
use super::shift_rows;
use super::statistics::{Statistics, StatisticsError, Table};

/// One evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    /// Steps that were complete.
    pub step: u64,
    /// Certified half-width of the held-out mean.
    pub sampling: f64,
    /// Bound on the reward's error; 0 for a verified reward.
    pub reward_shift: f64,
    /// Clip term.
    pub clip: f64,
    /// Training minus held-out, interval from the held-out prompts.
    pub error: Option<Measured>,
}

/// The point of a step from held-out rewards, and the mean of the training rewards if known.
///
/// # Errors
/// If a theorem refuses its input.
pub fn point(
    step: u64,
    held_out: &Table,
    train_mean: Option<f64>,
    delta: f64,
) -> Result<Point, StatisticsError> {
    let sample = Sample::held_out(named("rows", held_out.rows())?);
    let sampling = named("S2-S5", certify_fixed_best(&sample, Range::UNIT, delta))?;
    let mean = measured(held_out)?;
    Ok(Point {
        step,
        sampling: sampling.value(),
        reward_shift: 0.0,
        clip: 0.0,
        error: train_mean.map(|train| Measured {
            value: train - mean.value,
            low: train - mean.high,
            high: train - mean.low,
        }),
    })
}

/// The point of a step whose statistics are complete; `error` is what its report measured.
///
/// # Errors
/// If a theorem refuses its input.
pub fn full_point(
    step: u64,
    statistics: &Statistics,
    error: Option<Measured>,
) -> Result<Option<Point>, StatisticsError> {
    let Some(set) = &statistics.held_out else {
        return Ok(None);
    };
    let split = DeltaSplit::of(statistics);
    let mut found = point(step, &set.rewards, None, split.sampling)?;
    if let (Some(clip), Some(l)) = (Clip::of(statistics, set), &set.log_ratio_ref) {
        let beyond = named("C1", tail(&distribution(l)?, clip.tau))?;
        found.clip = named("C1", clip_term(clip.kl_coef, beyond.abs))?.value();
    }
    found.reward_shift = shift_rows::term(statistics, set, split, false)?.value();
    found.error = error;
    Ok(Some(found))
}
