//! The utility of a group: how much it moves the head per generated token. Analysis only, no
//! selection reads it.
//!
//! ```text
//! utility = || (1/G) sum_r A_r sum_t d log p(o_rt) / d head || / mean_r length_r
//! ```
//!
//! L2 norm of a prompt's policy gradient with respect to the last layer by response length: HIVE
//! (arXiv 2603.25184). The advantages are the run's own. A group without variance has none.

use burn::tensor::{Int, Tensor, TensorData};
use rlvr_core::{Precision, ScoringSettings, token_scores_backward};

use crate::advantage::{AdvantageSection, advantages};
use crate::policy::decoder::Decoder;
use crate::record::Group;
use crate::rollout::RolloutError;

/// Utilities of groups under the untracked `policy` that sampled them.
///
/// # Errors
/// If the device cannot be read.
pub fn utilities(
    policy: &Decoder,
    groups: &[&Group],
    section: &AdvantageSection,
    max_logits_bytes: usize,
) -> Result<Vec<f64>, RolloutError> {
    let utility = |group: &&Group| {
        let found = advantages(core::slice::from_ref(*group), section);
        let advantages = found.advantages.into_iter().next().unwrap_or_default();
        if advantages.iter().all(|it| *it == 0.0) {
            return Ok(0.0);
        }
        let norm = head_gradient_norm(policy, group, &advantages, max_logits_bytes)?;
        let count = group.rollouts.len() as f64;
        let lengths = group.rollouts.iter().map(|it| it.completion.tokens.len());
        // (1/G) norm / (tokens / G)
        Ok(norm / (lengths.sum::<usize>() as f64 / count) / count)
    };
    groups.iter().map(utility).collect()
}

/// Norm of `sum_r A_r sum_t d log p(o_rt) / d head`.
fn head_gradient_norm(
    policy: &Decoder,
    group: &Group,
    advantages: &[f64],
    max_logits_bytes: usize,
) -> Result<f64, RolloutError> {
    let device = policy.head_weight().device();
    let prompt = &group.prompt.prompt_tokens;
    let longest = group.rollouts.iter().map(|it| it.completion.tokens.len());
    let columns = prompt.len() + longest.max().unwrap_or(0);
    let mut tokens = vec![0_i64; group.rollouts.len() * columns];
    let (mut rows, mut targets, mut weights) = (Vec::new(), Vec::new(), Vec::new());
    for (index, (rollout, advantage)) in group.rollouts.iter().zip(advantages).enumerate() {
        let completion = &rollout.completion.tokens;
        let row = &mut tokens[index * columns..][..columns];
        for (cell, token) in row.iter_mut().zip(prompt.iter().chain(completion)) {
            *cell = i64::from(*token);
        }
        for (position, token) in completion.iter().enumerate() {
            rows.push((index * columns + prompt.len() + position - 1) as i64);
            targets.push(i64::from(*token));
            weights.push(*advantage as f32);
        }
    }
    let shape = [group.rollouts.len(), columns];
    let tokens = Tensor::<2, Int>::from_data(TensorData::new(tokens, shape), &device);
    let hidden = policy.hidden(tokens);
    let width = hidden.dims()[2];
    let rows = Tensor::<1, Int>::from_data(rows.as_slice(), &device);
    let hidden = hidden.reshape([shape[0] * columns, width]).select(0, rows);
    let gradients = token_scores_backward(
        hidden,
        policy.head_weight(),
        Tensor::from_data(targets.as_slice(), &device),
        Tensor::from_data(weights.as_slice(), &device),
        None,
        &ScoringSettings {
            temperature: 1.0,
            max_logits_bytes,
            precision: Precision::F32,
        },
    );
    let square = gradients.head.square().sum();
    let square = square
        .try_into_vec_as::<f32>()
        .map_err(|error| RolloutError::Device {
            reason: error.to_string(),
        })?;
    Ok(f64::from(square.first().copied().unwrap_or(0.0)).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::decoder::tests::tiny_config;
    use crate::record::{Completion, Prompt, PromptId, Reward, Rollout, StopReason};
    use burn::tensor::Device;

    fn group(completions: &[(&[u32], f64)]) -> Group {
        let rollout = |(index, (tokens, reward)): (usize, &(&[u32], f64))| Rollout {
            completion: Completion {
                prompt_id: PromptId(1),
                index: index as u32,
                tokens: tokens.to_vec(),
                sampler_logprobs: vec![0.0; tokens.len()],
                entropies: vec![0.0; tokens.len()],
                stop: StopReason::StopToken,
            },
            completion_text: String::new(),
            reward: Reward {
                total: *reward,
                components: Vec::new(),
                is_correct: *reward > 0.0,
                is_strict_format: true,
                reason: String::new(),
                extracted: None,
                learned: None,
            },
        };
        Group {
            prompt: Prompt {
                id: PromptId(1),
                prompt_text: String::new(),
                prompt_tokens: vec![3, 4],
                reference_answer: String::new(),
                solution: None,
            },
            rollouts: completions.iter().enumerate().map(rollout).collect(),
        }
    }

    fn section() -> AdvantageSection {
        AdvantageSection {
            scale: rlvr_core::Scale::None,
            ..AdvantageSection::default()
        }
    }

    /// The gradient by central differences of the weighted log-probs in single head weights.
    fn reference(policy: &Decoder, group: &Group, advantages: &[f64]) -> f64 {
        let head = policy.head_weight();
        let [vocab, width] = head.dims();
        let head = head.into_data().try_to_vec::<f32>().unwrap();
        let mut gradient = vec![0.0_f64; vocab * width];
        for (rollout, advantage) in group.rollouts.iter().zip(advantages) {
            let all: Vec<i64> = [&group.prompt.prompt_tokens[..], &rollout.completion.tokens]
                .concat()
                .iter()
                .map(|&it| i64::from(it))
                .collect();
            let shape = [1, all.len()];
            let input = Tensor::from_data(TensorData::new(all.clone(), shape), &Device::default());
            let hidden = policy
                .hidden(input)
                .into_data()
                .try_to_vec::<f32>()
                .unwrap();
            for t in 1..all.len() - 1 {
                let h: Vec<f64> = hidden[t * width..][..width]
                    .iter()
                    .map(|&x| x.into())
                    .collect();
                let logit = |v: usize| -> f64 {
                    let row = &head[v * width..][..width];
                    row.iter().zip(&h).map(|(w, h)| f64::from(*w) * h).sum()
                };
                let weights: Vec<f64> = (0..vocab).map(|v| logit(v).exp()).collect();
                let total: f64 = weights.iter().sum();
                for v in 0..vocab {
                    let is_target = f64::from(u8::from(all[t + 1] == v as i64));
                    let by_logit = advantage * (is_target - weights[v] / total);
                    for d in 0..width {
                        gradient[v * width + d] += by_logit * h[d];
                    }
                }
            }
        }
        gradient.iter().map(|g| g * g).sum::<f64>().sqrt()
    }

    #[test]
    fn utility_is_the_norm_of_the_head_gradient_by_length() {
        let policy = Decoder::init(&tiny_config(), 3, &Device::default());
        let mixed = group(&[(&[5, 6, 0], 1.0), (&[7, 0], 0.0), (&[8, 9, 10, 0], 0.0)]);
        let equal = group(&[(&[5, 6], 1.0), (&[7], 1.0)]);
        let found = utilities(&policy, &[&mixed, &equal], &section(), 500).unwrap();
        let third = 1.0 / 3.0;
        let norm = reference(&policy, &mixed, &[2.0 * third, -third, -third]);
        // Three completions of three tokens on average.
        let expected = norm / 3.0 / 3.0;
        assert!(
            (found[0] / expected - 1.0).abs() < 1e-4,
            "{found:?} {expected}"
        );
        assert_eq!(found[1], 0.0);
    }
}
