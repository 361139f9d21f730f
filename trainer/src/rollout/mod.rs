//! Rollouts: policy and prompts in, completions with sampler log-probs out.
//!
//! [`Engine::roll_out`] runs every prompt once, stores its keys and values once for all its
//! completions and decodes all slots together. A slot whose completion ends is taken by the next
//! waiting one in the same step, so a long completion never holds the others.
//!
//! # What does not change a completion
//!
//! Draws come from [`crate::seed`] streams keyed by (seed, stage, step, prompt id, index) and read
//! by position, and the forward pass of a row does not depend on the other rows or on the slot
//! ([`crate::policy::prefill`] and [`rlvr_backends::kernels::project`] say why). On the CPU in f32 a
//! completion is therefore the same, token for token and bit for bit in its log-probs, whatever it
//! is batched with, for any number of slots, workers and steps per read, on one machine and build.
//! Elsewhere the numbers drawn with are the same, but a device may round a row differently in
//! another batch, and a near-tie may then fall another way.
//!
//! # Off the CPU
//!
//! A decode step must not wait for transfers: tokens are drawn on the device ([`device_sampling`])
//! and go to the next step without passing through the host, which writes four numbers per row and
//! step (where its prompt stands, how long both are, and what to draw with) and reads three, several
//! steps at once (`burst`). A completion that ends meanwhile goes on in vain until the read, and what
//! was drawn behind its end is dropped. Shapes repeat, so that kernels are not prepared anew for
//! every step: decoded rows are rounded up to a few numbers.
//!
//! Nor must it be many launches, which are the time of a small model: on CubeCL devices a block is
//! eight, four of them products, and sampling is one ([`rlvr_backends::kernels`]).
//!
//! And where the device records launches, a step is one launch: a CUDA graph (`repeat`). What differs
//! from step to step stands in memory that is written in place, as does the cache; a recording is
//! held against the plain steps before it is used, and given up when anything was moved.

mod active;
mod burst;
pub mod device_sampling;
mod draws;
mod engine;
pub mod memory;
mod pool;
mod prefill;
mod queue;
mod repeat;
mod room;
pub mod sampling;
mod seats;
mod stop;
#[cfg(test)]
mod tests;
mod worker;

use rlvr_backends::OutOfMemory;
use rlvr_backends::kernels::Filters;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::config::InvalidValue;
use crate::record::{Completion, PromptId};

pub use engine::{Engine, TokenDecoder};
pub use memory::MemoryEstimate;
pub use pool::{PromptEntropy, PromptPool, ScoreSettings, ScoreStats, TemplateTokens};

/// The section `rollout`: how completions are sampled, and with how much memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RolloutConfig {
    /// G: completions per prompt and step.
    pub group_size: usize,
    /// Upper bound on the bytes of the key-value cache, all workers together; or "auto", the default:
    /// 1 GiB, and what `max_slots` need on a device that tells its memory.
    pub kv_budget_bytes: u64,
    /// Most completions decoded at once, all workers together; or "auto", the default: 64, and up to
    /// 1,024 on a device that tells its memory.
    pub max_slots: usize,
    /// Threads that decode their own share of the slots. More than one pays for small models on a
    /// CPU; on a GPU keep one.
    pub num_workers: usize,
    /// Keep a second copy of the block weights during a rollout, laid out for decoding: half as
    /// long again per step without it on a CPU. Turn it off where memory is short.
    pub copy_weights: bool,
    /// Most tokens in one prefill batch; or "auto", the default: 2,048, and up to 16,384 on a device
    /// that tells its memory.
    pub prefill_tokens: usize,
    /// Where tokens are drawn: `host` reads the logits of every decode step, `device` leaves them
    /// and reads three numbers per row, `auto` is `device` except on a CPU. With a repetition
    /// penalty it is always the host.
    pub sampling: SamplingPlace,
    /// Most decode steps that are read at once where tokens are drawn on the device, which does not
    /// wait for the host in between; a completion that ends goes on in vain until the read. Changes
    /// completions no more than `max_slots` does. Without effect where tokens are drawn on the host.
    pub steps_per_read: usize,
    /// Record the launches of a decode step and repeat them as one, where the device can (CUDA
    /// graphs) and tokens are drawn on it; there is one worker then. Changes completions no more than
    /// `max_slots` does.
    pub record_steps: bool,
    /// Sampling temperature; 0 is greedy.
    pub temperature: f64,
    /// Keep the k most likely tokens.
    pub top_k: Option<usize>,
    /// Keep the most likely tokens that hold this much probability.
    pub top_p: Option<f64>,
    /// Keep tokens at least this likely relative to the most likely.
    pub min_p: Option<f64>,
    /// Divides the positive and multiplies the negative logits of tokens seen before; 1 is off.
    pub repetition_penalty: f64,
    /// Most tokens of a completion.
    pub max_new_tokens: usize,
    /// Texts that end a completion, beside the stop tokens of the model.
    pub stop_strings: Vec<String>,
}

impl Default for RolloutConfig {
    fn default() -> Self {
        Self {
            group_size: 8,
            kv_budget_bytes: 1 << 30,
            max_slots: 64,
            num_workers: 1,
            copy_weights: true,
            prefill_tokens: 2048,
            sampling: SamplingPlace::Auto,
            steps_per_read: 4,
            record_steps: true,
            temperature: 1.0,
            top_k: None,
            top_p: None,
            min_p: None,
            repetition_penalty: 1.0,
            max_new_tokens: 256,
            stop_strings: Vec::new(),
        }
    }
}

impl RolloutConfig {
    /// Checks every value.
    pub fn validate(&self) -> Result<(), InvalidValue> {
        let positive = |key: &str, value: usize| match value {
            0 => Err(InvalidValue::new(key, value, "at least 1")),
            _ => Ok(()),
        };
        positive("rollout.group_size", self.group_size)?;
        positive("rollout.max_slots", self.max_slots)?;
        positive("rollout.num_workers", self.num_workers)?;
        positive("rollout.prefill_tokens", self.prefill_tokens)?;
        positive("rollout.steps_per_read", self.steps_per_read)?;
        if self.kv_budget_bytes == 0 {
            let allowed = "at least the keys and values of one sequence";
            return Err(InvalidValue::new("rollout.kv_budget_bytes", 0, allowed));
        }
        self.sampling(Vec::new()).validate()
    }

    /// As it is where launches are recorded: nothing else may run on the device meanwhile.
    pub fn recorded(&self) -> Self {
        Self {
            num_workers: 1,
            ..self.clone()
        }
    }

    /// The sampling part, with the stop tokens of a model.
    pub fn sampling(&self, stop_ids: Vec<u32>) -> SamplingParams {
        SamplingParams {
            temperature: self.temperature as f32,
            top_k: self.top_k,
            top_p: self.top_p.map(|p| p as f32),
            min_p: self.min_p.map(|p| p as f32),
            repetition_penalty: self.repetition_penalty as f32,
            max_new_tokens: self.max_new_tokens,
            stop_ids,
            stop_strings: self.stop_strings.clone(),
        }
    }
}

/// Where tokens are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SamplingPlace {
    /// On the device, unless it is the host.
    #[default]
    Auto,
    /// In f64, from logits that are read every decode step.
    Host,
    /// In f32, beside the logits.
    Device,
}

impl SamplingPlace {
    /// True if it stands for the device, where that may be the host.
    pub fn is_device(self, is_host: bool) -> bool {
        match self {
            Self::Auto => !is_host,
            Self::Host => false,
            Self::Device => true,
        }
    }
}

/// How one call samples. See [`RolloutConfig`] for the meaning of the shared fields.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingParams {
    /// 0 is greedy; log-probs and entropies are then those of temperature 1.
    pub temperature: f32,
    /// Keep the k most likely tokens, and those tied with the last of them.
    pub top_k: Option<usize>,
    /// In (0, 1].
    pub top_p: Option<f32>,
    /// In [0, 1].
    pub min_p: Option<f32>,
    /// Positive.
    pub repetition_penalty: f32,
    /// At least 1.
    pub max_new_tokens: usize,
    /// Tokens that end a completion and are its last.
    pub stop_ids: Vec<u32>,
    /// Texts that end a completion.
    pub stop_strings: Vec<String>,
}

impl SamplingParams {
    /// What may be drawn.
    pub fn filters(&self) -> Filters {
        Filters {
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
        }
    }

    /// Checks every value; keys are those of the section `rollout`.
    pub fn validate(&self) -> Result<(), InvalidValue> {
        let check = |holds: bool, key: &str, value: String, allowed: &str| match holds {
            true => Ok(()),
            false => Err(InvalidValue::new(&format!("rollout.{key}"), value, allowed)),
        };
        let temperature = self.temperature;
        check(
            temperature.is_finite() && temperature >= 0.0,
            "temperature",
            temperature.to_string(),
            "0 (greedy) or more",
        )?;
        if let Some(k) = self.top_k {
            check(k > 0, "top_k", k.to_string(), "at least 1, or leave it out")?;
        }
        if let Some(p) = self.top_p {
            let holds = p > 0.0 && p <= 1.0;
            check(holds, "top_p", p.to_string(), "above 0 and at most 1")?;
        }
        if let Some(p) = self.min_p {
            let holds = (0.0..=1.0).contains(&p);
            check(holds, "min_p", p.to_string(), "between 0 and 1")?;
        }
        let penalty = self.repetition_penalty;
        check(
            penalty.is_finite() && penalty > 0.0,
            "repetition_penalty",
            penalty.to_string(),
            "above 0; 1 is off",
        )?;
        let most = self.max_new_tokens;
        check(most > 0, "max_new_tokens", most.to_string(), "at least 1")?;
        check(
            self.stop_strings.iter().all(|text| !text.is_empty()),
            "stop_strings",
            "\"\"".into(),
            "texts of at least one character",
        )
    }
}

/// One prompt and how many completions it gets.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Keys the random streams.
    pub prompt_id: PromptId,
    /// At least one token.
    pub prompt_tokens: Vec<u32>,
    /// G; completions get the indices `0..num_completions`.
    pub num_completions: u32,
}

/// What a call to [`Engine::roll_out`] gives back.
#[derive(Clone, Debug)]
pub struct RolloutOutput {
    /// By request, then by index.
    pub completions: Vec<Vec<Completion>>,
    /// What it took.
    pub stats: RolloutStats,
}

/// Counts and times of one call.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RolloutStats {
    /// Prompt tokens that were run.
    pub prefill_tokens: u64,
    /// Prompts that were not run because a pool held their keys and values.
    pub num_reused_prompts: u64,
    /// Tokens of the completions.
    pub decode_tokens: u64,
    /// Forward passes of one token per row, all workers together.
    pub decode_steps: u64,
    /// Times that the host waited for what those passes left: once a pass, or every few passes
    /// where tokens are drawn on the device.
    pub decode_reads: u64,
    /// Passes that were replays of a recorded one.
    pub replayed_steps: u64,
    /// Rows of those passes that held a completion before its end, as a fraction of the slots.
    pub slot_use_frac: f64,
    /// Time in prefill, mean over workers.
    pub prefill_secs: f64,
    /// Time in decode steps, sampling included, mean over workers.
    pub decode_secs: f64,
    /// Time in sampling on the host alone, first tokens included, mean over workers; 0 where the
    /// device samples.
    pub sampling_secs: f64,
    /// Wall time of the call.
    pub wall_secs: f64,
    /// Bytes of the key-value cache.
    pub kv_bytes: u64,
    /// Completions decoded at once, at most.
    pub num_slots: usize,
    /// Threads used.
    pub num_workers: usize,
}

/// Why completions could not be made.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum RolloutError {
    /// No room for a single new token.
    #[error(
        "roll out prompt {prompt_id}: its {prompt_tokens} tokens leave no room in the model's context of {context_tokens}; shorten it or drop it with a prompt length limit"
    )]
    PromptTooLong {
        /// The prompt.
        prompt_id: PromptId,
        /// Its length.
        prompt_tokens: usize,
        /// The longest sequence of the model.
        context_tokens: usize,
    },
    /// Nothing to condition on.
    #[error("roll out prompt {prompt_id}: it has no tokens")]
    EmptyPrompt {
        /// The prompt.
        prompt_id: PromptId,
    },
    /// A token that the embedding does not have.
    #[error(
        "roll out prompt {prompt_id}: token {token} is outside the vocabulary of {vocab_size}; tokenizer and model do not belong together"
    )]
    UnknownToken {
        /// The prompt.
        prompt_id: PromptId,
        /// The token.
        token: u32,
        /// Rows of the embedding.
        vocab_size: usize,
    },
    /// Not even one sequence fits.
    #[error(
        "fit a key-value cache into {budget_bytes} bytes: a sequence of {column_tokens} tokens needs {needed_bytes}; raise rollout.kv_budget_bytes or lower rollout.max_new_tokens"
    )]
    BudgetTooSmall {
        /// `rollout.kv_budget_bytes`.
        budget_bytes: u64,
        /// Bytes of a slot.
        needed_bytes: u64,
        /// Tokens of one slot.
        column_tokens: usize,
    },
    /// The device has no room for a single completion.
    #[error(
        "fit one completion of {tokens} tokens, prompt included, into the device's memory ({shortage}): lower rollout.max_new_tokens, or let memory.budget choose"
    )]
    NoRoom {
        /// Tokens of the longest.
        tokens: usize,
        /// What the device said.
        shortage: OutOfMemory,
    },
    /// A value that cannot be used.
    #[error(transparent)]
    Sampling(#[from] InvalidValue),
    /// The policy gave NaN or infinity.
    #[error(
        "sample completion {index} of prompt {prompt_id} at position {position}: the policy's logits are not finite; its weights are damaged or the learning rate is too high"
    )]
    NonFinite {
        /// The prompt.
        prompt_id: PromptId,
        /// Which completion.
        index: u32,
        /// Position within the completion.
        position: usize,
    },
    /// An entropy is NaN or infinite.
    #[error(
        "score prompt {prompt_id}: its entropy is not finite; the policy's weights are damaged or the learning rate is too high"
    )]
    NonFiniteEntropy {
        /// The prompt.
        prompt_id: PromptId,
    },
    /// Keys and values of other weights.
    #[error(
        "roll out from a pool of prompts: it was made with version {cached} of the weights, the policy is version {current}"
    )]
    StaleCache {
        /// Version of the pool.
        cached: u64,
        /// Version of the policy.
        current: u64,
    },
    /// Recorded launches could not be repeated; the engine does without them then.
    #[error("record the launches of a decode step: {reason}")]
    Recording {
        /// What went wrong.
        reason: String,
    },
    /// The device failed.
    #[error("read logits from the device: {reason}")]
    Device {
        /// What it said.
        reason: String,
    },
}
