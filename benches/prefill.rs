//! Prompts up to the logits of what follows them, with random weights: the tiny model and the shape
//! of SmolLM2-135M.
//!
//! `cargo bench -p rlvr-benches --bench prefill -- [tiny_16x20|smollm2_8x128]`. The logits are read,
//! so the device is synchronised inside the timing. CPU, f32.

use burn::tensor::Device;
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use rlvr_backends::Precision;
use rlvr_backends::kernels::matmul;
use trainer::bench::load::requests;
use trainer::bench::shapes::{smollm2, tiny};
use trainer::policy::config::ModelConfig;
use trainer::policy::decoder::Decoder;
use trainer::rollout::Request;

fn logits(decoder: &Decoder, requests: &[Request]) -> Vec<f32> {
    let prompts: Vec<&[u32]> = requests.iter().map(|it| &it.prompt_tokens[..]).collect();
    let hidden = decoder.prefill(&prompts, Precision::F32).last_hidden;
    let logits = matmul(hidden, decoder.head_weight().transpose(), Precision::F32);
    logits.try_into_vec_as().expect("the CPU can be read")
}

fn prefill(criterion: &mut Criterion) {
    rlvr_backends::keep_freed_memory();
    let device = Device::default();
    let cases: [(&str, ModelConfig, usize, usize); 2] = [
        ("tiny_16x20", tiny(), 16, 20),
        ("smollm2_8x128", smollm2(), 8, 128),
    ];
    for (name, model, num_prompts, tokens) in cases {
        let requests = requests(model.vocab_size, num_prompts, 1, tokens);
        let mut group = criterion.benchmark_group("prefill_f32_cpu");
        group.sample_size(10).sampling_mode(SamplingMode::Flat);
        group.throughput(Throughput::Elements((num_prompts * tokens) as u64));
        let mut decoder = None;
        group.bench_function(name, |bencher| {
            let decoder = decoder.get_or_insert_with(|| Decoder::init(&model, 0, &device));
            bencher.iter(|| logits(decoder, &requests));
        });
        group.finish();
    }
}

criterion_group!(benches, prefill);
criterion_main!(benches);
