//! What selection itself costs: the history filter over 1,000 candidates with 100,000 prompts of
//! history, the gate's ranking of them, and scoring prompts against the prefill alone.
//!
//! `cargo bench -p rlvr-benches --bench selection`. CPU, f32.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rlvr_backends::Precision;
use rlvr_benches::history;
use rlvr_core::{Candidate, Gate, GroupKind};
use trainer::bench::shapes::smollm2;
use trainer::policy::decoder::Decoder;
use trainer::record::{Prompt, PromptId};
use trainer::rollout::{Engine, PromptPool, Request, RolloutConfig, ScoreSettings, TemplateTokens};
use trainer::seed::{Stage, stream};
use trainer::selection::{Collector, Plan, SelectionState, Visit, stage1_passes};

const NUM_PROMPTS: u64 = 100_000;
const NUM_CANDIDATES: u64 = 1_000;

/// Every prompt was visited one to four times.
fn visited(prompts: &[Prompt], plan: &Plan) -> SelectionState {
    let mut state = SelectionState::fresh(prompts, plan.exploration());
    for (place, prompt) in prompts.iter().enumerate() {
        let mut draws = stream(1, Stage::Bootstrap, 0, prompt.id, 0);
        for step in 0..=draws.below(4) {
            let kinds = [GroupKind::Mixed, GroupKind::Easy, GroupKind::Hard];
            let visit = Visit {
                step,
                epoch: 0,
                rewards: vec![0.0; 8],
                kind: kinds[draws.below(3) as usize],
                entropy: draws.uniform(),
            };
            let histories = &mut state.histories;
            histories.visit(place as u64, visit, 0.0, 1.0);
        }
    }
    state
}

fn stage1_and_gate(c: &mut Criterion) {
    let (config, prompts) = (history::config(), history::prompts(NUM_PROMPTS));
    let plan = Plan::new(&config);
    let state = visited(&prompts, &plan);
    let collector = Collector {
        plan: &plan,
        audit: &config.selection.audit,
        prompts: &prompts,
        seed: 17,
        step: 40,
    };
    let candidates: Vec<u64> = (0..NUM_CANDIDATES)
        .map(|it| it * 97 % NUM_PROMPTS)
        .collect();
    let pool: Vec<Candidate> = candidates
        .iter()
        .map(|&place| Candidate {
            id: prompts[place as usize].id.0,
            entropy: stream(2, Stage::Bootstrap, 0, PromptId(place), 0).uniform(),
        })
        .collect();
    let gate = Gate::Band(rlvr_core::Band::default());
    let mut group = c.benchmark_group("selection/candidates-1000/history-100000");
    group.throughput(Throughput::Elements(NUM_CANDIDATES));
    group.bench_function("stage1", |b| {
        b.iter(|| {
            let passes = |place: &&u64| stage1_passes(&collector, &state, None, **place);
            black_box(candidates.iter().filter(passes).count())
        });
    });
    group.bench_function("gate", |b| b.iter(|| black_box(gate.cut(&pool).kept.len())));
    group.bench_function("stage1+gate", |b| {
        b.iter(|| {
            let passes = |place: &&u64| stage1_passes(&collector, &state, None, **place);
            let kept = candidates.iter().filter(passes).count();
            black_box((kept, gate.cut(&pool).kept.len()))
        });
    });
    group.finish();
}

/// Prefill of a batch of prompts with and without the entropies of their positions.
fn scoring(c: &mut Criterion) {
    let model = smollm2();
    let device = rlvr_backends::device(rlvr_backends::BackendKind::Cpu).expect("the CPU is there");
    let decoder = Decoder::init(&model, 3, &device);
    let engine = Engine::new(&model, RolloutConfig::default(), Precision::F32);
    let request = |number: u64| Request {
        prompt_id: PromptId(number),
        prompt_tokens: (0..128)
            .map(|t| ((t * 31 + number * 7) % 49_152) as u32)
            .collect(),
        num_completions: 0,
    };
    let requests: Vec<Request> = (0..8).map(request).collect();
    let settings = ScoreSettings {
        max_logits_bytes: 32 << 20,
        kv_pool_bytes: u64::MAX,
        template: TemplateTokens::default(),
    };
    let prompts: Vec<&[u32]> = requests.iter().map(|it| &it.prompt_tokens[..]).collect();
    let mut group = c.benchmark_group("selection/smollm2-135m/prompts-8x128/cpu-f32");
    group.sample_size(10);
    group.throughput(Throughput::Elements(8 * 128));
    group.bench_function("prefill", |b| {
        b.iter(|| {
            let prefill = decoder.prefill(&prompts, Precision::F32);
            black_box(prefill.last_hidden.into_data())
        });
    });
    group.bench_function("prefill+entropies", |b| {
        b.iter(|| {
            let mut pool = PromptPool::new(0);
            let scored = engine.score_prompts(&decoder, &requests, &settings, &mut pool);
            black_box(scored.expect("the prompts are valid").0.len())
        });
    });
    group.finish();
}

criterion_group!(benches, stage1_and_gate, scoring);
criterion_main!(benches);
