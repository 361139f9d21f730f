//! The kernels of an update against the CPU: one body for every compiled backend that has a device here.
//! The others are reported and skipped.
#![cfg(feature = "cpu")]

mod devices;

use burn::tensor::{Device, Tensor};
use devices::{assert_close, noise, on_every_device, values};
use rlvr_backends::Precision;
use rlvr_backends::kernels::{
    Heads, PrefixSpans, PromptSpan, prefix_attention, prefix_attention_backward, rms_norm_backward,
    sum_of_squares, swiglu, swiglu_backward, swiglu_operand,
};

/// A prompt of many columns with completions of different lengths, one of them empty; a lone prompt,
/// and one that is a single row.
fn packed() -> Vec<PromptSpan> {
    [(150, vec![13, 0, 66]), (40, vec![]), (1, vec![5])]
        .map(|(num_prompt_rows, completion_rows)| PromptSpan {
            num_prompt_rows,
            completion_rows,
        })
        .to_vec()
}

/// What is attended, and the gradients of queries, keys and values, of inputs that bf16 holds.
fn attended(device: &Device, heads: Heads, precision: Precision) -> [Vec<f32>; 4] {
    let packed = packed();
    let rows = packed.iter().map(PromptSpan::num_rows).sum();
    let columns = heads.num_kv_heads * heads.width;
    let spans = PrefixSpans::new(&packed, heads, device);
    let inputs = || {
        let noise = |columns, salt| {
            // Not every device rounds.
            let on_host = noise([rows, columns], salt, &Device::flex()) * 2.0;
            let rounded = Precision::Bf16.result(Precision::Bf16.operand(on_host));
            precision.operand(Tensor::from_data(rounded.into_data(), device))
        };
        [
            noise(columns * heads.group, 1),
            noise(columns, 2),
            noise(columns, 3),
        ]
    };
    let [queries, keys, own] = inputs();
    let found = prefix_attention(queries, keys, own, &spans, heads, precision);
    let grad = noise([rows, columns * heads.group], 4, device);
    let [queries, keys, own] = inputs();
    let back = prefix_attention_backward(queries, keys, own, grad, &spans, heads, precision);
    [found, back.queries, back.keys, back.values].map(values)
}

#[test]
fn prefix_attention_and_its_gradients_are_those_of_the_cpu() {
    on_every_device(|kind, device| {
        // A shape that divides nothing, and three that tensor cores take. In one precision: products
        // are tuned for each.
        for (num_kv_heads, group, width) in [(2, 5, 24), (2, 3, 16), (1, 2, 64), (1, 1, 128)] {
            let heads = Heads {
                num_kv_heads,
                group,
                width,
            };
            let has_bf16 = device.supports_dtype(burn::tensor::FloatDType::BF16);
            let (precision, tolerance) = match has_bf16 {
                true => (Precision::Bf16, 1e-2),
                false => (Precision::F32, 1e-5),
            };
            let found = attended(device, heads, precision);
            let expected = attended(&Device::flex(), heads, Precision::F32);
            let names = ["attended", "queries", "keys", "values"];
            for ((found, expected), name) in found.iter().zip(&expected).zip(names) {
                let what = format!("heads of {width} in {precision}: {name}");
                assert_close(kind, &what, found, expected, tolerance);
            }
        }
    });
}

/// The precisions of operands that the device has, and what their rounding may make of a value.
fn precisions(device: &Device) -> Vec<(Precision, f32)> {
    let has_bf16 = device.supports_dtype(burn::tensor::FloatDType::BF16);
    let mut found = vec![(Precision::F32, 1e-6)];
    found.extend(has_bf16.then_some((Precision::Bf16, 4e-3)));
    found
}

#[test]
fn the_gate_and_its_gradients_are_those_of_the_cpu() {
    on_every_device(|kind, device| {
        // With whole vectors and without.
        for [rows, width] in [[1, 1], [70, 30], [33, 1536]] {
            let on = |device: &Device, precision: Precision| {
                let gate_up = noise([rows, 2 * width], 1, device) * 9.0;
                let half = |first| gate_up.clone().narrow(1, first, width);
                // What products left.
                let part = |first| precision.operand(half(first));
                let grad = precision.operand(noise([rows, width], 2, device));
                let back = swiglu_backward(part(0), part(width), grad, precision);
                let merged = swiglu_operand(precision.operand(gate_up.clone()), precision);
                let apart = swiglu(part(0), part(width), precision);
                [merged, apart, back.value, back.gate, back.up].map(values)
            };
            for (precision, tolerance) in precisions(device) {
                let (found, expected) = (on(device, precision), on(&Device::flex(), precision));
                for (part, (found, expected)) in found.iter().zip(&expected).enumerate() {
                    let what = format!("{rows} x {width} in {precision}, part {part}");
                    assert_close(kind, &what, found, expected, tolerance);
                }
            }
        }
    });
}

#[test]
fn the_gradient_of_the_norm_is_that_of_the_cpu() {
    on_every_device(|kind, device| {
        for [rows, width] in [[1, 3], [21, 576], [9000, 24], [5, 4096]] {
            let on = |device: &Device| {
                let gamma = noise([1, width], 2, device).squeeze_dim(0) + 1.5;
                let (x, grad) = (
                    noise([rows, width], 1, device),
                    noise([rows, width], 3, device),
                );
                let (x, gamma) = rms_norm_backward(x, gamma, 1e-5, grad);
                [values(x), values(gamma)]
            };
            for (found, expected) in on(device).iter().zip(&on(&Device::flex())) {
                let what = format!("{rows} x {width}");
                assert_close(kind, &what, found, expected, 1e-5);
            }
        }
    });
}

#[test]
fn squares_add_up_as_on_the_cpu() {
    on_every_device(|kind, device| {
        let sum =
            |parts: Tensor<1>| values(parts).iter().map(|&x| f64::from(x)).sum::<f64>() as f32;
        for [rows, width] in [[1, 1], [3, 30], [576, 1536]] {
            let on = |device: &Device| {
                let matrix = noise([rows, width], 1, device);
                let vector: Tensor<1> = noise([1, width], 2, device).squeeze_dim(0);
                [sum(sum_of_squares(&matrix)), sum(sum_of_squares(&vector))]
            };
            let what = format!("{rows} x {width}");
            assert_close(kind, &what, &on(device), &on(&Device::flex()), 1e-6);
        }
    });
}
