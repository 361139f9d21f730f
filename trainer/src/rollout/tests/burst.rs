//! Decode steps that are read together against those that are read one by one.

use super::*;
use burn::module::Param;

fn on_device(steps_per_read: usize, config: RolloutConfig) -> RolloutConfig {
    RolloutConfig {
        sampling: SamplingPlace::Device,
        steps_per_read,
        ..config
    }
}

/// Prompts of different lengths, two of which fill the context of 256 before other limits.
fn mixed() -> Vec<Request> {
    let mut requests = requests(9, 5);
    requests[2].prompt_tokens = (0..250).map(|t| t * 5 % 48).collect();
    requests[6].prompt_tokens = (0..253).map(|t| t * 11 % 48).collect();
    requests
}

/// Two letters that some completions of the mixed prompts hold.
fn stop_strings() -> Vec<String> {
    let free = roll_out(&on_device(1, config()), &mixed());
    let text = letters(&free.completions[1][2].tokens);
    vec![text[2..4].into()]
}

#[test]
fn completions_do_not_depend_on_the_steps_per_read() {
    let requests = mixed();
    let mut reasons = Vec::new();
    for (max_slots, num_workers, max_new_tokens, top_p, temperature) in [
        (7, 1, 24, None, 1.0),
        (45, 1, 23, None, 0.8),
        (13, 3, 17, Some(0.9), 1.0),
        (1, 1, 10, None, 1.0),
        (16, 2, 3, None, 0.0),
    ] {
        let config = RolloutConfig {
            max_slots,
            num_workers,
            max_new_tokens,
            top_p,
            temperature,
            stop_strings: stop_strings(),
            ..config()
        };
        let expected = roll_out(&on_device(1, config.clone()), &requests);
        let completions = expected.completions.iter().flatten();
        reasons.extend(completions.map(|it| it.stop));
        for steps_per_read in [2, 4, 7, 1000] {
            let config = on_device(steps_per_read, config.clone());
            let found = roll_out(&config, &requests);
            for (found, expected) in found.completions.iter().zip(&expected.completions) {
                assert_same(found, expected, &format!("{steps_per_read}: {config:?}"));
            }
        }
    }
    for reason in [
        StopReason::StopToken,
        StopReason::StopString,
        StopReason::MaxNewTokens,
        StopReason::ContextFull,
    ] {
        assert!(reasons.contains(&reason), "{reason:?}");
    }
}

/// Steps that were run, reads, and rows that held a completion before its end.
fn counts(steps_per_read: usize, config: RolloutConfig) -> [u64; 3] {
    let output = roll_out(&on_device(steps_per_read, config), &mixed());
    let stats = output.stats;
    let kept = output.completions.iter().flatten();
    let kept: u64 = kept.map(|it| it.tokens.len() as u64).sum();
    assert_eq!(stats.decode_tokens, kept);
    let places = stats.decode_steps * stats.num_slots as u64;
    let rows = (stats.slot_use_frac * places as f64).round() as u64;
    // First tokens come from the prompt.
    assert_eq!(rows, kept - 45);
    [stats.decode_steps, stats.decode_reads, rows]
}

#[test]
fn reads_fall_and_tokens_drawn_in_vain_are_not_counted() {
    let config = RolloutConfig {
        max_slots: 9,
        ..config()
    };
    let [steps, reads, _] = counts(1, config.clone());
    assert_eq!(reads, steps);
    for steps_per_read in [2, 4, 7] {
        let [more_steps, reads, _] = counts(steps_per_read, config.clone());
        assert!(more_steps >= steps && more_steps < 2 * steps);
        assert!(reads >= more_steps.div_ceil(steps_per_read as u64));
        assert!(
            reads < 2 * steps / steps_per_read as u64,
            "{steps_per_read}: {reads} reads of {more_steps} steps, {steps} one by one"
        );
    }
}

/// No completion can use more than it may still take.
#[test]
fn a_burst_ends_with_what_the_limits_leave() {
    let run = |max_new_tokens| {
        let config = RolloutConfig {
            max_slots: 45,
            max_new_tokens,
            ..config()
        };
        let [steps, reads, _] = counts(1000, config);
        (steps, reads)
    };
    assert_eq!(run(3), (2, 1));
    assert_eq!(run(2), (1, 1));
    assert_eq!(run(1), (0, 0));
}

#[test]
fn it_has_no_effect_where_tokens_are_drawn_on_the_host() {
    let run = |sampling, steps_per_read| {
        let config = RolloutConfig {
            sampling,
            steps_per_read,
            max_slots: 9,
            ..config()
        };
        roll_out(&config, &mixed())
    };
    for sampling in [SamplingPlace::Auto, SamplingPlace::Host] {
        let (single, several) = (run(sampling, 1), run(sampling, 7));
        assert_eq!(single.completions, several.completions);
        assert_eq!(several.stats.decode_steps, single.stats.decode_steps);
        assert_eq!(several.stats.decode_reads, several.stats.decode_steps);
    }
}

/// Prompts of tokens below 8.
fn low_requests() -> Vec<Request> {
    let mut requests = requests(6, 4);
    for request in &mut requests {
        request
            .prompt_tokens
            .iter_mut()
            .for_each(|token| *token %= 8);
    }
    requests
}

fn untied() -> ModelConfig {
    ModelConfig {
        tie_word_embeddings: false,
        ..tiny_config()
    }
}

/// A decoder with NaN for what it knows of one token that it reads.
fn damaged(token: u32) -> Decoder {
    let mut decoder = decoder(&untied());
    let weight = decoder.embed_tokens.weight.val();
    let [_, width] = weight.dims();
    let row = Tensor::full([1, width], f32::NAN, &weight.device());
    let place = token as usize;
    let weight = weight.slice_assign([place..place + 1, 0..width], row);
    decoder.embed_tokens.weight = Param::from_tensor(weight);
    decoder
}

fn roll_out_low(
    decoder: &Decoder,
    config: &RolloutConfig,
    stop_id: u32,
    precision: Precision,
) -> Result<Vec<Completion>, RolloutError> {
    let params = config.sampling(vec![stop_id]);
    let engine = Engine::new(&untied(), config.clone(), precision);
    let requests = low_requests();
    let output = engine.roll_out(decoder, &letters, &requests, &params, 5, Stage::Rollout, 1);
    output.map(|output| output.completions.concat())
}

#[test]
fn logits_that_are_not_finite_within_a_burst_are_reported_with_their_position() {
    let run = |decoder: &Decoder, steps_per_read| {
        let config = on_device(steps_per_read, config());
        roll_out_low(decoder, &config, 0, Precision::F32)
    };
    let healthy = run(&decoder(&untied()), 1).unwrap();
    let mut positions = Vec::new();
    for token in 8..48 {
        // Where the token is read, first of all and by one completion only: rows of one step may
        // stand in another order.
        let places = healthy.iter().filter_map(|it| {
            let place = it.tokens.iter().position(|&other| other == token)?;
            (place + 1 < it.tokens.len()).then_some((place + 1, it.prompt_id, it.index))
        });
        let mut places: Vec<_> = places.collect();
        places.sort_unstable();
        let Some(&(position, prompt_id, index)) = places.first() else {
            continue;
        };
        if places.get(1).is_some_and(|next| next.0 == position) {
            continue;
        }
        let decoder = damaged(token);
        for steps_per_read in [1, 2, 4, 7] {
            assert_eq!(
                run(&decoder, steps_per_read),
                Err(RolloutError::NonFinite {
                    prompt_id,
                    index,
                    position
                }),
                "token {token}, {steps_per_read} steps per read"
            );
        }
        positions.push(position);
    }
    // Bursts of four draw the positions 1 to 4, 5 to 8 and so on.
    let is_within = |position: &&usize| matches!(**position % 4, 2 | 3);
    assert!(
        positions.iter().filter(is_within).count() > 2,
        "{positions:?}"
    );
}

/// A stop token is read in vain only. In half precision attention reads hidden columns too.
#[test]
fn what_was_not_finite_behind_an_end_does_not_reach_the_next_completion() {
    let run = |decoder: &Decoder, stop_id, steps_per_read| {
        let config = RolloutConfig {
            max_slots: 5,
            ..on_device(steps_per_read, config())
        };
        roll_out_low(decoder, &config, stop_id, Precision::Bf16)
    };
    let free = run(&decoder(&untied()), 0, 1).unwrap();
    let num_holders = |token: &u32| free.iter().filter(|it| it.tokens.contains(token)).count();
    let stop_id = (8..48).max_by_key(num_holders).unwrap();
    let expected = run(&decoder(&untied()), stop_id, 1).unwrap();
    let num_stopped = expected
        .iter()
        .filter(|it| it.stop == StopReason::StopToken);
    assert!(num_stopped.count() > 2);
    for steps_per_read in [1, 2, 4, 7] {
        let found = run(&damaged(stop_id), stop_id, steps_per_read);
        assert_eq!(found.as_ref(), Ok(&expected), "{steps_per_read}");
    }
}
