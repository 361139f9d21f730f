//! Tokens per second of the two samplers from random logits of 64 rows and 49,152 columns, the
//! vocabulary of SmolLM2: on the host, read included, and on the device.
//!
//! `cargo bench -p rlvr-benches --bench sampling`; `RLVR_BACKEND` names another backend than the
//! CPU, with `--features rlvr-backends/NAME`. Both samplers read back what they give, so the device
//! is synchronised inside the timing.

use burn::tensor::{Device, Distribution, Tensor};
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use rlvr_backends::BackendKind;
use trainer::rollout::device_sampling::DeviceSampler;
use trainer::rollout::sampling::{Draw, Sampler};
use trainer::rollout::{RolloutConfig, SamplingParams};

const ROWS: usize = 64;
const VOCAB: usize = 49_152;

/// Ways to sample by name.
fn kinds() -> [(&'static str, SamplingParams); 3] {
    let kind = |temperature, top_k, top_p| {
        let config = RolloutConfig {
            temperature,
            top_k,
            top_p,
            ..RolloutConfig::default()
        };
        config.sampling(Vec::new())
    };
    [
        ("greedy", kind(0.0, None, None)),
        ("free", kind(1.0, None, None)),
        ("top_k_top_p", kind(1.0, Some(50), Some(0.95))),
    ]
}

fn on_host(params: &SamplingParams, logits: &Tensor<2>, uniforms: &[f64]) -> Vec<Option<Draw>> {
    let logits = logits.clone().try_into_vec_as::<f32>();
    let logits = logits.expect("logits on the host");
    let mut sampler = Sampler::new(params);
    let rows = logits.chunks(VOCAB).zip(uniforms);
    rows.map(|(row, uniform)| sampler.draw(row, &[], *uniform))
        .collect()
}

fn sampling(criterion: &mut Criterion) {
    let kind = std::env::var("RLVR_BACKEND").unwrap_or_else(|_| "cpu".into());
    let kind: BackendKind = kind.parse().expect("RLVR_BACKEND names a backend");
    let device: Device = rlvr_backends::device(kind).expect("its device");
    let normal = Distribution::Normal(0.0, 3.0);
    let logits = Tensor::<2>::random([ROWS, VOCAB], normal, &device);
    let uniforms: Vec<f64> = (0..ROWS)
        .map(|row| (row as f64 + 0.5) / ROWS as f64)
        .collect();
    for (name, params) in kinds() {
        let mut group = criterion.benchmark_group(format!("sampling_f32_{kind}_64x49152"));
        group.sample_size(10).sampling_mode(SamplingMode::Flat);
        group.throughput(Throughput::Elements(ROWS as u64));
        group.bench_function(format!("{name}_host"), |bencher| {
            bencher.iter(|| on_host(&params, &logits, &uniforms));
        });
        let sampler = DeviceSampler::new(&params);
        group.bench_function(format!("{name}_device"), |bencher| {
            bencher.iter(|| sampler.draw(logits.clone(), &uniforms).expect("a draw"));
        });
        group.finish();
    }
}

criterion_group!(benches, sampling);
criterion_main!(benches);
