//! How cost grows: rollouts over batch and context, the update over context and G, selection over
//! the prompts in its history. A small model, so that every point takes a moment.
//!
//! `cargo bench -p rlvr-benches --bench growth`, then `cargo run --release -p rlvr-benches --bin
//! growth` for the table and the plot. CPU, f32.

use std::hint::black_box;
use std::time::Duration;

use burn::tensor::Device;
use criterion::measurement::WallTime;
use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, SamplingMode, criterion_group, criterion_main,
};
use rlvr_backends::Precision;
use rlvr_benches::history;
use trainer::batch::{MicroBatch, Row};
use trainer::bench::Load;
use trainer::bench::load::{gradients, requests, scoring, total};
use trainer::bench::shapes::small;
use trainer::policy::decoder::Decoder;
use trainer::rollout::{Engine, RolloutConfig};
use trainer::seed::Stage;
use trainer::selection::{Collector, Plan, SelectionState, stage1_passes};

const NEW_TOKENS: usize = 8;

/// A group of measurements in a process that keeps freed memory, as the trainer does.
fn group<'a>(criterion: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    rlvr_backends::keep_freed_memory();
    let mut group = criterion.benchmark_group(name);
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.warm_up_time(Duration::from_millis(200));
    group.measurement_time(Duration::from_millis(800));
    group
}

/// Seconds of `NEW_TOKENS` decode steps and the prefill before them.
fn rollouts(criterion: &mut Criterion, name: &str, points: &[(usize, [usize; 3])]) {
    let device = Device::default();
    let model = small();
    let decoder = Decoder::init(&model, 0, &device);
    let mut group = group(criterion, name);
    for &(point, [num_prompts, completions, context]) in points {
        let config = RolloutConfig {
            max_slots: num_prompts * completions,
            max_new_tokens: NEW_TOKENS,
            ..RolloutConfig::default()
        };
        let engine = Engine::new(&model, config.clone(), Precision::F32);
        let requests = requests(model.vocab_size, num_prompts, completions, context);
        let params = config.sampling(Vec::new());
        let text = |_: &[u32]| String::new();
        group.bench_with_input(BenchmarkId::from_parameter(point), &point, |bencher, _| {
            bencher.iter(|| {
                engine
                    .roll_out(&decoder, &text, &requests, &params, 0, Stage::Rollout, 0)
                    .expect("a rollout")
            });
        });
    }
    group.finish();
}

fn rollout_batch(criterion: &mut Criterion) {
    let points = [1usize, 2, 4, 8, 16, 32, 64, 128, 256, 512].map(|rows| (rows, [1, rows, 64]));
    rollouts(criterion, "rollout_batch", &points);
}

fn rollout_context(criterion: &mut Criterion) {
    let points = [128usize, 256, 512, 1024, 2048, 4096].map(|tokens| (tokens, [1, 8, tokens]));
    rollouts(criterion, "rollout_context", &points);
}

fn updates(criterion: &mut Criterion, name: &str, points: &[(usize, [usize; 2])]) {
    let device = Device::default();
    let model = small();
    let policy = Decoder::init(&model, 0, &device.clone().autodiff());
    let scoring = scoring(Precision::F32);
    let mut bench = group(criterion, name);
    for &(point, [group, prompt_tokens]) in points {
        let load = Load {
            num_prompts: 1,
            group,
            prompt_tokens,
            new_tokens: 32,
        };
        let rows = load.rows(model.vocab_size);
        let views: Vec<&Row> = rows.iter().collect();
        let batch = MicroBatch::new(&views, &device);
        bench.bench_with_input(BenchmarkId::from_parameter(point), &point, |bencher, _| {
            bencher.iter(|| black_box(total(&policy, &gradients(&policy, &batch, &scoring))));
        });
    }
    bench.finish();
}

fn update_group(criterion: &mut Criterion) {
    let points = [2usize, 4, 8, 16, 32, 64].map(|group| (group, [group, 128]));
    updates(criterion, "update_group", &points);
}

fn update_context(criterion: &mut Criterion) {
    let points = [128usize, 256, 512, 1024, 2048, 4096].map(|tokens| (tokens, [8, tokens]));
    updates(criterion, "update_context", &points);
}

/// The history filter over 1,000 candidates, and the digest of the whole state that every step
/// writes.
fn selection(criterion: &mut Criterion) {
    let config = history::config();
    let plan = Plan::new(&config);
    for name in ["selection_history", "selection_digest"] {
        let mut group = group(criterion, name);
        for count in [1_000u64, 10_000, 100_000, 1_000_000] {
            let prompts = history::prompts(count);
            let mut state = SelectionState::fresh(&prompts, plan.exploration());
            for place in 0..count {
                state.histories.visit(place, history::visit(), 0.0, 1.0);
            }
            let collector = Collector {
                plan: &plan,
                audit: &config.selection.audit,
                prompts: &prompts,
                seed: 17,
                step: 40,
            };
            let passes = |place: &u64| stage1_passes(&collector, &state, None, *place);
            let work = || match name {
                "selection_history" => {
                    let candidates = (0..1_000u64).map(|it| it * 97 % count);
                    candidates.filter(passes).count()
                }
                _ => state.digest().expect("a digest").len(),
            };
            group.bench_with_input(BenchmarkId::from_parameter(count), &count, |bencher, _| {
                bencher.iter(|| black_box(work()));
            });
        }
        group.finish();
    }
}

criterion_group!(
    benches,
    rollout_batch,
    rollout_context,
    update_group,
    update_context,
    selection
);
criterion_main!(benches);
