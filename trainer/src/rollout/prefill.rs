//! Prompts of one prefill.

use super::Request;

/// Cuts requests, in their order, into batches of at most `most_tokens` prompt tokens, unless a
/// single prompt has more.
pub(super) fn batches(
    requests: Vec<(usize, &Request)>,
    most_tokens: usize,
) -> Vec<Vec<(usize, &Request)>> {
    let mut batches: Vec<Vec<(usize, &Request)>> = Vec::new();
    let mut held = 0;
    for (place, request) in requests {
        let tokens = request.prompt_tokens.len();
        match batches.last_mut() {
            Some(batch) if held + tokens <= most_tokens => batch.push((place, request)),
            _ => {
                held = 0;
                batches.push(vec![(place, request)]);
            }
        }
        held += tokens;
    }
    batches
}

/// The prompts of a batch.
pub(super) fn prompts<'a>(batch: &[(usize, &'a Request)]) -> Vec<&'a [u32]> {
    let prompts = batch.iter().map(|(_, it)| &it.prompt_tokens[..]);
    prompts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::PromptId;

    #[test]
    fn batches_keep_the_order_and_the_limit() {
        let request = |tokens: usize| Request {
            prompt_id: PromptId(0),
            prompt_tokens: vec![0; tokens],
            num_completions: 1,
        };
        let requests = [3, 4, 20, 2, 8].map(request);
        let found = batches(requests.iter().enumerate().collect(), 10);
        let places: Vec<Vec<usize>> = found
            .iter()
            .map(|batch| batch.iter().map(|(place, _)| *place).collect())
            .collect();
        assert_eq!(places, [vec![0, 1], vec![2], vec![3, 4]]);
    }
}
