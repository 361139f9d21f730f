//! The update of one step: mini-batches, micro-batches, loss, backward, optimizer.
//!
//! Denominators are those of the whole mini-batch, so micro-batches add up to the same gradient
//! however the rows are cut. Rows that cannot contribute (advantage exactly zero and no other term
//! in the loss) are counted in the denominators and never run.

use std::time::Instant;

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, TensorReadError};
use rlvr_core::{Aggregation, Denominators, GrpoLoss, KlPenalty, LossSums};
use thiserror::Error;

use crate::batch::{MicroBatch, Row, microbatches};
use crate::gradient::{ScoringSettings, accumulate, logprobs};
use crate::loss::{LossContext, microbatch_gradients};
use crate::optimizer::{Optimizer, StepOutcome};
use crate::policy::decoder::Decoder;
use crate::record::PromptId;
use crate::seed::{Stage, stream};

/// How one step's rows become optimizer steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UpdateSettings {
    /// Passes over the rows.
    pub inner_epochs: usize,
    /// Optimizer steps per pass.
    pub minibatches: usize,
    /// Packed rows of one forward pass: prompts once, completions without padding.
    pub max_tokens_per_microbatch: usize,
    /// How log-probs are computed.
    pub scoring: ScoringSettings,
    /// KL penalty in the reward; needs a reference.
    pub kl_in_reward: Option<KlPenalty>,
    /// Seed of the run, for the order of rows.
    pub seed: u64,
    /// The step, counted from 0.
    pub step: u64,
    /// Learning rate of this step.
    pub learning_rate: f64,
}

/// What an update did.
#[derive(Clone, Debug, Default)]
pub struct UpdateOutcome {
    /// Sums over every inner step; divide once.
    pub sums: LossSums,
    /// Optimizer steps taken.
    pub num_inner_steps: usize,
    /// Inner steps that a non-finite loss or gradient cancelled.
    pub num_skipped_steps: usize,
    /// Global gradient norm before clipping, one per inner step taken.
    pub grad_norms: Vec<f64>,
    /// Rows that never ran because they could not contribute.
    pub num_idle_rows: usize,
    /// Tokens of the rows that went through forward and backward; a prompt counts for each of its
    /// completions, although it runs once per micro-batch.
    pub num_update_tokens: usize,
    /// Seconds of frozen forwards (old and reference log-probs).
    pub frozen_secs: f64,
}

/// The device failed while a number was read.
#[derive(Debug, Error)]
#[error("read the loss from the device")]
pub struct UpdateError(#[from] TensorReadError);

/// Moves `policy` by one step's rows; returns it with what happened. `old_logprobs` of every row
/// that ran are filled in.
///
/// # Errors
/// If the device cannot be read.
pub fn update(
    mut policy: Decoder,
    optimizer: &mut Optimizer,
    rows: &mut [Row],
    loss: &GrpoLoss,
    reference: Option<&Decoder>,
    settings: &UpdateSettings,
) -> Result<(Decoder, UpdateOutcome), UpdateError> {
    let device = policy.head_weight().device().inner();
    let context = LossContext {
        loss,
        reference,
        scoring: settings.scoring,
        kl_in_reward: settings.kl_in_reward,
        device,
    };
    let mut outcome = UpdateOutcome::default();
    if !needs_idle_rows(&context) {
        outcome.num_idle_rows = rows.iter().filter(|row| row.advantage == 0.0).count();
    }
    let plan = inner_steps(rows.len(), settings);
    if plan.len() > 1 {
        let started = Instant::now();
        freeze_old_logprobs(&policy.valid(), rows, &context, settings)?;
        outcome.frozen_secs += started.elapsed().as_secs_f64();
    }
    for members in plan {
        let gradients = minibatch_gradients(
            &policy,
            rows,
            &members,
            &context,
            settings.max_tokens_per_microbatch,
            &mut outcome,
        )?;
        let Some((gradients, is_finite)) = gradients else {
            continue;
        };
        if !is_finite {
            outcome.num_skipped_steps += 1;
            continue;
        }
        let (moved, step) = optimizer.step(settings.learning_rate, policy, gradients);
        policy = moved;
        match step {
            StepOutcome::Applied { grad_norm } => {
                outcome.grad_norms.push(grad_norm);
                outcome.num_inner_steps += 1;
            }
            StepOutcome::SkippedNonFinite => outcome.num_skipped_steps += 1,
        }
    }
    Ok((policy, outcome))
}

/// True if rows of zero advantage move the gradient: through a KL or entropy term, or through a
/// denominator that is local to the micro-batch.
fn needs_idle_rows(context: &LossContext<'_>) -> bool {
    let config = context.loss.config();
    context.kl_in_reward.is_some()
        || config.kl.is_some()
        || config.entropy_coef != 0.0
        || matches!(config.aggregation, Aggregation::LocalTokenMean)
}

/// Row indices of each inner step. A single mini-batch keeps the order of the rows; several are
/// cut from a seeded shuffle, new in each epoch.
fn inner_steps(num_rows: usize, settings: &UpdateSettings) -> Vec<Vec<usize>> {
    let mut plan = Vec::new();
    if num_rows == 0 {
        return plan;
    }
    let minibatch_rows = num_rows.div_ceil(settings.minibatches.max(1));
    for epoch in 0..settings.inner_epochs {
        let mut order: Vec<usize> = (0..num_rows).collect();
        if settings.minibatches > 1 {
            let key = PromptId(epoch as u64);
            stream(settings.seed, Stage::Update, settings.step, key, 0).shuffle(&mut order);
        }
        plan.extend(order.chunks(minibatch_rows).map(<[usize]>::to_vec));
    }
    plan
}

/// Fills `old_logprobs` of every row that will run, under the weights at the start of the step.
fn freeze_old_logprobs(
    frozen: &Decoder,
    rows: &mut [Row],
    context: &LossContext<'_>,
    settings: &UpdateSettings,
) -> Result<(), UpdateError> {
    let all: Vec<usize> = (0..rows.len()).collect();
    let running = running(rows, &all, context);
    let found = score_rows(frozen, rows, &running, settings, &context.device)?;
    for (row, logprobs) in running.into_iter().zip(found) {
        rows[row].old_logprobs = Some(logprobs);
    }
    Ok(())
}

/// Those of `members` that have a gradient.
fn running(rows: &[Row], members: &[usize], context: &LossContext<'_>) -> Vec<usize> {
    let needs_idle_rows = needs_idle_rows(context);
    let members = members.iter().copied();
    members
        .filter(|&row| needs_idle_rows || rows[row].advantage != 0.0)
        .collect()
}

/// Log-probs of the completion tokens of `members` under frozen weights, in their order.
///
/// # Errors
/// If the device cannot be read.
pub fn score_rows(
    frozen: &Decoder,
    rows: &[Row],
    members: &[usize],
    settings: &UpdateSettings,
    device: &Device,
) -> Result<Vec<Vec<f32>>, UpdateError> {
    let views: Vec<&Row> = members.iter().map(|&row| &rows[row]).collect();
    let mut found = vec![Vec::new(); members.len()];
    for batch in microbatches(&views, settings.max_tokens_per_microbatch) {
        let batch_rows: Vec<&Row> = batch.iter().map(|&view| views[view]).collect();
        let tensors = MicroBatch::new(&batch_rows, device);
        let packed = logprobs(frozen, &tensors, &settings.scoring).try_into_vec_as::<f32>()?;
        for (view, values) in batch.into_iter().zip(tensors.split(&packed)) {
            found[view] = values;
        }
    }
    Ok(found)
}

/// Gradient of one mini-batch and whether its loss is finite; `None` if no row has a gradient.
fn minibatch_gradients(
    policy: &Decoder,
    rows: &mut [Row],
    members: &[usize],
    context: &LossContext<'_>,
    max_tokens: usize,
    outcome: &mut UpdateOutcome,
) -> Result<Option<(GradientsParams, bool)>, UpdateError> {
    let denominators = Denominators {
        num_tokens: members
            .iter()
            .map(|&row| rows[row].num_completion_tokens())
            .sum(),
        num_sequences: members.len(),
    };
    let running = running(rows, members, context);
    let views: Vec<&Row> = running.iter().map(|&row| &rows[row]).collect();
    let (mut gradients, mut sums, mut frozen) = (None, LossSums::default(), Vec::new());
    for batch in microbatches(&views, max_tokens) {
        let batch_rows: Vec<&Row> = batch.iter().map(|&view| views[view]).collect();
        outcome.num_update_tokens += batch_rows.iter().map(|row| row.tokens.len()).sum::<usize>();
        let part = microbatch_gradients(policy, &batch_rows, context, denominators)?;
        outcome.frozen_secs += part.frozen_secs;
        gradients = Some(accumulate(policy, gradients, part.gradients));
        sums.add(&part.sums);
        frozen.extend(
            batch
                .into_iter()
                .map(|view| running[view])
                .zip(part.old_logprobs),
        );
    }
    for (row, logprobs) in frozen {
        rows[row].old_logprobs.get_or_insert(logprobs);
    }
    let is_finite = sums.loss().is_finite();
    outcome.sums.add(&sums);
    Ok(gradients.map(|gradients| (gradients, is_finite)))
}
