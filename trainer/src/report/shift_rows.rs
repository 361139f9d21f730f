//! Reward shift: rows for a learned reward, and the exact zero of a verified one.

use rlvr_bounds::{
    Bound, Distribution, Method, Range, Rows, Sample, certify_hockey_stick, certify_reward_shift,
    certify_upper, chi_square, coverage, donsker_varadhan, kl_dpi,
};

use super::predict::{DeltaSplit, distribution, measured, named};
use super::row::Row;
use super::statistics::{Rollouts, Statistics, StatisticsError};

const GROUP: &str = "reward shift: mean |reward - truth| of the policy";

/// Fixed before any data are seen.
const GRID: [f64; 5] = [1.0, 2.0, 4.0, 8.0, 16.0];

/// Rows of the reward shift.
pub(super) fn rows(
    statistics: &Statistics,
    set: &Rollouts,
    split: DeltaSplit,
    rows: &mut Vec<Row>,
) -> Result<(), StatisticsError> {
    let errors = &statistics.reward_errors;
    if set.is_verified && errors.is_empty() {
        let zero = Row::of_bound(
            GROUP,
            "the reward is the verifier's truth",
            &Bound::zero("R0"),
        );
        rows.push(
            zero.noted("misgraded answers would be an error of the verifier, not of this term"),
        );
        return Ok(());
    }
    let abs_e = set
        .rewards
        .zip(&set.truth, |reward, truth| (reward - truth).abs());
    let error = (!set.is_verified).then(|| measured(&abs_e)).transpose()?;
    if error.is_some() {
        let sample = Sample::held_out(named("R8", abs_e.rows())?);
        let bound = certify_upper(&sample, Range::UNIT, statistics.delta, Method::Kl);
        let row = Row::of_bound(
            GROUP,
            "graded directly on held-out rollouts",
            &named("R8", bound)?,
        );
        let row = Row {
            id: "R8".into(),
            ..row
        };
        rows.push(row.beside(error, true));
    }
    let (Some(lw), false) = (&set.log_ratio_old, errors.is_empty()) else {
        return Ok(());
    };
    let weights = distribution(lw)?;
    let absolute: Vec<f64> = errors.iter().map(|e| e.abs()).collect();
    let squares: Vec<f64> = errors.iter().map(|e| e * e).collect();
    let l2 = named("L2", Distribution::sample(&squares))?.mean();
    let trained = named("E|e|", Distribution::sample(&absolute))?;
    let kl = weights.mean().max(0.0);
    let found = coverage(&weights);
    let mut unreliable = String::new();
    if !found.is_reliable() {
        unreliable = format!(
            "lower estimate, unreliable: one rollout has {:.0} % of the weight",
            100.0 * found.max_share
        );
    }
    let plug_in = [
        (
            "chi-square (published)",
            named("R1", chi_square(&weights, l2))?,
            unreliable.as_str(),
        ),
        (
            "data processing",
            named("R5", kl_dpi(trained.mean(), kl))?,
            "",
        ),
        (
            "Donsker-Varadhan",
            named("R6", donsker_varadhan(kl, &trained))?,
            "",
        ),
    ];
    for (name, bound, note) in plug_in {
        rows.push(
            Row::of_bound(GROUP, name, &bound)
                .beside(error, true)
                .noted(note),
        );
    }
    let sample = Sample::held_out(named("R4", lw.rows())?);
    let abs_upper = upper(&absolute, split.l2)?;
    let l2_upper = upper(&squares, split.l2)?;
    let certified = [
        (
            "total variation",
            certify_hockey_stick(&sample, &abs_upper, &[1.0], split.coverage),
        ),
        (
            "hockey-stick",
            certify_hockey_stick(&sample, &abs_upper, &GRID, split.coverage),
        ),
        (
            "clipped chi-square",
            certify_reward_shift(&sample, &l2_upper, &GRID, split.coverage),
        ),
    ];
    for (name, bound) in certified {
        rows.push(Row::of_bound(GROUP, name, &named("R4", bound)?).beside(error, true));
    }
    Ok(())
}

/// Certified upper bound on a mean over draws of the reward model's distribution.
fn upper(values: &[f64], delta: f64) -> Result<Bound, StatisticsError> {
    let sample = Sample::held_out(named("L2", Rows::new(values, 1))?);
    named("L2", certify_upper(&sample, Range::UNIT, delta, Method::Kl))
}

/// The reward-shift term of Theorem 1: R1 as published, else the certified R4.
pub(super) fn term(
    statistics: &Statistics,
    set: &Rollouts,
    split: DeltaSplit,
    is_published: bool,
) -> Result<Bound, StatisticsError> {
    let errors = &statistics.reward_errors;
    let squares: Vec<f64> = errors.iter().map(|e| e * e).collect();
    match (&set.log_ratio_old, errors.is_empty()) {
        (Some(lw), false) if is_published => {
            let l2 = named("L2", Distribution::sample(&squares))?.mean();
            named("R1", chi_square(&distribution(lw)?, l2))
        }
        (Some(lw), false) => {
            let sample = Sample::held_out(named("R4", lw.rows())?);
            let l2 = upper(&squares, split.l2)?;
            named(
                "R4",
                certify_reward_shift(&sample, &l2, &GRID, split.coverage),
            )
        }
        _ if set.is_verified => Ok(Bound::zero("R0")),
        _ => {
            let abs_e = set
                .rewards
                .zip(&set.truth, |reward, truth| (reward - truth).abs());
            let sample = Sample::held_out(named("R8", abs_e.rows())?);
            let delta = split.l2 + split.coverage;
            named("R8", certify_upper(&sample, Range::UNIT, delta, Method::Kl))
        }
    }
}
