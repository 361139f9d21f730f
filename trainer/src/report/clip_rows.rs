//! KL clipping: rows for a sequence-level clip.

use rlvr_bounds::{Bound, certify_lower_tail, clip_bias, clip_term, tail};

use super::predict::{Clip, distribution, measured, named};
use super::row::Row;
use super::statistics::{Rollouts, Statistics, StatisticsError};

const GROUP: &str = "KL clipping: kl_coef times mean |l - clip(l)|";

/// Rows of the clip.
pub(super) fn rows(
    statistics: &Statistics,
    set: &Rollouts,
    rows: &mut Vec<Row>,
) -> Result<(), StatisticsError> {
    let (Some(clip), Some(l)) = (Clip::of(statistics, set), &set.log_ratio_ref) else {
        if statistics.kl_coef > 0.0 {
            let reason = "needs tau and log_ratio_ref: without a sequence-level clip the KL term is \
                          unbounded, and the report is about the reward alone";
            rows.push(Row::refused(GROUP, "C1", "KL term", reason));
        }
        return Ok(());
    };
    let Clip { kl_coef, tau } = clip;
    let moved = l.map(|l| kl_coef * (l - l.clamp(-tau, tau)).abs());
    let bias = named("C1", clip_bias(&distribution(l)?, tau, kl_coef))?;
    let row = Row::of_bound(GROUP, "both tails, sampled", &bias);
    rows.push(row.beside(Some(measured(&moved)?), false));
    let below = l.map(|l| kl_coef * (-l - tau).max(0.0));
    let free = named("C2", certify_lower_tail(tau, kl_coef))?;
    let row = Row::of_bound(GROUP, "lower tail, no data needed", &free);
    rows.push(row.beside(Some(measured(&below)?), true));
    Ok(())
}

/// The clip term of Theorem 1: `kl_coef E|l - l_tau|`.
pub(super) fn term(clip: Option<Clip>, set: &Rollouts) -> Result<Bound, StatisticsError> {
    match (clip, &set.log_ratio_ref) {
        (Some(Clip { kl_coef, tau }), Some(l)) => {
            let found = named("C1", tail(&distribution(l)?, tau))?;
            named("C1", clip_term(kl_coef, found.abs))
        }
        _ => Ok(Bound::zero("C0")),
    }
}
