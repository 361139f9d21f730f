//! The update as a whole: the gradient does not depend on how rows are cut, on rows that cannot
//! contribute, or on a second forward that is not needed; a gradient that is not finite moves
//! nothing.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use rlvr_backends::Precision;
use rlvr_core::importance::{ImportanceBound, ImportanceCorrection, ImportanceLevel};
use rlvr_core::{
    Aggregation, ClipGradient, ClipLevel, GrpoLoss, GrpoLossConfig, KlClip, KlEstimator, KlPenalty,
    LossKl,
};
use trainer::batch::Row;
use trainer::gradient::ScoringSettings;
use trainer::optimizer::{Optimizer, OptimizerSettings, Schedule, with_stable_ids};
use trainer::policy::config::{Architecture, ModelConfig, RopeScaling};
use trainer::policy::decoder::Decoder;
use trainer::record::PromptId;
use trainer::room::MicroBatchLimit;
use trainer::update::{UpdateOutcome, UpdateSettings, score_rows, update};

fn model() -> ModelConfig {
    ModelConfig {
        architecture: Architecture::Llama,
        vocab_size: 13,
        hidden_size: 16,
        intermediate_size: 24,
        num_layers: 2,
        num_heads: 4,
        num_kv_heads: 2,
        head_dim: 4,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: RopeScaling::None,
        max_position_embeddings: 64,
        tie_word_embeddings: true,
        attention_bias: false,
        qk_norm: false,
    }
}

fn policy() -> Decoder {
    let device = Device::default().autodiff();
    with_stable_ids(Decoder::init(&model(), 3, &device))
}

fn rows() -> Vec<Row> {
    let advantages = [0.7, -0.7, 0.0, 0.0, 1.2, -0.4, -0.4, -0.4];
    let row = |(index, &advantage): (usize, &f64)| {
        let num_completion_tokens = 1 + (index * 3) % 7;
        let token = |place: usize| ((place * 5 + index * 3 + 1) % 13) as u32;
        Row {
            prompt_id: PromptId(index as u64 / 4),
            rollout_index: index as u32 % 4,
            tokens: (0..3 + index / 4 + num_completion_tokens)
                .map(token)
                .collect(),
            num_prompt_tokens: 3 + index / 4,
            advantage,
            sampler_logprobs: vec![-2.5; num_completion_tokens],
            old_logprobs: None,
        }
    };
    advantages.iter().enumerate().map(row).collect()
}

fn optimizer() -> Optimizer {
    Optimizer::new(&OptimizerSettings {
        learning_rate: 1e-2,
        beta_1: 0.9,
        beta_2: 0.999,
        eps: 1e-8,
        weight_decay: 0.0,
        max_grad_norm: None,
        warmup_steps: 0,
        schedule: Schedule::Constant,
        total_steps: 10,
    })
}

fn settings() -> UpdateSettings {
    UpdateSettings {
        inner_epochs: 1,
        minibatches: 1,
        max_tokens_per_microbatch: 4096,
        scoring: ScoringSettings {
            temperature: 1.0,
            max_logits_bytes: 1 << 20,
            precision: Precision::F32,
        },
        kl_in_reward: None,
        seed: 1,
        step: 0,
        learning_rate: 1e-2,
    }
}

fn run(
    rows: &mut [Row],
    loss: GrpoLossConfig,
    settings: &UpdateSettings,
) -> (Decoder, UpdateOutcome) {
    let loss: GrpoLoss = loss.init().unwrap();
    let reference = policy().valid();
    let needs_reference = loss.config().kl.is_some() || settings.kl_in_reward.is_some();
    let reference = needs_reference.then_some(&reference);
    update(policy(), &mut optimizer(), rows, &loss, reference, settings).unwrap()
}

fn close(left: f64, right: f64, tolerance: f64) {
    assert!(
        (left - right).abs() <= tolerance * left.abs().max(right.abs()),
        "{left} against {right}"
    );
}

#[test]
fn the_gradient_does_not_depend_on_the_micro_batches() {
    for aggregation in [
        Aggregation::TokenMean,
        Aggregation::SequenceMean,
        Aggregation::FixedLength { tokens: 8 },
    ] {
        let loss = GrpoLossConfig {
            aggregation,
            entropy_coef: 0.01,
            ..GrpoLossConfig::default()
        };
        let (_, whole) = run(&mut rows(), loss, &settings());
        assert!(whole.grad_norms[0] > 1e-3);
        for (max_tokens_per_microbatch, max_logits_bytes) in [(1, 1 << 20), (24, 64), (4096, 200)] {
            let scoring = ScoringSettings {
                temperature: 1.0,
                max_logits_bytes,
                precision: Precision::F32,
            };
            let cut = UpdateSettings {
                max_tokens_per_microbatch,
                scoring,
                ..settings()
            };
            let (_, parts) = run(&mut rows(), loss, &cut);
            close(parts.grad_norms[0], whole.grad_norms[0], 2e-5);
            close(parts.sums.num_tokens, whole.sums.num_tokens, 0.0);
            assert!((parts.sums.loss() - whole.sums.loss()).abs() < 1e-6);
        }
    }
}

#[test]
fn rows_of_zero_advantage_cost_nothing_and_change_nothing() {
    let (_, skipped) = run(&mut rows(), GrpoLossConfig::default(), &settings());
    let mut all = rows();
    for row in &mut all {
        // Not exactly zero, so it runs; too small to change the gradient.
        row.advantage += 1e-30;
    }
    let (_, complete) = run(&mut all, GrpoLossConfig::default(), &settings());
    assert_eq!((skipped.num_idle_rows, complete.num_idle_rows), (2, 0));
    assert!(skipped.num_update_tokens < complete.num_update_tokens);
    close(skipped.grad_norms[0], complete.grad_norms[0], 1e-6);
}

#[test]
fn idle_rows_run_when_another_term_needs_them() {
    let kl = KlPenalty {
        coef: 0.1,
        estimator: KlEstimator::K3,
        clip: None,
    };
    let with_kl = GrpoLossConfig {
        kl: Some(KlPenalty {
            coef: 0.1,
            estimator: LossKl::K3,
            clip: None,
        }),
        ..GrpoLossConfig::default()
    };
    let (_, outcome) = run(&mut rows(), with_kl, &settings());
    assert_eq!(outcome.num_idle_rows, 0);
    let in_reward = UpdateSettings {
        kl_in_reward: Some(kl),
        ..settings()
    };
    let (_, outcome) = run(&mut rows(), GrpoLossConfig::default(), &in_reward);
    assert_eq!(outcome.num_idle_rows, 0);
    // The policy still is the reference: nothing to penalise.
    assert!(outcome.sums.kl_policy_ref_k3_sum.abs() < 1e-9);
}

#[test]
fn the_exact_kl_has_the_gradient_of_the_whole_vocabulary() {
    let coef = 0.3;
    for tau in [None, Some(0.02)] {
        let clip = tau.map(|tau| KlClip {
            tau,
            level: ClipLevel::Token,
            gradient: ClipGradient::Zero,
        });
        let kl = KlPenalty {
            coef,
            estimator: LossKl::Exact,
            clip,
        };
        let loss = GrpoLossConfig {
            kl: Some(kl),
            ..GrpoLossConfig::default()
        };
        let mut rows = rows();
        // Nothing but the KL term moves.
        rows.iter_mut().for_each(|row| row.advantage = 0.0);
        let loss = loss.init().unwrap();
        let (policy, reference) = (policy(), other_policy().valid());
        let reference = Some(&reference);
        for max_tokens_per_microbatch in [24, 4096] {
            let settings = UpdateSettings {
                max_tokens_per_microbatch,
                ..settings()
            };
            let mut rows = rows.clone();
            let mut optimizer = optimizer();
            let policy = policy.clone();
            let (_, outcome) = update(
                policy,
                &mut optimizer,
                &mut rows,
                &loss,
                reference,
                &settings,
            )
            .unwrap();
            let (value, norm) = exact_kl_by_autodiff(&rows, coef, tau);
            close(outcome.sums.kl_loss, value, 1e-4);
            close(outcome.grad_norms[0], norm, 1e-4);
            assert_eq!(outcome.sums.num_kl_clipped > 0.0, tau.is_some());
        }
    }
}

fn other_policy() -> Decoder {
    let device = Device::default().autodiff();
    with_stable_ids(Decoder::init(&model(), 4, &device))
}

/// Mean KL(policy‖ref) per completion token times `coef` with full logits on the tape, row by row,
/// and the global norm of its gradient.
fn exact_kl_by_autodiff(rows: &[Row], coef: f64, tau: Option<f64>) -> (f64, f64) {
    let (policy, reference) = (policy(), other_policy());
    let device = Device::default().autodiff();
    let num_tokens: usize = rows.iter().map(Row::num_completion_tokens).sum();
    let mut total = Tensor::<1>::zeros([1], &device);
    for row in rows {
        let tokens: Vec<i64> = row.tokens.iter().map(|&t| i64::from(t)).collect();
        let width = tokens.len();
        let tokens = Tensor::from_data(TensorData::new(tokens, [1, width]), &device);
        let logprobs = |decoder: &Decoder| {
            let hidden = decoder.hidden(tokens.clone()).squeeze_dim::<2>(0);
            let before = row.num_prompt_tokens - 1..width - 1;
            let logits = hidden
                .slice([before])
                .matmul(decoder.head_weight().transpose());
            log_softmax(logits, 1)
        };
        let (p, q) = (logprobs(&policy), logprobs(&reference).detach());
        let log_ratio = p.clone() - q;
        let clipped = match tau {
            None => log_ratio,
            Some(tau) => log_ratio.clamp(-tau, tau),
        };
        total = total + (p.exp() * clipped).sum();
    }
    let loss = total * (coef / num_tokens as f64);
    let value = loss.clone().into_scalar::<f32>();
    let gradients = loss.backward();
    let mut norm = SquaredNorm {
        gradients: &gradients,
        sum: 0.0,
    };
    policy.visit(&mut norm);
    (f64::from(value), norm.sum.sqrt())
}

struct SquaredNorm<'a> {
    gradients: &'a Gradients,
    sum: f64,
}

impl ModuleVisitor for SquaredNorm<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = param.val().grad(self.gradients) {
            let gradient = gradient.into_data();
            self.sum += gradient.iter::<f64>().map(|g| g * g).sum::<f64>();
        }
    }
}

#[test]
fn several_inner_steps_use_the_log_probs_of_the_start() {
    let mut rows = rows();
    let twice = UpdateSettings {
        inner_epochs: 2,
        ..settings()
    };
    let (_, outcome) = run(&mut rows, GrpoLossConfig::default(), &twice);
    assert_eq!(outcome.num_inner_steps, 2);
    // The first pass has ratio one, the second has moved away from it.
    assert!(outcome.sums.ratio_max > 1.01, "{:?}", outcome.sums);
    assert!(outcome.sums.kl_old_policy_k3_sum > 1e-4);

    let mut once_rows = self::rows();
    let (_, once) = run(&mut once_rows, GrpoLossConfig::default(), &settings());
    close(once.sums.ratio_max, 1.0, 0.0);
    // Frozen before the step or taken from the first forward: the same numbers, up to rounding.
    for (frozen, taken) in rows.iter().zip(&once_rows) {
        let pair = frozen.old_logprobs.iter().zip(&taken.old_logprobs);
        for (frozen, taken) in pair.flat_map(|(frozen, taken)| frozen.iter().zip(taken)) {
            assert!((frozen - taken).abs() < 2e-6, "{frozen} against {taken}");
        }
    }
}

#[test]
fn recomputed_activations_give_the_same_gradient() {
    let loss = GrpoLossConfig::default().init().unwrap();
    let norm = |device: Device| {
        let policy = with_stable_ids(Decoder::init(&model(), 3, &device));
        let moved = update(
            policy,
            &mut optimizer(),
            &mut rows(),
            &loss,
            None,
            &settings(),
        );
        moved.unwrap().1.grad_norms[0]
    };
    let device = Device::default().autodiff();
    let kept = norm(device.clone());
    assert!(kept > 1e-3);
    close(norm(device.gradient_checkpointing()), kept, 1e-6);
}

#[test]
fn minibatches_cover_every_row_once() {
    let cut = UpdateSettings {
        minibatches: 4,
        ..settings()
    };
    let (_, outcome) = run(&mut rows(), GrpoLossConfig::default(), &cut);
    let (_, whole) = run(&mut rows(), GrpoLossConfig::default(), &settings());
    assert_eq!(outcome.num_update_tokens, whole.num_update_tokens);
    assert!(outcome.num_inner_steps > 1);
}

#[test]
fn the_policy_moves_towards_what_was_rewarded() {
    let mut rows = rows();
    let (mut policy, mut optimizer) = (policy(), optimizer());
    let loss = GrpoLossConfig::default().init().unwrap();
    let first = rows.clone();
    for _ in 0..5 {
        rows.clone_from_slice(&first);
        policy = update(policy, &mut optimizer, &mut rows, &loss, None, &settings())
            .unwrap()
            .0;
    }
    let before = mean_logprob(&first, &self::policy(), 4);
    let after = mean_logprob(&first, &policy, 4);
    assert!(after > before + 0.05, "{before} to {after}");
}

fn mean_logprob(rows: &[Row], policy: &Decoder, row: usize) -> f32 {
    let found = logprobs(&rows[row], policy);
    found.iter().sum::<f32>() / found.len() as f32
}

fn logprobs(row: &Row, policy: &Decoder) -> Vec<f32> {
    let (scoring, mut limit) = (settings().scoring, MicroBatchLimit::new(4096));
    let (frozen, device) = (policy.valid(), Device::default());
    let found = score_rows(&frozen, &[row], &scoring, &mut limit, &device);
    found.unwrap().remove(0)
}

/// Completions to whose tokens the policy gives so many times the sampler's probability: at 1.999 the
/// correction that half precision has by default is whole, at 3 it is 2.
#[test]
fn a_gap_of_more_than_ln_2_counts_as_ln_2() {
    let truncate = GrpoLossConfig {
        importance: Some(ImportanceCorrection {
            level: ImportanceLevel::Token,
            bound: ImportanceBound::Truncate { cap: 2.0 },
        }),
        ..GrpoLossConfig::default()
    };
    let (ratios, weights) = ([1.999, 3.0, 1.0, 0.1], [1.999, 2.0, 1.0, 0.1]);
    let (mut corrected, mut weighed) = (rows(), rows());
    let mut num_cut = 0;
    for (place, row) in corrected.iter_mut().enumerate() {
        let shift = f64::ln(ratios[place % 4]) as f32;
        let logprobs = logprobs(&rows()[place], &policy());
        row.sampler_logprobs = logprobs.iter().map(|logprob| logprob - shift).collect();
        weighed[place].advantage *= weights[place % 4];
        if row.advantage != 0.0 && place % 4 == 1 {
            num_cut += row.num_completion_tokens();
        }
    }
    let (_, corrected) = run(&mut corrected, truncate, &settings());
    let (_, weighed) = run(&mut weighed, GrpoLossConfig::default(), &settings());
    close(corrected.grad_norms[0], weighed.grad_norms[0], 1e-5);
    close(corrected.sums.loss(), weighed.sums.loss(), 1e-5);
    close(
        corrected.sums.importance_bounded_tokens,
        num_cut as f64,
        0.0,
    );
    let (_, plain) = run(&mut rows(), GrpoLossConfig::default(), &settings());
    let change = corrected.grad_norms[0] / plain.grad_norms[0];
    assert!(change > 1.1, "{change}");
}

#[test]
fn a_gradient_that_is_not_finite_moves_nothing() {
    let mut rows = rows();
    rows[0].advantage = f64::NAN;
    let (moved, outcome) = run(&mut rows, GrpoLossConfig::default(), &settings());
    assert_eq!((outcome.num_inner_steps, outcome.num_skipped_steps), (0, 1));
    let weights = |decoder: &Decoder| {
        decoder
            .head_weight()
            .into_data()
            .iter::<f32>()
            .collect::<Vec<_>>()
    };
    assert_eq!(weights(&moved), weights(&policy()));
}
