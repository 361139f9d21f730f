//! Laws that hold for any input.

mod support;

use burn::tensor::Tensor;
use proptest::prelude::{Just, Strategy, prop, prop_assert, prop_assume, prop_oneof, proptest};
use proptest::test_runner::Config;
use rlvr_core::advantage::{AdvantageConfig, Baseline, Degenerate, Scale, group_advantages};
use rlvr_core::aggregate::Denominators;
use rlvr_core::exact_kl::{HeadPair, exact_kl, exact_kl_backward};
use rlvr_core::grpo::{GrpoBatch, GrpoLossConfig};
use rlvr_core::head::rows_per_chunk;
use rlvr_core::importance::{ImportanceBound, ImportanceCorrection, ImportanceLevel};
use rlvr_core::kl::{
    ClipGradient, ClipLevel, KlClip, KlEstimator, KlPenalty, KlTerms, LossKl, estimate, kl_terms,
};
use rlvr_core::ratio::ratio;
use rlvr_core::surrogate::{Surrogate, clipped_surrogate};
use support::{assert_near, from_vec, mask_from_vec, numbers, scoring};

const ROWS: usize = 8;
const WIDTH: usize = 5;

/// Numbers of a batch on the host, row by row, so that it can be laid out in several ways.
#[derive(Clone, Debug)]
struct Rows {
    lengths: Vec<usize>,
    policy: Vec<f32>,
    old: Vec<f32>,
    reference: Vec<f32>,
    sampler: Vec<f32>,
    entropies: Vec<f32>,
    penalties: Vec<f32>,
    advantages: Vec<f32>,
}

/// A layout: which rows in which order, how wide, and what stands outside the mask.
struct Layout {
    rows: Vec<usize>,
    width: usize,
    outside: f32,
}

impl Layout {
    fn plain() -> Self {
        Self {
            rows: (0..ROWS).collect(),
            width: WIDTH,
            outside: 0.0,
        }
    }
}

/// Loss, and gradients with respect to log-probs, entropies and exact KL by row, counted positions only,
/// after a check that all others are exactly zero.
struct Outcome {
    loss: f64,
    gradients: Vec<Vec<f64>>,
}

fn rows() -> impl Strategy<Value = Rows> {
    let column = |scale: f32| prop::collection::vec(-scale..scale, ROWS * WIDTH);
    let lengths = prop::collection::vec(0..=WIDTH, ROWS);
    let advantages = prop::collection::vec(-2.0_f32..2.0, ROWS);
    (
        lengths,
        column(0.5),
        column(0.5),
        column(0.5),
        column(0.2),
        column(1.0),
        column(0.3),
    )
        .prop_flat_map(move |columns| (Just(columns), advantages.clone()))
        .prop_map(
            |((lengths, policy, old, reference, sampler, entropies, penalties), advantages)| {
                let shift = |x: Vec<f32>| x.into_iter().map(|x| x - 1.5).collect();
                let near_old = |x: Vec<f32>| x.iter().zip(&old).map(|(x, o)| x + o - 1.5).collect();
                Rows {
                    lengths,
                    policy: shift(policy),
                    reference: shift(reference),
                    sampler: near_old(sampler),
                    old: shift(old),
                    entropies: entropies.into_iter().map(f32::abs).collect(),
                    penalties,
                    advantages,
                }
            },
        )
}

impl Rows {
    fn denominators(&self) -> Denominators {
        Denominators {
            num_tokens: self.lengths.iter().sum(),
            num_sequences: ROWS,
        }
    }

    fn lay_out(&self, column: &[f32], layout: &Layout) -> Tensor<2> {
        let at = |&row: &usize| {
            (0..layout.width).map(move |c| {
                if c < self.lengths[row] {
                    column[row * WIDTH + c]
                } else {
                    layout.outside
                }
            })
        };
        let data = layout.rows.iter().flat_map(at).collect();
        from_vec(data, [layout.rows.len(), layout.width])
    }

    fn batch(&self, layout: &Layout) -> GrpoBatch {
        let is_counted = |&row: &usize| (0..layout.width).map(move |c| c < self.lengths[row]);
        let mask = layout.rows.iter().flat_map(is_counted).collect();
        let advantages = layout
            .rows
            .iter()
            .map(|&row| self.advantages[row])
            .collect();
        let tracked = |column| self.lay_out(column, layout).autodiff().require_grad();
        let effects = self.lay_out(&self.entropies, layout);
        GrpoBatch {
            policy_logprobs: tracked(&self.policy),
            old_logprobs: self.lay_out(&self.old, layout),
            ref_logprobs: Some(self.lay_out(&self.reference, layout)),
            sampler_logprobs: Some(self.lay_out(&self.sampler, layout)),
            entropies: Some(tracked(&self.entropies)),
            advantages: from_vec(advantages, [layout.rows.len()]),
            exact_kl: Some(KlTerms {
                values: tracked(&self.penalties),
                clip_biases: effects.clone(),
                clip_excesses: effects.clone(),
                clip_counts: effects,
            }),
            token_penalties: Some(self.lay_out(&self.penalties, layout)),
            completion_mask: mask_from_vec(mask, [layout.rows.len(), layout.width]),
        }
    }

    fn run(&self, config: GrpoLossConfig, layout: &Layout) -> Outcome {
        let batch = self.batch(layout);
        let leaves = [
            batch.policy_logprobs.clone(),
            batch.entropies.clone().expect("given"),
            batch.exact_kl.clone().expect("given").values,
        ];
        let loss = config
            .init()
            .expect("valid")
            .forward(batch, self.denominators())
            .loss;
        let grads = loss.backward();
        let mut gradients = vec![Vec::new(); ROWS];
        for leaf in leaves {
            let Some(grad) = leaf.grad(&grads) else {
                continue;
            };
            for (values, &row) in numbers(&grad).chunks(layout.width).zip(&layout.rows) {
                let (counted, outside) = values.split_at(self.lengths[row]);
                assert!(
                    outside.iter().all(|&g| g == 0.0),
                    "gradient outside the mask"
                );
                gradients[row].extend_from_slice(counted);
            }
        }
        Outcome {
            loss: numbers(&loss)[0],
            gradients,
        }
    }
}

/// A configuration of each kind, all terms on.
fn configs() -> Vec<GrpoLossConfig> {
    let kl = |estimator, level, gradient| {
        let clip = KlClip {
            tau: 0.4,
            level,
            gradient,
        };
        Some(KlPenalty {
            coef: 0.1,
            estimator,
            clip: Some(clip),
        })
    };
    let truncate = ImportanceCorrection {
        level: ImportanceLevel::Token,
        bound: ImportanceBound::Truncate { cap: 1.1 },
    };
    let mask = ImportanceCorrection {
        level: ImportanceLevel::Sequence,
        bound: ImportanceBound::Mask {
            low: 0.5,
            high: 1.5,
        },
    };
    let dapo = GrpoLossConfig {
        entropy_coef: 0.02,
        ..GrpoLossConfig::dapo()
    };
    vec![
        dapo,
        GrpoLossConfig {
            importance: Some(truncate),
            ..GrpoLossConfig::grpo()
        },
        GrpoLossConfig {
            kl: kl(LossKl::K2, ClipLevel::Token, ClipGradient::StraightThrough),
            ..GrpoLossConfig::dr_grpo(7)
        },
        GrpoLossConfig {
            kl: kl(LossKl::K3, ClipLevel::Sequence, ClipGradient::Zero),
            ..GrpoLossConfig::gspo()
        },
        GrpoLossConfig {
            kl: kl(LossKl::Exact, ClipLevel::Token, ClipGradient::Zero),
            ..GrpoLossConfig::dapo()
        },
        GrpoLossConfig {
            importance: Some(mask),
            ..GrpoLossConfig::cispo(0.2)
        },
    ]
}

fn assert_same(name: &str, given: &Outcome, expected: &Outcome) {
    assert_near(name, &[given.loss], &[expected.loss], 1e-6);
    for (given, expected) in given.gradients.iter().zip(&expected.gradients) {
        assert_near(name, given, expected, 1e-6);
    }
}

/// A batch whose rows change nothing but the layout.
fn few(cases: u32) -> Config {
    Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    }
}

proptest! {
    #![proptest_config(few(32))]

    #[test]
    fn nan_outside_the_mask_changes_neither_loss_nor_gradient(rows in rows()) {
        for config in configs().into_iter().chain([GrpoLossConfig::bnpo()]) {
            let clean = rows.run(config, &Layout::plain());
            for outside in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30] {
                let dirty = rows.run(config, &Layout { outside, ..Layout::plain() });
                prop_assert!(dirty.loss.is_finite());
                assert_same("outside", &dirty, &clean);
            }
        }
    }

    #[test]
    fn wider_padding_and_permuted_rows_change_nothing(
        rows in rows(),
        order in Just((0..ROWS).collect::<Vec<_>>()).prop_shuffle(),
        extra in 1..4_usize,
    ) {
        for config in configs().into_iter().chain([GrpoLossConfig::bnpo()]) {
            let plain = rows.run(config, &Layout::plain());
            let wide = Layout { width: WIDTH + extra, outside: f32::NAN, ..Layout::plain() };
            assert_same("wider", &rows.run(config, &wide), &plain);
            let permuted = Layout { rows: order.clone(), ..Layout::plain() };
            assert_same("permuted", &rows.run(config, &permuted), &plain);
        }
    }

    #[test]
    fn one_batch_of_eight_is_eight_of_one(rows in rows()) {
        for config in configs() {
            let whole = rows.run(config, &Layout::plain());
            let mut parts = Outcome { loss: 0.0, gradients: Vec::new() };
            for row in 0..ROWS {
                let layout = Layout { rows: vec![row], ..Layout::plain() };
                let mut part = rows.run(config, &layout);
                parts.loss += part.loss;
                parts.gradients.push(std::mem::take(&mut part.gradients[row]));
            }
            assert_same("micro-batches", &parts, &whole);
        }
    }

    #[test]
    fn at_ratio_one_the_gradient_is_that_of_reinforce(mut rows in rows()) {
        rows.policy.clone_from(&rows.old);
        rows.penalties.fill(0.0);
        let num_tokens = rows.denominators().num_tokens.max(1) as f64;
        let dual = Surrogate::Clipped { clip_low: 0.2, clip_high: 0.28, dual_clip: Some(3.0) };
        let dual = GrpoLossConfig { surrogate: dual, ..GrpoLossConfig::dapo() };
        for config in [GrpoLossConfig::dapo(), dual, GrpoLossConfig::cispo(0.2)] {
            let outcome = rows.run(config, &Layout::plain());
            for (row, gradients) in outcome.gradients.iter().enumerate() {
                let expected = -f64::from(rows.advantages[row]) / num_tokens;
                prop_assert!(gradients.iter().all(|g| (g - expected).abs() < 1e-7));
            }
        }
    }

    #[test]
    fn a_wide_clip_is_no_clip(rows in rows()) {
        let layout = Layout::plain();
        let log_ratio = rows.lay_out(&rows.policy, &layout) - rows.lay_out(&rows.old, &layout);
        let advantages = rows.lay_out(&rows.penalties, &layout);
        let free = ratio(log_ratio.clone()) * advantages.clone();
        for dual_clip in [None, Some(1e6)] {
            let terms =
                clipped_surrogate(log_ratio.clone(), advantages.clone(), 1.0, 1e6, dual_clip);
            assert_near("wide", &numbers(&terms.values), &numbers(&free), 0.0);
            prop_assert!(!terms.is_clipped_low.any().into_scalar::<bool>());
            prop_assert!(!terms.is_clipped_high.any().into_scalar::<bool>());
        }
    }

    #[test]
    fn k2_and_k3_are_never_negative_and_k3_is_always_finite(
        mut values in prop::collection::vec(
            prop_oneof![-1e-3_f32..1e-3, -1.0_f32..1.0, -30.0_f32..30.0, -1e30_f32..1e30],
            64,
        ),
    ) {
        values.extend([0.0, -0.0, 0.1, -0.1, 20.0, 88.8, 1e38, -1e38]);
        let log_r = from_vec(values.clone(), [values.len()]).autodiff().require_grad();
        let k3 = estimate(log_r.clone(), KlEstimator::K3);
        prop_assert!(numbers(&k3).iter().all(|k| *k >= 0.0 && k.is_finite()));
        let grad = log_r.grad(&k3.sum().backward()).expect("tracked");
        prop_assert!(numbers(&grad).iter().all(|g| g.is_finite()));
        let k2 = estimate(log_r, KlEstimator::K2);
        prop_assert!(numbers(&k2).iter().all(|k| *k >= 0.0));
    }

    #[test]
    fn over_an_enumerated_vocabulary_the_estimators_expect_the_exact_kl(
        policy in prop::collection::vec(-2.0_f32..2.0, 12),
        reference in prop::collection::vec(-2.0_f32..2.0, 12),
    ) {
        // One row whose logits are the hidden state itself.
        let logits = |x: &[f32]| from_vec(x.to_vec(), [1, 12]);
        let device = support::device();
        let heads = HeadPair {
            policy_hidden: logits(&policy),
            policy_head: Tensor::eye(12, &device),
            ref_hidden: logits(&reference),
            ref_head: Tensor::eye(12, &device),
        };
        let exact = numbers(&exact_kl(heads.clone(), None, &scoring(1 << 20)).values);
        let log_softmax = |x| burn::tensor::activation::log_softmax(x, 1);
        let leaf = logits(&policy).autodiff().require_grad();
        let log_p = log_softmax(leaf.clone());
        let log_r = log_softmax(logits(&reference)) - log_p.clone();
        let probs = log_p.clone().inner().exp();
        let expect = |k: Tensor<2>| (probs.clone() * k).sum();
        for estimator in [KlEstimator::K1, KlEstimator::K3] {
            let mean = expect(estimate(log_r.clone().inner(), estimator));
            assert_near("expectation", &numbers(&mean), &exact, 2e-6);
        }
        // With the samples fixed, k2's gradient is that of KL(policy‖ref) in expectation.
        let grads = expect(estimate(log_r, KlEstimator::K2)).backward();
        let one = from_vec(vec![1.0], [1]);
        let expected = exact_kl_backward(heads, one, None, &scoring(1 << 20)).hidden;
        let given = leaf.grad(&grads).expect("tracked");
        assert_near("gradient", &numbers(&given), &numbers(&expected), 2e-6);
    }

    #[test]
    fn a_clip_at_either_level_bounds_the_log_ratio_and_reports_its_bias(
        rows in rows(), tau in 0.05_f64..0.6,
    ) {
        let layout = Layout::plain();
        let log_r = rows.lay_out(&rows.reference, &layout) - rows.lay_out(&rows.policy, &layout);
        let mask = rows.batch(&layout).completion_mask;
        for level in [ClipLevel::Token, ClipLevel::Sequence] {
            let clip = KlClip { tau, level, gradient: ClipGradient::Zero };
            let terms = kl_terms(log_r.clone(), mask.clone(), KlEstimator::K1, Some(clip));
            let free = kl_terms(log_r.clone(), mask.clone(), KlEstimator::K1, None);
            let row_sums = |x: &Tensor<2>| numbers(&x.clone().sum_dim(1));
            let (values, biases) = (row_sums(&terms.values), row_sums(&terms.clip_biases));
            let difference: Vec<f64> =
                values.iter().zip(row_sums(&free.values)).map(|(v, f)| v - f).collect();
            assert_near("bias", &biases, &difference, 3e-6);
            for (bias, excess) in biases.iter().zip(row_sums(&terms.clip_excesses)) {
                prop_assert!(bias.abs() <= excess + 1e-5);
            }
            for (value, &length) in values.iter().zip(&rows.lengths) {
                let terms = if level == ClipLevel::Token { length } else { 1 };
                prop_assert!(value.abs() <= tau * terms as f64 + 1e-5);
            }
        }
    }

    #[test]
    fn advantages_of_a_group_sum_to_zero(
        rewards in prop::collection::vec(
            prop::collection::vec(prop_oneof![Just(0.0), Just(1.0), -3.0..3.0], 2..9), 1..6,
        ),
    ) {
        let scales = [
            Scale::None,
            Scale::GroupStd { ddof: 0, eps: 1e-4 },
            Scale::GroupStd { ddof: 1, eps: 1e-4 },
            Scale::BatchStd { ddof: 1, eps: 1e-4 },
        ];
        for scale in scales {
            for baseline in [Baseline::GroupMean, Baseline::LeaveOneOut] {
                let groups = group_advantages(&rewards, AdvantageConfig { baseline, scale });
                for (group, rewards) in groups.iter().zip(&rewards) {
                    prop_assert!(group.advantages.iter().sum::<f64>().abs() < 1e-9);
                    let all_equal = rewards.iter().all(|r| *r == rewards[0]);
                    prop_assert!(group.is_zero() == all_equal);
                    prop_assert!((group.degenerate == Some(Degenerate::AllEqual)) == all_equal);
                }
            }
        }
    }

    #[test]
    fn a_scaled_group_has_the_standard_deviation_that_was_asked_for(
        rewards in prop::collection::vec(-3.0..3.0_f64, 3..9), ddof in 0..2_usize,
    ) {
        prop_assume!(rewards.iter().any(|r| (r - rewards[0]).abs() > 1e-3));
        let scale = Scale::GroupStd { ddof, eps: 0.0 };
        let config = AdvantageConfig { baseline: Baseline::GroupMean, scale };
        let group = &group_advantages(&[rewards], config)[0].advantages;
        let squares: f64 = group.iter().map(|a| a * a).sum();
        prop_assert!((squares / (group.len() - ddof) as f64 - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_chunk_stays_within_its_budget(
        vocab_size in 1..300_000_usize, budget in 0..100_000_000_usize,
    ) {
        let rows = rows_per_chunk(vocab_size, budget);
        prop_assert!(rows == 1 || rows * vocab_size * 4 <= budget);
        prop_assert!((rows + 1) * vocab_size * 4 > budget);
    }
}

#[test]
fn an_empty_batch_costs_nothing_and_is_not_nan() {
    let rows = Rows {
        lengths: vec![0; ROWS],
        policy: vec![0.0; ROWS * WIDTH],
        old: vec![0.0; ROWS * WIDTH],
        reference: vec![0.0; ROWS * WIDTH],
        sampler: vec![0.0; ROWS * WIDTH],
        entropies: vec![0.0; ROWS * WIDTH],
        penalties: vec![0.0; ROWS * WIDTH],
        advantages: vec![1.0; ROWS],
    };
    for config in configs().into_iter().chain([GrpoLossConfig::bnpo()]) {
        let outcome = rows.run(
            config,
            &Layout {
                outside: f32::NAN,
                ..Layout::plain()
            },
        );
        assert_eq!(outcome.loss, 0.0);
    }
}
