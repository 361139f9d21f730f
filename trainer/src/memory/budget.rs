//! A run made to fit `memory.budget`, without another result.

use thiserror::Error;

use super::update::update_bytes;
use super::{RunMemory, RunShape, run_memory};
use crate::config::RunConfig;
use crate::rollout::RolloutError;
use crate::rollout::memory::largest;

/// A run does not fit its budget in any form.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum BudgetError {
    /// Even the smallest form is too large.
    #[error(
        "fit the run into memory.budget = {budget_mib} MiB: its smallest form needs {needed_mib} MiB \
         ({training_mib} MiB of them weights, moments and the process, {phase_mib} MiB {phase}); \
         raise memory.budget to that or more, or {advice}"
    )]
    TooSmall {
        /// What was given.
        budget_mib: u64,
        /// What is needed at least.
        needed_mib: u64,
        /// Held all the time.
        training_mib: u64,
        /// Held at the peak besides.
        phase_mib: u64,
        /// When the peak is.
        phase: &'static str,
        /// Which keys make it smaller.
        advice: &'static str,
    },
    /// The cache cannot hold two completions.
    #[error(transparent)]
    Rollout(#[from] RolloutError),
}

/// Changes `config` so that the predicted peak stays within `budget` bytes: micro-batches shrink,
/// then blocks are run again in the backward pass, and the cache gets what is left. Gradients are
/// the same up to the order of their sums, completions are the same.
///
/// # Errors
/// If even the smallest form does not fit.
pub fn fit(
    shape: &RunShape<'_>,
    config: &mut RunConfig,
    budget: u64,
) -> Result<RunMemory, BudgetError> {
    fit_update(shape, config, budget);
    fit_rollout(shape, config, budget)?;
    let memory = run_memory(shape, config)?;
    match memory.total_bytes() <= budget {
        true => Ok(memory),
        false => Err(too_small(&memory, budget)),
    }
}

/// Bytes that a phase of a step may take.
pub(super) fn room(shape: &RunShape<'_>, budget: u64) -> u64 {
    budget.saturating_sub(shape.training_bytes() + shape.reference_bytes())
}

/// The largest micro-batches that fit, if need be with recompute.
fn fit_update(shape: &RunShape<'_>, config: &mut RunConfig, budget: u64) {
    let room = room(shape, budget);
    let fits = |config: &RunConfig| update_bytes(shape, config) <= room;
    if fits(config) {
        return;
    }
    let mut smallest = config.clone();
    smallest.update.max_tokens_per_microbatch = shape.longest(config).max(1);
    if !fits(&smallest) {
        config.update.gradient_checkpointing = true;
    }
    config.update.max_tokens_per_microbatch = microbatch_tokens(shape, config, room);
}

/// The largest micro-batches, below those of `config`, whose update fits into `room`; the smallest if
/// none does.
pub(super) fn microbatch_tokens(shape: &RunShape<'_>, config: &RunConfig, room: u64) -> usize {
    let bytes = |tokens: usize| {
        let mut smaller = config.clone();
        smaller.update.max_tokens_per_microbatch = tokens;
        update_bytes(shape, &smaller)
    };
    let least = shape.longest(config).max(1);
    // More tokens than a step has change nothing.
    let most = config.update.max_tokens_per_microbatch;
    let most = most.min(shape.step_rows(config)).max(least);
    let found = largest(least, most, |tokens| bytes(tokens) <= room);
    // A step in one piece needs no sum of gradients: it can be smaller than one cut in two.
    match bytes(most) < bytes(found) {
        true => most,
        false => found,
    }
}

/// A cache of what the rest of the rollout leaves; without the copy of the weights if even two
/// completions would not fit beside it.
fn fit_rollout(
    shape: &RunShape<'_>,
    config: &mut RunConfig,
    budget: u64,
) -> Result<(), BudgetError> {
    while !fit_cache(shape, config, budget)? {
        let slot = run_memory(shape, config)?.rollout.slot_bytes;
        config.rollout.kv_budget_bytes = config.rollout.kv_budget_bytes.min(2 * slot);
        if !config.rollout.copy_weights {
            return Ok(());
        }
        config.rollout.copy_weights = false;
    }
    Ok(())
}

/// A cache of what the rest of the rollout leaves; false if that holds not even two completions.
pub(super) fn fit_cache(
    shape: &RunShape<'_>,
    config: &mut RunConfig,
    budget: u64,
) -> Result<bool, RolloutError> {
    let memory = run_memory(shape, config)?;
    let rollout = &memory.rollout;
    let rest = memory.rollout_bytes - rollout.kv_bytes;
    let left = room(shape, budget).saturating_sub(rest);
    if left >= rollout.kv_bytes {
        return Ok(true);
    }
    let holds_two = left >= 2 * rollout.slot_bytes;
    if holds_two {
        config.rollout.kv_budget_bytes = left;
    }
    Ok(holds_two)
}

fn too_small(memory: &RunMemory, budget: u64) -> BudgetError {
    let phases = [
        (
            memory.update_bytes,
            "in the update",
            "lower rollout.max_new_tokens, prompt.max_prompt_tokens or update.max_logits_bytes",
        ),
        (
            memory.rollout_bytes,
            "in the rollouts",
            "lower rollout.prefill_tokens or rollout.max_new_tokens, or set report.reference=false",
        ),
        (
            memory.save_bytes,
            "while a checkpoint is written",
            "take a smaller model",
        ),
    ];
    let mut largest = phases[0];
    for phase in phases {
        if phase.0 > largest.0 {
            largest = phase;
        }
    }
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    BudgetError::TooSmall {
        budget_mib: budget >> 20,
        needed_mib: mib(memory.total_bytes()),
        training_mib: mib(memory.training_bytes + memory.reference_bytes),
        phase_mib: mib(largest.0),
        phase: largest.1,
        advice: largest.2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::config::ModelConfig;
    use crate::policy::decoder::tests::tiny_config;
    use rlvr_backends::{Precision, RowLayout};

    /// A shape whose activations outweigh everything else.
    fn model() -> ModelConfig {
        let mut model = tiny_config();
        model.num_layers = 12;
        model.max_position_embeddings = 4096;
        model
    }

    fn config() -> RunConfig {
        let mut config = RunConfig::default();
        config.rollout.max_new_tokens = 1000;
        config.rollout.prefill_tokens = 64;
        config.report.prompts = 0;
        config.update.max_logits_bytes = 1024;
        config
    }

    fn shape(model: &ModelConfig) -> RunShape<'_> {
        RunShape {
            precision: Precision::F32,
            layout: RowLayout::DENSE,
            model,
            longest_prompt: 50,
            keeps_start: false,
        }
    }

    #[test]
    fn what_fits_is_left_alone() {
        let (model, mut config) = (model(), config());
        let before = config.clone();
        let memory = run_memory(&shape(&model), &config).unwrap();
        let fitted = fit(&shape(&model), &mut config, memory.total_bytes()).unwrap();
        assert_eq!((fitted, config), (memory, before));
    }

    #[test]
    fn micro_batches_shrink_first_and_then_blocks_run_again() {
        let model = model();
        let shape = shape(&model);
        let whole = run_memory(&shape, &config()).unwrap();
        let (mut smaller, mut smallest) = (config(), config());
        let tight = whole.training_bytes + whole.update_bytes / 2;
        let memory = fit(&shape, &mut smaller, tight).unwrap();
        assert!(memory.total_bytes() <= tight);
        let tokens = smaller.update.max_tokens_per_microbatch;
        assert!(tokens < config().update.max_tokens_per_microbatch);
        assert!(!smaller.update.gradient_checkpointing);
        // The micro-batches are the largest that fit.
        smaller.update.max_tokens_per_microbatch = tokens + 1;
        assert!(run_memory(&shape, &smaller).unwrap().total_bytes() > tight);
        smaller.update.max_tokens_per_microbatch = shape.longest(&smaller);
        let shortest = run_memory(&shape, &smaller).unwrap();
        let tighter = shortest.training_bytes + shortest.update_bytes - 1;
        let memory = fit(&shape, &mut smallest, tighter).unwrap();
        assert!(memory.total_bytes() <= tighter);
        assert!(smallest.update.gradient_checkpointing);
    }

    #[test]
    fn the_cache_gets_what_is_left() {
        let model = model();
        let shape = shape(&model);
        let mut config = config();
        config.update.max_tokens_per_microbatch = 1050;
        config.update.gradient_checkpointing = true;
        let whole = run_memory(&shape, &config).unwrap();
        assert!(whole.rollout_bytes > whole.update_bytes);
        let budget = whole.total_bytes() - whole.rollout.kv_bytes / 2;
        let memory = fit(&shape, &mut config, budget).unwrap();
        assert!(memory.total_bytes() <= budget);
        assert!(memory.rollout.num_slots < whole.rollout.num_slots);
        assert!(memory.rollout.num_slots >= whole.rollout.num_slots / 2 - 2);
    }

    #[test]
    fn a_budget_below_the_smallest_form_names_what_is_needed() {
        let model = model();
        let shape = shape(&model);
        let mut smallest = config();
        let error = fit(&shape, &mut smallest, 65 << 20).unwrap_err();
        let BudgetError::TooSmall { needed_mib, .. } = error else {
            panic!("{error}");
        };
        let text = error.to_string();
        assert!(
            text.contains("memory.budget = 65 MiB") && text.contains("lower "),
            "{text}"
        );
        // What it names suffices.
        assert!(fit(&shape, &mut config(), needed_mib << 20).is_ok());
    }
}
