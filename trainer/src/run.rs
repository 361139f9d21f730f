//! The loop: select, roll out, grade, advantage, update, log. Read this file first.
//!
//! Exactly one value passes from step to step: [`TrainState`]. Everything else that a step uses is
//! a function of configuration and step number, so a resumed run is the run that was interrupted.

use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::module::Module;
use rlvr_backends::hand_back_memory;
use rlvr_core::GrpoLoss;
use thiserror::Error;

use crate::advantage::advantages;
use crate::checkpoint::{CheckpointMeta, CheckpointStore};
use crate::collect::fill_collected;
use crate::config::ConfigIdentity;
use crate::eval::{EvalReport, Evaluation};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::metrics::{StepMetrics, host_peak_bytes};
use crate::optimizer::OptimizerSettings;
use crate::policy::decoder::Decoder;
use crate::report::live;
use crate::room::MicroBatchLimit;
use crate::run_log::RunLog;
use crate::selection::Plan;
use crate::session::Session;
use crate::state::{Counters, TrainState};
use crate::summary;
use crate::update::{UpdateSettings, update};

/// A run stopped by itself.
#[derive(Debug, Error)]
pub enum RunError {
    /// Too many steps in a row without a finite gradient.
    #[error(
        "go on: loss or gradient was not finite in {steps} steps in a row (update.max_consecutive_skips); \
         the weights of before are kept in {}: look at grad_norm, ratio_max and entropy_mean in \
         metrics.jsonl, then lower update.learning_rate or set loss.kl.clip", checkpoints.display()
    )]
    NotFinite {
        /// How many.
        steps: u64,
        /// Where the last good weights are.
        checkpoints: PathBuf,
    },
}

/// Everything a run works with besides its state.
pub struct Run<'a> {
    /// Configuration, device, model, prompts.
    pub session: &'a Session,
    /// What a step does.
    pub objective: Objective,
    /// Constants of the optimizer; its schedule ends at the last step.
    pub optimizer: OptimizerSettings,
    /// How prompts are chosen.
    pub plan: Plan,
    /// Frozen policy of the start, if a KL term needs one.
    pub reference: Option<Decoder>,
    /// Files of the run directory.
    pub log: RunLog,
    /// Checkpoints.
    pub store: CheckpointStore,
    /// What a checkpoint belongs to.
    pub identity: ConfigIdentity,
    /// Set by Ctrl-C.
    pub interrupt: Interrupt,
    /// Predicted peak memory.
    pub predicted_peak_bytes: u64,
    /// When this process began to train.
    pub started: Instant,
}

/// What a step does.
pub enum Objective {
    /// GRPO with this loss.
    Reinforce(GrpoLoss),
    /// Likelihood of worked solutions.
    Supervised,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub struct RunSummary {
    /// Steps that are complete.
    pub step: u64,
    /// True if Ctrl-C ended it before the last step.
    pub is_interrupted: bool,
    /// Held-out result before the first step, if this process measured it.
    pub first_eval: Option<EvalReport>,
    /// Newest held-out result.
    pub last_eval: Option<EvalReport>,
}

impl Run<'_> {
    /// Trains from the state's step to the last one.
    ///
    /// # Errors
    /// If a stage fails, a file cannot be written, or the numbers stay non-finite.
    pub fn train(&mut self, mut state: TrainState) -> Result<RunSummary, Failure> {
        let mut summary = RunSummary {
            step: 0,
            is_interrupted: false,
            first_eval: None,
            last_eval: None,
        };
        if state.counters.step == 0 {
            summary.first_eval = self.before_first_step(&mut state)?;
            summary.last_eval.clone_from(&summary.first_eval);
        }
        let last_step = self.last_step();
        while state.counters.step < last_step && !summary.is_interrupted {
            let mut metrics;
            (state, metrics) = match self.objective {
                Objective::Reinforce(_) => self.reinforce_step(state)?,
                Objective::Supervised => self.supervised_step(state)?,
            };
            summary.is_interrupted = self.interrupt.is_set() && state.counters.step < last_step;
            if self.is_eval_due(state.counters.step) {
                summary.last_eval = Some(self.evaluate(&mut state, &mut metrics)?);
            }
            self.roll_out_afresh(&mut state, &mut metrics)?;
            self.finish_step(&state, metrics, summary.is_interrupted)?;
        }
        summary.step = state.counters.step;
        self.log.edge_map(self.last_step())?;
        Ok(summary)
    }

    fn last_step(&self) -> u64 {
        self.optimizer.total_steps
    }

    /// One step of GRPO: the whole algorithm on a page.
    fn reinforce_step(&mut self, state: TrainState) -> Result<(TrainState, StepMetrics), Failure> {
        let (step, started) = (state.counters.step, Instant::now());
        let mut metrics = StepMetrics {
            step: step + 1,
            ..StepMetrics::default()
        };

        let mut collected = self.collect(&state)?;
        fill_collected(&mut metrics, &collected);
        self.log.warn(self.session.engine.warning());
        let groups = collected.take_trained();
        let TrainState {
            policy,
            mut optimizer,
            mut counters,
            mut selection,
        } = state;
        let config = &self.session.config;
        hand_back_memory(&self.session.device);

        let mut found = advantages(&groups, &config.advantage);
        summary::fill_advantages(&mut metrics, &groups, &found);

        self.log.progress.phase("update");
        let updating = Instant::now();
        let settings = self.update_settings(step, self.limit(&counters));
        let Objective::Reinforce(loss) = &mut self.objective else {
            unreachable!("reinforce_step: the objective is GRPO");
        };
        counters.controllers.apply(loss);
        let reference = self.reference.as_ref();
        let updated = update(
            policy,
            &mut optimizer,
            &mut found.rows,
            loss,
            reference,
            &settings,
        );
        let (policy, outcome) = updated.map_err(Failure::run)?;
        let update_secs = updating.elapsed().as_secs_f64();
        metrics.timing.end_update(&self.session.device);
        outcome.limit.record(&mut counters, &mut metrics);
        self.log.warn(outcome.limit.warning(step + 1));
        let is_corrected = loss.config().importance.is_some();
        summary::fill_update(&mut metrics, &outcome, reference.is_some(), is_corrected);
        summary::fill_sampler_gap(&mut metrics, &found.rows);
        self.log.warn(live::sampler_warning(&found.rows));

        counters.step += 1;
        let counts = &collected.counts;
        counters.num_tokens += counts.prefill_tokens + counts.completion_tokens;
        counters.num_skipped_steps += outcome.num_skipped_steps as u64;
        let is_stuck = outcome.num_skipped_steps > 0 && outcome.num_inner_steps == 0;
        counters.consecutive_skips = if is_stuck {
            counters.consecutive_skips + 1
        } else {
            0
        };
        if outcome.sums.num_tokens > 0.0 {
            let sums = &outcome.sums;
            let kl = sums.per_token(sums.kl_policy_ref_k3_sum);
            counters
                .controllers
                .observe(kl, sums.per_token(sums.entropy_sum));
        }
        metrics.kl_coef = loss.config().kl.map(|kl| kl.coef);
        metrics.entropy_coef = Some(loss.config().entropy_coef);
        metrics.learning_rate = Some(settings.learning_rate);
        metrics.num_tokens = Some(counters.num_tokens);
        metrics.num_skipped_steps = Some(counters.num_skipped_steps);
        metrics.timing.update_secs = Some(update_secs);
        metrics.timing.update_tokens_per_sec = Some(outcome.num_update_tokens as f64 / update_secs);
        metrics.timing.step_secs = Some(started.elapsed().as_secs_f64());
        self.log.completions(step + 1, &groups, &found.advantages)?;
        self.remember(&collected, &mut selection, &metrics)?;
        metrics.epoch = Some(selection.position as f64 / selection.num_prompts as f64);
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

    /// The configured limit of micro-batches, or what the device's memory left of it.
    pub(crate) fn limit(&self, counters: &Counters) -> MicroBatchLimit {
        let configured = self.session.config.update.max_tokens_per_microbatch;
        MicroBatchLimit::left(configured, counters)
    }

    /// How a step's rows become optimizer steps.
    fn update_settings(&self, step: u64, limit: MicroBatchLimit) -> UpdateSettings {
        let config = &self.session.config;
        UpdateSettings {
            inner_epochs: config.update.inner_epochs,
            minibatches: config.update.minibatches,
            max_tokens_per_microbatch: limit.max_tokens,
            scoring: self.session.scoring(),
            kl_in_reward: config.advantage.kl_in_reward,
            seed: config.run.seed,
            step,
            learning_rate: self.optimizer.learning_rate_at(step),
        }
    }

    /// Evaluates and writes the line of step 0.
    fn before_first_step(&mut self, state: &mut TrainState) -> Result<Option<EvalReport>, Failure> {
        if !self.session.config.eval.at_start || self.session.data.held_out.is_empty() {
            return Ok(None);
        }
        let mut metrics = StepMetrics::default();
        let report = self.evaluate(state, &mut metrics)?;
        self.roll_out_afresh(state, &mut metrics)?;
        metrics.timing.total_secs = Some(self.started.elapsed().as_secs_f64());
        self.log.metrics(metrics)?;
        Ok(Some(report))
    }

    /// True if the policy is evaluated after this step.
    pub fn is_eval_due(&self, step: u64) -> bool {
        let eval = &self.session.config.eval;
        let is_last = step == self.last_step();
        let is_due = eval.every.is_some_and(|every| step.is_multiple_of(every));
        !self.session.data.held_out.is_empty() && (is_due || (is_last && eval.at_end))
    }

    fn evaluate(
        &mut self,
        state: &mut TrainState,
        metrics: &mut StepMetrics,
    ) -> Result<EvalReport, Failure> {
        self.log.progress.phase("evaluate");
        let started = Instant::now();
        let evaluation = Evaluation {
            folder: &self.session.model.folder,
            engine: &self.session.engine,
            sampling: &self.session.sampling(),
            reward: &self.session.config.reward,
            verifier: &self.session.verifier,
            section: &self.session.config.eval,
            seed: self.session.config.run.seed,
        };
        let found = evaluation.run(&state.policy.valid(), &self.session.data.held_out);
        let (report, groups) = found.map_err(Failure::run)?;
        let accuracy = report.accuracy.value;
        let best = state
            .counters
            .best_accuracy
            .map_or(accuracy, |best| best.max(accuracy));
        state.counters.best_accuracy = Some(best);
        state.counters.last_accuracy = Some(accuracy);
        summary::fill_eval(metrics, &report);
        live::fill_evaluation(metrics, &groups, &self.session.config);
        metrics.timing.eval_secs = Some(started.elapsed().as_secs_f64());
        self.log.evaluation(state.counters.step, &groups)?;
        Ok(report)
    }

    /// Writes the step's line, saves if due, and stops a run whose numbers stay non-finite.
    fn finish_step(
        &mut self,
        state: &TrainState,
        mut metrics: StepMetrics,
        is_interrupted: bool,
    ) -> Result<(), Failure> {
        let config = &self.session.config;
        metrics.predicted_peak_bytes = Some(self.predicted_peak_bytes);
        metrics.timing.host_peak_bytes = host_peak_bytes();
        metrics.timing.total_secs = Some(self.started.elapsed().as_secs_f64());
        let accuracy = metrics.eval_accuracy;
        self.log.metrics(metrics)?;
        let step = state.counters.step;
        let is_due = config
            .checkpoint
            .every
            .is_some_and(|every| step.is_multiple_of(every));
        let steps = state.counters.consecutive_skips;
        let is_stuck = steps > config.update.max_consecutive_skips;
        // A skipped step left the weights as they were, so what is saved is always finite.
        if is_due || is_interrupted || is_stuck || step == self.last_step() {
            self.save(state, accuracy)?;
        }
        if is_stuck {
            let checkpoints = self.store.dir().to_path_buf();
            return Err(Failure::run(RunError::NotFinite { steps, checkpoints }));
        }
        Ok(())
    }

    pub(crate) fn save(&mut self, state: &TrainState, score: Option<f64>) -> Result<(), Failure> {
        self.log.sync()?;
        let started = Instant::now();
        let source: &Path = self.session.source();
        let meta = CheckpointMeta {
            config: self.identity.clone(),
            score,
        };
        self.store.save(state.counters.step, meta, &mut |dir| {
            state.save(dir, source)
        })?;
        self.log.saved(started.elapsed().as_secs_f64());
        Ok(())
    }
}
