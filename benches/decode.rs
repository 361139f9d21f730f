//! Tokens per second of the rollout engine with random weights: the tiny model and the shape of
//! SmolLM2-135M.
//!
//! `cargo bench -p rlvr-benches --bench decode -- [tiny|smollm2]`; `RLVR_WORKERS` sets the workers.
//! The engine reads its logits back every step, so the device is synchronised inside the timing.

use burn::tensor::Device;
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use rlvr_backends::Precision;
use trainer::bench::load::requests;
use trainer::bench::shapes::{smollm2, tiny};
use trainer::policy::config::ModelConfig;
use trainer::policy::decoder::Decoder;
use trainer::rollout::{Engine, RolloutConfig, RolloutOutput};
use trainer::seed::Stage;

/// What is rolled out.
struct Load {
    name: &'static str,
    model: ModelConfig,
    slots: usize,
    num_prompts: usize,
    group: u32,
    prompt_tokens: usize,
    new_tokens: usize,
}

fn loads() -> Vec<Load> {
    vec![
        Load {
            name: "tiny",
            model: tiny(),
            slots: 64,
            num_prompts: 16,
            group: 8,
            prompt_tokens: 20,
            new_tokens: 30,
        },
        Load {
            name: "smollm2",
            model: smollm2(),
            slots: 32,
            num_prompts: 4,
            group: 8,
            prompt_tokens: 192,
            new_tokens: 64,
        },
    ]
}

fn roll_out(
    load: &Load,
    engine: &Engine,
    decoder: &Decoder,
    params: &RolloutConfig,
) -> RolloutOutput {
    let (vocab, group) = (load.model.vocab_size, load.group as usize);
    let requests = requests(vocab, load.num_prompts, group, load.prompt_tokens);
    let params = params.sampling(Vec::new());
    let text = |_: &[u32]| String::new();
    engine
        .roll_out(decoder, &text, &requests, &params, 0, Stage::Rollout, 0)
        .expect("a rollout")
}

fn decode(criterion: &mut Criterion) {
    let device = Device::default();
    let workers = std::env::var("RLVR_WORKERS").ok();
    let num_workers = workers.and_then(|w| w.parse().ok()).unwrap_or(1);
    for load in loads() {
        let config = RolloutConfig {
            max_slots: load.slots,
            num_workers,
            max_new_tokens: load.new_tokens,
            ..RolloutConfig::default()
        };
        let engine = Engine::new(&load.model, config.clone(), Precision::F32);
        let tokens = load.num_prompts * load.group as usize * load.new_tokens;
        let mut group = criterion.benchmark_group("roll_out_f32_cpu");
        group.sample_size(10).sampling_mode(SamplingMode::Flat);
        group.throughput(Throughput::Elements(tokens as u64));
        let mut decoder = None;
        group.bench_function(load.name, |bencher| {
            let decoder = decoder.get_or_insert_with(|| Decoder::init(&load.model, 0, &device));
            println!("{:?}", roll_out(&load, &engine, decoder, &config).stats);
            bencher.iter(|| roll_out(&load, &engine, decoder, &config));
        });
        group.finish();
    }
}

criterion_group!(benches, decode);
criterion_main!(benches);
