//! The rows and requests that benches and comparisons run.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use rlvr_backends::Precision;
use trainer::batch::{MicroBatch, Row};
use trainer::gradient::{ScoreGradients, ScoringSettings, backward, forward};
use trainer::policy::decoder::Decoder;
use trainer::record::PromptId;
use trainer::rollout::Request;

/// What goes through the update.
#[derive(Clone, Copy, Debug)]
pub struct UpdateLoad {
    /// Tokens are below this.
    pub vocab: usize,
    /// Prompts.
    pub num_prompts: usize,
    /// G: completions of each.
    pub group: usize,
    /// Tokens of every prompt.
    pub prompt_tokens: usize,
    /// Tokens of every completion.
    pub completion_tokens: usize,
}

impl UpdateLoad {
    /// One row per completion.
    pub fn rows(&self) -> Vec<Row> {
        let token = |place: usize| (place * 31 % self.vocab) as u32;
        (0..self.num_prompts * self.group)
            .map(|index| {
                let prompt = index / self.group;
                let completion = (0..self.completion_tokens).map(|t| token(t * 77 + index * 5));
                Row {
                    prompt_id: PromptId(prompt as u64),
                    rollout_index: (index % self.group) as u32,
                    tokens: (0..self.prompt_tokens)
                        .map(|t| token(t + prompt))
                        .chain(completion)
                        .collect(),
                    num_prompt_tokens: self.prompt_tokens,
                    advantage: 1.0,
                    sampler_logprobs: vec![0.0; self.completion_tokens],
                    old_logprobs: None,
                }
            })
            .collect()
    }
}

/// Gradients of the sum of all log-probs of a micro-batch.
pub fn gradients(policy: &Decoder, batch: &MicroBatch) -> GradientsParams {
    let scoring = ScoringSettings {
        temperature: 1.0,
        max_logits_bytes: 64 << 20,
        precision: Precision::F32,
    };
    let pass = forward(policy, batch, &scoring);
    let scores = ScoreGradients {
        logprobs: pass.scores.logprobs.ones_like(),
        entropies: None,
        exact_kl: None,
    };
    backward(policy, pass, batch, scores, &scoring)
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
