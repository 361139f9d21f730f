//! A completion in the making.

use super::engine::Call;
use super::sampling::Draw;
use super::{Request, RolloutError};
use crate::record::Completion;
use crate::seed::{Stream, stream};

/// A finished completion.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) request: usize,
    pub(super) completion: Completion,
}

/// A completion that has not ended.
pub(super) struct Active<'a> {
    place: usize,
    request: &'a Request,
    index: u32,
    stream: Stream,
    tokens: Vec<u32>,
    sampler_logprobs: Vec<f32>,
    entropies: Vec<f32>,
    /// Prompt and completion, kept only for the repetition penalty.
    seen: Vec<u32>,
}

impl<'a> Active<'a> {
    /// Completion `index` of the request at `place`, without tokens.
    pub(super) fn new(call: &Call<'_>, place: usize, request: &'a Request, index: u32) -> Self {
        let is_penalised = call.params.repetition_penalty != 1.0;
        Self {
            place,
            request,
            index,
            stream: stream(call.seed, call.stage, call.step, request.prompt_id, index),
            tokens: Vec::new(),
            sampler_logprobs: Vec::new(),
            entropies: Vec::new(),
            seen: match is_penalised {
                true => request.prompt_tokens.clone(),
                false => Vec::new(),
            },
        }
    }

    /// The number that the next token is drawn with, or the one `ahead` behind it.
    pub(super) fn uniform(&mut self, ahead: usize) -> f64 {
        self.stream.uniform_at((self.tokens.len() + ahead) as u64)
    }

    /// Tokens that it may still take.
    pub(super) fn most_left(&self, call: &Call<'_>) -> usize {
        let prompt_tokens = self.request.prompt_tokens.len();
        call.rules.most_left(prompt_tokens, self.tokens.len())
    }

    /// Prompt and completion, if there is a repetition penalty.
    pub(super) fn seen(&self) -> &[u32] {
        &self.seen
    }

    /// The last token.
    pub(super) fn last(&self) -> u32 {
        self.tokens.last().copied().unwrap_or(0)
    }

    /// Tokens of its prompt, and its own.
    pub(super) fn num_tokens(&self) -> [usize; 2] {
        [self.request.prompt_tokens.len(), self.tokens.len()]
    }

    /// Appends a draw.
    ///
    /// # Errors
    /// If there is none, because a logit was not finite.
    pub(super) fn push(&mut self, draw: Option<Draw>) -> Result<(), RolloutError> {
        let draw = draw.ok_or(RolloutError::NonFinite {
            prompt_id: self.request.prompt_id,
            index: self.index,
            position: self.tokens.len(),
        })?;
        self.tokens.push(draw.token);
        self.sampler_logprobs.push(draw.logprob);
        self.entropies.push(draw.entropy);
        if !self.seen.is_empty() {
            self.seen.push(draw.token);
        }
        Ok(())
    }

    /// The completion, if its last token ends it; its buffers are then taken.
    pub(super) fn done(&mut self, call: &Call<'_>) -> Option<Done> {
        let prompt_tokens = self.request.prompt_tokens.len();
        let stop = call.rules.check(prompt_tokens, &self.tokens, call.decode)?;
        Some(Done {
            request: self.place,
            completion: Completion {
                prompt_id: self.request.prompt_id,
                index: self.index,
                tokens: std::mem::take(&mut self.tokens),
                sampler_logprobs: std::mem::take(&mut self.sampler_logprobs),
                entropies: std::mem::take(&mut self.entropies),
                stop,
            },
        })
    }
}
