//! The selecting half of a round: raw batches through the history filter, then the gate.

use std::time::Instant;

use rlvr_core::{
    Candidate, EntropyRange, Gate, Gated, by_entropy, keep_smallest, nearest, quartile, within,
};

use super::config::PoolRule;
use super::driver::{Collector, Step};
use super::error::CollectError;
use super::plan::{PoolGate, PosteriorRule, Refill, Screen};
use super::posterior;
use super::source::RolloutSource;
use super::state::SelectionState;
use super::stream::uniform_step;
use super::window::PoolPoint;
use crate::record::{Prompt, PromptId};
use crate::rollout::PromptEntropy;
use crate::seed::Stage;

/// True if the history filter lets a prompt pass.
pub fn stage1_passes(
    of: &Collector<'_>,
    state: &SelectionState,
    range: Option<EntropyRange>,
    place: u64,
) -> bool {
    let history = state.histories.get(place);
    let id = of.prompts[place as usize].id;
    let draw = || of.stream(Stage::Stage1, id, 0);
    match (of.plan.screen, history) {
        (Screen::Pass, _) | (Screen::Greso(_), None) => true,
        (Screen::Stage1(config), history) => {
            let run = history.map(|it| it.run).unwrap_or_default();
            let entropy = history.and_then(|it| it.latest_entropy());
            let chance = config.acceptance(run, entropy, state.exploration, range);
            chance >= 1.0 || draw().uniform() < chance
        }
        (Screen::Greso(floor), Some(history)) => {
            let mut draws = draw();
            let draws = [draws.uniform_at(0), draws.uniform_at(1)];
            !history.greso.skips(draws, state.exploration, floor)
        }
    }
}

impl<S: RolloutSource> Step<'_, S> {
    /// The prompts of a round: raw batches through the history filter, then the gate.
    pub(super) fn choose(&mut self, target: usize) -> Result<Vec<u64>, CollectError> {
        let plan = self.of.plan;
        if plan.refill == Refill::Never {
            return Ok(self.choose_uniformly());
        }
        let per_batch = plan.pool == PoolRule::PerRawBatch && plan.gate != PoolGate::Open;
        let (mut pool, mut chosen) = (std::mem::take(&mut self.waiting), Vec::new());
        let wanted = match per_batch {
            true => target,
            false => plan.pool_target(target),
        };
        while chosen.len() + pool.len() < wanted && !self.stream.is_exhausted() {
            let survivors = self.screen();
            match per_batch {
                true => chosen.extend(self.gate(survivors, target)?),
                false => pool.extend(survivors),
            }
        }
        if !per_batch {
            chosen = self.gate(pool, target)?;
        }
        self.counts.pool_overshoot += chosen.len().saturating_sub(target) as u64;
        Ok(chosen)
    }

    /// The step's prompts in uniform selection, which needs no state.
    fn choose_uniformly(&mut self) -> Vec<u64> {
        let (of, count) = (self.of, self.of.plan.train_groups);
        let chosen = uniform_step(of.seed, of.step, count, of.prompts.len());
        self.counts.num_raw_prompts = count as u64;
        self.counts.num_unseen_prompts = count as u64;
        self.counts.num_stage1_kept = count as u64;
        self.counts.num_gate_kept = count as u64;
        chosen.into_iter().map(|place| place as u64).collect()
    }

    /// The next raw batch through the history filter.
    fn screen(&mut self) -> Vec<u64> {
        let started = Instant::now();
        let raw = self.stream.pull(self.of.plan.raw_batch);
        let is_unseen = |place: &&u64| self.state.histories.get(**place).is_none();
        self.counts.num_raw_prompts += raw.len() as u64;
        self.counts.num_unseen_prompts += raw.iter().filter(is_unseen).count() as u64;
        let passes = |place: &u64| stage1_passes(&self.of, self.state, self.range, *place);
        let survivors: Vec<u64> = raw.into_iter().filter(passes).collect();
        self.counts.num_stage1_kept += survivors.len() as u64;
        self.timing.stage1_secs += started.elapsed().as_secs_f64();
        survivors
    }

    /// What the gate keeps of a pool, in the order of arrival. `target` is what the round wants.
    fn gate(&mut self, pool: Vec<u64>, target: usize) -> Result<Vec<u64>, CollectError> {
        let of = self.of;
        let by_chance = |kept: Vec<usize>| Gated {
            num_rejected_low: pool.len() - kept.len(),
            kept,
            ..Gated::default()
        };
        let id = |place: &u64| of.prompts[*place as usize].id;
        if pool.is_empty() {
            return Ok(pool);
        }
        let gated = match &of.plan.gate {
            PoolGate::Open => {
                self.counts.num_gate_kept += pool.len() as u64;
                return Ok(pool);
            }
            PoolGate::Entropy(gate) => self.gate_by_entropy(gate, &pool)?,
            PoolGate::Random(band) => {
                let round = self.counts.num_rounds as u32 + 1;
                let draw = |place: &u64| {
                    let mut draws = of.stream(Stage::RandomGate, id(place), round);
                    (id(place).0, draws.uniform())
                };
                let draws: Vec<(u64, f64)> = pool.iter().map(draw).collect();
                by_chance(keep_smallest(&draws, band.counts(pool.len()).1))
            }
            PoolGate::Posterior { rule, .. } => {
                let draw = |place: &u64| {
                    let uniform = of.stream(Stage::Posterior, id(place), 0).uniform();
                    let history = self.state.histories.get(*place);
                    let posterior = history.map(|it| it.posterior).unwrap_or_default();
                    (id(place).0, posterior::quantile(posterior, uniform))
                };
                let draws: Vec<(u64, f64)> = pool.iter().map(draw).collect();
                let kept = match *rule {
                    PosteriorRule::Nearest { centre } => nearest(&draws, centre, target),
                    PosteriorRule::Within { low, high } => within(&draws, low, high, target),
                };
                let is_waiting = |place: &usize| kept.binary_search(place).is_err();
                let waiting = (0..pool.len()).filter(is_waiting);
                self.waiting.extend(waiting.map(|place| pool[place]));
                by_chance(kept)
            }
        };
        self.counts.gate(pool.len(), &gated);
        Ok(gated.kept.iter().map(|&place| pool[place]).collect())
    }

    /// Scores a pool, cuts it, and frees what was rejected.
    fn gate_by_entropy(&mut self, gate: &Gate, pool: &[u64]) -> Result<Gated, CollectError> {
        let prompts: Vec<&Prompt> = pool
            .iter()
            .map(|&place| &self.of.prompts[place as usize])
            .collect();
        let found = self.source.score(&prompts)?;
        let candidates: Vec<Candidate> = found
            .iter()
            .map(|it| Candidate {
                id: it.prompt_id.0,
                entropy: it.entropy,
            })
            .collect();
        let gated = gate.cut(&candidates);
        for (rank, place) in by_entropy(&candidates).into_iter().enumerate() {
            let scored = (found[place], quartile(rank, pool.len()));
            self.scored.insert(pool[place], scored);
        }
        let is_kept = |index: &usize| gated.kept.binary_search(index).is_ok();
        let rejected = (0..pool.len()).filter(|index| !is_kept(index));
        self.rejected.extend(rejected.map(|index| pool[index]));
        let kept: Vec<PromptId> = gated.kept.iter().map(|&it| found[it].prompt_id).collect();
        self.source
            .keep(&|it: &PromptEntropy| kept.contains(&it.prompt_id), &found);
        let points = found.iter().zip(&prompts).map(|(it, prompt)| PoolPoint {
            prompt_entropy: it.entropy,
            prompt_tokens: prompt.prompt_tokens.len() as u64,
        });
        self.pool.extend(points);
        Ok(gated)
    }
}
