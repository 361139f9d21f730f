//! The kernels of decoding, and those that all passes share, against the CPU: one body for every compiled
//! backend that has a device here. The others are reported and skipped.
#![cfg(feature = "cpu")]

mod devices;

use burn::tensor::{Device, Tensor, TensorData};
use devices::{assert_close, noise, on_every_device, values};
use rlvr_backends::kernels::{
    DecodeRows, DecodeState, Drawing, Filters, FirstRows, Heads, KvPanels, NO_TOKEN, Projected,
    Projection, Rotation, RowSpan, add_rms_norm, decode_attention, draw, project_and_draw,
    rms_norm, rotate, rotate_back,
};
use rlvr_backends::{BackendKind, Precision, PrecisionChoice};

#[test]
fn the_norm_is_that_of_the_cpu() {
    on_every_device(|kind, device| {
        for [rows, width] in [[1, 576], [300, 64], [70_000, 8], [3, 1000]] {
            let on = |device: &Device| {
                let x = noise([rows, width], 1, device) * 3.0;
                values(rms_norm(x, noise([width], 2, device), 1e-5))
            };
            let (found, expected) = (on(device), on(&Device::flex()));
            assert_close(kind, &format!("{rows} x {width}"), &found, &expected, 1e-6);
            let on = |device: &Device| {
                let [x, delta] = [1, 3].map(|salt| noise([rows, width], salt, device));
                let gamma = noise([width], 2, device);
                add_rms_norm(x, delta, gamma, 1e-5, Precision::F32).map(values)
            };
            for (found, expected) in on(device).iter().zip(&on(&Device::flex())) {
                assert_close(
                    kind,
                    &format!("sum, {rows} x {width}"),
                    found,
                    expected,
                    1e-6,
                );
            }
        }
    });
}

#[test]
fn draws_are_those_of_the_cpu() {
    on_every_device(|kind, device| {
        // One block with a part in vain, several of them, and a row of one strip.
        for (rows, vocab) in [(40, 1000), (7, 20_001), (5, 49_152), (3, 17)] {
            for drawing in [0.0, 0.7, 1.0, 1.6].map(|it| Drawing::at(it, Filters::default())) {
                let logits = |device: &Device| noise([rows, vocab], 1, device) * 9.0;
                assert_draws(kind, device, logits, &drawing);
            }
        }
    });
}

/// The same tokens, and log-probs and entropies as close as rounding allows.
fn assert_draws(
    kind: BackendKind,
    device: &Device,
    logits: impl Fn(&Device) -> Tensor<2>,
    drawing: &Drawing,
) {
    let on = |device: &Device| {
        let logits = logits(device);
        let uniforms = (noise([logits.dims()[0], 1], 2, device) + 1.0) * 0.499_999;
        values(draw(logits, uniforms, drawing))
    };
    let [rows, vocab] = logits(device).dims();
    let what = format!("{rows} x {vocab}, {drawing:?}");
    let (found, expected) = (on(device), on(&Device::flex()));
    assert_same_draws(kind, &what, &found, &expected);
}

fn assert_same_draws(kind: BackendKind, what: &str, found: &[f32], expected: &[f32]) {
    for (found, expected) in found.chunks(3).zip(expected.chunks(3)) {
        assert_eq!(found[0], expected[0], "{kind}: {what}: token");
        assert_close(kind, what, &found[1..], &expected[1..], 1e-5);
    }
}

#[test]
fn filtered_draws_are_those_of_the_cpu() {
    on_every_device(|kind, device| {
        for (rows, vocab) in [(30, 1000), (6, 20_001), (20, 17)] {
            for (top_k, top_p, min_p) in [
                (Some(20), None, None),
                (Some(1), None, None),
                (None, Some(0.9), None),
                (None, Some(1e-6), None),
                (None, None, Some(0.05)),
                (Some(12), Some(0.8), None),
                (Some(300), Some(0.95), Some(0.01)),
            ] {
                let filters = Filters {
                    top_k,
                    top_p,
                    min_p,
                };
                for temperature in [0.0, 0.8, 1.3] {
                    let drawing = Drawing::at(temperature, filters);
                    let logits = |device: &Device| noise([rows, vocab], 1, device) * 9.0;
                    assert_draws(kind, device, logits, &drawing);
                    // Many tied tokens at every threshold.
                    let tied = |device: &Device| signs([rows, vocab], 1, device) * 1.5;
                    assert_draws(kind, device, tied, &drawing);
                }
            }
        }
    });
}

/// These tokens, the first drawn from three with the same weight.
fn assert_thirds(kind: BackendKind, found: &[f32], tokens: &[f32]) {
    let drawn: Vec<f32> = found.chunks(3).map(|row| row[0]).collect();
    assert_eq!(drawn, tokens, "{kind}");
    let expected = [-3f32.ln(), 3f32.ln()];
    assert_close(kind, "log-prob", &found[1..3], &expected, 1e-6);
}

#[test]
fn the_ends_of_the_distribution_are_drawn_from_tokens_with_weight() {
    on_every_device(|kind, device| {
        let vocab = 9000;
        // Weight on three tokens, in two blocks; all others have none.
        let mut logits = vec![-1e6f32; 4 * vocab];
        for row in logits.chunks_mut(vocab) {
            [row[5], row[8191], row[8300]] = [1.0, 1.0, 1.0];
        }
        logits[3 * vocab + 77] = f32::NAN;
        let logits = Tensor::<2>::from_data(TensorData::new(logits, [4, vocab]), device);
        let uniforms = Tensor::<2>::from_floats([[0.0], [0.5], [0.999_999_94], [0.2]], device);
        let drawing = Drawing::at(1.0, Filters::default());
        let found = values(draw(logits, uniforms, &drawing));
        assert_thirds(kind, &found, &[5.0, 8191.0, 8300.0, NO_TOKEN]);
    });
}

/// -1, 0 and 1 in no order: sums of their products have the same bits in every order and precision.
fn signs(shape: [usize; 2], salt: u64, device: &Device) -> Tensor<2> {
    let sign = |index: u64| {
        let mixed = (index + 1 + salt * 0x1_0001).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((mixed ^ (mixed >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40) % 3
    };
    let count = shape[0] * shape[1];
    let signs: Vec<f32> = (0..count as u64).map(|it| sign(it) as f32 - 1.0).collect();
    Tensor::from_data(TensorData::new(signs, shape), device)
}

#[test]
fn draws_with_a_vocabulary_are_those_of_the_cpu() {
    on_every_device(|kind, device| {
        let precision = PrecisionChoice::Auto.resolve(kind, device);
        let precision = precision.expect("every device has one");
        // Planes of rows in vain, one below the other and several cubes of them; parts of a strip, of a
        // run of strips and of the terms; a width without a kernel.
        for (rows, width, vocab) in [
            (5, 80, 1000),
            (33, 64, 17),
            (65, 576, 2050),
            (150, 96, 700),
            (7, 24, 300),
        ] {
            for temperature in [0.0, 0.7, 1.0, 1.6] {
                let drawing = Drawing::at(temperature, Filters::default());
                let on = |device: &Device, precision| {
                    let head = Projection {
                        weight: signs([vocab, width], 2, device) * 0.25,
                        bias: None,
                    };
                    let uniforms = (noise([rows, 1], 3, device) + 1.0) * 0.499_999;
                    let hidden = signs([rows, width], 1, device);
                    values(project_and_draw(
                        hidden, &head, uniforms, &drawing, precision,
                    ))
                };
                let what = format!("{rows} x {width} x {vocab}, {drawing:?}");
                let found = on(device, precision);
                let expected = on(&Device::flex(), Precision::F32);
                assert_same_draws(kind, &what, &found, &expected);
            }
        }
    });
}

/// Where no logit is in memory; a product that is tuned for its rows may add up in another order.
#[test]
fn a_draw_with_a_vocabulary_has_the_same_bits_alone() {
    on_every_device(|kind, device| {
        if PrecisionChoice::Auto.resolve(kind, device) != Ok(Precision::Bf16) {
            return;
        }
        let (rows, width, vocab) = (150, 96, 700);
        let head = Projection {
            weight: noise([vocab, width], 1, device),
            bias: None,
        };
        let drawing = Drawing::at(0.7, Filters::default());
        let hidden = noise([rows, width], 2, device);
        let uniforms = (noise([rows, 1], 3, device) + 1.0) * 0.499_999;
        let of = |first: usize, count: usize| {
            let own = |x: &Tensor<2>| x.clone().narrow(0, first, count);
            let (hidden, uniforms) = (own(&hidden), own(&uniforms));
            values(project_and_draw(
                hidden,
                &head,
                uniforms,
                &drawing,
                Precision::Bf16,
            ))
        };
        let all = of(0, rows);
        // One, two and four planes one below the other.
        for (first, count) in [(41, 1), (20, 50), (10, 140)] {
            let found = of(first, count);
            assert_eq!(found, all[3 * first..][..3 * count], "{kind}: {count} rows");
        }
    });
}

#[test]
fn draws_with_a_vocabulary_end_at_tokens_with_weight() {
    on_every_device(|kind, device| {
        let precision = PrecisionChoice::Auto.resolve(kind, device);
        let precision = precision.expect("every device has one");
        let (vocab, width) = (9000, 16);
        // Weight on three tokens, in several strips and runs of them; all others have none.
        let mut weight = vec![0f32; vocab * width];
        for (token, row) in weight.chunks_mut(width).enumerate() {
            row[0] = if [5, 63, 8990].contains(&token) {
                1.0
            } else {
                -1e6
            };
        }
        let mut hidden = vec![0f32; 5 * width];
        for row in hidden.chunks_mut(width) {
            row[0] = 1.0;
        }
        // One logit that is not finite, or all of them.
        weight[77 * width + 1] = 3e38;
        hidden[3 * width + 1] = -3e38;
        hidden[4 * width + 2] = f32::NAN;
        let tensor = |values: &[f32]| {
            let shape = [values.len() / width, width];
            Tensor::<2>::from_data(TensorData::new(values.to_vec(), shape), device)
        };
        let uniforms = [[0.0], [0.5], [0.999_999_94], [0.2], [0.2]];
        let uniforms = Tensor::<2>::from_floats(uniforms, device);
        let head = Projection {
            weight: tensor(&weight),
            bias: None,
        };
        let drawing = Drawing::at(1.0, Filters::default());
        let found = project_and_draw(tensor(&hidden), &head, uniforms, &drawing, precision);
        let found = values(found);
        assert_thirds(kind, &found, &[5.0, 63.0, 8990.0, NO_TOKEN, NO_TOKEN]);
    });
}

/// Rows of a decode step: two that share a prompt of several tiles, one in its first column, one
/// without a prompt.
fn spans() -> Vec<RowSpan> {
    let span = |prompt_slot, prompt_columns, own_columns| RowSpan {
        prompt_slot,
        prompt_columns,
        own_columns,
    };
    vec![
        span(1, 290, 150),
        span(0, 5, 1),
        span(2, 0, 6),
        span(1, 290, 33),
    ]
}

/// Of some rows, as no angle has them.
fn angles(rows: usize, width: usize, device: &Device) -> Rotation {
    let half = |salt| noise([rows, width / 2], salt, device);
    let (cos, sin) = (half(4), half(5));
    Rotation {
        cos: Tensor::cat(vec![cos.clone(), cos], 1),
        sin: Tensor::cat(vec![-sin.clone(), sin], 1),
    }
}

/// What two steps attend, and the panels behind them: one from spans of the host, one of a state that
/// has made a step, where the last row runs in vain.
fn two_steps(device: &Device, heads: Heads, precision: Precision) -> [Vec<f32>; 3] {
    let Heads {
        num_kv_heads,
        group,
        width,
    } = heads;
    let panels = |slots: usize, columns: usize, salt: usize| KvPanels {
        keys: precision.operand(noise([slots, num_kv_heads, width, columns], salt, device)),
        values: precision.operand(noise(
            [slots, num_kv_heads, columns, width],
            salt + 1,
            device,
        )),
    };
    let (prompts, mut own) = (panels(3, 310, 10), panels(5, 170, 20));
    let angles = angles(500, width, device);
    let state = DecodeState::new(4, 2, heads, device).begin(FirstRows {
        tokens: vec![0; 4],
        spans: spans(),
        uniforms: vec![vec![0.5; 2]; 3],
    });
    let state = state.advance(Tensor::zeros([4, 3], device));
    let attended = [0usize, 1].map(|step| {
        let (count, keys) = (4, num_kv_heads * width);
        let panels = [&prompts, &own];
        let rows = match step {
            0 => DecodeRows::new(spans(), &angles, panels, heads, precision),
            _ => DecodeRows::of_state(&state, &angles, panels, heads, precision),
        };
        let noise = |columns, salt| noise([count, columns], salt + 50 * step, device);
        let projected = Projected::Apart {
            queries: noise(keys * group, 1),
            keys: noise(keys, 2),
            values: noise(keys, 3),
        };
        decode_attention(projected, &prompts, &mut own, &rows)
    });
    let attended = Tensor::cat(attended.to_vec(), 0);
    [values(attended), values(own.keys), values(own.values)]
}

#[test]
fn a_state_goes_on_as_on_the_cpu() {
    on_every_device(|kind, device| {
        let heads = Heads {
            num_kv_heads: 2,
            group: 2,
            width: 32,
        };
        // More rows than a cube has units; the last are in vain.
        let (rows, own_rows, steps) = (150, 140, 3);
        let first = |salt: usize| FirstRows {
            tokens: (0..rows).map(|row| (row * 7 + salt) as u32).collect(),
            spans: vec![spans()[0]; rows],
            uniforms: (0..own_rows)
                .map(|row| {
                    (0..steps)
                        .map(|step| (row + 10 * step + salt) as f32)
                        .collect()
                })
                .collect(),
        };
        let on = |device: &Device| {
            let mut state = DecodeState::new(rows, steps, heads, device);
            let mut seen = Vec::new();
            // Twice, so that nothing is left of what was before.
            for salt in [1, 2] {
                state = state.begin(first(salt));
                for step in 0..steps {
                    let tokens = state.tokens().float();
                    let both = [values(tokens), values(state.uniforms())];
                    seen.extend(both.map(|it| it[..own_rows].to_vec()));
                    let drawn = noise([rows, 3], step + 5 * salt, device) * 40.0;
                    // Also a row without a token.
                    state = state.advance(drawn.round());
                }
                let width = 3 * steps;
                seen.push(values(state.drawn())[..own_rows * width].to_vec());
            }
            seen
        };
        assert_eq!(on(device), on(&Device::flex()), "{kind}");
    });
}

#[test]
fn decode_attention_is_that_of_the_cpu() {
    on_every_device(|kind, device| {
        // Shapes of the tiny model, of SmolLM2 and Qwen2.5, and one that divides nothing.
        for [num_kv_heads, group, width] in [[2, 2, 32], [3, 3, 64], [2, 7, 64], [1, 5, 24]] {
            let heads = Heads {
                num_kv_heads,
                group,
                width,
            };
            let found = two_steps(device, heads, Precision::F32);
            let expected = two_steps(&Device::flex(), heads, Precision::F32);
            let names = ["attended", "keys", "values"];
            for ((found, expected), name) in found.iter().zip(&expected).zip(names) {
                assert_close(kind, &format!("{heads:?}: {name}"), found, expected, 1e-5);
            }
        }
    });
}

#[test]
fn decode_attention_in_half_precision_is_within_its_rounding() {
    on_every_device(|kind, device| {
        if !device.supports_dtype(burn::tensor::FloatDType::BF16) {
            eprintln!("skipped: {kind} does not compute in bf16");
            return;
        }
        let heads = Heads {
            num_kv_heads: 3,
            group: 3,
            width: 64,
        };
        let found = two_steps(device, heads, Precision::Bf16);
        let expected = two_steps(&Device::flex(), heads, Precision::Bf16);
        assert_close(kind, "attended", &found[0], &expected[0], 1e-2);
        // The panels hold the same rounded numbers, but for ties of the rotation.
        assert_close(kind, "keys", &found[1], &expected[1], 1e-2);
        assert_close(kind, "values", &found[2], &expected[2], 0.0);
    });
}

#[test]
fn the_turn_is_that_of_the_cpu() {
    on_every_device(|kind, device| {
        for [rows, heads, width] in [[1, 1, 2], [33, 9, 64], [70_000, 1, 4], [5, 3, 24]] {
            let on = |device: &Device| {
                let rotation = angles(rows, width, device);
                let x = noise([rows, heads * width], 1, device) * 3.0;
                let back = rotate_back(x.clone(), &rotation, Precision::F32);
                [rotate(x, &rotation), back].map(values)
            };
            for (found, expected) in on(device).iter().zip(&on(&Device::flex())) {
                let what = format!("{rows} x {heads} x {width}");
                assert_close(kind, &what, found, expected, 1e-6);
            }
        }
    });
}

#[test]
fn products_in_f32_are_not_rounded_to_fewer_bits() {
    on_every_device(|kind, device| {
        let precision = PrecisionChoice::F32.resolve(kind, device);
        let precision = precision.expect("every device computes in f32");
        // Large enough for every kind of kernel.
        for [n, k, m] in [[300, 200, 130], [64, 96, 64], [1, 64, 200], [17, 1000, 1]] {
            let operands = |device: &Device| (noise([n, k], 1, device), noise([k, m], 2, device));
            let (a, b) = operands(device);
            let found = values(precision.matmul(a, b));
            let (a, b) = operands(&Device::flex());
            let expected = values(a.clone().matmul(b.clone()));
            let sizes = values(a.abs().matmul(b.abs()));
            for (index, ((found, expected), size)) in
                found.iter().zip(&expected).zip(&sizes).enumerate()
            {
                // Of terms rounded to TF32, whose unit is 2^-10, the largest error is above 1e-4.
                assert!(
                    (found - expected).abs() <= 1e-6 * size,
                    "{kind}: {n} x {k} x {m} [{index}] is {found}, expected {expected}"
                );
            }
        }
    });
}

#[test]
fn what_is_split_adds_up() {
    let device = Device::flex();
    let (a, b) = (noise([40, 70], 1, &device), noise([70, 30], 2, &device));
    let expected = values(Precision::F32.matmul(a.clone(), b.clone()));
    let found = values(Precision::F32Split.matmul(a, b));
    assert_close(BackendKind::Cpu, "split", &found, &expected, 1e-6);
}
