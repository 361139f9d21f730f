//! Where groups come from: the rollout engine and the grader, behind two calls.

use std::time::Instant;

use crate::groups::requests;
use crate::policy::decoder::Decoder;
use crate::record::{Group, Prompt};
use crate::rollout::{
    PromptEntropy, PromptPool, RolloutError, RolloutStats, ScoreSettings, ScoreStats,
    TemplateTokens,
};
use crate::seed::Stage;
use crate::session::Session;

/// Scores prompts and rolls them out under one version of the weights.
pub trait RolloutSource {
    /// Entropies of prompts, in their order. Keys and values are kept for [`Self::roll_out`].
    ///
    /// # Errors
    /// If the engine cannot run a prompt.
    fn score(&mut self, prompts: &[&Prompt]) -> Result<Vec<PromptEntropy>, RolloutError>;

    /// Frees the keys and values of scored prompts for which `is_kept` does not hold.
    fn keep(&mut self, is_kept: &dyn Fn(&PromptEntropy) -> bool, scored: &[PromptEntropy]);

    /// Graded groups, in the order of the prompts. Frees what was kept for them.
    ///
    /// # Errors
    /// If the engine cannot run a prompt.
    fn roll_out(&mut self, prompts: Vec<Prompt>, stage: Stage) -> Result<Vec<Group>, RolloutError>;

    /// What it took since the last call of this function.
    fn take_stats(&mut self) -> SourceStats;
}

/// What scoring, rollouts and grading took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SourceStats {
    /// Scoring.
    pub score: ScoreStats,
    /// Rollouts, all calls together.
    pub rollout: RolloutStats,
    /// Grading.
    pub grade_secs: f64,
}

/// The engine with the policy of one step.
pub struct LiveSource<'a> {
    session: &'a Session,
    policy: &'a Decoder,
    step: u64,
    settings: ScoreSettings,
    pool: PromptPool,
    stats: SourceStats,
}

impl<'a> LiveSource<'a> {
    /// A source for `step` (counted from 0), which is also the version of the weights: they change
    /// once per step. `policy` is untracked.
    pub fn new(session: &'a Session, policy: &'a Decoder, step: u64) -> Self {
        let selection = &session.config.selection;
        let source = Self {
            session,
            policy,
            step,
            settings: ScoreSettings {
                max_logits_bytes: selection.entropy_logits_bytes,
                kv_pool_bytes: selection.kv_pool_bytes,
                template: TemplateTokens::default(),
            },
            pool: PromptPool::new(step),
            stats: SourceStats::default(),
        };
        // Only arms that score prompts need to know the template.
        match selection.has_entropy_gate() {
            true => source.with_template(),
            false => source,
        }
    }

    /// Finds the tokens that all training prompts share, so that questions can be told from them.
    #[must_use]
    pub fn with_template(mut self) -> Self {
        let prompts = self.session.data.train.iter();
        let tokens = prompts.map(|prompt| prompt.prompt_tokens.as_slice());
        self.settings.template = TemplateTokens::of(tokens);
        self
    }
}

impl RolloutSource for LiveSource<'_> {
    fn score(&mut self, prompts: &[&Prompt]) -> Result<Vec<PromptEntropy>, RolloutError> {
        let prompts: Vec<Prompt> = prompts.iter().map(|prompt| (*prompt).clone()).collect();
        let (found, stats) = self.session.engine.score_prompts(
            self.policy,
            &requests(&prompts, 0),
            &self.settings,
            &mut self.pool,
        )?;
        let sum = &mut self.stats.score;
        sum.num_prompts += stats.num_prompts;
        sum.scored_tokens += stats.scored_tokens;
        sum.prefill_secs += stats.prefill_secs;
        sum.entropy_secs += stats.entropy_secs;
        Ok(found)
    }

    fn keep(&mut self, is_kept: &dyn Fn(&PromptEntropy) -> bool, scored: &[PromptEntropy]) {
        let rejected: std::collections::BTreeSet<_> = scored
            .iter()
            .filter(|it| !is_kept(it))
            .map(|it| it.prompt_id)
            .collect();
        self.pool.keep(|id| !rejected.contains(&id));
    }

    fn roll_out(&mut self, prompts: Vec<Prompt>, stage: Stage) -> Result<Vec<Group>, RolloutError> {
        let (session, config) = (self.session, &self.session.config);
        let tokenizer = &session.model.folder.tokenizer;
        let decode = |tokens: &[u32]| tokenizer.decode(tokens, true);
        let output = session.engine.roll_out_pooled(
            self.policy,
            &decode,
            &requests(&prompts, config.rollout.group_size as u32),
            &session.sampling(),
            config.run.seed,
            stage,
            self.step,
            Some((&self.pool, self.step)),
        )?;
        self.pool.keep(|_| false);
        add(&mut self.stats.rollout, &output.stats);
        let grading = Instant::now();
        let (groups, _) = session.grade(prompts, output.completions)?;
        self.stats.grade_secs += grading.elapsed().as_secs_f64();
        Ok(groups)
    }

    fn take_stats(&mut self) -> SourceStats {
        std::mem::take(&mut self.stats)
    }
}

/// Sums what adds up; of the rest the largest, and for the use of the slots the mean over steps of
/// decoding.
fn add(sum: &mut RolloutStats, call: &RolloutStats) {
    let places = |it: &RolloutStats| it.decode_steps as f64 * it.num_slots as f64;
    let used = sum.slot_use_frac * places(sum) + call.slot_use_frac * places(call);
    let all = places(sum) + places(call);
    *sum = RolloutStats {
        prefill_tokens: sum.prefill_tokens + call.prefill_tokens,
        num_reused_prompts: sum.num_reused_prompts + call.num_reused_prompts,
        decode_tokens: sum.decode_tokens + call.decode_tokens,
        decode_steps: sum.decode_steps + call.decode_steps,
        decode_reads: sum.decode_reads + call.decode_reads,
        replayed_steps: sum.replayed_steps + call.replayed_steps,
        slot_use_frac: if all > 0.0 { used / all } else { 0.0 },
        prefill_secs: sum.prefill_secs + call.prefill_secs,
        decode_secs: sum.decode_secs + call.decode_secs,
        sampling_secs: sum.sampling_secs + call.sampling_secs,
        wall_secs: sum.wall_secs + call.wall_secs,
        kv_bytes: sum.kv_bytes.max(call.kv_bytes),
        num_slots: sum.num_slots.max(call.num_slots),
        num_workers: sum.num_workers.max(call.num_workers),
    };
}
