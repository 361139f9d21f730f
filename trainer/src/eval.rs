//! Held-out evaluation: accuracy with an interval clustered by prompt, pass@k, lengths.

use rlvr_verifier::Policy;
use serde::{Deserialize, Serialize};

use crate::accuracy::{Share, clustered_share, pass_at_k};
use crate::config::EvalSection;
use crate::groups::{grade_groups, requests};
use crate::policy::decoder::Decoder;
use crate::policy::folder::ModelFolder;
use crate::record::{Group, Prompt};
use crate::reward::RewardConfig;
use crate::rollout::{Engine, RolloutError, SamplingParams};
use crate::seed::Stage;

/// What an evaluation found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvalReport {
    /// Share of right completions, mean over prompts, 95 % interval clustered by prompt.
    pub accuracy: Share,
    /// `[k, pass@k]`, mean over prompts.
    pub pass_at_k: Vec<(usize, f64)>,
    /// Problems.
    pub num_prompts: usize,
    /// Completions per problem.
    pub samples: usize,
    /// Sampling temperature; 0 is greedy.
    pub temperature: f64,
    /// Mean length, stop token included.
    pub completion_tokens_mean: f64,
    /// Share of completions that hit a length limit.
    pub truncated_frac: f64,
    /// Share of completions whose answer stood in the requested format.
    pub strict_format_frac: f64,
}

/// Everything an evaluation needs besides the policy.
pub struct Evaluation<'a> {
    /// Tokenizer and stop tokens.
    pub folder: &'a ModelFolder,
    /// The rollout engine.
    pub engine: &'a Engine,
    /// How completions are sampled; temperature is replaced by the section's.
    pub sampling: &'a SamplingParams,
    /// How completions are graded.
    pub reward: &'a RewardConfig,
    /// What counts as a right answer.
    pub verifier: &'a Policy,
    /// Samples, temperature, pass@k.
    pub section: &'a EvalSection,
    /// Seed of the run. Every evaluation of a run draws the same random numbers, so that two
    /// evaluations differ by the policy alone.
    pub seed: u64,
}

impl Evaluation<'_> {
    /// Samples completions of `prompts` and grades them.
    ///
    /// # Errors
    /// If the engine cannot run a prompt.
    pub fn run(
        &self,
        policy: &Decoder,
        prompts: &[Prompt],
    ) -> Result<(EvalReport, Vec<Group>), RolloutError> {
        let sampling = SamplingParams {
            temperature: self.section.temperature as f32,
            ..self.sampling.clone()
        };
        let prompts = &prompts[..prompts.len().min(self.section.problems)];
        let requests = requests(prompts, self.section.samples as u32);
        let decode = |tokens: &[u32]| self.folder.tokenizer.decode(tokens, true);
        let output = self.engine.roll_out(
            policy,
            &decode,
            &requests,
            &sampling,
            self.seed,
            Stage::Eval,
            0,
        )?;
        let groups = grade_groups(
            prompts.to_vec(),
            output.completions,
            &self.folder.tokenizer,
            self.reward,
            self.verifier,
        );
        Ok((report(&groups, self.section), groups))
    }
}

/// Statistics of graded groups.
pub fn report(groups: &[Group], section: &EvalSection) -> EvalReport {
    let counts: Vec<(usize, usize)> = groups
        .iter()
        .map(|group| {
            let right = group
                .rollouts
                .iter()
                .filter(|rollout| rollout.reward.is_correct)
                .count();
            (group.rollouts.len(), right)
        })
        .collect();
    let rates: Vec<f64> = counts
        .iter()
        .map(|&(n, c)| c as f64 / n.max(1) as f64)
        .collect();
    let rollouts = || groups.iter().flat_map(|group| &group.rollouts);
    let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let share =
        |holds: Vec<bool>| mean(holds.into_iter().map(|h| f64::from(u8::from(h))).collect());
    let pass_mean = |k: usize| {
        let found = counts
            .iter()
            .filter_map(|&(n, c)| pass_at_k(n, c, k))
            .collect();
        (k, mean(found))
    };
    EvalReport {
        accuracy: clustered_share(&rates),
        pass_at_k: section.pass_at_k.iter().map(|&k| pass_mean(k)).collect(),
        num_prompts: groups.len(),
        samples: section.samples,
        temperature: section.temperature,
        completion_tokens_mean: mean(
            rollouts()
                .map(|rollout| rollout.completion.tokens.len() as f64)
                .collect(),
        ),
        truncated_frac: share(
            rollouts()
                .map(|rollout| rollout.completion.stop.is_truncated())
                .collect(),
        ),
        strict_format_frac: share(
            rollouts()
                .map(|rollout| rollout.reward.is_strict_format)
                .collect(),
        ),
    }
}
