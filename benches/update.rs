//! One micro-batch through the policy and back, with random weights: the tiny model and the shape
//! of SmolLM2-135M.
//!
//! `cargo bench -p rlvr-benches --bench update -- [tiny|smollm2_2x8|smollm2_8x256]`. Every gradient
//! is summed and read, so the device is synchronised inside the timing. CPU, f32. Throughput counts
//! a prompt once for each of its completions, as a pass that does not share prompts would run it.

use std::hint::black_box;

use burn::tensor::Device;
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use rlvr_backends::Precision;
use trainer::batch::{MicroBatch, Row};
use trainer::bench::Load;
use trainer::bench::load::{gradients, scoring, total};
use trainer::bench::shapes::{smollm2, tiny};
use trainer::policy::config::ModelConfig;
use trainer::policy::decoder::Decoder;

/// What goes through.
struct Case {
    name: &'static str,
    model: ModelConfig,
    load: Load,
}

fn case(
    name: &'static str,
    model: ModelConfig,
    [num_prompts, group, prompt_tokens, new_tokens]: [usize; 4],
) -> Case {
    let load = Load {
        num_prompts,
        group,
        prompt_tokens,
        new_tokens,
    };
    Case { name, model, load }
}

fn cases() -> [Case; 3] {
    [
        case("tiny", tiny(), [16, 8, 20, 30]),
        case("smollm2_2x8", smollm2(), [2, 8, 96, 64]),
        // Nothing to share: the shape of the baseline's training step.
        case("smollm2_8x256", smollm2(), [8, 1, 1, 255]),
    ]
}

fn update(criterion: &mut Criterion) {
    let device = Device::default();
    let scoring = scoring(Precision::F32);
    for Case { name, model, load } in cases() {
        let rows = load.rows(model.vocab_size);
        let views: Vec<&Row> = rows.iter().collect();
        let batch = MicroBatch::new(&views, &device);
        let mut group = criterion.benchmark_group("forward_backward_f32_cpu");
        group.sample_size(10).sampling_mode(SamplingMode::Flat);
        let tokens: usize = rows.iter().map(|row| row.tokens.len()).sum();
        group.throughput(Throughput::Elements(tokens as u64));
        let mut policy = None;
        group.bench_function(name, |bencher| {
            let policy =
                policy.get_or_insert_with(|| Decoder::init(&model, 0, &device.clone().autodiff()));
            bencher.iter(|| black_box(total(policy, &gradients(policy, &batch, &scoring))));
        });
        group.finish();
    }
}

criterion_group!(benches, update);
criterion_main!(benches);
