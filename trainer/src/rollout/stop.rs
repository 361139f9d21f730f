//! When a completion ends.

use super::SamplingParams;
use crate::record::StopReason;

/// Tokens decoded beyond the length of the longest stop string: a token may decode to nothing.
const EXTRA_TOKENS: usize = 8;

/// The stop rules of one call.
#[derive(Debug)]
pub(super) struct StopRules<'a> {
    params: &'a SamplingParams,
    context_tokens: usize,
    window_tokens: usize,
}

impl<'a> StopRules<'a> {
    pub(super) fn new(params: &'a SamplingParams, context_tokens: usize) -> Self {
        let longest = params.stop_strings.iter().map(String::len).max();
        Self {
            params,
            context_tokens,
            window_tokens: longest.map_or(0, |bytes| bytes + EXTRA_TOKENS),
        }
    }

    /// Why the completion ends with its last token, if it does. What the completion says counts
    /// before what limits it. Only the tail is decoded: an earlier match would have ended it.
    pub(super) fn check(
        &self,
        prompt_tokens: usize,
        tokens: &[u32],
        decode: &dyn Fn(&[u32]) -> String,
    ) -> Option<StopReason> {
        let last = tokens.last()?;
        if self.params.stop_ids.contains(last) {
            return Some(StopReason::StopToken);
        }
        if self.window_tokens > 0 {
            let text = decode(&tokens[tokens.len().saturating_sub(self.window_tokens)..]);
            if self
                .params
                .stop_strings
                .iter()
                .any(|stop| text.contains(stop.as_str()))
            {
                return Some(StopReason::StopString);
            }
        }
        if tokens.len() >= self.params.max_new_tokens {
            return Some(StopReason::MaxNewTokens);
        }
        (prompt_tokens + tokens.len() >= self.context_tokens).then_some(StopReason::ContextFull)
    }

    /// Tokens until a limit ends a completion that says nothing to end it.
    pub(super) fn most_left(&self, prompt_tokens: usize, num_tokens: usize) -> usize {
        let new = self.params.max_new_tokens.saturating_sub(num_tokens);
        new.min(
            self.context_tokens
                .saturating_sub(prompt_tokens + num_tokens),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::RolloutConfig;

    fn letters(tokens: &[u32]) -> String {
        tokens.iter().map(|t| char::from(b'a' + *t as u8)).collect()
    }

    fn check(params: &SamplingParams, prompt_tokens: usize, tokens: &[u32]) -> Option<StopReason> {
        StopRules::new(params, 40).check(prompt_tokens, tokens, &letters)
    }

    #[test]
    fn what_is_said_counts_before_limits() {
        let mut params = RolloutConfig::default().sampling(vec![7, 9]);
        params.max_new_tokens = 3;
        params.stop_strings = vec!["bc".into(), "xyz".into()];
        assert_eq!(check(&params, 1, &[0, 1]), None);
        assert_eq!(check(&params, 1, &[9]), Some(StopReason::StopToken));
        assert_eq!(check(&params, 1, &[0, 1, 2]), Some(StopReason::StopString));
        assert_eq!(
            check(&params, 1, &[0, 1, 1]),
            Some(StopReason::MaxNewTokens)
        );
        assert_eq!(check(&params, 38, &[0, 1]), Some(StopReason::ContextFull));
        assert_eq!(check(&params, 38, &[0, 7]), Some(StopReason::StopToken));
        assert_eq!(check(&params, 7, &[]), None);
    }

    #[test]
    fn a_limit_is_as_far_as_tokens_are_left() {
        let mut params = RolloutConfig::default().sampling(Vec::new());
        params.max_new_tokens = 5;
        let rules = StopRules::new(&params, 40);
        for prompt_tokens in [1, 34, 35, 36, 39] {
            for num_tokens in 1..=5.min(40 - prompt_tokens) {
                let left = rules.most_left(prompt_tokens, num_tokens);
                let ends = |more| {
                    let tokens = vec![3; num_tokens + more];
                    rules.check(prompt_tokens, &tokens, &letters).is_some()
                };
                assert!(ends(left), "{prompt_tokens}, {num_tokens}");
                assert!(
                    left == 0 || !ends(left - 1),
                    "{prompt_tokens}, {num_tokens}"
                );
            }
        }
    }

    #[test]
    fn a_stop_string_may_cross_tokens_far_into_a_completion() {
        let mut params = RolloutConfig::default().sampling(Vec::new());
        params.stop_strings = vec!["xyz".into()];
        let mut tokens = vec![0; 30];
        tokens.extend([23, 24]);
        assert_eq!(check(&params, 1, &tokens), None);
        tokens.push(25);
        assert_eq!(check(&params, 1, &tokens), Some(StopReason::StopString));
    }
}
