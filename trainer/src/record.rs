//! Every record that passes between stages. Plain data: no behaviour beyond small derived values.

use serde::{Deserialize, Serialize};

/// Identity of a problem: the first eight bytes of the SHA-256 of its normalised text.
///
/// Groups are keyed by this, never by text or position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PromptId(pub u64);

impl core::fmt::Display for PromptId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A problem as a dataset holds it, before any chat template.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// Content hash.
    pub id: PromptId,
    /// The problem statement.
    pub problem: String,
    /// The answer that the verifier compares with; readable, checked at load time.
    pub reference_answer: String,
    /// A worked solution that ends in the answer, for supervised warm starts.
    pub solution: Option<String>,
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// The text of the turn.
    pub content: String,
}

/// A problem rendered for one model: what the policy sees.
#[derive(Clone, Debug, PartialEq)]
pub struct Prompt {
    /// Same as the problem's.
    pub id: PromptId,
    /// The rendered text, chat template and few-shot turns included.
    pub prompt_text: String,
    /// The tokens of `prompt_text`.
    pub prompt_tokens: Vec<u32>,
    /// See [`Problem::reference_answer`].
    pub reference_answer: String,
    /// See [`Problem::solution`].
    pub solution: Option<String>,
}

/// Why a completion ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// A stop token was sampled; it is the last of `tokens`.
    StopToken,
    /// A stop string appeared in the decoded text.
    StopString,
    /// `max_new_tokens` were sampled: the completion is truncated.
    MaxNewTokens,
    /// The context length of the model was reached: the completion is truncated.
    ContextFull,
}

impl StopReason {
    /// True if the completion did not end by itself.
    pub fn is_truncated(self) -> bool {
        matches!(self, Self::MaxNewTokens | Self::ContextFull)
    }
}

/// Tokens sampled after a prompt, as the rollout engine reports them.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// The prompt.
    pub prompt_id: PromptId,
    /// Index within the group, `0..G`.
    pub index: u32,
    /// Sampled tokens, stop token included.
    pub tokens: Vec<u32>,
    /// Log-probability of each token, nats, under `softmax(logits / temperature)` before top-k,
    /// top-p, min-p and the repetition penalty.
    pub sampler_logprobs: Vec<f32>,
    /// Entropy of that same distribution at each position, nats.
    pub entropies: Vec<f32>,
    /// Why it ended.
    pub stop: StopReason,
}

/// Verdict on one completion.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reward {
    /// Weighted sum of the components; never overwritten.
    pub total: f64,
    /// Name, weighted value, in config order.
    pub components: Vec<(String, f64)>,
    /// The verifier's verdict on the answer.
    pub is_correct: bool,
    /// True if the answer came from the requested format.
    pub is_strict_format: bool,
    /// The verifier's reason code.
    pub reason: String,
    /// The answer text that was found, if any.
    pub extracted: Option<String>,
    /// Value of the learned reward before its weight, in [0, 1], if the run has one.
    pub learned: Option<f64>,
}

/// One prompt's completion with its verdict.
#[derive(Clone, Debug, PartialEq)]
pub struct Rollout {
    /// What was sampled.
    pub completion: Completion,
    /// `completion.tokens` decoded, special tokens removed.
    pub completion_text: String,
    /// What it earned.
    pub reward: Reward,
}

/// The G rollouts of one prompt in one step.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// The prompt.
    pub prompt: Prompt,
    /// Its rollouts, by index.
    pub rollouts: Vec<Rollout>,
}
