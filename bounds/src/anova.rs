//! Variance within and between prompts, from a balanced table with at least two rollouts.
//!
//! **Assumptions.** Independent prompts; rollouts independent given their prompt.
//!
//! ```text
//! MSW = sum_ik (f_ik - F_i)^2 / (n (k-1)),   MSB = k var(F)
//! sigma_r^2 = MSW,   sigma_p^2 = max(0, (MSB - MSW) / k),   Var(mean) = var(F) / n
//! ```

use crate::error::{Result, check_count};
use crate::sample::Rows;
use crate::sums::{mean, sum, variance};

/// Variance components.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Anova {
    /// Mean of all values.
    pub mean: f64,
    /// Mean square within prompts.
    pub msw: f64,
    /// Mean square between prompts.
    pub msb: f64,
    /// Variance of a rollout given its prompt.
    pub sigma_r2: f64,
    /// Variance of a prompt's expectation; 0 where the estimate is negative.
    pub sigma_p2: f64,
    /// Sample variance of the per-prompt means.
    pub var_f: f64,
    /// Variance of the mean.
    pub var_mean: f64,
}

/// Components of `rows`.
///
/// # Errors
/// If there are fewer than two prompts or two rollouts per prompt.
pub fn anova(rows: Rows<'_>) -> Result<Anova> {
    let n = check_count("prompts", rows.n(), 2)?;
    let k = check_count("rollouts per prompt", rows.k(), 2)?;
    let means = rows.means();
    let within = rows.iter().zip(&means).flat_map(|(row, centre)| {
        row.iter()
            .map(move |value| (value - centre) * (value - centre))
    });
    let msw = sum(within) / (n * (k - 1.0));
    let var_f = variance(&means);
    let msb = k * var_f;
    Ok(Anova {
        mean: mean(&means),
        msw,
        msb,
        sigma_r2: msw,
        sigma_p2: ((msb - msw) / k).max(0.0),
        var_f,
        var_mean: var_f / n,
    })
}
