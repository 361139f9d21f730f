//! One micro-batch through the policy and back, with random weights: the tiny model and the shape
//! of SmolLM2-135M.
//!
//! `cargo bench -p rlvr-benches --bench update -- [tiny|smollm2_2x8|smollm2_8x256]`. Every gradient
//! is summed and read, so the device is synchronised inside the timing. CPU, f32. Throughput counts
//! a prompt once for each of its completions, as a pass that does not share prompts would run it.

use std::hint::black_box;

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use rlvr_benches::{smollm2, tiny};
use trainer::batch::{MicroBatch, Row};
use trainer::gradient::{ScoreGradients, ScoringSettings, backward, forward};
use trainer::policy::config::ModelConfig;
use trainer::policy::decoder::Decoder;
use trainer::record::PromptId;

/// What goes through.
struct Load {
    name: &'static str,
    model: ModelConfig,
    num_prompts: usize,
    group: usize,
    prompt_tokens: usize,
    completion_tokens: usize,
}

fn loads() -> [Load; 3] {
    [
        Load {
            name: "tiny",
            model: tiny(),
            num_prompts: 16,
            group: 8,
            prompt_tokens: 20,
            completion_tokens: 30,
        },
        Load {
            name: "smollm2_2x8",
            model: smollm2(),
            num_prompts: 2,
            group: 8,
            prompt_tokens: 96,
            completion_tokens: 64,
        },
        // Nothing to share: the shape of the baseline's training step.
        Load {
            name: "smollm2_8x256",
            model: smollm2(),
            num_prompts: 8,
            group: 1,
            prompt_tokens: 1,
            completion_tokens: 255,
        },
    ]
}

impl Load {
    fn rows(&self) -> Vec<Row> {
        let token = |place: usize| (place * 31 % self.model.vocab_size) as u32;
        (0..self.num_prompts * self.group)
            .map(|index| {
                let prompt = index / self.group;
                let completion = (0..self.completion_tokens).map(|t| token(t * 77 + index * 5));
                Row {
                    prompt_id: PromptId(prompt as u64),
                    rollout_index: (index % self.group) as u32,
                    tokens: (0..self.prompt_tokens)
                        .map(|t| token(t + prompt))
                        .chain(completion)
                        .collect(),
                    num_prompt_tokens: self.prompt_tokens,
                    advantage: 1.0,
                    sampler_logprobs: vec![0.0; self.completion_tokens],
                    old_logprobs: None,
                }
            })
            .collect()
    }
}

/// Sum over all gradients.
fn total(policy: &Decoder, gradients: &GradientsParams) -> f32 {
    struct Total<'a>(&'a GradientsParams, f32);
    impl ModuleVisitor for Total<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.0.get::<D>(param.id) {
                self.1 += gradient.sum().into_scalar::<f32>();
            }
        }
    }
    let mut total = Total(gradients, 0.0);
    policy.visit(&mut total);
    total.1
}

fn update(criterion: &mut Criterion) {
    let device = Device::default();
    let scoring = ScoringSettings {
        temperature: 1.0,
        max_logits_bytes: 64 << 20,
    };
    for load in loads() {
        let rows = load.rows();
        let views: Vec<&Row> = rows.iter().collect();
        let batch = MicroBatch::new(&views, &device);
        let mut group = criterion.benchmark_group("forward_backward_f32_cpu");
        group.sample_size(10).sampling_mode(SamplingMode::Flat);
        let tokens: usize = rows.iter().map(|row| row.tokens.len()).sum();
        group.throughput(Throughput::Elements(tokens as u64));
        let mut policy = None;
        group.bench_function(load.name, |bencher| {
            let policy = policy
                .get_or_insert_with(|| Decoder::init(&load.model, 0, &device.clone().autodiff()));
            bencher.iter(|| {
                let pass = forward(policy, &batch, &scoring);
                let grad = pass.scores.logprobs.ones_like();
                let scores = ScoreGradients {
                    logprobs: grad,
                    entropies: None,
                    exact_kl: None,
                };
                let gradients = backward(policy, pass, &batch, scores, &scoring);
                black_box(total(policy, &gradients))
            });
        });
        group.finish();
    }
}

criterion_group!(benches, update);
criterion_main!(benches);
