//! What a report advises, and what it distrusts.

use rlvr_bounds::{
    anova, hoeffding_direct, hoeffding_paper, k_star_variance, mean_inverse_ratio, tau_star,
    tau_star_asym,
};

use super::predict::{distribution, measured, named};
use super::statistics::{Rollouts, Statistics, StatisticsError, Table};

/// Standard errors above 1 from which `mean exp(-l)` is a warning.
pub const SELF_CHECK_ERRORS: f64 = 4.0;

/// Half-width that the advice on the number of prompts aims at.
const TARGET: f64 = 0.05;

/// Rules for the next budget.
pub(super) fn advice(statistics: &Statistics) -> Result<Vec<String>, StatisticsError> {
    let mut lines = Vec::new();
    let Some(set) = &statistics.held_out else {
        return Ok(lines);
    };
    let needed = ((2.0 / statistics.delta).ln() / (2.0 * TARGET * TARGET)).ceil();
    lines.push(format!(
        "a certified half-width of {TARGET} takes {needed} held-out prompts (S2); there are {}",
        set.rewards.n
    ));
    if let (Some(cost), true) = (statistics.cost, set.rewards.k >= 2) {
        let found = named("anova", anova(named("rows", set.rewards.rows())?))?;
        let choice = k_star_variance(cost.prefill, cost.decode, found.sigma_r2, found.sigma_p2);
        lines.push(match choice {
            Ok(choice) => format!(
                "rollouts per prompt: {} at these variances and costs (A2, closed form {:.2})",
                choice.k, choice.closed
            ),
            Err(error) => format!("rollouts per prompt: no rule applies ({error})"),
        });
    }
    if let Some(l) = &set.log_ratio_ref {
        let (n, k) = (set.rewards.n, set.rewards.k);
        let alpha = named("S2", hoeffding_direct(n, statistics.delta, 1.0))?;
        let paper = named("S1", hoeffding_paper(n, k, statistics.delta, 1.0))?;
        let l = distribution(l)?;
        let (direct, published) = (
            named("C3", tau_star(&l, alpha))?,
            named("C3", tau_star(&l, paper))?,
        );
        lines.push(format!(
            "sequence-level clip: tau = {direct:.4} nats for the direct rate, {published:.4} for the \
             published one (C3; a rule: fix it on other prompts than those it is used on)"
        ));
        if alpha < 0.5 {
            let (lo, hi) = named("C4", tau_star_asym(&l, alpha))?;
            lines.push(format!("asymmetric clip: {lo:.4} to {hi:.4} nats (C4)"));
        }
    }
    Ok(lines)
}

/// What is suspicious about these rollouts.
pub(super) fn warnings(set: &Rollouts) -> Result<Vec<String>, StatisticsError> {
    let mut lines = Vec::new();
    let ratios = [
        ("log_ratio_ref", &set.log_ratio_ref),
        ("log_ratio_old", &set.log_ratio_old),
    ];
    for (name, table) in ratios {
        if let Some(table) = table {
            lines.extend(self_check(name, table)?);
        }
    }
    let found = measured(&set.rewards)?;
    if found.low == found.high {
        lines.push(format!(
            "all {} held-out prompts have the same mean reward: the measured interval has no width; \
             read the certified one (S4)",
            set.rewards.n
        ));
    }
    Ok(lines)
}

/// `mean exp(-l) <= 1` within its error, or a warning: log-probs that contradict it are not those
/// of the distribution that was sampled.
pub(super) fn self_check(name: &str, l: &Table) -> Result<Option<String>, StatisticsError> {
    let (mean, error) = named("self-check", mean_inverse_ratio(named("rows", l.rows())?))?;
    let is_wrong = mean > 1.0 + SELF_CHECK_ERRORS * error + 1e-6;
    Ok(is_wrong.then(|| {
        format!(
            "{name}: mean exp(-l) = {mean:.4} ± {error:.4}, but at most 1 is possible: these are not \
             the log-probs of the policy that was sampled (temperature, top-p, engine or mask)"
        )
    }))
}
