//! The metrics of one step.
//!
//! Conventions: "mean over rollouts" weighs every rollout of the step equally, "mean over tokens"
//! every completion token that counts in the loss. Log-probs and entropies are in nats. For the
//! KL estimators see Schulman, "Approximating KL divergence" (2020): k1 = -log r, k2 = (log r)^2/2,
//! k3 = r - 1 - log r.

use super::define::{MetricDef, define_metrics};

define_metrics! {
    /// One line of `metrics.jsonl`: the metrics of one step, or of the state before the first.
    pub struct StepMetrics, timing = false,
        first = step: "Steps that were complete; 0 is the state before the first.",
        last = timing: Timing, "What depends on the machine.";

    group "reward" {
        reward_mean: number["1"] "Mean of the total reward over rollouts.";
        reward_std: number["1"] "Population standard deviation of the total reward over rollouts.";
        reward_component_mean: map["1"] "Mean of each weighted reward component over rollouts.";
        reward_component_std: map["1"] "Population standard deviation of each weighted component.";
        correct_frac: number["frac"] "Rollouts whose answer the verifier accepts.";
        learned_reward_mean: number["1"] "Mean of the learned reward over rollouts, before its weight.";
        learned_reward_error_mean: number["1"] "Mean of learned reward minus verdict over rollouts; it rises with over-optimisation.";
        learned_reward_error_abs: number["1"] "Mean of |learned reward - verdict| over rollouts.";
        strict_format_frac: number["frac"] "Rollouts whose answer was in the requested format.";
        verdict_frac: map["frac"] "Rollouts by the verifier's reason code.";
        advantage_mean: number["1"] "Mean advantage over rollouts.";
        advantage_std: number["1"] "Population standard deviation of the advantage over rollouts.";
        advantage_min: number["1"] "Smallest advantage.";
        advantage_max: number["1"] "Largest advantage.";
        degenerate_group_frac: number["frac"] "Groups whose rewards are all equal.";
        all_right_group_frac: number["frac"] "Groups in which every rollout is correct.";
        all_wrong_group_frac: number["frac"] "Groups in which no rollout is correct.";
    }
    group "length and stop" {
        completion_tokens_mean: number["tokens"] "Mean completion length over rollouts, stop token included.";
        completion_tokens_min: count["tokens"] "Shortest completion.";
        completion_tokens_max: count["tokens"] "Longest completion.";
        terminated_tokens_mean: number["tokens"] "Mean length of the completions that ended by themselves.";
        terminated_tokens_min: count["tokens"] "Shortest of them.";
        terminated_tokens_max: count["tokens"] "Longest of them.";
        truncated_frac: number["frac"] "Rollouts cut by a length limit.";
        empty_frac: number["frac"] "Rollouts without text.";
        prompt_tokens_mean: number["tokens"] "Mean prompt length over prompts.";
        prompt_tokens_max: count["tokens"] "Longest prompt.";
        num_tokens: count["tokens"] "Prompt and completion tokens processed since the start of the run.";
    }
    group "policy change" {
        policy_loss: number["1"] "Loss without KL and entropy terms, mean over inner steps.";
        loss: number["1"] "Whole loss, mean over inner steps.";
        clip_low_frac: number["frac"] "Tokens with negative advantage whose ratio is below the lower clip.";
        clip_high_frac: number["frac"] "Tokens with positive advantage whose ratio is above the upper clip.";
        ratio_mean: number["1"] "Mean over tokens of policy probability by old probability.";
        ratio_min: number["1"] "Smallest such ratio.";
        ratio_max: number["1"] "Largest such ratio.";
        kl_old_policy_k1: number["nats"] "KL(old, policy) per token, estimator k1.";
        kl_old_policy_k3: number["nats"] "KL(old, policy) per token, estimator k3.";
    }
    group "KL and entropy" {
        kl_policy_ref: number["nats"] "KL(policy, reference) per token as the loss penalises it: its estimator or the exact divergence, clip included.";
        kl_policy_ref_k1: number["nats"] "KL(policy, reference) per token, estimator k1.";
        kl_policy_ref_k3: number["nats"] "KL(policy, reference) per token, estimator k3.";
        kl_coef: number["1"] "Coefficient of the KL term.";
        kl_clip_frac: number["frac"] "Tokens whose log-ratio to the reference is clipped.";
        kl_clip_bias: number["nats"] "Clipped minus unclipped KL estimate, mean over tokens.";
        entropy_mean: number["nats"] "Exact entropy of the full softmax, mean over tokens.";
        entropy_coef: number["1"] "Coefficient of the entropy term.";
    }
    group "sampler against trainer" {
        sampler_gap_mean: number["nats"] "Mean over tokens of |old - sampler log-prob|.";
        sampler_gap_max: number["nats"] "Largest such gap.";
        sampler_prob_error: number["1"] "Mean over tokens of exp of that gap; 1 is agreement.";
        kl_sampler_old_k3: number["nats"] "KL(sampler, old) per token, estimator k3.";
        kl_old_sampler_k3: number["nats"] "KL(old, sampler) per token, estimator k3 with sampler weights.";
        sampler_ratio_mean: number["1"] "Mean over tokens of old by sampler probability, before truncation.";
        sampler_ratio_min: number["1"] "Smallest such ratio.";
        sampler_ratio_max: number["1"] "Largest such ratio.";
        sampler_out_of_band_frac: number["frac"] "Tokens whose ratio is outside the correction's band.";
        sampler_weight_mean: number["1"] "Mean over tokens of the bounded weights that correct for it; absent without a correction.";
        sampler_effective_frac: number["frac"] "Effective sample size of the ratios, (sum r)^2 / (n sum r^2).";
    }
    group "optimizer" {
        grad_norm: number["1"] "Global gradient norm before clipping, mean over inner steps.";
        grad_norm_max: number["1"] "Largest of them.";
        learning_rate: number["1"] "Learning rate of the last inner step.";
        num_inner_steps: count["inner steps"] "Optimizer steps taken in this step.";
        num_skipped_steps: count["inner steps"] "Optimizer steps skipped since the start for a non-finite loss or gradient.";
    }
    group "selection" {
        num_prompts_considered: count["prompts"] "Prompts that selection looked at.";
        num_prompts_kept: count["prompts"] "Prompts that were rolled out.";
        num_rollouts: count["rollouts"] "Rollouts generated in this step.";
        num_rollouts_without_gradient: count["rollouts"] "Rollouts that needed no backward pass.";
        epoch: number["epochs"] "Training problems visited since the start, by their number.";
    }
    group "memory, predicted" {
        predicted_peak_bytes: count["bytes"] "Estimate of the peak memory made before the run.";
        kv_bytes: count["bytes"] "Key-value cache of the rollouts.";
    }
    group "evaluation" {
        eval_accuracy: number["frac"] "Accuracy on the held-out problems, mean over problems of the mean over samples.";
        eval_accuracy_low: number["frac"] "Lower end of its 95 % interval, clustered by prompt.";
        eval_accuracy_high: number["frac"] "Upper end of its 95 % interval.";
        eval_pass_at: map["frac"] "Unbiased pass@k by k (Chen et al., 2021), mean over problems.";
        eval_tokens_mean: number["tokens"] "Mean completion length in the evaluation.";
        eval_truncated_frac: number["frac"] "Evaluation completions cut by a length limit.";
        num_eval_problems: count["problems"] "Held-out problems evaluated.";
    }
    group "theory" {
        fresh_train_accuracy: number["frac"] "Accuracy on prompts trained on, fresh rollouts of this step's policy.";
        fresh_held_out_accuracy: number["frac"] "The same on held-out prompts, sampled as in training.";
        fresh_variance_prompts: number["1"] "Variance between held-out prompts of their expected verdict (ANOVA).";
        fresh_variance_rollouts: number["1"] "Variance of a verdict given its held-out prompt (ANOVA).";
        fresh_kl_policy_ref_k1: number["nats"] "KL(policy, start) per sequence on held-out prompts, estimator k1.";
        kl_clip_tau: number["nats"] "Threshold of the sequence-level KL clip after this step.";
        fresh_kl_clip_frac: number["frac"] "Fresh held-out completions whose log-ratio that clip moves.";
        fresh_kl_clip_bias: number["nats"] "Clipped minus unclipped log-ratio, mean over fresh held-out completions.";
        fresh_kl_clip_bias_low: number["nats"] "Lower end of its 95 % interval, clustered by prompt.";
        fresh_kl_clip_bias_high: number["nats"] "Upper end.";
        fresh_inverse_ratio_mean: number["1"] "Mean of exp(-l), l the sequence log-ratio to the start; above 1 beyond its error the log-probs are not the sampler's.";
        fresh_learned_reward: number["1"] "Mean learned reward of the fresh held-out completions, before its weight.";
        fresh_learned_reward_error: number["1"] "Mean of learned reward minus verdict over them.";
        predicted_sampling: number["1"] "Certified half-width of the mean held-out reward (best of S2 to S5).";
        predicted_reward_shift: number["1"] "Certified bound on mean |reward - truth| (R4); 0 if the verdict is the reward.";
        predicted_clip: number["1"] "kl_coef times mean |l - clip(l)|, plug-in; 0 without a sequence-level clip.";
        measured_error: number["1"] "Objective on fresh rollouts of training prompts minus true objective on held-out prompts; without them training minus evaluation accuracy, if at one temperature.";
        measured_error_low: number["1"] "Lower end of its 95 % interval, from the held-out prompts.";
        measured_error_high: number["1"] "Upper end.";
        train_held_out_gap: number["frac"] "Training accuracy minus held-out accuracy at the same step.";
    }
}

define_metrics! {
    /// Seconds, speeds and bytes of one step.
    pub struct Timing, timing = true;

    group "time" {
        select_secs: number["s"] "Choosing prompts.";
        prefill_secs: number["s"] "Reading prompts into the key-value cache.";
        decode_secs: number["s"] "Sampling completions.";
        grade_secs: number["s"] "Grading.";
        update_secs: number["s"] "Log-probs, backward passes and optimizer.";
        eval_secs: number["s"] "Held-out evaluation.";
        save_secs: number["s"] "Writing the checkpoint before this line.";
        step_secs: number["s"] "The whole step.";
        total_secs: number["s"] "Since this process began to train.";
    }
    group "speed" {
        prefill_tokens_per_sec: number["tokens/s"] "Prompt tokens by prefill_secs.";
        decode_tokens_per_sec: number["tokens/s"] "Completion tokens by decode_secs.";
        update_tokens_per_sec: number["tokens/s"] "Prompt and completion tokens trained on by update_secs.";
        replayed_steps_frac: number["frac"] "Decode steps that were one launch, the replay of a recorded one (rollout.record_steps), of all.";
    }
    group "memory" {
        host_peak_bytes: count["bytes"] "Largest resident memory of the process so far.";
        device_reserved_bytes: count["bytes"] "Memory that the device's allocator holds when the update ends, before it is handed back; null on the CPU.";
        device_in_use_bytes: count["bytes"] "The part of it that tensors use.";
        microbatch_tokens: count["tokens"] "Most packed rows of a micro-batch: update.max_tokens_per_microbatch, or less once the device ran out of memory.";
        num_oom_retries: count["retries"] "How often the device ran out of memory in this step's update and its micro-batches were halved.";
    }
}

/// Every metric, with those of [`Timing`] last, as a Markdown table per group.
pub fn metric_table() -> String {
    let mut text = String::new();
    let mut group = "";
    for metric in StepMetrics::TABLE.iter().chain(Timing::TABLE) {
        if metric.group != group {
            group = metric.group;
            text += &format!("\n{group}\n\n| metric | unit | definition |\n| --- | --- | --- |\n");
        }
        let MetricDef {
            name,
            unit,
            definition,
            is_timing,
            ..
        } = metric;
        let parent = if *is_timing { "timing." } else { "" };
        let definition = definition.replace('|', "\\|");
        text += &format!("| `{parent}{name}` | {unit} | {definition} |\n");
    }
    text.trim_start().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn keys(value: &serde_json::Value) -> Vec<&str> {
        let object = value.as_object().unwrap();
        object.keys().map(String::as_str).collect()
    }

    #[test]
    fn a_line_has_the_tables_keys_in_its_order_and_timing_last() {
        let line = serde_json::to_string(&StepMetrics::default()).unwrap();
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        let names = |table: &'static [MetricDef]| table.iter().map(|it| it.name);
        let expected: Vec<&str> = std::iter::once("step")
            .chain(names(StepMetrics::TABLE))
            .chain(["timing"])
            .collect();
        assert_eq!(keys(&value), expected);
        let expected: Vec<&str> = names(Timing::TABLE).collect();
        assert_eq!(keys(&value["timing"]), expected);
        let unique: BTreeSet<&str> = expected.iter().copied().chain(keys(&value)).collect();
        assert_eq!(unique.len(), expected.len() + keys(&value).len());
    }

    #[test]
    fn absent_and_not_finite_are_null_and_numbers_come_back_exactly() {
        let mut metrics = StepMetrics {
            step: 3,
            reward_mean: Some(f64::NAN),
            reward_std: Some(0.1 + 0.2),
            completion_tokens_max: Some(7),
            ..StepMetrics::default()
        };
        metrics.verdict_frac.insert("no_answer".into(), 1.0 / 3.0);
        metrics.timing.step_secs = Some(f64::INFINITY);
        let line = serde_json::to_string(&metrics).unwrap();
        assert!(
            line.starts_with("{\"step\":3,\"reward_mean\":null,"),
            "{line}"
        );
        assert!(line.contains("\"step_secs\":null"), "{line}");
        let back: StepMetrics = serde_json::from_str(&line).unwrap();
        metrics.reward_mean = None;
        metrics.timing.step_secs = None;
        assert_eq!(back, metrics);
    }

    #[test]
    fn the_table_shows_every_metric_once() {
        let table = metric_table();
        for metric in StepMetrics::TABLE {
            let cell = format!("| `{}` | {} |", metric.name, metric.unit);
            assert_eq!(table.matches(&cell).count(), 1, "{cell}");
            assert!(metric.definition.ends_with('.'), "{}", metric.name);
        }
        assert!(table.contains("| `timing.step_secs` | s |"));
    }
}
