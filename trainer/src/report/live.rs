//! What fresh rollouts say while a run goes on: variance components, the KL clip, and the check
//! of the log-probs.

use rlvr_bounds::{Distribution, anova, hoeffding_direct, tau_star};

use super::advice::self_check;
use super::fresh::{FreshLine, PromptSet};
use super::statistics::{StatisticsError, Table};
use crate::metrics::StepMetrics;

/// A column of one set as a table.
///
/// # Errors
/// If there is no line, or the lines differ in length.
pub fn column(
    name: &str,
    lines: &[FreshLine],
    set: PromptSet,
    values: impl Fn(&FreshLine) -> Vec<f64>,
) -> Result<Table, StatisticsError> {
    let lines = lines.iter().filter(|line| line.set == set);
    Table::new(name, &lines.map(values).collect::<Vec<_>>())
}

/// 1 where the verifier accepted.
pub fn verdicts(line: &FreshLine) -> Vec<f64> {
    let verdicts = line.correct.iter();
    verdicts
        .map(|&correct| f64::from(u8::from(correct)))
        .collect()
}

/// Sequence log-ratios to the reference; empty if it was not scored.
pub fn log_ratios(line: &FreshLine) -> Vec<f64> {
    let reference = line.ref_logprobs.iter().flatten();
    let pairs = line.policy_logprobs.iter().zip(reference);
    pairs
        .map(|(policy, reference)| policy - reference)
        .collect()
}

/// Fills the metrics of the group "fresh rollouts".
pub fn fill(metrics: &mut StepMetrics, lines: &[FreshLine]) {
    let reward = |set| column("correct", lines, set, verdicts);
    if let Ok(table) = reward(PromptSet::Train) {
        metrics.fresh_train_accuracy = table.rows().ok().map(|rows| rows.mean());
    }
    let Ok(table) = reward(PromptSet::HeldOut) else {
        return;
    };
    metrics.fresh_held_out_accuracy = table.rows().ok().map(|rows| rows.mean());
    if let Ok(found) = table.rows().and_then(anova) {
        metrics.fresh_variance_prompts = Some(found.sigma_p2);
        metrics.fresh_variance_rollouts = Some(found.sigma_r2);
    }
    let Ok(l) = column("log_ratio_ref", lines, PromptSet::HeldOut, log_ratios) else {
        return;
    };
    metrics.fresh_kl_policy_ref_k1 = l.rows().ok().map(|rows| rows.mean());
    let inverse = l.map(|l| (-l).exp());
    metrics.fresh_inverse_ratio_mean = inverse.rows().ok().map(|rows| rows.mean());
}

/// The threshold that the quantile rule takes from these rollouts: the (1 - 2 alpha) quantile of
/// |l| with alpha the direct sampling rate; `None` without a reference.
pub fn tau_of(lines: &[FreshLine], set: PromptSet, delta: f64) -> Option<f64> {
    let l = column("log_ratio_ref", lines, set, log_ratios).ok()?;
    let alpha = hoeffding_direct(l.n, delta, 1.0).ok()?;
    tau_star(&Distribution::sample(&l.data).ok()?, alpha).ok()
}

/// Log-probs that are not the sampler's.
pub fn warnings(lines: &[FreshLine]) -> Vec<String> {
    let sets = [PromptSet::HeldOut, PromptSet::Train];
    let check = |set| {
        let l = column("log_ratio_ref", lines, set, log_ratios).ok()?;
        self_check("fresh rollouts, log-ratio to the start", &l).ok()?
    };
    sets.into_iter().filter_map(check).collect()
}
