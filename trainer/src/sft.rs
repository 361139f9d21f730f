//! The supervised step of a run: `trainer sft` is the same loop with another objective.

use std::time::Instant;

use crate::batch::Row;
use crate::failure::Failure;
use crate::gradient::ScoringSettings;
use crate::metrics::StepMetrics;
use crate::optimizer::StepOutcome;
use crate::run::Run;
use crate::selection::uniform_step;
use crate::state::TrainState;
use crate::supervised::{supervised_row, supervised_step};

impl Run<'_> {
    /// One step on `sft.batch_size` worked solutions.
    ///
    /// # Errors
    /// If a problem has no solution or the device fails.
    pub(crate) fn supervised_step(
        &mut self,
        state: TrainState,
    ) -> Result<(TrainState, StepMetrics), Failure> {
        let TrainState {
            policy,
            mut optimizer,
            mut counters,
            selection,
        } = state;
        let (config, started) = (&self.session.config, Instant::now());
        self.log.progress.phase("update");
        let rows = self.supervised_rows(counters.step)?;
        let learning_rate = self.optimizer.learning_rate_at(counters.step);
        let mut limit = self.limit(&counters);
        let (policy, outcome) = supervised_step(
            policy,
            &mut optimizer,
            &rows,
            learning_rate,
            &mut limit,
            &ScoringSettings {
                temperature: 1.0,
                max_logits_bytes: config.update.max_logits_bytes,
                precision: self.session.precision,
            },
        )
        .map_err(Failure::run)?;
        let num_tokens: usize = rows.iter().map(|row| row.tokens.len()).sum();
        counters.step += 1;
        counters.num_tokens += num_tokens as u64;
        let (grad_norm, is_skipped) = match outcome.step {
            StepOutcome::Applied { grad_norm } => (Some(grad_norm), false),
            StepOutcome::SkippedNonFinite => (None, true),
        };
        counters.num_skipped_steps += u64::from(is_skipped);
        counters.consecutive_skips = if is_skipped {
            counters.consecutive_skips + 1
        } else {
            0
        };
        let secs = started.elapsed().as_secs_f64();
        let mut metrics = StepMetrics {
            step: counters.step,
            loss: Some(outcome.loss),
            grad_norm,
            learning_rate: Some(learning_rate),
            num_inner_steps: Some(u64::from(!is_skipped)),
            num_skipped_steps: Some(counters.num_skipped_steps),
            num_tokens: Some(counters.num_tokens),
            ..StepMetrics::default()
        };
        metrics.timing.end_update(&self.session.device);
        limit.record(&mut counters, &mut metrics);
        self.log.warn(limit.warning(counters.step));
        metrics.timing.update_secs = Some(secs);
        metrics.timing.step_secs = Some(secs);
        metrics.timing.update_tokens_per_sec = Some(num_tokens as f64 / secs);
        Ok((
            TrainState {
                policy,
                optimizer,
                counters,
                selection,
            },
            metrics,
        ))
    }

    fn supervised_rows(&self, step: u64) -> Result<Vec<Row>, Failure> {
        let folder = &self.session.model.folder;
        let stop_id = folder.stop_ids.first().copied().ok_or_else(|| {
            Failure::usage(format!(
                "find a stop token in {}: set eos_token_id in generation_config.json",
                folder.path.display()
            ))
        })?;
        let (config, train) = (&self.session.config, &self.session.data.train);
        let chosen = uniform_step(config.run.seed, step, config.sft.batch_size, train.len());
        let rows = chosen.into_iter().map(|place| {
            let prompt = &train[place];
            let solution = prompt.solution.as_deref().unwrap_or_default();
            let tokens = folder
                .tokenizer
                .encode(solution, false)
                .map_err(Failure::run)?;
            supervised_row(prompt, tokens, stop_id).map_err(Failure::usage)
        });
        rows.collect()
    }
}
