//! What a step found, and what the state learns from it.

use std::time::Instant;

use rlvr_core::{GroupKind, keep_smallest};

use super::audit_config::AuditConfig;
use super::counts::{AuditCounts, StepCounts, num_correct, num_tokens};
use super::driver::{Step, kind_of};
use super::error::CollectError;
use super::histories::Visit;
use super::plan::{Plan, Refill};
use super::record::{GroupRecord, GroupSource, group_record, response_entropy};
use super::report::SelectionTiming;
use super::source::{RolloutSource, SourceStats};
use super::state::SelectionState;
use super::window::WindowStep;
use crate::record::Group;
use crate::seed::Stage;

/// What a step found.
#[derive(Clone, Debug)]
pub struct Collected {
    /// Every group that was generated, in the order in which its prompts left the data.
    pub groups: Vec<Group>,
    /// Groups of the audit.
    pub audited: Vec<Group>,
    /// Places in `groups` of those to train on, ascending.
    pub trained: Vec<usize>,
    /// One record per group, then one per audited group.
    pub records: Vec<GroupRecord>,
    /// Counts, before any filter.
    pub counts: StepCounts,
    /// Counts of the audit.
    pub audit: AuditCounts,
    /// True if fewer groups are trained on than configured.
    pub is_short: bool,
    /// What scoring, rollouts and grading took, audit apart.
    pub stats: SourceStats,
    /// Times.
    pub timing: SelectionTiming,
    position: u64,
    visits: Vec<(u64, Visit, f64)>,
    window: WindowStep,
}

impl Collected {
    /// What the step adds to the window.
    pub(super) fn window(&self) -> &WindowStep {
        &self.window
    }

    /// The groups to train on, in the order in which their prompts left the data.
    pub fn take_trained(&mut self) -> Vec<Group> {
        let groups = std::mem::take(&mut self.groups).into_iter().enumerate();
        let is_trained = |place: &usize| self.trained.binary_search(place).is_ok();
        groups
            .filter(|(place, _)| is_trained(place))
            .map(|(_, group)| group)
            .collect()
    }

    /// Adds what the step learned to the state.
    pub fn apply(&self, state: &mut SelectionState, plan: &Plan, audit: &AuditConfig) {
        state.position = self.position;
        for (place, visit, pass_rate) in &self.visits {
            let histories = &mut state.histories;
            histories.visit(*place, visit.clone(), *pass_rate, plan.decay);
        }
        if let Some((config, at_target)) = &plan.controller
            && state.epoch() >= config.controller_from_epoch
            && let Some(shares) = self.counts.shares()
        {
            state.exploration = state.exploration.after(shares, config, *at_target);
        }
        state.totals.add(&self.counts, &self.audit, self.is_short);
        if self.window != WindowStep::default() {
            state.window.push_back(self.window.clone());
        }
        while state.window.len() > audit.window_steps {
            state.window.pop_front();
        }
    }
}

impl<S: RolloutSource> Step<'_, S> {
    /// Cuts the surplus, audits if it is time, and gathers what the step learned.
    pub(super) fn finish(mut self) -> Result<Collected, CollectError> {
        let plan = self.of.plan;
        let limit = match plan.filter {
            None => self.kept.len(),
            Some(_) => plan.train_groups,
        };
        let surplus = self.kept.split_off(self.kept.len().min(limit));
        self.counts.num_groups_trained = self.kept.len() as u64;
        self.counts.num_groups_surplus = surplus.len() as u64;
        let stats = self.source.take_stats();
        self.counts.finish(&stats, plan.group_size);
        self.timing.add(&stats);
        let (audited, audit) = self.audit()?;
        let records = self.records(&audited);
        let window = WindowStep::new(&records, std::mem::take(&mut self.pool));
        let position = match plan.refill {
            Refill::Never => (self.of.step + 1) * plan.train_groups as u64,
            _ => self.stream.position(),
        };
        let visits = match plan.has_memory() {
            true => self.visits(),
            false => Vec::new(),
        };
        Ok(Collected {
            is_short: self.kept.len() < plan.train_groups,
            groups: self.groups.into_iter().map(|(_, group, _)| group).collect(),
            audited,
            trained: self.kept,
            records,
            counts: self.counts,
            audit,
            stats,
            timing: self.timing,
            position,
            visits,
            window,
        })
    }

    /// Rolls out some of the rejected prompts, with random numbers of their own.
    fn audit(&mut self) -> Result<(Vec<Group>, AuditCounts), CollectError> {
        let (of, started) = (self.of, Instant::now());
        let step = of.step + 1;
        if !of.audit.is_due(step) || self.rejected.is_empty() {
            return Ok((Vec::new(), AuditCounts::default()));
        }
        let draw = |place: &u64| {
            let id = of.prompts[*place as usize].id;
            (id.0, of.stream(Stage::AuditChoice, id, 0).uniform())
        };
        let draws: Vec<(u64, f64)> = self.rejected.iter().map(draw).collect();
        let chosen = keep_smallest(&draws, of.audit.groups);
        self.rejected = chosen.into_iter().map(|it| self.rejected[it]).collect();
        let prompts = self.clone_prompts(&self.rejected);
        let groups = self.source.roll_out(prompts, Stage::AuditRollout)?;
        // What an audit takes is not the step's.
        self.source.take_stats();
        self.timing.audit_secs = started.elapsed().as_secs_f64();
        let counts = AuditCounts {
            audit_num_groups: groups.len() as u64,
            audit_num_completions: groups.iter().map(|it| it.rollouts.len() as u64).sum(),
            audit_completion_tokens: groups.iter().map(num_tokens).sum(),
        };
        Ok((groups, counts))
    }

    fn records(&self, audited: &[Group]) -> Vec<GroupRecord> {
        let step = self.of.step + 1;
        let run_length = |place: &u64| {
            let history = self.state.histories.get(*place);
            history.map_or(0, |it| it.run.length)
        };
        let kept = self.groups.iter().map(|(place, group, kind)| {
            let scored = self.scored.get(place).copied();
            let mut record = group_record(step, GroupSource::Kept, group, *kind, scored);
            record.run_length = run_length(place);
            record
        });
        let mut records: Vec<GroupRecord> = kept.collect();
        for &place in &self.kept {
            records[place].is_trained = true;
        }
        let audited = self.rejected.iter().zip(audited).map(|(place, group)| {
            let scored = self.scored.get(place).copied();
            let kind = kind_of(self.of.plan, group);
            let mut record = group_record(step, GroupSource::Audit, group, kind, scored);
            record.run_length = run_length(place);
            record
        });
        records.extend(audited);
        records
    }

    fn visits(&self) -> Vec<(u64, Visit, f64)> {
        let epoch = self.state.epoch();
        let visit = |(place, group, kind): &(u64, Group, GroupKind)| {
            let visit = Visit {
                step: self.of.step + 1,
                epoch,
                rewards: group.rollouts.iter().map(|it| it.reward.total).collect(),
                kind: *kind,
                entropy: response_entropy(group),
            };
            let pass_rate = num_correct(group) as f64 / group.rollouts.len().max(1) as f64;
            (*place, visit, pass_rate)
        };
        self.groups.iter().map(visit).collect()
    }
}
