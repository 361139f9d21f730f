//! The rows and requests that are measured.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use rlvr_backends::Precision;

use super::Load;
use crate::batch::{MicroBatch, Row};
use crate::gradient::{ScoreGradients, ScoringSettings, backward, forward};
use crate::policy::decoder::Decoder;
use crate::record::PromptId;
use crate::rollout::Request;

impl Load {
    /// One row per completion, for a vocabulary of `vocab` tokens.
    pub fn rows(&self, vocab: usize) -> Vec<Row> {
        let token = |place: usize| (place * 31 % vocab) as u32;
        (0..self.num_prompts * self.group)
            .map(|index| {
                let prompt = index / self.group;
                let completion = (0..self.new_tokens).map(|t| token(t * 77 + index * 5));
                Row {
                    prompt_id: PromptId(prompt as u64),
                    rollout_index: (index % self.group) as u32,
                    tokens: (0..self.prompt_tokens)
                        .map(|t| token(t + prompt))
                        .chain(completion)
                        .collect(),
                    num_prompt_tokens: self.prompt_tokens,
                    advantage: 1.0,
                    sampler_logprobs: vec![0.0; self.new_tokens],
                    old_logprobs: None,
                }
            })
            .collect()
    }
}

/// Log-probs at temperature 1, in chunks of at most 64 MiB of logits.
pub fn scoring(precision: Precision) -> ScoringSettings {
    ScoringSettings {
        temperature: 1.0,
        max_logits_bytes: 64 << 20,
        precision,
    }
}

/// Gradients of the sum of all log-probs of a micro-batch.
pub fn gradients(
    policy: &Decoder,
    batch: &MicroBatch,
    scoring: &ScoringSettings,
) -> GradientsParams {
    let pass = forward(policy, batch, scoring);
    let scores = ScoreGradients {
        logprobs: pass.scores.logprobs.ones_like(),
        entropies: None,
        exact_kl: None,
    };
    backward(policy, pass, batch, scores)
}

/// Sum over all gradients; reading it waits for the device.
pub fn total(policy: &Decoder, gradients: &GradientsParams) -> f32 {
    struct Total<'a>(&'a GradientsParams, f32);
    impl ModuleVisitor for Total<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.0.get::<D>(param.id) {
                self.1 += gradient.sum().into_scalar::<f32>();
            }
        }
    }
    let mut total = Total(gradients, 0.0);
    policy.visit(&mut total);
    total.1
}

/// `num_prompts` different prompts of `prompt_tokens` tokens, `group` completions each.
pub fn requests(
    vocab: usize,
    num_prompts: usize,
    group: usize,
    prompt_tokens: usize,
) -> Vec<Request> {
    (0..num_prompts)
        .map(|prompt| Request {
            prompt_id: PromptId(prompt as u64),
            prompt_tokens: (0..prompt_tokens)
                .map(|t| ((t * 31 + prompt) % vocab) as u32)
                .collect(),
            num_completions: group as u32,
        })
        .collect()
}
