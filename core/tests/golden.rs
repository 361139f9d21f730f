//! Values and gradients against `fixtures/reference/core_golden.py` (float64, PyTorch autograd).

mod support;

use burn::tensor::{Bool, Tensor};
use rlvr_core::aggregate::{Denominators, aggregate};
use rlvr_core::exact_kl::{HeadPair, exact_kl, exact_kl_backward};
use rlvr_core::grpo::{GrpoBatch, GrpoLossConfig};
use rlvr_core::importance::importance_weights;
use rlvr_core::kl::{KlEstimator, KlTerms, estimate, kl_terms};
use rlvr_core::logprob::{token_entropies, token_logprobs, token_scores, token_scores_backward};
use rlvr_core::mask::{fill_outside, masked_sum};
use rlvr_core::penalty::{penalty_to_go, sequence_penalties, token_penalties};
use rlvr_core::ratio::{ratio, sequence_log_ratio};
use rlvr_core::surrogate::surrogate;
use rlvr_core::{ScoringSettings, entropy, group_advantages, inject};
use rlvr_fixtures::core_golden::{self, GrpoCase, GrpoGolden};
use serde::de::DeserializeOwned;
use serde_json::Value;
use support::{assert_close, assert_golden, flags, ints, mask, numbers, scoring, tensor, tracked};

/// Each case with each row budget: every row alone, chunks of three and a rest, everything at once.
fn each_in_chunks<T>(cases: &[T], vocab_size: usize) -> impl Iterator<Item = (&T, usize)> {
    let budgets = [1, 3 * 4 * vocab_size + 3, usize::MAX];
    cases
        .iter()
        .flat_map(move |case| budgets.map(|bytes| (case, bytes)))
}

fn config<T: DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).expect("the golden configuration reads")
}

/// Gradient of `sum(values * weights)` with respect to `leaf`; zeros if it does not depend on it.
fn gradient<const D: usize>(leaf: &Tensor<2>, values: Tensor<D>, weights: Tensor<D>) -> Vec<f64> {
    let grads = (values * weights).sum().backward();
    leaf.grad(&grads)
        .map_or_else(|| vec![0.0; leaf.shape().num_elements()], |g| numbers(&g))
}

#[test]
fn log_probs_and_entropies_with_gradients_in_every_chunk_size() {
    let golden = core_golden::logprob();
    let (hidden, head) = (tensor::<2>(&golden.hidden), tensor::<2>(&golden.head));
    let targets = ints(&golden.targets);
    let inputs = || (hidden.clone(), head.clone(), targets.clone());
    let vocab_size = head.dims()[0];
    for (case, bytes) in each_in_chunks(&golden.cases, vocab_size) {
        let settings = ScoringSettings {
            temperature: case.temperature,
            ..scoring(bytes)
        };
        let (h, w, t) = inputs();
        let scores = token_scores(h, w, t, &settings);
        assert_golden("logprobs", &scores.logprobs, &case.logprobs);
        assert_golden("entropies", &scores.entropies, &case.entropies);
        let (h, w, t) = inputs();
        let alone = token_logprobs(h, w, t, &settings);
        assert_golden("logprobs alone", &alone, &case.logprobs);
        let (h, w, _) = inputs();
        let alone = token_entropies(h, w, &settings);
        assert_golden("entropies alone", &alone, &case.entropies);

        let backward = |grad_entropies| {
            let (h, w, t) = inputs();
            let grad_logprobs = tensor(&golden.grad_logprobs);
            token_scores_backward(h, w, t, grad_logprobs, grad_entropies, &settings)
        };
        let both = backward(Some(tensor(&golden.grad_entropies)));
        assert_golden("d_hidden", &both.hidden, &case.d_hidden);
        assert_golden("d_head", &both.head, &case.d_head);
        let alone = backward(None);
        assert_golden(
            "d_hidden, log-probs only",
            &alone.hidden,
            &case.d_hidden_logprobs_only,
        );
        assert_golden(
            "d_head, log-probs only",
            &alone.head,
            &case.d_head_logprobs_only,
        );
    }
}

#[test]
fn an_injected_gradient_reaches_the_leaves() {
    let golden = core_golden::logprob();
    let (hidden, head) = (tracked::<2>(&golden.hidden), tracked::<2>(&golden.head));
    let grads = token_scores_backward(
        hidden.clone(),
        head.clone(),
        ints(&golden.targets),
        tensor(&golden.grad_logprobs),
        Some(tensor(&golden.grad_entropies)),
        &scoring(1 << 20),
    );
    assert!(!grads.hidden.is_autodiff() && !grads.head.is_autodiff());
    let scalar = inject(hidden.clone(), grads.hidden) + inject(head.clone(), grads.head);
    let grads = scalar.backward();
    let case = &golden.cases[0];
    assert_eq!(case.temperature, 1.0);
    let d_hidden = hidden.grad(&grads).expect("tracked");
    assert_golden("d_hidden", &d_hidden, &case.d_hidden);
    let d_head = head.grad(&grads).expect("tracked");
    assert_golden("d_head", &d_head, &case.d_head);
}

#[test]
fn entropy_of_logits() {
    let golden = core_golden::logprob();
    let logits = tracked::<3>(&golden.logits);
    let value = entropy(logits.clone());
    assert_close("entropy", &numbers(&value), &golden.logits_entropy.data);
    let weights = tensor::<2>(&golden.logits_weights).unsqueeze_dim(2);
    let grads = (value * weights).sum().backward();
    assert_golden(
        "d_logits",
        &logits.grad(&grads).expect("tracked"),
        &golden.d_logits,
    );
}

#[test]
fn exact_kl_with_gradients_in_every_chunk_size() {
    let golden = core_golden::exact_kl();
    let heads = HeadPair {
        policy_hidden: tensor(&golden.policy_hidden),
        policy_head: tensor(&golden.policy_head),
        ref_hidden: tensor(&golden.ref_hidden),
        ref_head: tensor(&golden.ref_head),
    };
    let vocab_size = heads.policy_head.dims()[0];
    for (case, bytes) in each_in_chunks(&golden.cases, vocab_size) {
        let settings = ScoringSettings {
            temperature: case.temperature,
            ..scoring(bytes)
        };
        let kl = exact_kl(heads.clone(), case.tau, &settings);
        assert_golden("values", &kl.values, &case.values);
        assert_golden("clip_biases", &kl.clip_biases, &case.clip_biases);
        assert_golden("clip_excesses", &kl.clip_excesses, &case.clip_excesses);
        assert_golden("clip_fracs", &kl.clip_fracs, &case.clip_fracs);
        let grads = exact_kl_backward(heads.clone(), tensor(&golden.weights), case.tau, &settings);
        assert_golden("d_hidden", &grads.hidden, &case.d_hidden);
        assert_golden("d_head", &grads.head, &case.d_head);
    }
}

#[test]
fn ratios_of_tokens_and_sequences() {
    let golden = core_golden::kl();
    let weights = tensor::<2>(&golden.weights);
    let mask: Tensor<2, Bool> = mask(&golden.mask);
    let log_r = tracked::<2>(&golden.log_r);
    let token = fill_outside(ratio(log_r.clone()), mask.clone(), 0.0);
    assert_golden("token ratio", &token, &golden.token_ratio);
    let grad = gradient(&log_r, token, weights.clone());
    assert_close("d token ratio", &grad, &golden.d_token_ratio.data);

    let log_r = tracked::<2>(&golden.log_r);
    let sequence = ratio(sequence_log_ratio(log_r.clone(), mask.clone()));
    let sequence = fill_outside(sequence, mask, 0.0);
    assert_golden("sequence ratio", &sequence, &golden.sequence_ratio);
    let grad = gradient(&log_r, sequence, weights);
    assert_close("d sequence ratio", &grad, &golden.d_sequence_ratio.data);
}

#[test]
fn kl_estimators_with_every_clip() {
    let golden = core_golden::kl();
    let weights = tensor::<2>(&golden.weights);
    let mask: Tensor<2, Bool> = mask(&golden.mask);
    assert_eq!(golden.cases.len(), 20);
    for case in &golden.cases {
        let name = format!("{} {}", case.estimator, case.clip);
        let log_r = tracked::<2>(&golden.log_r);
        let terms = kl_terms(
            log_r.clone(),
            mask.clone(),
            config(&case.estimator),
            config(&case.clip),
        );
        assert_golden(&format!("{name} values"), &terms.values, &case.values);
        assert_golden(
            &format!("{name} biases"),
            &terms.clip_biases,
            &case.clip_biases,
        );
        assert_golden(
            &format!("{name} excesses"),
            &terms.clip_excesses,
            &case.clip_excesses,
        );
        assert_golden(
            &format!("{name} counts"),
            &terms.clip_counts,
            &case.clip_counts,
        );
        let grad = gradient(&log_r, terms.values, weights.clone());
        assert_close(&format!("{name} gradient"), &grad, &case.gradient.data);
    }
}

#[test]
fn k3_is_accurate_on_both_sides_of_its_joint() {
    let golden = core_golden::kl();
    let log_r = tracked::<1>(&golden.k3_inputs);
    let value = estimate(log_r.clone(), KlEstimator::K3);
    // Relative, not absolute: near 0 the closed form would lose every digit.
    for (given, expected) in numbers(&value).into_iter().zip(&golden.k3_values.data) {
        assert!(
            (given - expected).abs() <= 1e-6 * expected,
            "{given} instead of {expected}"
        );
    }
    let grad = log_r.grad(&value.sum().backward()).expect("tracked");
    assert_golden("d k3", &grad, &golden.k3_gradient);
}

#[test]
fn surrogates_with_gradients() {
    let golden = core_golden::surrogate();
    let weights = tensor::<2>(&golden.weights);
    for case in &golden.cases {
        let name = case.config.to_string();
        let log_ratio = tracked::<2>(&golden.log_ratio);
        let logprobs = tracked::<2>(&golden.logprobs);
        let terms = surrogate(
            config(&case.config),
            log_ratio.clone(),
            logprobs.clone(),
            tensor(&golden.advantages),
        );
        assert_golden(&name, &terms.values, &case.values);
        assert_eq!(
            flags(&terms.is_clipped_low),
            case.is_clipped_low.data,
            "{name} low"
        );
        assert_eq!(
            flags(&terms.is_clipped_high),
            case.is_clipped_high.data,
            "{name} high"
        );
        let grads = (terms.values * weights.clone()).sum().backward();
        let zeros = || vec![0.0; case.values.data.len()];
        let grad = |leaf: &Tensor<2>| leaf.grad(&grads).map_or_else(zeros, |g| numbers(&g));
        assert_close(
            &format!("{name} d_log_ratio"),
            &grad(&log_ratio),
            &case.d_log_ratio.data,
        );
        assert_close(
            &format!("{name} d_logprobs"),
            &grad(&logprobs),
            &case.d_logprobs.data,
        );
    }
}

#[test]
fn aggregations_with_gradients() {
    let golden = core_golden::aggregate();
    let denominators = Denominators {
        num_tokens: golden.num_tokens,
        num_sequences: golden.num_sequences,
    };
    for case in &golden.cases {
        let name = case.config.to_string();
        let values = tracked::<2>(&golden.values);
        let total = aggregate(
            values.clone(),
            mask(&golden.mask),
            config(&case.config),
            denominators,
        );
        assert_close(&name, &numbers(&total), &[case.value]);
        let grad = values.grad(&total.backward()).expect("tracked");
        assert_golden(&name, &grad, &case.gradient);
    }
}

#[test]
fn importance_weights_of_both_levels_and_bounds() {
    let golden = core_golden::importance();
    let mask: Tensor<2, Bool> = mask(&golden.mask);
    for case in &golden.cases {
        let name = case.config.to_string();
        let old = tensor(&golden.old_logprobs);
        let sampler = tensor(&golden.sampler_logprobs);
        let terms = importance_weights(old, sampler, mask.clone(), config(&case.config));
        assert_golden(
            &name,
            &fill_outside(terms.weights, mask.clone(), 0.0),
            &case.weights,
        );
        let counted = terms.is_bounded.bool_and(mask.clone());
        assert_eq!(flags(&counted), case.is_bounded.data, "{name}");
    }
}

fn grpo_batch(golden: &GrpoGolden, case: &GrpoCase) -> GrpoBatch {
    GrpoBatch {
        policy_logprobs: tracked(&golden.policy_logprobs),
        old_logprobs: tensor(&golden.old_logprobs),
        ref_logprobs: Some(tensor(&golden.ref_logprobs)),
        exact_kl: Some(KlTerms {
            values: tracked(&golden.exact_kl),
            clip_biases: tensor(&golden.exact_kl_biases),
            clip_excesses: tensor(&golden.exact_kl_excesses),
            clip_counts: tensor(&golden.exact_kl_fracs),
        }),
        sampler_logprobs: Some(tensor(&golden.sampler_logprobs)),
        entropies: Some(tracked(&golden.entropies)),
        advantages: tensor(&golden.advantages),
        token_penalties: case
            .has_token_penalties
            .then(|| tensor(&golden.token_penalties)),
        completion_mask: mask(&golden.completion_mask),
    }
}

#[test]
fn the_loss_of_every_variant_with_gradients_and_sums() {
    let golden = core_golden::grpo();
    let denominators = Denominators {
        num_tokens: golden.num_tokens,
        num_sequences: golden.num_sequences,
    };
    for case in &golden.cases {
        let name = &case.name;
        let config: GrpoLossConfig = config(&case.config);
        let batch = grpo_batch(&golden, case);
        let (policy, entropies) = (batch.policy_logprobs.clone(), batch.entropies.clone());
        let exact_kl = batch.exact_kl.clone().expect("given").values;
        let output = config.init().expect("valid").forward(batch, denominators);
        assert_close(name, &numbers(&output.loss), &[case.loss]);

        let grads = output.loss.backward();
        let policy_grad = policy.grad(&grads).expect("tracked");
        assert_golden(
            &format!("{name} d_policy"),
            &policy_grad,
            &case.d_policy_logprobs,
        );
        let entropy_grad = entropies.expect("given").grad(&grads);
        let zeros = || vec![0.0; case.d_entropies.data.len()];
        let entropy_grad = entropy_grad.map_or_else(zeros, |g| numbers(&g));
        assert_close(
            &format!("{name} d_entropies"),
            &entropy_grad,
            &case.d_entropies.data,
        );

        let exact_grad = exact_kl.grad(&grads).map_or_else(zeros, |g| numbers(&g));
        assert_close(
            &format!("{name} d_exact_kl"),
            &exact_grad,
            &case.d_exact_kl.data,
        );

        let sums = output.sums.read().expect("readable");
        assert_close(name, &[sums.loss()], &[case.loss]);
        let sums = serde_json::to_value(sums).expect("serialises");
        let fields = sums.as_object().expect("a record");
        assert_eq!(
            fields.len(),
            case.sums.len(),
            "every sum has a golden value"
        );
        for (key, expected) in &case.sums {
            let given = fields[key].as_f64().expect("a finite number");
            assert_close(&format!("{name} {key}"), &[given], &[*expected]);
        }
    }
}

#[test]
fn the_presets_are_the_published_configurations() {
    let golden = core_golden::grpo();
    let presets = [
        ("dapo", GrpoLossConfig::dapo()),
        ("grpo", GrpoLossConfig::grpo()),
        ("dr_grpo", GrpoLossConfig::dr_grpo(9)),
        ("bnpo", GrpoLossConfig::bnpo()),
        ("gspo", GrpoLossConfig::gspo()),
        ("cispo", GrpoLossConfig::cispo(0.3)),
    ];
    for (name, preset) in presets {
        let case = golden
            .cases
            .iter()
            .find(|case| case.name == name)
            .expect("a case");
        assert_eq!(preset, config(&case.config), "{name}");
    }
}

#[test]
fn group_advantages_of_every_baseline_and_scale() {
    let golden = core_golden::advantage();
    assert_eq!(golden.cases.len(), 15);
    for case in &golden.cases {
        let groups = group_advantages(&golden.rewards, config(&case.config));
        for (group, expected) in groups.iter().zip(&case.advantages) {
            for (given, expected) in group.advantages.iter().zip(expected) {
                let tolerance = 1e-12 * (1.0 + expected.abs());
                assert!((given - expected).abs() <= tolerance, "{}", case.config);
            }
        }
    }
}

#[test]
fn penalties_in_the_reward() {
    let golden = core_golden::penalty();
    let mask: Tensor<2, Bool> = mask(&golden.mask);
    for case in &golden.cases {
        let name = case.config.to_string();
        let policy = tensor(&golden.policy_logprobs);
        let reference = tensor(&golden.ref_logprobs);
        let tokens = token_penalties(policy, reference, mask.clone(), config(&case.config));
        assert_golden(&name, &tokens, &case.token_penalties);
        let sequences = sequence_penalties(tokens.clone(), mask.clone());
        assert_golden(&name, &sequences, &case.sequence_penalties);
        let total = numbers(&masked_sum(tokens.clone(), mask.clone()));
        assert_close(&name, &total, &[case.sequence_penalties.data.iter().sum()]);
        assert_golden(
            &name,
            &penalty_to_go(tokens, mask.clone()),
            &case.penalty_to_go,
        );
    }
}
