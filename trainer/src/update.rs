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

use crate::batch::{MicroBatch, Row, microbatches};
use crate::gradient::{ScoringSettings, accumulate, logprobs};
use crate::loss::{LossContext, microbatch_gradients};
use crate::optimizer::{Optimizer, StepOutcome, global_norm};
use crate::policy::decoder::Decoder;
use crate::record::PromptId;
use crate::room::MicroBatchLimit;
pub use crate::room::UpdateError;
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
#[derive(Clone, Debug)]
pub struct UpdateOutcome {
    /// The limit of the micro-batches at the end, and how often the device's memory lowered it.
    pub limit: MicroBatchLimit,
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

/// Moves `policy` by one step's rows; returns it with what happened. `old_logprobs` of every row
/// that ran are filled in. A device that runs out of memory gets smaller micro-batches.
///
/// # Errors
/// If the device cannot be read, or has no room for a single completion.
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
    let mut outcome = UpdateOutcome::new(settings);
    if !needs_idle_rows(&context) {
        outcome.num_idle_rows = rows.iter().filter(|row| row.advantage == 0.0).count();
    }
    let plan = inner_steps(rows.len(), settings);
    if plan.len() > 1 {
        let started = Instant::now();
        freeze_old_logprobs(&policy.valid(), rows, &context, &mut outcome.limit)?;
        outcome.frozen_secs += started.elapsed().as_secs_f64();
    }
    for members in plan {
        let running = running(rows, &members, &context);
        let views: Vec<&Row> = running.iter().map(|&row| &rows[row]).collect();
        let denominators = denominators(rows, &members);
        let found = outcome.limit.attempt(&views, &context.device, |most| {
            minibatch_gradients(&policy, &views, &context, denominators, most)
        })?;
        let Some(found) = found else {
            continue;
        };
        let is_finite = outcome.add(&found);
        for (row, logprobs) in running.into_iter().zip(found.old_logprobs) {
            rows[row].old_logprobs.get_or_insert(logprobs);
        }
        if !is_finite {
            outcome.num_skipped_steps += 1;
            continue;
        }
        let (rate, norm) = (settings.learning_rate, found.grad_norm);
        let (moved, step) = optimizer.step(rate, policy, found.gradients, norm);
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

impl UpdateOutcome {
    /// Nothing yet.
    fn new(settings: &UpdateSettings) -> Self {
        Self {
            limit: MicroBatchLimit::new(settings.max_tokens_per_microbatch),
            sums: LossSums::default(),
            num_inner_steps: 0,
            num_skipped_steps: 0,
            grad_norms: Vec::new(),
            num_idle_rows: 0,
            num_update_tokens: 0,
            frozen_secs: 0.0,
        }
    }

    /// Adds a mini-batch; true if its loss is finite.
    fn add(&mut self, found: &MiniBatch) -> bool {
        self.sums.add(&found.sums);
        self.num_update_tokens += found.num_tokens;
        self.frozen_secs += found.frozen_secs;
        found.sums.loss().is_finite()
    }
}

/// What the loss of a mini-batch is divided by, rows that never run included.
fn denominators(rows: &[Row], members: &[usize]) -> Denominators {
    let tokens = members.iter().map(|&row| rows[row].num_completion_tokens());
    Denominators {
        num_tokens: tokens.sum(),
        num_sequences: members.len(),
    }
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
    limit: &mut MicroBatchLimit,
) -> Result<(), UpdateError> {
    let all: Vec<usize> = (0..rows.len()).collect();
    let running = running(rows, &all, context);
    let views: Vec<&Row> = running.iter().map(|&row| &rows[row]).collect();
    let found = score_rows(frozen, &views, &context.scoring, limit, &context.device)?;
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

/// Log-probs of the completion tokens of `rows` under frozen weights, in their order. A device that
/// runs out of memory lowers the limit.
///
/// # Errors
/// If the device cannot be read, or has no room for a single completion.
pub fn score_rows(
    frozen: &Decoder,
    rows: &[&Row],
    scoring: &ScoringSettings,
    limit: &mut MicroBatchLimit,
    device: &Device,
) -> Result<Vec<Vec<f32>>, UpdateError> {
    limit.attempt(rows, device, |most| {
        let mut found = vec![Vec::new(); rows.len()];
        for batch in microbatches(rows, most) {
            let batch_rows: Vec<&Row> = batch.iter().map(|&row| rows[row]).collect();
            #[cfg(test)]
            crate::room::pretended::run(&batch_rows);
            let tensors = MicroBatch::new(&batch_rows, device);
            let packed = logprobs(frozen, &tensors, scoring).try_into_vec_as::<f32>()?;
            for (row, values) in batch.into_iter().zip(tensors.split(&packed)) {
                found[row] = values;
            }
        }
        Ok(found)
    })
}

/// Gradient of one mini-batch and what it took.
struct MiniBatch {
    gradients: GradientsParams,
    grad_norm: f64,
    sums: LossSums,
    /// Log-probs under the current weights, one vector per row.
    old_logprobs: Vec<Vec<f32>>,
    num_tokens: usize,
    frozen_secs: f64,
}

/// Gradient of `rows`, the part of a mini-batch that has one, in micro-batches of at most
/// `max_tokens`; `None` without rows.
fn minibatch_gradients(
    policy: &Decoder,
    rows: &[&Row],
    context: &LossContext<'_>,
    denominators: Denominators,
    max_tokens: usize,
) -> Result<Option<MiniBatch>, TensorReadError> {
    let (mut gradients, mut sums) = (None, LossSums::default());
    let (mut num_tokens, mut frozen_secs) = (0, 0.0);
    let mut old_logprobs = vec![Vec::new(); rows.len()];
    for batch in microbatches(rows, max_tokens) {
        let batch_rows: Vec<&Row> = batch.iter().map(|&row| rows[row]).collect();
        #[cfg(test)]
        crate::room::pretended::run(&batch_rows);
        num_tokens += batch_rows.iter().map(|row| row.tokens.len()).sum::<usize>();
        let part = microbatch_gradients(policy, &batch_rows, context, denominators)?;
        frozen_secs += part.frozen_secs;
        gradients = Some(accumulate(policy, gradients, part.gradients));
        sums.add(&part.sums);
        for (row, logprobs) in batch.into_iter().zip(part.old_logprobs) {
            old_logprobs[row] = logprobs;
        }
    }
    let Some(gradients) = gradients else {
        return Ok(None);
    };
    Ok(Some(MiniBatch {
        grad_norm: global_norm(policy, &gradients)?,
        gradients,
        sums,
        old_logprobs,
        num_tokens,
        frozen_secs,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimizer::{OptimizerSettings, Schedule, with_stable_ids};
    use crate::policy::decoder::tests::tiny_config;
    use crate::room::pretended::with_room;
    use rlvr_core::GrpoLossConfig;

    fn rows() -> Vec<Row> {
        let row = |index: usize| {
            let (prompt, completion) = (3 + index / 4, 2 + index % 5);
            let token = |place: usize| ((7 * index + 3 * place) % 40) as u32;
            Row {
                prompt_id: PromptId((index / 4) as u64),
                rollout_index: (index % 4) as u32,
                tokens: (0..prompt)
                    .map(|place| place as u32 + 1)
                    .chain((0..completion).map(token))
                    .collect(),
                num_prompt_tokens: prompt,
                advantage: index as f64 / 4.0 - 1.3,
                sampler_logprobs: vec![-3.0; completion],
                old_logprobs: None,
            }
        };
        (0..12).map(row).collect()
    }

    /// One step: weights, outcome, old log-probs.
    fn step(minibatches: usize) -> (Vec<f32>, UpdateOutcome, Vec<Row>) {
        let device = crate::test_device().autodiff();
        let policy = with_stable_ids(Decoder::init(&tiny_config(), 3, &device));
        let mut optimizer = Optimizer::new(&OptimizerSettings {
            learning_rate: 1e-3,
            beta_1: 0.9,
            beta_2: 0.999,
            // So large that the step is a multiple of the gradient, not of its sign.
            eps: 1.0,
            weight_decay: 0.0,
            max_grad_norm: None,
            warmup_steps: 0,
            schedule: Schedule::Constant,
            total_steps: 1,
        });
        let settings = UpdateSettings {
            inner_epochs: 1,
            minibatches,
            max_tokens_per_microbatch: 4096,
            scoring: ScoringSettings {
                temperature: 1.0,
                max_logits_bytes: 1 << 20,
                precision: rlvr_backends::Precision::F32,
            },
            kl_in_reward: None,
            seed: 1,
            step: 0,
            learning_rate: 1.0,
        };
        let loss = GrpoLossConfig {
            entropy_coef: 0.01,
            ..GrpoLossConfig::default()
        };
        let (loss, mut rows) = (loss.init().unwrap(), rows());
        let moved = update(policy, &mut optimizer, &mut rows, &loss, None, &settings);
        let (policy, outcome) = moved.unwrap();
        let head = policy.head_weight().inner();
        (head.try_into_vec_as::<f32>().unwrap(), outcome, rows)
    }

    #[test]
    fn a_device_out_of_memory_gets_the_same_gradient_in_smaller_pieces() {
        for minibatches in [1, 3] {
            let (whole, expected, rows) = step(minibatches);
            assert_eq!(expected.limit, MicroBatchLimit::new(4096));
            let (found, tried) = with_room(25, || step(minibatches));
            let (cut, found, cut_rows) = found;
            assert!(found.limit.num_retries > 0 && found.limit.max_tokens < 25);
            assert_eq!(tried.num_refused, found.limit.num_retries);
            assert!(tried.num_run > minibatches + tried.num_refused);
            let pairs = found.grad_norms.iter().zip(&expected.grad_norms);
            for (found, expected) in pairs {
                assert!((found / expected - 1.0).abs() < 1e-5, "{found}, {expected}");
            }
            assert_eq!(found.num_inner_steps, minibatches);
            assert_eq!(found.num_update_tokens, expected.num_update_tokens);
            assert!((found.sums.loss() - expected.sums.loss()).abs() < 1e-6);
            let start = Decoder::init(&tiny_config(), 3, &crate::test_device().autodiff());
            let start = start
                .head_weight()
                .inner()
                .try_into_vec_as::<f32>()
                .unwrap();
            let moved = |head: &[f32]| -> Vec<f32> {
                head.iter().zip(&start).map(|(a, b)| a - b).collect()
            };
            let (whole, cut) = (moved(&whole), moved(&cut));
            let largest = whole.iter().fold(0f32, |most, x| most.max(x.abs()));
            assert!(largest > 1e-2, "{largest}");
            for (whole, cut) in whole.iter().zip(&cut) {
                assert!((whole - cut).abs() < 1e-5, "{whole} against {cut}");
            }
            for (row, cut) in rows.iter().zip(&cut_rows) {
                let pairs = row.old_logprobs.iter().flatten();
                for (a, b) in pairs.zip(cut.old_logprobs.iter().flatten()) {
                    assert!((a - b).abs() < 1e-5);
                }
            }
        }
    }

    #[test]
    fn a_completion_that_does_not_fit_ends_the_step() {
        let error = std::panic::catch_unwind(|| with_room(4, || step(1)));
        let error = error.map(drop).expect_err("no room for five tokens");
        let text = error.downcast_ref::<String>().expect("the error of unwrap");
        assert!(text.contains("NoRoom"), "{text}");
    }
}
