//! One body for every compiled backend: values and gradients agree with the CPU backend.
//!
//! A compiled backend without a device on this machine is reported and skipped; the CPU is
//! compared with constants, so that the oracle itself is checked.
#![cfg(feature = "cpu")]

use burn::tensor::{Device, Int, Tensor, TensorData, activation};
use rlvr_backends::{BackendError, BackendKind, compiled, device};

/// What one backend computed, flattened.
struct Results {
    logprobs: Vec<f32>,
    hidden_gradient: Vec<f32>,
    head_gradient: Vec<f32>,
}

fn to_vec(tensor: TensorData) -> Vec<f32> {
    tensor.iter::<f32>().collect()
}

/// Deterministic values in (-1, 1), the same on every backend.
fn values(num: usize, phase: f32) -> Vec<f32> {
    (0..num).map(|i| (i as f32 * 0.7 + phase).sin()).collect()
}

/// Log-probs of chosen tokens under `softmax(hidden . head^T)`, and gradients of their weighted sum.
fn compute(device: &Device) -> Results {
    let (rows, width, vocabulary) = (5, 7, 11);
    let device = device.clone().autodiff();
    let matrix = |num_rows: usize, phase: f32| {
        let data = TensorData::new(values(num_rows * width, phase), [num_rows, width]);
        Tensor::<2>::from_data(data, &device).require_grad()
    };
    let (hidden, head) = (matrix(rows, 0.1), matrix(vocabulary, 0.5));
    let targets = Tensor::<1, Int>::from_ints([0, 3, 10, 3, 7], &device).reshape([rows, 1]);
    let weights = Tensor::<1>::from_floats([1.0, -2.0, 0.5, 0.0, 3.0], &device);
    let logits = hidden.clone().matmul(head.clone().transpose());
    let logprobs = activation::log_softmax(logits, 1).gather(1, targets);
    let logprobs = logprobs.reshape([rows]);
    let gradients = (logprobs.clone() * weights).sum().backward();
    let gradient = |tensor: &Tensor<2>| {
        let gradient = tensor.grad(&gradients).expect("it took part in the sum");
        to_vec(gradient.into_data())
    };
    Results {
        logprobs: to_vec(logprobs.into_data()),
        hidden_gradient: gradient(&hidden),
        head_gradient: gradient(&head),
    }
}

/// The same in float64 and plain loops.
fn by_hand() -> Results {
    let (width, vocabulary) = (7usize, 11usize);
    let (targets, weights) = ([0usize, 3, 10, 3, 7], [1.0, -2.0, 0.5, 0.0, 3.0]);
    let hidden: Vec<f64> = values(5 * width, 0.1).iter().map(|&x| x.into()).collect();
    let head: Vec<f64> = values(vocabulary * width, 0.5)
        .iter()
        .map(|&x| x.into())
        .collect();
    let mut results = (vec![], vec![0.0f64; hidden.len()], vec![0.0f64; head.len()]);
    for row in 0..5 {
        let logit = |v: usize| -> f64 {
            (0..width)
                .map(|d| hidden[row * width + d] * head[v * width + d])
                .sum()
        };
        let log_sum = (0..vocabulary).map(|v| logit(v).exp()).sum::<f64>().ln();
        results.0.push((logit(targets[row]) - log_sum) as f32);
        for v in 0..vocabulary {
            let hit = f64::from(u8::from(v == targets[row]));
            let gradient = weights[row] * (hit - (logit(v) - log_sum).exp());
            for d in 0..width {
                results.1[row * width + d] += gradient * head[v * width + d];
                results.2[v * width + d] += gradient * hidden[row * width + d];
            }
        }
    }
    let single = |values: Vec<f64>| values.into_iter().map(|x| x as f32).collect();
    Results {
        logprobs: results.0,
        hidden_gradient: single(results.1),
        head_gradient: single(results.2),
    }
}

fn assert_close(kind: BackendKind, what: &str, given: &[f32], expected: &[f32]) {
    assert_eq!(given.len(), expected.len(), "{kind}: {what}");
    for (index, (&given, &expected)) in given.iter().zip(expected).enumerate() {
        // Absolute 2e-6 is some 20 ulps of the largest values here; a wrong sign or a missing
        // term is off by 1e-2 and more.
        assert!(
            (given - expected).abs() < 2e-6 * (1.0 + expected.abs()),
            "{kind}: {what}[{index}] is {given}, expected {expected}"
        );
    }
}

#[test]
fn every_compiled_backend_agrees_with_the_reference() {
    let expected = by_hand();
    for kind in compiled() {
        let device = match device(kind) {
            Ok(device) => device,
            Err(error @ BackendError::NoDevice { .. }) => {
                eprintln!("skipped: {error}");
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        let results = compute(&device);
        assert_close(kind, "logprobs", &results.logprobs, &expected.logprobs);
        let gradient = &expected.hidden_gradient;
        assert_close(kind, "d hidden", &results.hidden_gradient, gradient);
        assert_close(
            kind,
            "d head",
            &results.head_gradient,
            &expected.head_gradient,
        );
    }
}
