//! Prompts that have been run once: their entropies, and the keys and values that their
//! completions go on from.
//!
//! ```text
//! Engine::score_prompts ──> entropies ──> (a gate, elsewhere) ──> PromptPool::keep ──> roll_out
//! ```
//!
//! One forward pass serves both: it gives the entropy of every position and leaves the cache that
//! a selected prompt's completions decode from. A prompt that is selected is not run again; what a
//! gate rejects is freed.
//!
//! Prompt entropy is that of HIVE (arXiv 2603.25184): the mean over positions 2..L of the entropy
//! of the whole next-token distribution at temperature 1, not the log-prob of the token that
//! follows. The distribution after the last prompt token belongs to the completion.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Instant;

use burn::tensor::Tensor;
use rlvr_backends::Precision;
use rlvr_backends::kernels::token_entropies;
use rlvr_core::ScoringSettings;

use super::engine::Engine;
use super::prefill::{batches, prompts};
use super::{Request, RolloutError};
use crate::policy::cache::{PromptKv, kv_bytes};
use crate::policy::decoder::Decoder;
use crate::policy::prefill::Prefill;
use crate::record::PromptId;

/// How prompts are scored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoreSettings {
    /// Largest logits tensor, bytes.
    pub max_logits_bytes: usize,
    /// Most bytes of keys and values that a pool holds; prompts beyond it are run again if they
    /// are selected.
    pub kv_pool_bytes: u64,
    /// Tokens that the template puts around every question.
    pub template: TemplateTokens,
}

/// Tokens that are the same in every prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TemplateTokens {
    /// At the start.
    pub prefix: usize,
    /// At the end.
    pub suffix: usize,
}

impl TemplateTokens {
    /// The longest common beginning and end of some prompts. A single prompt has no question
    /// apart from its template, so it gets none.
    pub fn of<'a>(prompts: impl IntoIterator<Item = &'a [u32]>) -> Self {
        let mut prompts = prompts.into_iter();
        let Some(first) = prompts.next() else {
            return Self::default();
        };
        let (mut prefix, mut suffix, mut shortest) = (first.len(), first.len(), first.len());
        let mut is_alone = true;
        for prompt in prompts {
            is_alone = false;
            let common = |pairs: &mut dyn Iterator<Item = (&u32, &u32)>| {
                pairs.take_while(|(a, b)| a == b).count()
            };
            prefix = prefix.min(common(&mut first.iter().zip(prompt)));
            let mut backwards = first.iter().rev().zip(prompt.iter().rev());
            suffix = suffix.min(common(&mut backwards));
            shortest = shortest.min(prompt.len());
        }
        match is_alone {
            true => Self::default(),
            false => Self {
                prefix,
                suffix: suffix.min(shortest - prefix),
            },
        }
    }
}

/// What one forward pass says about a prompt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PromptEntropy {
    /// The prompt.
    pub prompt_id: PromptId,
    /// Mean entropy over positions 2..L, nats; 0 for a prompt of one token.
    pub entropy: f64,
    /// The same over positions that predict a token of the question; none if there is none.
    pub question_entropy: Option<f64>,
}

/// Counts and times of scoring.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ScoreStats {
    /// Prompts.
    pub num_prompts: u64,
    /// Their tokens.
    pub scored_tokens: u64,
    /// Time of the forward passes, without head and entropies.
    pub prefill_secs: f64,
    /// Time of vocabulary projection and entropies.
    pub entropy_secs: f64,
}

/// Keys and values of scored prompts, for one version of the weights.
#[derive(Debug, Default)]
pub struct PromptPool {
    weights_version: u64,
    held_bytes: u64,
    batches: Vec<PoolBatch>,
}

/// Prompts that were run together.
#[derive(Debug)]
struct PoolBatch {
    prompt_ids: Vec<PromptId>,
    prefill: Prefill,
    bytes: u64,
}

/// A pooled prompt, ready to be decoded from.
#[derive(Debug)]
pub(super) struct PooledPrompt<'a> {
    pub(super) layers: &'a [PromptKv],
    pub(super) rows: Range<usize>,
}

impl PromptPool {
    /// An empty pool for the weights of this version.
    pub fn new(weights_version: u64) -> Self {
        Self {
            weights_version,
            ..Self::default()
        }
    }

    /// Frees every prompt for which `is_kept` does not hold.
    pub fn keep(&mut self, is_kept: impl Fn(PromptId) -> bool) {
        let batches = std::mem::take(&mut self.batches).into_iter();
        self.batches = batches.filter_map(|batch| batch.keep(&is_kept)).collect();
        self.held_bytes = self.batches.iter().map(|batch| batch.bytes).sum();
    }

    /// Bytes of the keys and values held.
    pub fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    /// Refuses weights other than those that the prompts were run with.
    pub(super) fn check(&self, weights_version: u64) -> Result<(), RolloutError> {
        if self.weights_version == weights_version {
            return Ok(());
        }
        Err(RolloutError::StaleCache {
            cached: self.weights_version,
            current: weights_version,
        })
    }

    /// Where the prompts are: batch and place in it.
    pub(super) fn places(&self) -> BTreeMap<PromptId, (usize, usize)> {
        let batches = self.batches.iter().enumerate();
        batches
            .flat_map(|(place, batch)| {
                let rows = batch.prompt_ids.iter().enumerate();
                rows.map(move |(row, id)| (*id, (place, row)))
            })
            .collect()
    }

    /// One pooled prompt.
    pub(super) fn prompt(&self, (batch, place): (usize, usize)) -> PooledPrompt<'_> {
        let prefill = &self.batches[batch].prefill;
        PooledPrompt {
            layers: &prefill.layers,
            rows: prefill.rows[place].clone(),
        }
    }

    /// Final hidden states of the last tokens, `[R, D]`.
    pub(super) fn last_hidden(&self, places: &[(usize, usize)]) -> Tensor<2> {
        let row = |&(batch, place): &(usize, usize)| {
            let last_hidden = &self.batches[batch].prefill.last_hidden;
            last_hidden.clone().narrow(0, place, 1)
        };
        Tensor::cat(places.iter().map(row).collect(), 0)
    }
}

impl PoolBatch {
    /// The prompts that are kept, in memory of their own; none if there is none.
    fn keep(self, is_kept: &impl Fn(PromptId) -> bool) -> Option<Self> {
        let places = self.prompt_ids.iter().enumerate();
        let places: Vec<usize> = places
            .filter(|(_, id)| is_kept(**id))
            .map(|(place, _)| place)
            .collect();
        if places.is_empty() || places.len() == self.prompt_ids.len() {
            return (!places.is_empty()).then_some(self);
        }
        let prompt_ids = places.iter().map(|&place| self.prompt_ids[place]).collect();
        let rows_before: usize = self.prefill.rows.iter().map(Range::len).sum();
        let prefill = self.prefill.keep(&places);
        let rows: usize = prefill.rows.iter().map(Range::len).sum();
        Some(Self {
            prompt_ids,
            bytes: self.bytes / rows_before as u64 * rows as u64,
            prefill,
        })
    }
}

impl Engine {
    /// Runs prompts once, adds their keys and values to `pool` and gives their entropies, in the
    /// order of the requests. `num_completions` of a request is not read.
    ///
    /// # Errors
    /// As [`Engine::roll_out`]; an entropy that is not finite names its prompt.
    pub fn score_prompts(
        &self,
        decoder: &Decoder,
        requests: &[Request],
        settings: &ScoreSettings,
        pool: &mut PromptPool,
    ) -> Result<(Vec<PromptEntropy>, ScoreStats), RolloutError> {
        debug_assert!(
            !decoder.head_weight().device().is_autodiff(),
            "score_prompts: the decoder is tracked, pass its valid()"
        );
        self.check(requests)?;
        let mut stats = ScoreStats {
            num_prompts: requests.len() as u64,
            ..ScoreStats::default()
        };
        let places = requests.iter().enumerate().collect();
        let mut found = vec![None; requests.len()];
        for batch in batches(places, self.prefill_tokens()) {
            for (place, entropy) in score(
                decoder,
                &batch,
                settings,
                self.precision(),
                pool,
                &mut stats,
            )? {
                found[place] = Some(entropy);
            }
        }
        Ok((found.into_iter().flatten().collect(), stats))
    }
}

/// Scores one batch.
fn score(
    decoder: &Decoder,
    batch: &[(usize, &Request)],
    settings: &ScoreSettings,
    precision: Precision,
    pool: &mut PromptPool,
    stats: &mut ScoreStats,
) -> Result<Vec<(usize, PromptEntropy)>, RolloutError> {
    let started = Instant::now();
    let scored = decoder.prefill_all(&prompts(batch), precision);
    let num_tokens: usize = scored.prefill.rows.iter().map(Range::len).sum();
    stats.scored_tokens += num_tokens as u64;
    stats.prefill_secs += started.elapsed().as_secs_f64();

    let started = Instant::now();
    let entropies = match scored.hidden {
        Some(hidden) => {
            let head = decoder.head_weight();
            let scoring = ScoringSettings {
                temperature: 1.0,
                max_logits_bytes: settings.max_logits_bytes,
                precision,
            };
            super::worker::read(token_entropies(hidden, head, &scoring))?
        }
        None => Vec::new(),
    };
    let found = per_prompt(batch, &entropies, settings.template)?;
    stats.entropy_secs += started.elapsed().as_secs_f64();

    let bytes = kv_bytes(decoder.config(), num_tokens, precision);
    if pool.held_bytes + bytes <= settings.kv_pool_bytes {
        pool.held_bytes += bytes;
        pool.batches.push(PoolBatch {
            prompt_ids: batch.iter().map(|(_, it)| it.prompt_id).collect(),
            prefill: scored.prefill,
            bytes,
        });
    }
    Ok(found)
}

/// Means over each prompt's stretch of the packed entropies.
fn per_prompt(
    batch: &[(usize, &Request)],
    entropies: &[f32],
    template: TemplateTokens,
) -> Result<Vec<(usize, PromptEntropy)>, RolloutError> {
    let mut rest = entropies;
    let mut found = Vec::with_capacity(batch.len());
    for (place, request) in batch {
        let (prompt_id, length) = (request.prompt_id, request.prompt_tokens.len());
        let own;
        (own, rest) = rest.split_at(length - 1);
        // Entry t is the distribution of token t + 1.
        let first = template.prefix.max(1) - 1;
        let last = length.saturating_sub(template.suffix).max(1) - 1;
        let question = own.get(first..last).unwrap_or_default();
        let entropy = mean(own).unwrap_or(0.0);
        if !entropy.is_finite() {
            return Err(RolloutError::NonFiniteEntropy { prompt_id });
        }
        let entropy = PromptEntropy {
            prompt_id,
            entropy,
            question_entropy: mean(question),
        };
        found.push((*place, entropy));
    }
    Ok(found)
}

fn mean(values: &[f32]) -> Option<f64> {
    let sum: f64 = values.iter().map(|&value| f64::from(value)).sum();
    (!values.is_empty()).then(|| sum / values.len() as f64)
}
