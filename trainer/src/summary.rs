//! From the records of a step to its metrics. Sums are divided once, here.

use std::collections::BTreeMap;

use rlvr_core::Degenerate;

use crate::advantage::AdvantageOutcome;
use crate::batch::Row;
use crate::eval::EvalReport;
use crate::metrics::StepMetrics;
use crate::record::{Group, Rollout};
use crate::rollout::RolloutStats;
use crate::update::UpdateOutcome;

/// Mean, population standard deviation, smallest and largest of some numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Spread {
    mean: f64,
    std: f64,
    min: f64,
    max: f64,
}

/// `None` if there are no numbers.
fn spread(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
    let values: Vec<f64> = values.into_iter().collect();
    if values.is_empty() {
        return None;
    }
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values
        .iter()
        .map(|value| (value - mean).powi(2))
        .sum::<f64>()
        / count;
    Some(Spread {
        mean,
        std: variance.sqrt(),
        min: values.iter().copied().fold(f64::INFINITY, f64::min),
        max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
    })
}

fn share<'a>(rollouts: &[&'a Rollout], holds: impl Fn(&'a Rollout) -> bool) -> Option<f64> {
    let count = rollouts.iter().filter(|rollout| holds(rollout)).count();
    (!rollouts.is_empty()).then(|| count as f64 / rollouts.len() as f64)
}

/// Rewards, verdicts, lengths and stops.
pub fn fill_rollouts(metrics: &mut StepMetrics, groups: &[Group]) {
    let rollouts: Vec<&Rollout> = groups.iter().flat_map(|group| &group.rollouts).collect();
    if let Some(reward) = spread(rollouts.iter().map(|rollout| rollout.reward.total)) {
        (metrics.reward_mean, metrics.reward_std) = (Some(reward.mean), Some(reward.std));
    }
    fill_components(metrics, &rollouts);
    let learned = rollouts.iter().filter_map(|rollout| {
        let verdict = f64::from(u8::from(rollout.reward.is_correct));
        rollout.reward.learned.map(|value| (value, value - verdict))
    });
    let learned: Vec<(f64, f64)> = learned.collect();
    let mean = |of: fn(&(f64, f64)) -> f64| spread(learned.iter().map(of)).map(|it| it.mean);
    metrics.learned_reward_mean = mean(|it| it.0);
    metrics.learned_reward_error_mean = mean(|it| it.1);
    metrics.learned_reward_error_abs = mean(|it| it.1.abs());
    metrics.correct_frac = share(&rollouts, |rollout| rollout.reward.is_correct);
    metrics.strict_format_frac = share(&rollouts, |rollout| rollout.reward.is_strict_format);
    metrics.truncated_frac = share(&rollouts, |rollout| rollout.completion.stop.is_truncated());
    metrics.empty_frac = share(&rollouts, |rollout| {
        rollout.completion_text.trim().is_empty()
    });
    let length = |rollout: &&Rollout| rollout.completion.tokens.len() as f64;
    if let Some(all) = spread(rollouts.iter().map(length)) {
        metrics.completion_tokens_mean = Some(all.mean);
        metrics.completion_tokens_min = Some(all.min as u64);
        metrics.completion_tokens_max = Some(all.max as u64);
    }
    let terminated = rollouts
        .iter()
        .filter(|rollout| !rollout.completion.stop.is_truncated());
    if let Some(ended) = spread(terminated.map(length)) {
        metrics.terminated_tokens_mean = Some(ended.mean);
        metrics.terminated_tokens_min = Some(ended.min as u64);
        metrics.terminated_tokens_max = Some(ended.max as u64);
    }
    let prompts = groups
        .iter()
        .map(|group| group.prompt.prompt_tokens.len() as f64);
    if let Some(prompt) = spread(prompts) {
        metrics.prompt_tokens_mean = Some(prompt.mean);
        metrics.prompt_tokens_max = Some(prompt.max as u64);
    }
    metrics.num_rollouts = Some(rollouts.len() as u64);
    metrics.num_prompts_kept = Some(groups.len() as u64);
    metrics.num_prompts_considered = Some(groups.len() as u64);
}

fn fill_components(metrics: &mut StepMetrics, rollouts: &[&Rollout]) {
    let mut values: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for rollout in rollouts {
        *metrics
            .verdict_frac
            .entry(rollout.reward.reason.clone())
            .or_insert(0.0) += 1.0 / rollouts.len() as f64;
        for (name, value) in &rollout.reward.components {
            values.entry(name).or_default().push(*value);
        }
    }
    for (name, values) in values {
        if let Some(component) = spread(values) {
            metrics
                .reward_component_mean
                .insert(name.into(), component.mean);
            metrics
                .reward_component_std
                .insert(name.into(), component.std);
        }
    }
}

/// Advantages and degenerate groups.
pub fn fill_advantages(metrics: &mut StepMetrics, groups: &[Group], found: &AdvantageOutcome) {
    if let Some(advantage) = spread(found.advantages.iter().flatten().copied()) {
        metrics.advantage_mean = Some(advantage.mean);
        metrics.advantage_std = Some(advantage.std);
        metrics.advantage_min = Some(advantage.min);
        metrics.advantage_max = Some(advantage.max);
    }
    let frac = |count: usize| Some(count as f64 / groups.len().max(1) as f64);
    let all = |group: &&Group, right: bool| {
        group
            .rollouts
            .iter()
            .all(|rollout| rollout.reward.is_correct == right)
    };
    let equal = |found: &&Option<Degenerate>| matches!(found, Some(Degenerate::AllEqual));
    metrics.degenerate_group_frac = frac(found.degenerate.iter().filter(equal).count());
    metrics.all_right_group_frac = frac(groups.iter().filter(|group| all(group, true)).count());
    metrics.all_wrong_group_frac = frac(groups.iter().filter(|group| all(group, false)).count());
}

/// Loss, ratios, KL, entropy and gradient norms.
pub fn fill_update(
    metrics: &mut StepMetrics,
    outcome: &UpdateOutcome,
    has_reference: bool,
    is_corrected: bool,
) {
    let sums = &outcome.sums;
    let inner_steps = (outcome.num_inner_steps + outcome.num_skipped_steps) as f64;
    metrics.num_inner_steps = Some(outcome.num_inner_steps as u64);
    metrics.num_rollouts_without_gradient = Some(outcome.num_idle_rows as u64);
    if let Some(norm) = spread(outcome.grad_norms.iter().copied()) {
        (metrics.grad_norm, metrics.grad_norm_max) = (Some(norm.mean), Some(norm.max));
    }
    if sums.num_tokens == 0.0 || inner_steps == 0.0 {
        return;
    }
    let per_token = |sum: f64| Some(sums.per_token(sum));
    metrics.loss = Some(sums.loss() / inner_steps);
    metrics.policy_loss = Some(sums.policy_loss / inner_steps);
    metrics.clip_low_frac = per_token(sums.clip_low_tokens);
    metrics.clip_high_frac = per_token(sums.clip_high_tokens);
    metrics.ratio_mean = per_token(sums.ratio_sum);
    metrics.ratio_min = Some(sums.ratio_min);
    metrics.ratio_max = Some(sums.ratio_max);
    metrics.kl_old_policy_k1 = per_token(sums.kl_old_policy_k1_sum);
    metrics.kl_old_policy_k3 = per_token(sums.kl_old_policy_k3_sum);
    metrics.entropy_mean = per_token(sums.entropy_sum);
    metrics.sampler_out_of_band_frac = per_token(sums.importance_bounded_tokens);
    if is_corrected {
        metrics.sampler_weight_mean = per_token(sums.importance_weight_sum);
    }
    if has_reference {
        metrics.kl_policy_ref = per_token(sums.kl_policy_ref_sum);
        metrics.kl_policy_ref_k1 = per_token(sums.kl_policy_ref_k1_sum);
        metrics.kl_policy_ref_k3 = per_token(sums.kl_policy_ref_k3_sum);
        metrics.kl_clip_frac = Some(sums.kl_clip_frac());
        metrics.kl_clip_bias = per_token(sums.kl_clip_bias_sum);
    }
}

/// How far the sampler's log-probs are from the trainer's, over the rows that ran.
pub fn fill_sampler_gap(metrics: &mut StepMetrics, rows: &[Row]) {
    let log_ratios: Vec<f64> = rows
        .iter()
        .filter_map(|row| Some((row.old_logprobs.as_ref()?, &row.sampler_logprobs)))
        .flat_map(|(old, sampler)| old.iter().zip(sampler))
        .map(|(&old, &sampler)| f64::from(old) - f64::from(sampler))
        .collect();
    let ratios = || log_ratios.iter().map(|log_ratio| log_ratio.exp());
    let mean =
        |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / log_ratios.len() as f64;
    let (Some(gap), Some(ratio)) = (
        spread(log_ratios.iter().map(|gap| gap.abs())),
        spread(ratios()),
    ) else {
        return;
    };
    metrics.sampler_gap_mean = Some(gap.mean);
    metrics.sampler_gap_max = Some(gap.max);
    metrics.sampler_prob_error = Some(mean(&mut log_ratios.iter().map(|gap| gap.abs().exp())));
    metrics.kl_sampler_old_k3 = Some(mean(
        &mut log_ratios
            .iter()
            .map(|log_ratio| log_ratio.exp_m1() - log_ratio),
    ));
    metrics.kl_old_sampler_k3 =
        Some(mean(&mut log_ratios.iter().map(|log_ratio| {
            log_ratio.exp() * log_ratio - log_ratio.exp_m1()
        })));
    metrics.sampler_ratio_mean = Some(ratio.mean);
    metrics.sampler_ratio_min = Some(ratio.min);
    metrics.sampler_ratio_max = Some(ratio.max);
    let squares = mean(&mut ratios().map(|ratio| ratio * ratio));
    metrics.sampler_effective_frac = Some(ratio.mean * ratio.mean / squares);
}

/// Seconds, speeds and cache bytes of the rollouts.
pub fn fill_rollout_timing(metrics: &mut StepMetrics, stats: &RolloutStats) {
    let per_sec = |tokens: u64, secs: f64| (secs > 0.0).then(|| tokens as f64 / secs);
    metrics.kv_bytes = Some(stats.kv_bytes);
    metrics.timing.prefill_secs = Some(stats.prefill_secs);
    metrics.timing.decode_secs = Some(stats.decode_secs);
    metrics.timing.replayed_steps_frac =
        (stats.decode_steps > 0).then(|| stats.replayed_steps as f64 / stats.decode_steps as f64);
    metrics.timing.prefill_tokens_per_sec = per_sec(stats.prefill_tokens, stats.prefill_secs);
    metrics.timing.decode_tokens_per_sec = per_sec(stats.decode_tokens, stats.decode_secs);
}

/// Held-out results.
pub fn fill_eval(metrics: &mut StepMetrics, report: &EvalReport) {
    metrics.eval_accuracy = Some(report.accuracy.value);
    metrics.eval_accuracy_low = Some(report.accuracy.low);
    metrics.eval_accuracy_high = Some(report.accuracy.high);
    metrics.eval_pass_at = report
        .pass_at_k
        .iter()
        .map(|(k, value)| (k.to_string(), *value))
        .collect();
    metrics.eval_tokens_mean = Some(report.completion_tokens_mean);
    metrics.eval_truncated_frac = Some(report.truncated_frac);
    metrics.num_eval_problems = Some(report.num_prompts as u64);
    metrics.train_held_out_gap = metrics
        .correct_frac
        .map(|correct| correct - report.accuracy.value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::PromptId;

    #[test]
    fn the_gap_is_that_of_the_rows_that_ran() {
        let row = |old: Option<Vec<f32>>| Row {
            prompt_id: PromptId(0),
            rollout_index: 0,
            tokens: vec![1, 2, 3],
            num_prompt_tokens: 1,
            advantage: 1.0,
            sampler_logprobs: vec![-1.0, -2.0],
            old_logprobs: old,
        };
        let mut metrics = StepMetrics::default();
        fill_sampler_gap(&mut metrics, &[row(None)]);
        assert_eq!(metrics.sampler_gap_mean, None);
        fill_sampler_gap(&mut metrics, &[row(None), row(Some(vec![-1.5, -2.0]))]);
        assert_eq!(metrics.sampler_gap_mean, Some(0.25));
        assert_eq!(metrics.sampler_gap_max, Some(0.5));
        let ratio = (-0.5f64).exp();
        assert_eq!(metrics.sampler_ratio_min, Some(ratio));
        let close = |found: Option<f64>, expected: f64| {
            assert!(
                (found.unwrap() - expected).abs() < 1e-12,
                "{found:?} {expected}"
            );
        };
        close(metrics.kl_sampler_old_k3, (ratio - 1.0 + 0.5) / 2.0);
        // KL(old, sampler) with sampler weights: E_s[r log r - (r - 1)].
        close(
            metrics.kl_old_sampler_k3,
            (ratio * -0.5 - (ratio - 1.0)) / 2.0,
        );
        close(
            metrics.sampler_effective_frac,
            (1.0 + ratio).powi(2) / (2.0 * (1.0 + ratio * ratio)),
        );
    }

    #[test]
    fn spread_of_nothing_is_nothing() {
        assert_eq!(spread([]), None);
        let found = spread([1.0, 3.0]).unwrap();
        assert_eq!(
            (found.mean, found.std, found.min, found.max),
            (2.0, 1.0, 1.0, 3.0)
        );
    }
}
