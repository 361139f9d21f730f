//! One step of supervised training on worked solutions: the warm start before GRPO.
//!
//! The loss is the mean negative log-likelihood per solution token over the whole batch. It uses
//! the same batching, the same chunked log-probs and the same optimizer as the update.

use burn::tensor::{Tensor, TensorReadError};
use thiserror::Error;

use crate::batch::{MicroBatch, Row, microbatches};
use crate::gradient::{ScoreGradients, ScoringSettings, accumulate, backward, forward};
use crate::optimizer::{Optimizer, StepOutcome};
use crate::policy::decoder::Decoder;
use crate::record::Prompt;

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
    /// The device failed.
    #[error("read the loss from the device: {0:?}")]
    Device(TensorReadError),
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

/// Moves `policy` towards the solutions of `rows`.
///
/// # Errors
/// If the device cannot be read.
pub fn supervised_step(
    policy: Decoder,
    optimizer: &mut Optimizer,
    rows: &[Row],
    learning_rate: f64,
    max_tokens_per_microbatch: usize,
    scoring: &ScoringSettings,
) -> Result<(Decoder, SupervisedOutcome), SupervisedError> {
    let device = policy.head_weight().device().inner();
    let views: Vec<&Row> = rows.iter().collect();
    let num_tokens: usize = rows.iter().map(Row::num_completion_tokens).sum();
    let (mut gradients, mut losses) = (None, Vec::new());
    for members in microbatches(&views, max_tokens_per_microbatch) {
        let members: Vec<&Row> = members.into_iter().map(|row| views[row]).collect();
        let batch = MicroBatch::new(&members, &device);
        let pass = forward(&policy, &batch, scoring);
        let logprobs = pass.scores.logprobs.clone();
        losses.push(logprobs.clone().sum());
        let likelihood = ScoreGradients {
            logprobs: logprobs.full_like(-1.0 / num_tokens as f64),
            entropies: None,
            exact_kl: None,
        };
        let part = backward(&policy, pass, &batch, likelihood, scoring);
        gradients = Some(accumulate(&policy, gradients, part));
    }
    let total = Tensor::cat(losses, 0)
        .try_into_vec_as::<f64>()
        .map_err(SupervisedError::Device)?;
    let loss = -total.iter().sum::<f64>() / num_tokens.max(1) as f64;
    let (policy, step) = match gradients {
        Some(gradients) if loss.is_finite() => optimizer.step(learning_rate, policy, gradients),
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
