//! The device's sampler against the host's, on the CPU backend.

use super::*;
use rlvr_backends::kernels::RESOLUTION;

use crate::rollout::device_sampling::DeviceSampler;
use crate::rollout::sampling::{Draw, Sampler};
use crate::seed::{Stream, stream};
use serde::Deserialize;

/// Parameters of every kind, alone and together.
fn kinds() -> Vec<SamplingParams> {
    let config = |change: &dyn Fn(&mut RolloutConfig)| {
        let mut config = RolloutConfig::default();
        change(&mut config);
        config.sampling(Vec::new())
    };
    let mut kinds: Vec<_> = [0.0, 0.3, 0.7, 1.0, 1.7]
        .map(|temperature| config(&|it| it.temperature = temperature))
        .into();
    kinds.extend([1, 2, 5, 40, 999].map(|k| config(&|it| it.top_k = Some(k))));
    kinds.extend([0.01, 0.3, 0.9, 0.999, 1.0].map(|p| config(&|it| it.top_p = Some(p))));
    kinds.extend([0.0, 0.03, 0.5, 1.0].map(|p| config(&|it| it.min_p = Some(p))));
    kinds.push(config(&|it| {
        (it.temperature, it.top_k, it.top_p, it.min_p) = (0.8, Some(50), Some(0.95), Some(0.01));
    }));
    kinds.push(config(&|it| (it.top_k, it.top_p) = (Some(7), Some(0.6))));
    kinds
}

fn draws() -> Stream {
    stream(3, Stage::Rollout, 0, PromptId(0), 0)
}

fn on_device(
    params: &SamplingParams,
    logits: &[f32],
    vocab: usize,
    uniforms: &[f64],
) -> Vec<Option<Draw>> {
    let device = Device::default();
    let rows = TensorData::new(logits.to_vec(), [uniforms.len(), vocab]);
    let sampler = DeviceSampler::new(params);
    let drawn = sampler.draw(Tensor::from_data(rows, &device), uniforms);
    drawn.expect("the CPU does not fail")
}

fn on_host(
    params: &SamplingParams,
    logits: &[f32],
    vocab: usize,
    uniforms: &[f64],
) -> Vec<Option<Draw>> {
    let mut sampler = Sampler::new(params);
    let rows = logits.chunks(vocab).zip(uniforms);
    rows.map(|(row, uniform)| sampler.draw(row, &[], *uniform))
        .collect()
}

/// Rows whose tokens differ; log-probs of equal tokens and entropies must not.
fn num_different(found: &[Option<Draw>], expected: &[Option<Draw>], what: &str) -> usize {
    assert_eq!(found.len(), expected.len());
    let mut different = 0;
    for (found, expected) in found.iter().zip(expected) {
        let (found, expected) = (found.expect(what), expected.expect(what));
        let gap = (found.entropy - expected.entropy).abs();
        assert!(gap < 1e-5, "{what}: {found:?} and {expected:?}");
        if found.token != expected.token {
            different += 1;
            continue;
        }
        let gap = (found.logprob - expected.logprob).abs();
        assert!(gap < 1e-5, "{what}: {found:?} and {expected:?}");
    }
    different
}

/// Random logits in rows of several sharpnesses.
fn random(draws: &mut Stream, rows: usize, vocab: usize) -> Vec<f32> {
    let mut logits = Vec::with_capacity(rows * vocab);
    for row in 0..rows {
        let scale = [0.5, 2.0, 5.0][row % 3];
        logits.extend((0..vocab).map(|_| (scale * draws.normal()) as f32));
    }
    logits
}

#[test]
fn tokens_are_those_of_the_host() {
    let mut draws = draws();
    let (mut different, mut rows) = (0, 0);
    for (vocab, num_rows) in [(48, 400), (128, 400), (1000, 200), (4099, 60)] {
        for params in kinds() {
            let logits = random(&mut draws, num_rows, vocab);
            let uniforms: Vec<f64> = (0..num_rows).map(|_| draws.uniform()).collect();
            let found = on_device(&params, &logits, vocab, &uniforms);
            let expected = on_host(&params, &logits, vocab, &uniforms);
            different += num_different(&found, &expected, &format!("{vocab}: {params:?}"));
            rows += num_rows;
        }
    }
    println!("{different} of {rows} rows differ");
    assert!(
        rows > 20_000 && different * 1000 <= rows,
        "{different} of {rows}"
    );
}

/// Few different logits, as of a low precision: groups of tied tokens at every threshold.
#[test]
fn tied_tokens_are_kept_as_on_the_host() {
    let (vocab, num_rows) = (300, 200);
    let mut draws = draws();
    let (mut different, mut rows) = (0, 0);
    for params in kinds() {
        let logits = random(&mut draws, num_rows, vocab);
        let logits: Vec<f32> = logits.iter().map(|x| (x * 2.0).round() / 2.0).collect();
        let uniforms: Vec<f64> = (0..num_rows).map(|_| draws.uniform()).collect();
        let found = on_device(&params, &logits, vocab, &uniforms);
        let expected = on_host(&params, &logits, vocab, &uniforms);
        different += num_different(&found, &expected, &format!("{params:?}"));
        rows += num_rows;
    }
    assert!(different * 1000 <= rows, "{different} of {rows}");
}

#[test]
fn distributions_are_those_of_transformers() {
    #[derive(Deserialize)]
    struct Golden {
        logits: Vec<f32>,
        cases: Vec<Case>,
    }
    #[derive(Deserialize)]
    struct Case {
        name: String,
        params: RolloutConfig,
        probs: Vec<f64>,
    }
    let text = include_str!("../../../../fixtures/golden/decoder_sampling.json");
    let golden: Golden = serde_json::from_str(text).unwrap();
    let (vocab, num_draws) = (golden.logits.len(), 20_000u32);
    let grid = (0..num_draws).map(|draw| (f64::from(draw) + 0.5) / f64::from(num_draws));
    let uniforms: Vec<f64> = grid.collect();
    let logits = golden.logits.repeat(num_draws as usize);
    let free = |case: &&Case| case.params.repetition_penalty == 1.0;
    let mut num_cases = 0;
    for case in golden.cases.iter().filter(free) {
        num_cases += 1;
        let params = case.params.sampling(Vec::new());
        let mut counts = vec![0.0; vocab];
        for draw in on_device(&params, &logits, vocab, &uniforms) {
            counts[draw.unwrap().token as usize] += 1.0 / f64::from(num_draws);
        }
        for (token, (got, expected)) in counts.iter().zip(&case.probs).enumerate() {
            let name = &case.name;
            assert!(
                (got - expected).abs() < 1.1e-4,
                "{name}: {token}: {got}, not {expected}"
            );
            assert!(*got == 0.0 || *expected > 0.0, "{name}: {token}");
        }
    }
    assert_eq!(num_cases, 4);
}

#[test]
fn rows_with_a_logit_that_is_not_finite_have_no_token_and_leave_the_others() {
    let vocab = 200;
    for params in kinds() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for place in [0, 130, 199] {
                let mut logits = random(&mut draws(), 3, vocab);
                let uniforms = [0.2, 0.5, 0.99];
                let expected = on_host(&params, &logits, vocab, &uniforms);
                logits[vocab + place] = bad;
                let found = on_device(&params, &logits, vocab, &uniforms);
                assert_eq!(found[1], None, "{bad} at {place}: {params:?}");
                for row in [0, 2] {
                    let (found, expected) = (&found[row..=row], &expected[row..=row]);
                    assert_eq!(num_different(found, expected, "beside a bad row"), 0);
                }
            }
        }
    }
}

/// Logits and numbers at the ends of their ranges.
#[test]
fn extremes_are_drawn_as_on_the_host() {
    let vocab = 140;
    let far = |token: usize| match token % 3 {
        0 => 3e38,
        1 => -3e38,
        _ => 0.0,
    };
    let rows: [Vec<f32>; 4] = [
        vec![0.25; vocab],
        (0..vocab).map(far).collect(),
        (0..vocab).map(|token| -(token as f32)).collect(),
        (0..vocab).map(|token| token as f32 * 1e-3).collect(),
    ];
    let mut everything = kinds();
    for temperature in [1e-40, 1e-3, 1e6] {
        let config = RolloutConfig {
            temperature,
            ..RolloutConfig::default()
        };
        everything.push(config.sampling(Vec::new()));
    }
    for params in everything {
        for row in &rows {
            for uniform in [1e-9, 0.4321, 1.0 - f64::EPSILON / 2.0] {
                let found = on_device(&params, row, vocab, &[uniform])[0].unwrap();
                let expected = on_host(&params, row, vocab, &[uniform])[0].unwrap();
                assert!((found.entropy - expected.entropy).abs() < 1e-5);
                // The end of the line is where sums of f32 and of f64 may stop one apart.
                let is_same = found.token == expected.token;
                let is_end = uniform > 0.9 && found.token <= expected.token;
                assert!(is_same || is_end, "{params:?}: {found:?}, {expected:?}");
            }
        }
    }
}

#[test]
fn greedy_takes_the_first_of_the_largest() {
    let greedy = &kinds()[0];
    let mut logits = vec![1.0; 400];
    for token in [133, 257, 399] {
        logits[token] = 1.0 + f32::EPSILON;
    }
    assert_eq!(
        on_device(greedy, &logits, 400, &[0.9])[0].unwrap().token,
        133
    );
}

#[test]
fn rows_of_several_parts_stay_in_order() {
    let (vocab, num_rows) = (1 << 13, (1 << 11) + 3);
    let params = RolloutConfig::default().sampling(Vec::new());
    let mut logits = vec![0f32; vocab * num_rows];
    for row in 0..num_rows {
        logits[row * vocab + row] = 100.0;
    }
    let found = on_device(&params, &logits, vocab, &vec![0.5; num_rows]);
    for (row, draw) in found.iter().enumerate() {
        assert_eq!(draw.unwrap().token, row as u32);
    }
}

#[test]
fn thirty_two_halvings_give_the_resolution() {
    assert!(129.0 / 32f32.exp2() < RESOLUTION);
}

fn completions(config: &RolloutConfig, requests: &[Request]) -> Vec<Vec<Completion>> {
    roll_out(config, requests).completions
}

/// The whole engine, rows of empty slots included.
#[test]
fn completions_are_those_of_the_host() {
    let requests = requests(9, 5);
    for (temperature, top_p, max_slots, num_workers) in [
        (0.0, None, 7, 1),
        (1.0, None, 1, 1),
        (1.0, Some(0.9), 13, 1),
        (0.7, None, 45, 2),
    ] {
        let on_host = RolloutConfig {
            temperature,
            top_p,
            max_slots,
            num_workers,
            sampling: SamplingPlace::Host,
            ..config()
        };
        let on_device = RolloutConfig {
            sampling: SamplingPlace::Device,
            ..on_host.clone()
        };
        let expected = completions(&on_host, &requests).concat();
        let found = completions(&on_device, &requests).concat();
        assert_eq!(found.len(), expected.len());
        let mut is_rounded_otherwise = false;
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found.tokens, expected.tokens);
            assert_eq!(found.stop, expected.stop);
            let values = |it: &Completion| [&it.sampler_logprobs[..], &it.entropies].concat();
            for (found, expected) in values(found).iter().zip(values(expected)) {
                assert!((found - expected).abs() < 1e-5, "{found} and {expected}");
                is_rounded_otherwise |= *found != expected;
            }
        }
        assert!(is_rounded_otherwise, "this was not the device's sampler");
    }
}

#[test]
fn the_cpu_samples_on_the_host_unless_told_otherwise() {
    let requests = requests(3, 4);
    let place = |sampling| RolloutConfig {
        sampling,
        ..config()
    };
    let expected = completions(&place(SamplingPlace::Host), &requests);
    assert_eq!(
        completions(&place(SamplingPlace::Auto), &requests),
        expected
    );
    assert_ne!(
        completions(&place(SamplingPlace::Device), &requests),
        expected
    );
}

#[test]
fn a_repetition_penalty_is_drawn_on_the_host() {
    let requests = requests(3, 4);
    let place = |sampling| RolloutConfig {
        repetition_penalty: 1.3,
        sampling,
        ..config()
    };
    let expected = completions(&place(SamplingPlace::Host), &requests);
    assert_eq!(
        completions(&place(SamplingPlace::Device), &requests),
        expected
    );
}
