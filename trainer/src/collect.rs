//! The selection half of a step of GRPO: the groups to train on, and what is remembered of them.

use std::time::Instant;

use burn::module::Module;

use crate::failure::Failure;
use crate::metrics::StepMetrics;
use crate::record::Group;
use crate::run::Run;
use crate::selection::utility::utilities;
use crate::selection::{
    CollectError, Collected, Collector, LiveSource, SelectionLine, SelectionState, SelectionTiming,
};
use crate::state::TrainState;
use crate::summary;

impl Run<'_> {
    /// Rounds of select, roll out, grade and filter until there are groups to train on.
    ///
    /// # Errors
    /// If the engine fails, or if too few groups are mixed; the state is saved then.
    pub(crate) fn collect(&mut self, state: &TrainState) -> Result<Collected, Failure> {
        self.log.progress.phase("rollout");
        let (config, policy) = (&self.session.config, state.policy.valid());
        let collector = Collector {
            plan: &self.plan,
            audit: &config.selection.audit,
            prompts: &self.session.data.train,
            seed: config.run.seed,
            step: state.counters.step,
        };
        let mut source = LiveSource::new(self.session, &policy, state.counters.step);
        let mut collected = match collector.collect(&state.selection, &mut source) {
            Ok(collected) => collected,
            Err(CollectError::Rollout(error)) => return Err(Failure::run(error)),
            Err(CollectError::Short(short)) => {
                self.save(state, None)?;
                return Err(Failure::run(short));
            }
        };
        if config
            .selection
            .audit
            .is_utility_due(state.counters.step + 1)
        {
            let started = Instant::now();
            let groups: Vec<&Group> = collected.groups.iter().chain(&collected.audited).collect();
            let bytes = config.update.max_logits_bytes;
            let found = utilities(&policy, &groups, &config.advantage, bytes);
            let found = found.map_err(Failure::run)?;
            for (record, utility) in collected.records.iter_mut().zip(found) {
                record.utility = Some(utility);
            }
            collected.timing.utility_secs = started.elapsed().as_secs_f64();
        }
        Ok(collected)
    }

    /// Adds what a step learned to the state of selection, and writes it down.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub(crate) fn remember(
        &mut self,
        collected: &Collected,
        selection: &mut SelectionState,
        metrics: &StepMetrics,
    ) -> Result<(), Failure> {
        let audit = &self.session.config.selection.audit;
        collected.apply(selection, &self.plan, audit);
        let apart = collected.timing.audit_secs + collected.timing.utility_secs;
        let timing = SelectionTiming {
            update_secs: metrics.timing.update_secs.unwrap_or_default(),
            step_secs: metrics.timing.step_secs.unwrap_or_default() - apart,
            ..collected.timing
        };
        let line = SelectionLine::new(metrics.step, collected, selection, audit, timing);
        let line = line.map_err(Failure::run)?;
        self.log.selection(&line, &collected.records)?;
        Ok(())
    }
}

/// Metrics of the rollouts of a step.
pub(crate) fn fill_collected(metrics: &mut StepMetrics, collected: &Collected) {
    let timing = &collected.timing;
    metrics.timing.select_secs =
        Some(timing.stage1_secs + timing.score_prefill_secs + timing.entropy_secs);
    metrics.timing.grade_secs = Some(timing.reward_secs);
    summary::fill_rollout_timing(metrics, &collected.stats.rollout);
    summary::fill_rollouts(metrics, &collected.groups);
    metrics.num_prompts_considered = Some(collected.counts.num_raw_prompts);
}
