//! Tests of the whole engine.

mod burst;
mod device_sampling;
mod pool;

use burn::tensor::{Device, Int, Tensor, TensorData};
use rlvr_backends::Precision;

use super::*;
use crate::policy::config::ModelConfig;
use crate::policy::decoder::Decoder;
use crate::policy::decoder::tests::tiny_config;
use crate::record::StopReason;
use crate::seed::Stage;

fn letters(tokens: &[u32]) -> String {
    tokens.iter().map(|t| char::from(b'A' + *t as u8)).collect()
}

/// Prompts of 3 to 60 tokens; every seventh token is the stop token 0.
fn requests(num_prompts: usize, num_completions: u32) -> Vec<Request> {
    let tokens =
        |prompt: usize| (0..3 + prompt * 19 % 58).map(move |t| (t * (prompt + 3)) as u32 % 48);
    (0..num_prompts)
        .map(|prompt| Request {
            prompt_id: PromptId(prompt as u64 + 100),
            prompt_tokens: tokens(prompt)
                .map(|t| if t % 7 == 0 { 0 } else { t })
                .collect(),
            num_completions,
        })
        .collect()
}

fn config() -> RolloutConfig {
    RolloutConfig {
        max_new_tokens: 24,
        ..RolloutConfig::default()
    }
}

/// Weights large enough that distributions are far from uniform.
fn decoder(model: &ModelConfig) -> Decoder {
    use burn::module::{Module, ModuleMapper, Param};
    struct Louder;
    impl ModuleMapper for Louder {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|weight| weight * 6.0)
        }
    }
    Decoder::init(model, 2, &Device::default()).map(&mut Louder)
}

fn roll_out(config: &RolloutConfig, requests: &[Request]) -> RolloutOutput {
    let model = tiny_config();
    Engine::new(&model, config.clone(), Precision::F32)
        .roll_out(
            &decoder(&model),
            &letters,
            requests,
            &config.sampling(vec![0]),
            11,
            Stage::Rollout,
            3,
        )
        .unwrap()
}

fn error(config: &RolloutConfig, requests: &[Request]) -> RolloutError {
    let model = tiny_config();
    let params = config.sampling(vec![0]);
    Engine::new(&model, config.clone(), Precision::F32)
        .roll_out(
            &decoder(&model),
            &letters,
            requests,
            &params,
            0,
            Stage::Rollout,
            0,
        )
        .unwrap_err()
}

/// Tokens, log-probs and entropies, bit for bit.
fn assert_same(got: &[Completion], expected: &[Completion], what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (got, expected) in got.iter().zip(expected) {
        assert!(got == expected, "{what}:\n{got:?}\nis not\n{expected:?}");
    }
}

#[test]
fn a_completion_does_not_depend_on_slots_workers_or_prefill_batches() {
    let requests = requests(9, 5);
    let expected = roll_out(&config(), &requests);
    for (max_slots, num_workers, prefill_tokens) in [
        (1, 1, 2048),
        (2, 1, 32),
        (7, 1, 100),
        (16, 1, 1),
        (45, 2, 2048),
        (12, 3, 64),
    ] {
        let config = RolloutConfig {
            max_slots,
            num_workers,
            prefill_tokens,
            ..config()
        };
        let output = roll_out(&config, &requests);
        for (got, expected) in output.completions.iter().zip(&expected.completions) {
            assert_same(got, expected, &format!("{max_slots} slots"));
        }
    }
}

#[test]
fn a_completion_does_not_depend_on_what_it_is_batched_with() {
    let requests = requests(9, 3);
    let together = roll_out(&config(), &requests);
    let mut reversed = requests.clone();
    reversed.reverse();
    let mut backwards = roll_out(&config(), &reversed).completions;
    backwards.reverse();
    for (got, expected) in backwards.iter().zip(&together.completions) {
        assert_same(got, expected, "backwards");
    }
    for (request, group) in requests.iter().zip(&together.completions) {
        let alone = roll_out(&config(), std::slice::from_ref(request));
        assert_same(&alone.completions[0], group, "alone");
    }
    let mut fewer = requests[4].clone();
    fewer.num_completions = 1;
    assert_eq!(
        roll_out(&config(), &[fewer]).completions[0][0],
        together.completions[4][0]
    );
}

#[test]
fn independence_holds_for_every_family_and_past_the_block_of_a_sum() {
    let llama = ModelConfig {
        max_position_embeddings: 1200,
        ..tiny_config()
    };
    let models = [
        ModelConfig {
            num_kv_heads: 4,
            ..llama.clone()
        },
        ModelConfig {
            attention_bias: true,
            num_kv_heads: 1,
            tie_word_embeddings: false,
            ..llama.clone()
        },
        ModelConfig {
            qk_norm: true,
            ..llama
        },
    ];
    // Alone, a prompt is packed with a filler or with nothing; together they share their products.
    let mut requests = requests(3, 3);
    requests[1].prompt_tokens = (0..700).map(|t| t * 11 % 48).collect();
    requests[2].prompt_tokens = (0..520).map(|t| t * 5 % 48).collect();
    for model in models {
        let decoder = decoder(&model);
        for copy_weights in [true, false] {
            let config = RolloutConfig {
                copy_weights,
                prefill_tokens: 4096,
                ..config()
            };
            let params = config.sampling(vec![0]);
            let engine = Engine::new(&model, config, Precision::F32);
            let run = |requests: &[Request]| {
                let output =
                    engine.roll_out(&decoder, &letters, requests, &params, 1, Stage::Eval, 0);
                output.unwrap().completions
            };
            let together = run(&requests);
            for (request, group) in requests.iter().zip(&together) {
                assert_same(&run(std::slice::from_ref(request))[0], group, "alone");
            }
        }
    }
}

#[test]
fn completions_are_in_order_and_differ_within_a_group() {
    let requests = requests(4, 6);
    let output = roll_out(&config(), &requests);
    for (request, group) in requests.iter().zip(&output.completions) {
        assert_eq!(group.len(), 6);
        for (index, completion) in group.iter().enumerate() {
            assert_eq!(completion.prompt_id, request.prompt_id);
            assert_eq!(completion.index, index as u32);
            assert_eq!(completion.tokens.len(), completion.sampler_logprobs.len());
            assert_eq!(completion.tokens.len(), completion.entropies.len());
        }
        assert_ne!(group[0].tokens, group[1].tokens);
    }
    let sampled: usize = output
        .completions
        .iter()
        .flatten()
        .map(|c| c.tokens.len())
        .sum();
    assert_eq!(output.stats.decode_tokens, sampled as u64);
    let prompts: usize = requests.iter().map(|r| r.prompt_tokens.len()).sum();
    assert_eq!(output.stats.prefill_tokens, prompts as u64);
}

#[test]
fn sampler_logprobs_are_those_of_the_full_forward() {
    let model = tiny_config();
    let decoder = decoder(&model);
    let device = Device::default();
    let requests = requests(5, 2);
    let config = RolloutConfig {
        temperature: 0.8,
        top_k: Some(20),
        ..config()
    };
    let output = roll_out(&config, &requests);
    for (request, completion) in requests
        .iter()
        .zip(&output.completions)
        .flat_map(|(r, g)| g.iter().map(move |c| (r, c)))
    {
        let start = request.prompt_tokens.len();
        let all: Vec<i64> = request
            .prompt_tokens
            .iter()
            .chain(&completion.tokens)
            .map(|t| i64::from(*t))
            .collect();
        let length = all.len();
        let tokens = Tensor::<2, Int>::from_data(TensorData::new(all, [1, length]), &device);
        let hidden = decoder.hidden(tokens).reshape([length, 32]);
        let logits = hidden.matmul(decoder.head_weight().transpose());
        let logits = logits.into_data().try_to_vec::<f32>().unwrap();
        for (place, token) in completion.tokens.iter().enumerate() {
            let row = &logits[(start + place - 1) * 48..][..48];
            let scaled: Vec<f64> = row
                .iter()
                .map(|x| f64::from(*x) / f64::from(0.8f32))
                .collect();
            let log_total = scaled.iter().map(|x| x.exp()).sum::<f64>().ln();
            let expected = scaled[*token as usize] - log_total;
            let got = f64::from(completion.sampler_logprobs[place]);
            assert!((got - expected).abs() < 1e-4, "{got} is not {expected}");
            let entropy: f64 = scaled
                .iter()
                .map(|x| (x - log_total).exp() * (log_total - x))
                .sum();
            assert!((f64::from(completion.entropies[place]) - entropy).abs() < 1e-4);
        }
    }
}

#[test]
fn stop_tokens_end_completions_but_not_prompts() {
    let requests = requests(8, 8);
    assert!(requests.iter().any(|r| r.prompt_tokens.contains(&0)));
    let output = roll_out(&config(), &requests);
    let mut num_stopped = 0;
    for completion in output.completions.iter().flatten() {
        let place = completion.tokens.iter().position(|t| *t == 0);
        match completion.stop {
            StopReason::StopToken => {
                num_stopped += 1;
                assert_eq!(place, Some(completion.tokens.len() - 1));
            }
            StopReason::MaxNewTokens => {
                assert_eq!(place, None);
                assert_eq!(completion.tokens.len(), 24);
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(num_stopped > 0 && num_stopped < 64, "{num_stopped}");
}

#[test]
fn stop_strings_end_completions() {
    let requests = requests(4, 8);
    let free = roll_out(&config(), &requests);
    let text = letters(&free.completions[1][2].tokens);
    let config = RolloutConfig {
        stop_strings: vec![text[2..4].into()],
        ..config()
    };
    let output = roll_out(&config, &requests);
    let stopped = &output.completions[1][2];
    assert_eq!(stopped.stop, StopReason::StopString);
    let first = text.find(&text[2..4]).unwrap();
    assert_eq!(letters(&stopped.tokens), text[..first + 2]);
}

#[test]
fn the_context_limits_completions() {
    let mut requests = requests(2, 2);
    requests[1].prompt_tokens = vec![5; 250];
    let mut config = config();
    config.top_k = Some(1);
    let output = roll_out(&config, &requests);
    for completion in &output.completions[1] {
        assert_eq!(completion.stop, StopReason::ContextFull);
        assert_eq!(completion.tokens.len(), 6);
    }
}

#[test]
fn greedy_is_the_limit_of_top_one() {
    let requests = requests(3, 2);
    let greedy = RolloutConfig {
        temperature: 0.0,
        ..config()
    };
    let top_one = RolloutConfig {
        top_k: Some(1),
        ..config()
    };
    let greedy = roll_out(&greedy, &requests).completions;
    assert_eq!(greedy, roll_out(&top_one, &requests).completions);
    assert_eq!(greedy[0][0].tokens, greedy[0][1].tokens);
}

#[test]
fn bad_input_is_named() {
    let mut long = requests(2, 1);
    long[1].prompt_tokens = vec![1; 256];
    let text = error(&config(), &long).to_string();
    assert!(
        text.contains("0000000000000065") && text.contains("256"),
        "{text}"
    );
    let mut empty = requests(1, 1);
    empty[0].prompt_tokens.clear();
    assert!(matches!(
        error(&config(), &empty),
        RolloutError::EmptyPrompt { .. }
    ));
    let mut unknown = requests(1, 1);
    unknown[0].prompt_tokens.push(48);
    assert!(matches!(
        error(&config(), &unknown),
        RolloutError::UnknownToken {
            token: 48,
            vocab_size: 48,
            ..
        }
    ));
    let poor = RolloutConfig {
        kv_budget_bytes: 8_000,
        ..config()
    };
    assert!(matches!(
        error(&poor, &requests(1, 1)),
        RolloutError::BudgetTooSmall { .. }
    ));
    let cold = RolloutConfig {
        temperature: -1.0,
        ..config()
    };
    let text = error(&cold, &requests(1, 1)).to_string();
    assert!(text.contains("rollout.temperature"), "{text}");
}

#[test]
fn damaged_weights_are_an_error_not_a_token() {
    let model = tiny_config();
    let mut decoder = decoder(&model);
    let gamma = decoder.norm.gamma.val() * f32::NAN;
    decoder.norm.gamma = burn::module::Param::from_tensor(gamma);
    let params = config().sampling(vec![0]);
    for num_workers in [1, 2] {
        let config = RolloutConfig {
            num_workers,
            ..config()
        };
        let result = Engine::new(&model, config, Precision::F32).roll_out(
            &decoder,
            &letters,
            &requests(4, 2),
            &params,
            0,
            Stage::Rollout,
            0,
        );
        assert!(matches!(
            result,
            Err(RolloutError::NonFinite { position: 0, .. })
        ));
    }
}

#[test]
fn no_requests_and_no_completions_are_fine() {
    assert!(roll_out(&config(), &[]).completions.is_empty());
    assert_eq!(
        roll_out(&config(), &requests(2, 0)).completions,
        [vec![], vec![]]
    );
}

#[test]
fn default_values_are_possible() {
    assert_eq!(RolloutConfig::default().validate(), Ok(()));
    for broken in [
        RolloutConfig {
            max_slots: 0,
            ..config()
        },
        RolloutConfig {
            num_workers: 0,
            ..config()
        },
        RolloutConfig {
            prefill_tokens: 0,
            ..config()
        },
        RolloutConfig {
            steps_per_read: 0,
            ..config()
        },
        RolloutConfig {
            kv_budget_bytes: 0,
            ..config()
        },
        RolloutConfig {
            temperature: f64::NAN,
            ..config()
        },
        RolloutConfig {
            top_k: Some(0),
            ..config()
        },
        RolloutConfig {
            top_p: Some(0.0),
            ..config()
        },
        RolloutConfig {
            min_p: Some(1.5),
            ..config()
        },
        RolloutConfig {
            repetition_penalty: 0.0,
            ..config()
        },
        RolloutConfig {
            max_new_tokens: 0,
            ..config()
        },
        RolloutConfig {
            stop_strings: vec![String::new()],
            ..config()
        },
    ] {
        assert!(broken.validate().is_err(), "{broken:?}");
    }
}
