//! What fresh rollouts say while a run goes on: variance components, the KL clip, and the check
//! of the log-probs.

use std::collections::BTreeMap;

use rlvr_bounds::{Distribution, anova, hoeffding_direct, tau_star};

use super::advice::{SELF_CHECK_ERRORS, self_check};
use super::fresh::{FreshLine, PromptSet};
use super::predict::measured;
use super::statistics::{StatisticsError, Table};
use crate::batch::Row;
use crate::metrics::StepMetrics;
use crate::record::PromptId;

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
    if let Some(tau) = metrics.kl_clip_tau {
        fill_clip(metrics, &l, tau);
    }
}

/// How often the clip acts, and its bias with an interval clustered by prompt.
fn fill_clip(metrics: &mut StepMetrics, l: &Table, tau: f64) {
    let moved = l.map(|l| f64::from(u8::from(l.abs() > tau)));
    metrics.fresh_kl_clip_frac = moved.rows().ok().map(|rows| rows.mean());
    if let Ok(bias) = measured(&l.map(|l| l.clamp(-tau, tau) - l)) {
        metrics.fresh_kl_clip_bias = Some(bias.value);
        metrics.fresh_kl_clip_bias_low = Some(bias.low);
        metrics.fresh_kl_clip_bias_high = Some(bias.high);
    }
}

/// The threshold of the quantile rule (C3): the (1 - 2 alpha) quantile of |l| on the training
/// prompts, with alpha the direct sampling rate of the held-out prompts that a bound will use;
/// `None` without either set or without a reference.
pub fn pilot_tau(lines: &[FreshLine], delta: f64) -> Option<f64> {
    let held_out = column("correct", lines, PromptSet::HeldOut, verdicts).ok()?;
    let l = column("log_ratio_ref", lines, PromptSet::Train, log_ratios).ok()?;
    let alpha = hoeffding_direct(held_out.n, delta, 1.0).ok()?;
    tau_star(&Distribution::sample(&l.data).ok()?, alpha).ok()
}

/// Rounding of 32-bit log-probs that no warning is about.
const ROUNDING: f64 = 0.01;

/// What the update found against what decoding reported: the mean over completions of
/// `p_old / p_sampler` is 1 if the completions were drawn as the log-probs say.
pub fn sampler_warning(rows: &[Row]) -> Option<String> {
    let mut ratios: BTreeMap<PromptId, Vec<f64>> = BTreeMap::new();
    for row in rows {
        let Some(old) = &row.old_logprobs else {
            continue;
        };
        let gaps = old.iter().zip(&row.sampler_logprobs);
        let gap: f64 = gaps
            .map(|(&old, &sampler)| f64::from(old) - f64::from(sampler))
            .sum();
        ratios.entry(row.prompt_id).or_default().push(gap.exp());
    }
    let means: Vec<f64> = ratios
        .values()
        .map(|ratios| ratios.iter().sum::<f64>() / ratios.len() as f64)
        .collect();
    let n = means.len() as f64;
    if means.len() < 2 {
        return None;
    }
    let mean = means.iter().sum::<f64>() / n;
    let error = (means.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0) / n).sqrt();
    let is_wrong = (mean - 1.0).abs() > SELF_CHECK_ERRORS * error + ROUNDING;
    is_wrong.then(|| {
        format!(
            "mean of p_old / p_sampler over completions is {mean:.4} ± {error:.4}, not 1: the \
             log-probs are not those of the distribution that was sampled"
        )
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn line(set: PromptSet, policy: &[f64], correct: &[bool]) -> FreshLine {
        FreshLine {
            step: 1,
            set,
            prompt_id: PromptId(0),
            rewards: vec![0.0; policy.len()],
            correct: correct.to_vec(),
            policy_logprobs: policy.to_vec(),
            ref_logprobs: Some(vec![-4.0; policy.len()]),
            sampler_logprobs: policy.to_vec(),
            num_tokens: vec![1; policy.len()],
            is_truncated: vec![false; policy.len()],
            learned: Vec::new(),
        }
    }

    #[test]
    fn the_pilot_gives_the_quantile_and_the_held_out_prompts_the_rate() {
        let held_out = (0..200).map(|_| line(PromptSet::HeldOut, &[-4.0], &[true]));
        // l = 0.00, 0.01, .. 0.99 on the training prompts.
        let train =
            (0..100).map(|i| line(PromptSet::Train, &[f64::from(i) / 100.0 - 4.0], &[true]));
        let lines: Vec<FreshLine> = held_out.chain(train).collect();
        let alpha = (40_f64.ln() / 400.0).sqrt();
        let rank = ((1.0 - 2.0 * alpha) * 100.0).ceil();
        let tau = pilot_tau(&lines, 0.05).unwrap();
        assert!((tau - (rank - 1.0) / 100.0).abs() < 1e-9, "{tau}");
        assert_eq!(pilot_tau(&lines[..200], 0.05), None);
    }

    #[test]
    fn the_clip_and_the_variances_are_logged() {
        let lines = [
            line(PromptSet::HeldOut, &[-2.0, -3.5], &[true, false]),
            line(PromptSet::HeldOut, &[-4.0, -7.0], &[true, true]),
            line(PromptSet::Train, &[-4.0, -4.0], &[false, true]),
        ];
        let mut metrics = StepMetrics {
            kl_clip_tau: Some(1.0),
            ..StepMetrics::default()
        };
        fill(&mut metrics, &lines);
        // l = 2, 0.5, 0, -3: two of four are clipped, by -1 and +2.
        assert_eq!(metrics.fresh_kl_clip_frac, Some(0.5));
        assert_eq!(metrics.fresh_kl_clip_bias, Some(0.25));
        assert!(metrics.fresh_kl_clip_bias_low < Some(0.25));
        assert_eq!(metrics.fresh_held_out_accuracy, Some(0.75));
        assert_eq!(metrics.fresh_train_accuracy, Some(0.5));
        assert_eq!(metrics.fresh_variance_rollouts, Some(0.25));
        assert_eq!(metrics.fresh_kl_policy_ref_k1, Some(-0.125));
    }

    #[test]
    fn log_probs_of_another_engine_are_noticed() {
        let row = |prompt: u64, gap: f32| Row {
            prompt_id: PromptId(prompt),
            rollout_index: 0,
            tokens: vec![1, 2, 3],
            num_prompt_tokens: 1,
            advantage: 1.0,
            sampler_logprobs: vec![-1.0, -2.0],
            old_logprobs: Some(vec![-1.0, -2.0 + gap]),
        };
        let good: Vec<Row> = (0..20).map(|prompt| row(prompt, 1e-4)).collect();
        assert_eq!(sampler_warning(&good), None);
        let bad: Vec<Row> = (0..20).map(|prompt| row(prompt, 0.1)).collect();
        assert!(sampler_warning(&bad).unwrap().contains("1.1052"));
        assert_eq!(sampler_warning(&bad[..1]), None, "one prompt has no error");
    }
}
