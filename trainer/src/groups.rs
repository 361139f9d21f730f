//! Prompts and completions to graded groups.

use crate::batch::Row;
use crate::policy::tokenizer::Tokenizer;
use crate::record::{Completion, Group, Prompt, Rollout};
use crate::reward::{Grader, RewardConfig};
use crate::rollout::Request;
use rlvr_verifier::Policy;

/// One request per prompt for `group_size` completions each.
pub fn requests(prompts: &[Prompt], group_size: u32) -> Vec<Request> {
    let request = |prompt: &Prompt| Request {
        prompt_id: prompt.id,
        prompt_tokens: prompt.prompt_tokens.clone(),
        num_completions: group_size,
    };
    prompts.iter().map(request).collect()
}

/// Decodes and grades every completion. `completions` are by prompt, then by index.
pub fn grade_groups(
    prompts: Vec<Prompt>,
    completions: Vec<Vec<Completion>>,
    tokenizer: &Tokenizer,
    config: &RewardConfig,
    policy: &Policy,
) -> Vec<Group> {
    prompts
        .into_iter()
        .zip(completions)
        .map(|(prompt, completions)| {
            let grader = Grader::new(config, policy, &prompt.reference_answer);
            let rollouts = completions
                .into_iter()
                .map(|completion| {
                    let completion_text = tokenizer.decode(&completion.tokens, true);
                    let reward = grader.grade(&completion_text, completion.stop);
                    Rollout {
                        completion,
                        completion_text,
                        reward,
                    }
                })
                .collect();
            Group { prompt, rollouts }
        })
        .collect()
}

/// Rows to be scored, rollout after rollout; advantages play no part.
pub fn scoring_rows(groups: &[Group]) -> Vec<Row> {
    let all = groups.iter().flat_map(|group| {
        let prompt = &group.prompt;
        group.rollouts.iter().map(move |rollout| Row {
            prompt_id: prompt.id,
            rollout_index: rollout.completion.index,
            tokens: [prompt.prompt_tokens.as_slice(), &rollout.completion.tokens].concat(),
            num_prompt_tokens: prompt.prompt_tokens.len(),
            advantage: 0.0,
            sampler_logprobs: rollout.completion.sampler_logprobs.clone(),
            old_logprobs: None,
        })
    });
    all.collect()
}
