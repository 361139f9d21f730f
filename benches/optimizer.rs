//! Norm of the gradients, clipping, and one step of AdamW, with random weights: the tiny model and
//! the shape of SmolLM2-135M.
//!
//! `cargo bench -p rlvr-benches --bench optimizer -- [tiny|smollm2]`. CPU, f32. Throughput counts
//! weights.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use criterion::{BatchSize, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use trainer::bench::optimizer_settings;
use trainer::bench::shapes::{smollm2, tiny};
use trainer::optimizer::{Optimizer, global_norm, with_stable_ids};
use trainer::policy::decoder::Decoder;

/// A gradient of ones for every parameter.
fn ones(policy: &Decoder) -> GradientsParams {
    struct Ones(GradientsParams);
    impl ModuleVisitor for Ones {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.register(param.id, param.val().inner().ones_like());
        }
    }
    let mut ones = Ones(GradientsParams::new());
    policy.visit(&mut ones);
    ones.0
}

fn optimizer(criterion: &mut Criterion) {
    rlvr_backends::keep_freed_memory();
    let device = Device::default().autodiff();
    for (name, model) in [("tiny", tiny()), ("smollm2", smollm2())] {
        let init = || with_stable_ids(Decoder::init(&model, 0, &device));
        // Shapes and identities for the gradients: the policy's own tensors have to be free.
        let template = init();
        let mut policy = Some(init());
        let settings = optimizer_settings();
        let mut rule = Optimizer::new(&settings);
        let mut group = criterion.benchmark_group("optimizer_f32_cpu");
        group.sample_size(10).sampling_mode(SamplingMode::Flat);
        group.throughput(Throughput::Elements(template.num_params() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || ones(&template),
                |found| {
                    let before = policy.take().expect("a policy");
                    let norm = global_norm(&before, &found).expect("the CPU can be read");
                    policy = Some(rule.step(settings.learning_rate, before, found, norm).0);
                },
                BatchSize::PerIteration,
            );
        });
        group.finish();
    }
}

criterion_group!(benches, optimizer);
criterion_main!(benches);
