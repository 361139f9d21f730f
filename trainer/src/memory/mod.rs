//! What a run will need, computed before anything is allocated, how it is fitted into a budget, and how
//! large it is made where there is room.

mod budget;
mod sizes;
mod update;

use rlvr_backends::kernels::{holds_scores, project_and_draw_bytes};
use rlvr_backends::{BackendKind, Precision, RowLayout};

use crate::config::RunConfig;
use crate::policy::cache::kv_bytes;
use crate::policy::config::ModelConfig;
use crate::rollout::memory::{AttentionPath, Demand, estimate, kv_with_gaps, weights_bytes};
use crate::rollout::{MemoryEstimate, RolloutError};
use crate::selection::Plan;

pub use budget::{BudgetError, fit};
pub use sizes::{choose, choose_for_call};
pub use update::bare_update_bytes;
use update::update_bytes;

/// Bytes of an f32.
const F32: u64 = 4;

/// The program, its threads, tokenizer and problems.
const PROCESS_BYTES: u64 = 64 << 20;

/// Predicted peak memory of a run, in bytes, if every completion reaches its longest. The phases
/// of a step do not overlap, so only the largest counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunMemory {
    /// Weights, the two moments of AdamW, and the process itself.
    pub training_bytes: u64,
    /// A frozen copy of the model of the start, if a KL term or a learned reward needs one.
    pub reference_bytes: u64,
    /// Weight copy, cache, prefill and logits of the rollouts; a frozen policy for the report, if
    /// it has one.
    pub rollout_bytes: u64,
    /// Gradients, kept activations of one micro-batch, and one chunk of logits.
    pub update_bytes: u64,
    /// The moments once more, while a checkpoint is written.
    pub save_bytes: u64,
    /// The rollouts in detail.
    pub rollout: MemoryEstimate,
}

impl RunMemory {
    /// The peak.
    pub fn total_bytes(&self) -> u64 {
        let phases = [self.rollout_bytes, self.update_bytes, self.save_bytes];
        let largest = phases.into_iter().max().unwrap_or(0);
        self.training_bytes + self.reference_bytes + largest
    }
}

/// What is known of a run's shape before it starts.
#[derive(Clone, Copy, Debug)]
pub struct RunShape<'a> {
    /// The model.
    pub model: &'a ModelConfig,
    /// Tokens of the longest prompt.
    pub longest_prompt: usize,
    /// What matrix products are computed in.
    pub precision: Precision,
    /// Where the device starts rows.
    pub layout: RowLayout,
    /// Whether a frozen copy of the model of the start is held throughout, for a KL term or a
    /// learned reward.
    pub keeps_start: bool,
}

impl<'a> RunShape<'a> {
    /// Of one call outside a run.
    pub fn of_call(
        kind: BackendKind,
        model: &'a ModelConfig,
        longest_prompt: usize,
        precision: Precision,
    ) -> Self {
        Self {
            model,
            longest_prompt,
            precision,
            layout: RowLayout::of(kind),
            keeps_start: false,
        }
    }
}

impl RunShape<'_> {
    /// Tokens of the longest prompt with the longest completion.
    fn longest(&self, config: &RunConfig) -> usize {
        let longest = self.longest_prompt + config.rollout.max_new_tokens;
        longest.min(self.model.max_position_embeddings)
    }

    /// Packed rows of a step's update: a prompt counts once, the last token of a completion is not
    /// run.
    fn step_rows(&self, config: &RunConfig) -> usize {
        let completion = self.longest(config).saturating_sub(self.longest_prompt);
        let group = self.longest_prompt + config.rollout.group_size * completion.saturating_sub(1);
        config.selection.prompts_per_step * group
    }

    /// Weights, moments and the process: what training holds throughout.
    fn training_bytes(&self) -> u64 {
        PROCESS_BYTES + 3 * weights_bytes(self.model, self.layout)
    }

    /// The frozen copy of the model of the start, if there is one.
    fn reference_bytes(&self) -> u64 {
        match self.keeps_start {
            true => weights_bytes(self.model, self.layout),
            false => 0,
        }
    }

    /// What `bytes` of f32 values in rows of `values` take with the gaps between these.
    fn with_gaps(&self, bytes: u64, values: usize) -> u64 {
        self.layout.with_gaps(bytes, values, F32 as usize)
    }
}

/// Keys and values that wait for an entropy gate, and the logits of its entropies.
fn gate_bytes(shape: &RunShape<'_>, config: &RunConfig) -> u64 {
    let (model, longest_prompt) = (shape.model, shape.longest_prompt);
    let selection = &config.selection;
    if !selection.has_entropy_gate() {
        return 0;
    }
    // A pool may exceed its target by one raw batch less one.
    let target = Plan::new(config).pool_target(selection.candidate_target());
    let prompts = (target + selection.rounds.raw_batch) as u64;
    let waiting = prompts * kv_bytes(model, longest_prompt, shape.precision);
    let positions = config.rollout.prefill_tokens.max(longest_prompt) as u64;
    let logits = positions * model.vocab_size as u64 * F32;
    // The kernel reads the logits where they are; the portable path holds them shifted and as
    // probabilities besides.
    let copies = match (config.backend.kind, shape.precision) {
        (BackendKind::Cpu, Precision::F32) => 1,
        _ => 3,
    };
    // Both budgets count values alone.
    let waiting = waiting.min(selection.kv_pool_bytes);
    let logits = logits.min(selection.entropy_logits_bytes as u64);
    kv_with_gaps(waiting, model, shape.precision, shape.layout)
        + copies * shape.with_gaps(logits, model.vocab_size)
}

/// What drawing tokens takes where it is done on the device, logits included if they are there.
fn drawing_bytes(shape: &RunShape<'_>, config: &RunConfig, num_slots: usize) -> Option<u64> {
    let (model, rollout, kind) = (shape.model, &config.rollout, config.backend.kind);
    if !rollout.sampling.is_device(kind.is_host()) || rollout.repetition_penalty != 1.0 {
        return None;
    }
    let filters = rollout.sampling(Vec::new()).filters();
    let head = [model.hidden_size, model.vocab_size];
    let bytes = project_and_draw_bytes(kind, shape.precision, num_slots, head, &filters);
    let bytes = shape.with_gaps(bytes, model.vocab_size);
    Some(match records_steps(config) {
        // A recording keeps what its step works with: for all slots, a half, a quarter and an eighth.
        true => bytes + bytes / 2 + bytes / 4 + bytes / 8,
        false => bytes,
    })
}

/// Whether launches of decode steps are recorded, as far as the configuration says.
fn records_steps(config: &RunConfig) -> bool {
    let rollout = &config.rollout;
    let draws_on_device = rollout.sampling.is_device(false) && rollout.repetition_penalty == 1.0;
    config.backend.kind == BackendKind::Cuda && rollout.record_steps && draws_on_device
}

/// What training, evaluations and the report ask of the cache.
fn demands(shape: &RunShape<'_>, config: &RunConfig) -> Vec<Demand> {
    let of = |groups| {
        let max_new_tokens = config.rollout.max_new_tokens;
        Demand::of_groups(shape.longest_prompt, groups, max_new_tokens)
    };
    let (eval, report) = (&config.eval, &config.report);
    let mut demands = vec![of([
        config.selection.prompts_per_step,
        config.rollout.group_size,
    ])];
    if eval.at_start || eval.at_end || eval.every.is_some() {
        demands.push(of([eval.problems, eval.samples]));
    }
    demands.push(of([report.prompts, report.samples]));
    demands
}

/// Predicts the peak memory of a run.
///
/// # Errors
/// If the cache budget holds less than two completions.
pub fn run_memory(shape: &RunShape<'_>, config: &RunConfig) -> Result<RunMemory, RolloutError> {
    let (model, precision) = (shape.model, shape.precision);
    let attention = AttentionPath {
        precision,
        holds_scores: holds_scores(config.backend.kind, precision, model.heads()),
        layout: shape.layout,
    };
    let rollout = match records_steps(config) {
        true => config.rollout.recorded(),
        false => config.rollout.clone(),
    };
    let mut largest: Option<(MemoryEstimate, u64)> = None;
    for demand in demands(shape, config) {
        let mut found = estimate(model, &rollout, &demand, attention)?;
        if let Some(bytes) = drawing_bytes(shape, config, found.num_slots) {
            found.logits_bytes = bytes;
        }
        let bytes = found.total_bytes();
        if largest.as_ref().is_none_or(|(_, most)| bytes > *most) {
            largest = Some((found, bytes));
        }
    }
    let Some((rollout, bytes)) = largest else {
        unreachable!("a run trains");
    };
    let weights = weights_bytes(model, shape.layout);
    let has_fresh_reference = config.report.prompts > 0 && config.report.reference;
    let fresh_reference = match has_fresh_reference && !shape.keeps_start {
        true => weights,
        false => 0,
    };
    Ok(RunMemory {
        training_bytes: shape.training_bytes(),
        reference_bytes: shape.reference_bytes(),
        rollout_bytes: bytes - rollout.weights_bytes + gate_bytes(shape, config) + fresh_reference,
        update_bytes: update_bytes(shape, config),
        save_bytes: 2 * weights,
        rollout,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::shapes::smollm2;
    use crate::policy::cache::kv_bytes;
    use crate::policy::decoder::tests::tiny_config;
    use crate::rollout::SamplingPlace;
    use crate::selection::{Hive, SelectionMethod};

    pub(super) fn shape(model: &ModelConfig) -> RunShape<'_> {
        RunShape {
            model,
            longest_prompt: 20,
            precision: Precision::F32,
            layout: RowLayout::DENSE,
            keeps_start: false,
        }
    }

    #[test]
    fn an_entropy_gate_is_counted_up_to_its_budgets() {
        let (model, mut config) = (tiny_config(), RunConfig::default());
        config.selection.prompts_per_step = 8;
        let shape = shape(&model);
        let bytes = |config: &RunConfig| {
            let found = run_memory(&shape, config);
            found.expect("two completions fit").rollout_bytes
        };
        let without = bytes(&config);
        config.selection.method = SelectionMethod::Hive(Hive::default());
        // 24 prompts are asked for, and up to 32 more come with the last raw batch.
        let waiting = (24 + 32) * kv_bytes(&model, 20, Precision::F32);
        let logits = 2048 * 48 * F32;
        assert_eq!(bytes(&config), without + waiting + logits);
        config.selection.kv_pool_bytes = 1000;
        config.selection.entropy_logits_bytes = 4000;
        assert_eq!(bytes(&config), without + 1000 + 4000);
        config.backend.kind = BackendKind::Wgpu;
        config.rollout.sampling = SamplingPlace::Host;
        // Attention holds the scores of a prefill there.
        let scores = 5 * 2048 * (model.num_heads * 20) as u64 * F32;
        let without = without + scores;
        assert_eq!(bytes(&config), without + 1000 + 3 * 4000);
        // The logits of 64 slots; none on the host.
        config.rollout.sampling = SamplingPlace::Auto;
        let without = without - 2 * (64 + 8) * 48 * F32;
        let sampling = 64 * 48 * F32;
        assert_eq!(bytes(&config), without + 1000 + 3 * 4000 + sampling);
        // A recording each for 64, 32, 16 and 8 of them, and one worker, whatever is asked for.
        config.backend.kind = BackendKind::Cuda;
        let sampling = (64 + 32 + 16 + 8) * 48 * F32;
        let recorded = without + 1000 + 3 * 4000 + sampling;
        assert_eq!(bytes(&config), recorded);
        config.rollout.num_workers = 2;
        assert_eq!(bytes(&config), recorded);
        config.rollout.sampling = SamplingPlace::Host;
        let drawn_on_host = bytes(&config);
        config.rollout.record_steps = false;
        assert_eq!(bytes(&config), drawn_on_host);
        config.rollout.sampling = SamplingPlace::Auto;
        config.rollout.num_workers = 1;
        assert_eq!(bytes(&config), without + 1000 + 3 * 4000 + 64 * 48 * F32);
        // In bf16 four numbers of a strip of 64 tokens, but not with filters.
        let model = ModelConfig {
            vocab_size: 640,
            ..model
        };
        let shape = bf16(&model, RowLayout::DENSE);
        let logits = |config: &RunConfig| run_memory(&shape, config).unwrap().rollout.logits_bytes;
        assert_eq!(logits(&config), 64 * 10 * 4 * F32);
        config.rollout.top_k = Some(20);
        assert_eq!(logits(&config), 64 * 640 * F32);
        // On a CPU six tensors of their size besides.
        config.backend.kind = BackendKind::Cpu;
        config.rollout.sampling = SamplingPlace::Device;
        assert_eq!(logits(&config), 7 * 64 * 640 * F32);
    }

    fn bf16<'a>(model: &'a ModelConfig, layout: RowLayout) -> RunShape<'a> {
        RunShape {
            precision: Precision::Bf16,
            layout,
            ..shape(model)
        }
    }

    fn cuda() -> RunConfig {
        let mut config = RunConfig::default();
        config.backend.kind = BackendKind::Cuda;
        config.rollout.num_workers = 1;
        config
    }

    /// What gaps add to SmolLM2: behind 576 values 256 bytes in f32 and 384 in bf16, and behind the
    /// 192 of its keys 256 and 128.
    #[test]
    fn gaps_count_with_weights_copies_and_prefills() {
        let (model, mut config) = (smollm2(), cuda());
        config.selection.method = SelectionMethod::Hive(Hive::default());
        config.selection.kv_pool_bytes = 30 * 2 * 384 * 100;
        let of = |layout| run_memory(&bf16(&model, layout), &config).unwrap();
        let (dense, apart) = (of(RowLayout::DENSE), of(RowLayout::of(BackendKind::Cuda)));
        let weights = 30 * (4 * 576 + 1536) * 256 + 49_152 * 256;
        assert_eq!(apart.training_bytes, dense.training_bytes + 3 * weights);
        // Transposed, all but the last of a block have rows of 576, and so has the head.
        let copy = 30 * (576 + 2 * 192 + 576 + 2 * 1536) * 384 + 49_152 * 384;
        assert_eq!(apart.rollout.copy_bytes, dense.rollout.copy_bytes + copy);
        // Four vectors, keys and values.
        let prefill = 2048 * (4 * 256 + 30 * 2 * 128);
        let found = apart.rollout.prefill_bytes - dense.rollout.prefill_bytes;
        assert_eq!(found, prefill);
        // A cache has none, and neither have logits.
        assert_eq!(apart.rollout.kv_bytes, dense.rollout.kv_bytes);
        assert_eq!(apart.rollout.logits_bytes, dense.rollout.logits_bytes);
        // What waits for the gate is bounded without gaps, and has them. The report has a frozen
        // policy.
        let waiting = 30 * 2 * 128 * 100;
        let rollout = apart.rollout_bytes - dense.rollout_bytes;
        assert_eq!(rollout, weights + copy + prefill + waiting);
    }

    #[test]
    fn full_rows_have_no_gaps() {
        let mut model = tiny_config();
        model.hidden_size = 512;
        model.intermediate_size = 1024;
        model.num_kv_heads = model.num_heads;
        model.head_dim = 512 / model.num_heads;
        model.vocab_size = 256;
        let mut config = cuda();
        config.rollout.max_new_tokens = 128;
        let of = |layout| {
            let shape = RunShape {
                longest_prompt: 128,
                ..bf16(&model, layout)
            };
            run_memory(&shape, &config).unwrap()
        };
        assert_eq!(of(RowLayout::of(BackendKind::Cuda)), of(RowLayout::DENSE));
    }
}
