//! One step of supervised training on worked solutions: the warm start before GRPO.
//!
//! The loss is the mean negative log-likelihood per solution token over the whole batch. It uses
//! the same batching, the same chunked log-probs and the same optimizer as the update.

use burn::optim::GradientsParams;
use burn::tensor::{Tensor, TensorReadError};
use thiserror::Error;

use crate::batch::{MicroBatch, Row, microbatches};
use crate::gradient::{ScoreGradients, ScoringSettings, accumulate, backward, forward};
use crate::optimizer::{Optimizer, StepOutcome, global_norm};
use crate::policy::decoder::Decoder;
use crate::record::Prompt;
use crate::room::{MicroBatchLimit, UpdateError};

/// A prompt that cannot be trained on.
#[derive(Debug, Error)]
pub enum SupervisedError {
    /// The data has no worked solution for it.
    #[error(
        "train on prompt {id}: it has no worked solution; map one with data.fields.solution or \
         use a procedural task"
    )]
    NoSolution {
        /// The prompt.
        id: crate::record::PromptId,
    },
    /// The device failed or is too small.
    #[error(transparent)]
    Update(#[from] UpdateError),
}

/// The prompt followed by the tokens of its solution and the stop token.
///
/// # Errors
/// If the prompt has no solution.
pub fn supervised_row(
    prompt: &Prompt,
    solution_tokens: Vec<u32>,
    stop_id: u32,
) -> Result<Row, SupervisedError> {
    if prompt.solution.is_none() {
        return Err(SupervisedError::NoSolution { id: prompt.id });
    }
    let mut completion = solution_tokens;
    completion.push(stop_id);
    Ok(Row {
        prompt_id: prompt.id,
        rollout_index: 0,
        tokens: [prompt.prompt_tokens.as_slice(), &completion].concat(),
        num_prompt_tokens: prompt.prompt_tokens.len(),
        advantage: 1.0,
        sampler_logprobs: vec![0.0; completion.len()],
        old_logprobs: None,
    })
}

/// What one supervised step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SupervisedOutcome {
    /// Mean negative log-likelihood per solution token before the step, nats.
    pub loss: f64,
    /// Solution tokens in the batch.
    pub num_tokens: usize,
    /// Whether the weights moved.
    pub step: StepOutcome,
}

/// Moves `policy` towards the solutions of `rows`, in micro-batches within `limit`.
///
/// # Errors
/// If the device cannot be read, or has no room for a single solution.
pub fn supervised_step(
    policy: Decoder,
    optimizer: &mut Optimizer,
    rows: &[Row],
    learning_rate: f64,
    limit: &mut MicroBatchLimit,
    scoring: &ScoringSettings,
) -> Result<(Decoder, SupervisedOutcome), SupervisedError> {
    let device = policy.head_weight().device().inner();
    let views: Vec<&Row> = rows.iter().collect();
    let num_tokens: usize = rows.iter().map(Row::num_completion_tokens).sum();
    let (loss, gradients) = limit.attempt(&views, &device, |most| {
        likelihood_gradients(&policy, &views, num_tokens, most, scoring)
    })?;
    let (policy, step) = match gradients {
        Some((gradients, grad_norm)) if loss.is_finite() => {
            optimizer.step(learning_rate, policy, gradients, grad_norm)
        }
        _ => (policy, StepOutcome::SkippedNonFinite),
    };
    Ok((
        policy,
        SupervisedOutcome {
            loss,
            num_tokens,
            step,
        },
    ))
}

/// The loss, and its gradient with its norm if there are rows.
type Likelihood = (f64, Option<(GradientsParams, f64)>);

fn likelihood_gradients(
    policy: &Decoder,
    rows: &[&Row],
    num_tokens: usize,
    max_tokens: usize,
    scoring: &ScoringSettings,
) -> Result<Likelihood, TensorReadError> {
    let device = policy.head_weight().device().inner();
    let (mut gradients, mut losses) = (None, Vec::new());
    for members in microbatches(rows, max_tokens) {
        let members: Vec<&Row> = members.into_iter().map(|row| rows[row]).collect();
        let batch = MicroBatch::new(&members, &device);
        let pass = forward(policy, &batch, scoring);
        let logprobs = pass.scores.logprobs.clone();
        losses.push(logprobs.clone().sum());
        let likelihood = ScoreGradients {
            logprobs: logprobs.full_like(-1.0 / num_tokens as f64),
            entropies: None,
            exact_kl: None,
        };
        let part = backward(policy, pass, &batch, likelihood);
        gradients = Some(accumulate(policy, gradients, part));
    }
    let total = Tensor::cat(losses, 0).try_into_vec_as::<f64>()?;
    let loss = -total.iter().sum::<f64>() / num_tokens.max(1) as f64;
    let Some(gradients) = gradients else {
        return Ok((loss, None));
    };
    let norm = global_norm(policy, &gradients)?;
    Ok((loss, Some((gradients, norm))))
}
