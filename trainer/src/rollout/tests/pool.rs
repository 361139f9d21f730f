//! Tests of scoring, and of rollouts that go on from scored prompts.

use burn::tensor::{Device, Tensor, TensorData};

use rlvr_backends::Precision;

use super::super::*;
use super::{assert_same, config, decoder, letters, requests, roll_out};
use crate::policy::cache::kv_bytes;
use crate::policy::decoder::tests::tiny_config;
use crate::seed::Stage;

const SETTINGS: ScoreSettings = ScoreSettings {
    max_logits_bytes: 2000,
    kv_pool_bytes: u64::MAX,
    template: TemplateTokens {
        prefix: 0,
        suffix: 0,
    },
};

fn score(
    rollout: &RolloutConfig,
    requests: &[Request],
    settings: &ScoreSettings,
) -> (Vec<PromptEntropy>, ScoreStats, PromptPool) {
    let model = tiny_config();
    let mut pool = PromptPool::new(7);
    let engine = Engine::new(&model, rollout.clone(), Precision::F32);
    let (found, stats) = engine
        .score_prompts(&decoder(&model), requests, settings, &mut pool)
        .unwrap();
    (found, stats, pool)
}

fn roll_out_from(
    rollout: &RolloutConfig,
    requests: &[Request],
    pool: &PromptPool,
    weights_version: u64,
) -> Result<RolloutOutput, RolloutError> {
    let model = tiny_config();
    Engine::new(&model, rollout.clone(), Precision::F32).roll_out_pooled(
        &decoder(&model),
        &letters,
        requests,
        &rollout.sampling(vec![0]),
        11,
        Stage::Rollout,
        3,
        Some((pool, weights_version)),
    )
}

/// Mean entropy of the distributions of tokens `first..last` in f64, one prompt at a time.
fn reference(request: &Request, first: usize, last: usize) -> f64 {
    let model = tiny_config();
    let decoder = decoder(&model);
    let tokens: Vec<i64> = request.prompt_tokens.iter().map(|&t| t.into()).collect();
    let shape = [1, tokens.len()];
    let tokens = Tensor::from_data(TensorData::new(tokens, shape), &Device::default());
    let hidden = decoder
        .hidden(tokens)
        .reshape([shape[1], model.hidden_size]);
    let logits = hidden.matmul(decoder.head_weight().transpose());
    let logits = logits.into_data().try_to_vec::<f32>().unwrap();
    let entropy = |logits: &[f32]| {
        let weights: Vec<f64> = logits.iter().map(|&z| f64::from(z).exp()).collect();
        let total: f64 = weights.iter().sum();
        -weights
            .iter()
            .map(|w| w / total * (w / total).ln())
            .sum::<f64>()
    };
    let rows: Vec<f64> = logits.chunks(model.vocab_size).map(entropy).collect();
    rows[first - 1..last - 1].iter().sum::<f64>() / (last - first) as f64
}

#[test]
fn prompt_entropy_is_the_mean_over_positions_two_to_the_last() {
    let requests = requests(9, 1);
    let settings = ScoreSettings {
        template: TemplateTokens {
            prefix: 1,
            suffix: 1,
        },
        ..SETTINGS
    };
    for prefill_tokens in [1, 64, 4096] {
        let rollout = RolloutConfig {
            prefill_tokens,
            ..config()
        };
        let (found, stats, _) = score(&rollout, &requests, &settings);
        for (found, request) in found.iter().zip(&requests) {
            let length = request.prompt_tokens.len();
            assert_eq!(found.prompt_id, request.prompt_id);
            let expected = reference(request, 1, length);
            assert!(
                (found.entropy - expected).abs() < 1e-5,
                "{found:?} {expected}"
            );
            let question = found.question_entropy.unwrap();
            let expected = reference(request, 1, length - 1);
            assert!((question - expected).abs() < 1e-5, "{found:?} {expected}");
        }
        let tokens: usize = requests.iter().map(|r| r.prompt_tokens.len()).sum();
        assert_eq!(stats.scored_tokens, tokens as u64);
    }
}

#[test]
fn completions_are_the_same_with_and_without_reuse() {
    let requests = requests(9, 5);
    let slot_bytes = kv_bytes(&tiny_config(), 32, Precision::F32);
    for (prefill_tokens, kv_pool_bytes) in [
        (64, u64::MAX),
        (4096, u64::MAX),
        (64, 3 * slot_bytes),
        (1, 0),
    ] {
        let rollout = RolloutConfig {
            prefill_tokens,
            max_slots: 8,
            num_workers: 2,
            ..config()
        };
        let settings = ScoreSettings {
            kv_pool_bytes,
            ..SETTINGS
        };
        let (_, _, mut pool) = score(&rollout, &requests, &settings);
        assert!(pool.held_bytes() <= kv_pool_bytes);
        let is_kept = |id: PromptId| id.0 % 3 != 1;
        pool.keep(is_kept);
        let kept: Vec<Request> = requests
            .iter()
            .filter(|r| is_kept(r.prompt_id))
            .cloned()
            .collect();
        let expected = roll_out(&rollout, &kept);
        let output = roll_out_from(&rollout, &kept, &pool, 7).unwrap();
        for (got, expected) in output.completions.iter().zip(&expected.completions) {
            assert_same(got, expected, "reused");
        }
        let reused = output.stats.num_reused_prompts as usize;
        if kv_pool_bytes == u64::MAX {
            assert_eq!((reused, output.stats.prefill_tokens), (kept.len(), 0));
        } else {
            assert!(reused < kept.len());
            assert!(output.stats.prefill_tokens > 0);
        }
    }
}

#[test]
fn what_is_not_kept_is_freed() {
    let requests = requests(9, 5);
    let (_, _, mut pool) = score(&config(), &requests, &SETTINGS);
    let before = pool.held_bytes();
    pool.keep(|id| id.0 == 100);
    assert!(
        pool.held_bytes() > 0 && pool.held_bytes() * 9 <= before * 2,
        "{before}"
    );
    pool.keep(|_| false);
    assert_eq!(pool.held_bytes(), 0);
}

#[test]
fn keys_and_values_of_other_weights_are_refused() {
    let requests = requests(2, 2);
    let (_, _, pool) = score(&config(), &requests, &SETTINGS);
    let error = roll_out_from(&config(), &requests, &pool, 8).unwrap_err();
    assert_eq!(
        error,
        RolloutError::StaleCache {
            cached: 7,
            current: 8
        }
    );
}

#[test]
fn a_prompt_of_one_token_has_no_entropy() {
    let request = Request {
        prompt_id: PromptId(1),
        prompt_tokens: vec![5],
        num_completions: 2,
    };
    let (found, _, pool) = score(&config(), std::slice::from_ref(&request), &SETTINGS);
    assert_eq!((found[0].entropy, found[0].question_entropy), (0.0, None));
    let expected = roll_out(&config(), std::slice::from_ref(&request));
    let output = roll_out_from(&config(), &[request], &pool, 7).unwrap();
    assert_same(
        &output.completions[0],
        &expected.completions[0],
        "one token",
    );
}

#[test]
fn the_template_is_what_all_prompts_share() {
    let of = |prompts: &[&[u32]]| {
        let found = TemplateTokens::of(prompts.iter().copied());
        (found.prefix, found.suffix)
    };
    assert_eq!(
        of(&[&[1, 2, 3, 9, 8], &[1, 2, 4, 4, 8], &[1, 2, 5, 9, 8]]),
        (2, 1)
    );
    // The ends may not overlap.
    assert_eq!(of(&[&[1, 1, 1], &[1, 1, 1, 1]]), (3, 0));
    assert_eq!(of(&[&[1, 2]]), (0, 0));
    assert_eq!(of(&[]), (0, 0));
}
