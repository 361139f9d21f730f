//! Inputs at the edge of what is allowed, and configurations beyond it.

mod support;

use burn::tensor::Tensor;
use rlvr_core::advantage::{AdvantageConfig, Baseline, Degenerate, Scale, group_advantages};
use rlvr_core::aggregate::{Aggregation, Denominators};
use rlvr_core::grpo::{GrpoBatch, GrpoLossConfig};
use rlvr_core::kl::{ClipGradient, ClipLevel, KlClip, KlPenalty, LossKl};
use rlvr_core::surrogate::Surrogate;
use support::{assert_near, from_vec, mask_from_vec, numbers};

#[test]
fn no_rows_give_no_scores_and_a_zero_gradient() {
    let device = support::device();
    let hidden = || Tensor::<2>::zeros([0, 4], &device);
    let head = || Tensor::<2>::ones([6, 4], &device);
    let scores = rlvr_core::token_scores(
        hidden(),
        head(),
        support::ints(&[]),
        &support::scoring(1 << 20),
    );
    assert_eq!(
        (scores.logprobs.dims(), scores.entropies.dims()),
        ([0], [0])
    );
    let none = Tensor::<1>::zeros([0], &device);
    let targets = support::ints(&[]);
    let grads = rlvr_core::token_scores_backward(
        hidden(),
        head(),
        targets,
        none.clone(),
        None,
        &support::scoring(1 << 20),
    );
    assert_eq!(grads.hidden.dims(), [0, 4]);
    assert_eq!(numbers(&grads.head), vec![0.0; 24]);
}

#[test]
fn large_logits_stay_exact() {
    // Logits of plus and minus 1e4: a plain exponential would overflow.
    let hidden = from_vec(vec![100.0, -100.0], [2, 1]);
    let head = from_vec(vec![100.0, -100.0, 99.99], [3, 1]);
    let scores = rlvr_core::token_scores(
        hidden,
        head,
        support::ints(&[2, 1]),
        &support::scoring(1 << 20),
    );
    // Row 0: logits 1e4, -1e4, 9999 (to f32): log p = -1 - log(1 + 1/e); row 1 is certain.
    let expected = -1.0 - (1.0 + (-1.0_f64).exp()).ln();
    assert_near(
        "log-probs",
        &numbers(&scores.logprobs),
        &[expected, 0.0],
        1e-3,
    );
    assert!(
        numbers(&scores.entropies)
            .iter()
            .all(|h| *h >= 0.0 && h.is_finite())
    );
}

#[test]
fn degenerate_groups_are_reported_with_a_reason() {
    let config = AdvantageConfig::default();
    let rewards: [&[f64]; 5] = [&[], &[1.0], &[0.1, 0.1], &[0.0, f64::NAN], &[0.0, 1.0]];
    let reasons: Vec<_> = group_advantages(&rewards, config)
        .into_iter()
        .map(|g| g.degenerate)
        .collect();
    let expected = [
        Some(Degenerate::Empty),
        Some(Degenerate::SingleRollout),
        Some(Degenerate::AllEqual),
        Some(Degenerate::NonFinite),
        None,
    ];
    assert_eq!(reasons, expected);
    let without = AdvantageConfig {
        baseline: Baseline::None,
        scale: Scale::None,
    };
    assert_eq!(
        group_advantages(&[[1.0, 1.0]], without)[0].advantages,
        [1.0, 1.0]
    );
}

#[test]
fn impossible_configurations_are_named() {
    let key = |config: AdvantageConfig, size| config.validate(size).expect_err("invalid").key;
    let std = |ddof| AdvantageConfig {
        baseline: Baseline::None,
        scale: Scale::GroupStd { ddof, eps: 1e-4 },
    };
    assert_eq!(key(std(1), 1), "scale");
    assert_eq!(key(std(0), 1), "scale");
    assert_eq!(key(std(2), 4), "scale.ddof");
    assert_eq!(key(AdvantageConfig::default(), 1), "baseline");
    assert_eq!(key(AdvantageConfig::default(), 0), "group_size");
    assert!(std(1).validate(2).is_ok());

    let loss_key = |config: GrpoLossConfig| config.init().expect_err("invalid").key;
    let clip = Surrogate::Clipped {
        clip_low: -0.1,
        clip_high: 0.2,
        dual_clip: None,
    };
    let config = GrpoLossConfig {
        surrogate: clip,
        ..GrpoLossConfig::default()
    };
    assert_eq!(loss_key(config), "surrogate.clip_low");
    let kl = KlPenalty {
        coef: f64::NAN,
        estimator: LossKl::K1,
        clip: None,
    };
    let config = GrpoLossConfig {
        kl: Some(kl),
        ..GrpoLossConfig::default()
    };
    assert_eq!(loss_key(config), "kl.coef");
    let exact_with = |level, gradient| GrpoLossConfig {
        kl: Some(KlPenalty {
            coef: 0.1,
            estimator: LossKl::Exact,
            clip: Some(KlClip {
                tau: 1.0,
                level,
                gradient,
            }),
        }),
        ..GrpoLossConfig::default()
    };
    assert!(
        exact_with(ClipLevel::Token, ClipGradient::Zero)
            .init()
            .is_ok()
    );
    let over_sequence = exact_with(ClipLevel::Sequence, ClipGradient::Zero);
    assert_eq!(loss_key(over_sequence), "kl.clip.level");
    let straight = exact_with(ClipLevel::Token, ClipGradient::StraightThrough);
    assert_eq!(loss_key(straight), "kl.clip.gradient");
    let aggregation = Aggregation::FixedLength { tokens: 0 };
    let config = GrpoLossConfig {
        aggregation,
        ..GrpoLossConfig::default()
    };
    assert_eq!(loss_key(config), "aggregation.tokens");
    let unknown = r#"{"surrogate": {"kind": "clipped", "clip_lo": 0.1, "clip_high": 0.2}}"#;
    assert!(serde_json::from_str::<GrpoLossConfig>(unknown).is_err());
}

#[test]
fn an_empty_section_is_the_default_and_configurations_survive_a_round_trip() {
    let empty: GrpoLossConfig = serde_json::from_str("{}").expect("every key has a default");
    assert_eq!(empty, GrpoLossConfig::dapo());
    assert_eq!(empty.kl, None);
    let dapo = Surrogate::Clipped {
        clip_low: 0.2,
        clip_high: 0.28,
        dual_clip: None,
    };
    assert_eq!(
        (empty.surrogate, empty.aggregation),
        (dapo, Aggregation::TokenMean)
    );
    for config in [
        GrpoLossConfig::grpo(),
        GrpoLossConfig::cispo(4.0),
        GrpoLossConfig::gspo(),
    ] {
        let text = serde_json::to_string(&config).expect("serialises");
        assert_eq!(
            serde_json::from_str::<GrpoLossConfig>(&text).expect("reads"),
            config
        );
    }
}

fn one_token() -> GrpoBatch {
    GrpoBatch {
        policy_logprobs: from_vec(vec![-1.0], [1, 1]).autodiff().require_grad(),
        old_logprobs: from_vec(vec![-1.0], [1, 1]),
        ref_logprobs: None,
        sampler_logprobs: None,
        entropies: None,
        advantages: from_vec(vec![1.0], [1]),
        exact_kl: None,
        token_penalties: None,
        completion_mask: mask_from_vec(vec![true], [1, 1]),
    }
}

const ONE: Denominators = Denominators {
    num_tokens: 1,
    num_sequences: 1,
};

#[test]
#[should_panic(expected = "`ref_logprobs` are missing")]
fn a_kl_penalty_needs_the_reference() {
    GrpoLossConfig::grpo()
        .init()
        .expect("valid")
        .forward(one_token(), ONE);
}

#[test]
#[should_panic(expected = "`entropies` are missing")]
fn an_entropy_bonus_needs_the_entropies() {
    let config = GrpoLossConfig {
        entropy_coef: 0.1,
        ..GrpoLossConfig::dapo()
    };
    config.init().expect("valid").forward(one_token(), ONE);
}

#[test]
#[should_panic(expected = "shape of `advantages`: axis N is 2, but `policy_logprobs` has N = 1")]
fn a_wrong_number_of_advantages_is_named() {
    let batch = GrpoBatch {
        advantages: from_vec(vec![1.0, 2.0], [2]),
        ..one_token()
    };
    GrpoLossConfig::dapo()
        .init()
        .expect("valid")
        .forward(batch, ONE);
}

#[test]
fn coefficients_can_be_moved_by_a_controller() {
    let mut loss = GrpoLossConfig::grpo().init().expect("valid");
    loss.set_kl_coef(0.5);
    loss.set_entropy_coef(0.25);
    assert_eq!(loss.config().kl.map(|kl| kl.coef), Some(0.5));
    assert_eq!(loss.config().entropy_coef, 0.25);
    let mut without = GrpoLossConfig::dapo().init().expect("valid");
    without.set_kl_coef(0.5);
    assert_eq!(without.config().kl, None);
}
