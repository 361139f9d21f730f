//! Log-probs and entropies of chosen tokens, forward and backward, in chunks against the taped
//! log-softmax over all rows at once.
//!
//! `cargo bench -p rlvr-benches --bench logprob -- [tiny|smollm2]`. Results are read back to the
//! host, so the device is synchronised inside the timing. CPU, f32.

use std::hint::black_box;

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Distribution, Int, Tensor};
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use rlvr_core::{Precision, ScoringSettings, token_scores, token_scores_backward};

/// The chunked path's settings.
const SETTINGS: ScoringSettings = ScoringSettings {
    temperature: 1.0,
    max_logits_bytes: 32 << 20,
    precision: Precision::F32,
};

/// Packed completion tokens and an output head.
struct Load {
    name: &'static str,
    num_rows: usize,
    width: usize,
    vocab_size: usize,
}

const LOADS: [Load; 2] = [
    Load {
        name: "tiny",
        num_rows: 2048,
        width: 128,
        vocab_size: 512,
    },
    Load {
        name: "smollm2",
        num_rows: 512,
        width: 576,
        vocab_size: 49_152,
    },
];

impl Load {
    /// Hidden states, head weight, targets.
    fn inputs(&self, device: &Device) -> (Tensor<2>, Tensor<2>, Tensor<1, Int>) {
        let normal = Distribution::Normal(0.0, 1.0);
        let hidden = Tensor::random([self.num_rows, self.width], normal, device);
        let head = Tensor::random([self.vocab_size, self.width], normal, device) * 0.02;
        let targets = (0..self.num_rows).map(|row| (row * 7919 % self.vocab_size) as i64);
        let targets: Vec<i64> = targets.collect();
        (hidden, head, Tensor::from_data(targets.as_slice(), device))
    }
}

/// The path of the trainer: two passes in chunks, no tape.
fn chunked(hidden: &Tensor<2>, head: &Tensor<2>, targets: &Tensor<1, Int>) -> f32 {
    let (hidden, head, targets) = (hidden.clone(), head.clone(), targets.clone());
    let scores = token_scores(hidden.clone(), head.clone(), targets.clone(), &SETTINGS);
    let (grad, none) = (scores.logprobs.ones_like(), scores.entropies.zeros_like());
    let grads = token_scores_backward(hidden, head, targets, grad, Some(none), &SETTINGS);
    let total = scores.logprobs.sum() + grads.hidden.sum() + grads.head.sum();
    total.into_scalar::<f32>()
}

/// The textbook: log-softmax of all logits under autodiff.
fn taped(hidden: &Tensor<2>, head: &Tensor<2>, targets: &Tensor<1, Int>) -> f32 {
    let hidden = hidden.clone().autodiff().require_grad();
    let head = head.clone().autodiff().require_grad();
    let log_probs = log_softmax(hidden.clone().matmul(head.clone().transpose()), 1);
    let chosen = log_probs
        .clone()
        .gather(1, targets.clone().unsqueeze_dim(1));
    let entropies = (log_probs.clone().exp() * log_probs).sum_dim(1).neg();
    let loss = chosen.sum() + (entropies * 0.0).sum();
    let grads = loss.backward();
    let sum = |leaf: &Tensor<2>| {
        leaf.grad(&grads)
            .map(|grad| grad.sum().into_scalar::<f32>())
    };
    loss.inner().into_scalar::<f32>()
        + sum(&hidden).unwrap_or(f32::NAN)
        + sum(&head).unwrap_or(f32::NAN)
}

fn logprob(criterion: &mut Criterion) {
    let device = Device::flex();
    for load in LOADS {
        let (hidden, head, targets) = load.inputs(&device);
        let mut group = criterion.benchmark_group(format!("logprob_{}_cpu_f32", load.name));
        group.sampling_mode(SamplingMode::Flat).sample_size(10);
        group.throughput(Throughput::Elements(load.num_rows as u64));
        group.bench_function("chunked", |bencher| {
            bencher.iter(|| black_box(chunked(&hidden, &head, &targets)));
        });
        group.bench_function("taped", |bencher| {
            bencher.iter(|| black_box(taped(&hidden, &head, &targets)));
        });
        group.finish();
    }
}

criterion_group!(benches, logprob);
criterion_main!(benches);
