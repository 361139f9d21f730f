//! Completions sampled in bf16: against those of the CPU, drawn with the same numbers, and against what an
//! update says of their tokens.

use burn::module::Module;

use super::replays::roll_out;
use super::{Check, NUM_PROMPTS, check};
use crate::batch::Row;
use crate::failure::Failure;
use crate::record::Completion;
use crate::room::MicroBatchLimit;
use crate::session::Session;
use crate::state::load_decoder;
use crate::update::score_rows;

/// What a backend samples.
pub(super) struct Sampled {
    completions: Vec<Completion>,
    /// Mean difference of log-probs between sampler and update, nats.
    gap: f64,
}

impl Sampled {
    /// With everything that makes decoding fast there, recordings included.
    pub(super) fn on(session: &Session) -> Result<Self, Failure> {
        let policy = load_decoder(&session.model.folder, &session.device).map_err(Failure::run)?;
        let (completions, _) = roll_out(session, &policy, true)?;
        let prompts = &session.data.train[..NUM_PROMPTS];
        let row = |completion: &Completion| {
            let prompt = prompts.iter().find(|it| it.id == completion.prompt_id);
            prompt.map(|prompt| Row::of(prompt, completion, 0.0))
        };
        let rows: Vec<Row> = completions.iter().filter_map(row).collect();
        let views: Vec<&Row> = rows.iter().collect();
        let (frozen, scoring) = (policy.valid(), session.scoring());
        let mut limit = MicroBatchLimit::new(session.config.update.max_tokens_per_microbatch);
        let scored = score_rows(&frozen, &views, &scoring, &mut limit, &session.device)
            .map_err(Failure::run)?;
        let sampler = rows.iter().flat_map(|row| &row.sampler_logprobs);
        let gaps = scored.iter().flatten().zip(sampler);
        let gaps: Vec<f64> = gaps.map(|(a, b)| f64::from((a - b).abs())).collect();
        Ok(Self {
            gap: gaps.iter().sum::<f64>() / gaps.len() as f64,
            completions,
        })
    }

    pub(super) fn against(&self, expected: &Self) -> Vec<Check> {
        let pairs = || self.completions.iter().zip(&expected.completions);
        let num_different = pairs().filter(|(a, b)| a.tokens != b.tokens).count();
        vec![
            // Rounding moves the boundaries between tokens, and one that differs changes all behind it.
            check(
                "in bf16: sampled completions that differ",
                num_different as f64 / expected.completions.len() as f64,
                0.3,
            ),
            // The CPU's own is its order of sums.
            check(
                "in bf16: sampler against update (nats)",
                (self.gap - expected.gap).abs(),
                0.02,
            ),
        ]
    }
}
