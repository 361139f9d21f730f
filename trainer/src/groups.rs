//! Prompts and completions to graded groups.

use crate::policy::tokenizer::Tokenizer;
use crate::record::{Completion, Group, Prompt, Rollout};
use crate::reward::{RewardConfig, grade_completion};
use crate::rollout::Request;

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
) -> Vec<Group> {
    prompts
        .into_iter()
        .zip(completions)
        .map(|(prompt, completions)| {
            let rollouts = completions
                .into_iter()
                .map(|completion| grade_rollout(&prompt, completion, tokenizer, config))
                .collect();
            Group { prompt, rollouts }
        })
        .collect()
}

fn grade_rollout(
    prompt: &Prompt,
    completion: Completion,
    tokenizer: &Tokenizer,
    config: &RewardConfig,
) -> Rollout {
    let completion_text = tokenizer.decode(&completion.tokens, true);
    let reward =
        grade_completion(config, &prompt.reference_answer, &completion_text, completion.stop);
    Rollout { completion, completion_text, reward }
}
