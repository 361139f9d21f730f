//! What fresh rollouts say while a run goes on: variance components, the KL clip, and the check
//! of the log-probs.

use std::collections::BTreeMap;

use rlvr_bounds::{Distribution, anova, hoeffding_direct, tau_star};

use super::advice::{SELF_CHECK_ERRORS, self_check};
use super::fresh::{FreshLine, PromptSet};
use super::history::{full_point, point};
use super::predict::{measured, report};
use super::row::Measured;
use super::statistics::{Statistics, StatisticsError, Table};
use crate::batch::Row;
use crate::config::RunConfig;
use crate::metrics::StepMetrics;
use crate::record::{Group, PromptId, Rollout};

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

/// Fills the predicted parts and the measured error from the statistics of the same lines.
///
/// # Errors
/// If a theorem refuses its input.
pub fn fill_prediction(
    metrics: &mut StepMetrics,
    statistics: &Statistics,
) -> Result<(), StatisticsError> {
    let error = report(statistics)?.measured_error;
    let Some(found) = full_point(metrics.step, statistics, error)? else {
        return Ok(());
    };
    metrics.predicted_sampling = Some(found.sampling);
    metrics.predicted_reward_shift = Some(found.reward_shift);
    metrics.predicted_clip = Some(found.clip);
    fill_error(metrics, error);
    let set = statistics.held_out.as_ref();
    if let Some(set) = set.filter(|set| !set.is_verified) {
        let error = set.rewards.zip(&set.truth, |reward, truth| reward - truth);
        metrics.fresh_learned_reward = set.rewards.rows().ok().map(|rows| rows.mean());
        metrics.fresh_learned_reward_error = error.rows().ok().map(|rows| rows.mean());
    }
    Ok(())
}

/// The same from an evaluation alone, for a step without fresh rollouts: the sampling part, and the
/// difference of the accuracies if both were sampled at one temperature. A learned reward is not
/// evaluated, so of its error nothing is said.
pub fn fill_evaluation(metrics: &mut StepMetrics, groups: &[Group], config: &RunConfig) {
    let verdict = |rollout: &Rollout| f64::from(u8::from(rollout.reward.is_correct));
    let row = |group: &Group| group.rollouts.iter().map(verdict).collect();
    let rows: Vec<Vec<f64>> = groups.iter().map(row).collect();
    let is_same = config.eval.temperature == config.rollout.temperature;
    let train = metrics.correct_frac.filter(|_| is_same);
    let found = Table::new("evaluation", &rows)
        .and_then(|table| point(metrics.step, &table, train, config.report.delta));
    if let (Ok(found), None) = (found, config.reward.learned()) {
        metrics.predicted_sampling = Some(found.sampling);
        fill_error(metrics, found.error);
    }
}

fn fill_error(metrics: &mut StepMetrics, error: Option<Measured>) {
    metrics.measured_error = error.map(|it| it.value);
    metrics.measured_error_low = error.map(|it| it.low);
    metrics.measured_error_high = error.map(|it| it.high);
}

/// What was predicted beside what was measured, on one line.
pub fn prediction_line(metrics: &StepMetrics) -> Option<String> {
    let part = |value: Option<f64>| value.unwrap_or_default();
    let parts = [
        metrics.predicted_sampling?,
        part(metrics.predicted_reward_shift),
        part(metrics.predicted_clip),
    ];
    let [sampling, shift, clip] = parts;
    let total: f64 = parts.iter().sum();
    let mut text = format!(
        "step {}: predicted error {total:.4} (sampling {sampling:.4}, reward shift {shift:.4}, \
         KL clipping {clip:.4})",
        metrics.step
    );
    if let Some(error) = metrics.measured_error {
        text += &format!(
            ", measured {error:+.4} ({:+.4} to {:+.4})",
            part(metrics.measured_error_low),
            part(metrics.measured_error_high)
        );
    }
    Some(text)
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
    use crate::report::fresh_statistics::fresh_statistics;
    use crate::report::run_files::Additions;
    use crate::reward_model::calibration::Platt;
    use crate::reward_model::file::Head;

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
    fn predictions_stand_beside_the_measured_error() {
        let lines = [
            line(PromptSet::HeldOut, &[-2.0, -3.5], &[true, false]),
            line(PromptSet::HeldOut, &[-4.0, -7.0], &[true, true]),
            line(PromptSet::Train, &[-4.0, -4.0], &[true, true]),
            line(PromptSet::Train, &[-4.0, -4.0], &[true, true]),
        ];
        let mut metrics = StepMetrics::default();
        assert_eq!(prediction_line(&metrics), None);
        let config = RunConfig::default();
        let found = fresh_statistics(&config, &lines, Additions::default(), None);
        fill_prediction(&mut metrics, &found.unwrap().unwrap()).unwrap();
        // Mean verdict 1 on training prompts, 3/4 on held-out ones.
        assert_eq!(metrics.measured_error, Some(0.25));
        assert!(metrics.measured_error_low < Some(0.25));
        assert_eq!(metrics.predicted_reward_shift, Some(0.0));
        assert!(
            metrics.predicted_sampling > Some(0.5),
            "two prompts say little"
        );
        let text = prediction_line(&metrics).unwrap();
        assert!(text.contains("reward shift 0.0000") && text.contains("measured +0.2500"));
        // A head that gives everything 0.9, made from draws on which it was right.
        let head = Head {
            num_pairs: 8,
            calibration: Platt {
                slope: 1.0,
                offset: 0.0,
            },
            pair_accuracy: crate::accuracy::clustered_share(&[1.0]),
            num_held_out_pairs: 1,
            calibration_error: 0.0,
            errors: vec![0.0; 2000],
        };
        let lines = lines.map(|line| FreshLine {
            learned: vec![vec![0.9; 2]],
            ..line
        });
        let found = fresh_statistics(&config, &lines, Additions::default(), Some((0, &head)));
        fill_prediction(&mut metrics, &found.unwrap().unwrap()).unwrap();
        let close = |found: Option<f64>, expected: f64| (found.unwrap() - expected).abs() < 1e-12;
        assert!(close(metrics.fresh_learned_reward, 0.9));
        assert!(close(metrics.fresh_learned_reward_error, 0.15));
        assert!(close(metrics.measured_error, 0.15));
        assert!(metrics.predicted_reward_shift > Some(0.0));
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
