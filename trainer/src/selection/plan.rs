//! An arm as the driver runs it: the configuration, resolved.

use rlvr_core::{
    AtTarget, Band, Exploration, ExplorationConfig, Gate, RewardLevels, RoundSize, Stage1Config,
    pool_target_of,
};

use super::config::{PoolRule, SelectionConfig, SelectionMethod};
use super::rounds_config::{Filter, OnShort};
use super::stream::EpochEnd;
use crate::config::RunConfig;
use crate::reward::{Component, RewardConfig};

/// What the driver does in a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Groups to train on.
    pub train_groups: usize,
    /// Completions per prompt.
    pub group_size: usize,
    /// Prompts of a round.
    pub size: RoundSize,
    /// Prompts pulled from the data at a time.
    pub raw_batch: usize,
    /// Most rounds.
    pub max_rounds: usize,
    /// What happens to a step that is still short then.
    pub on_short: OnShort,
    /// The history filter.
    pub screen: Screen,
    /// The gate.
    pub gate: PoolGate,
    /// What a gate compares.
    pub pool: PoolRule,
    /// When and how a round follows another.
    pub refill: Refill,
    /// What has to differ within a group; none trains on every group.
    pub filter: Option<Filter>,
    /// What becomes of an epoch's end.
    pub epoch_end: EpochEnd,
    /// The controller of the exploration probabilities, if the arm has one.
    pub controller: Option<(ExplorationConfig, AtTarget)>,
    /// What is left of a posterior at each visit.
    pub decay: f64,
    /// What a wrong completion can earn.
    pub levels: RewardLevels,
}

/// The history filter of an arm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Screen {
    /// Every prompt passes.
    Pass,
    /// Stage 1 of HIVE.
    Stage1(Stage1Config),
    /// As GRESO's code has it, with this floor.
    Greso(f64),
}

/// The gate of an arm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PoolGate {
    /// None: every prompt of the pool is rolled out.
    Open,
    /// By prompt entropy.
    Entropy(Gate),
    /// By chance, as many as the band keeps.
    Random(Band),
    /// By a sampled pass rate, out of `factor` times as many.
    Posterior {
        /// Which draws are taken.
        rule: PosteriorRule,
        /// Candidates per prompt that is kept.
        factor: f64,
    },
}

/// Which sampled pass rates MoPPS takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PosteriorRule {
    /// The nearest to one.
    Nearest {
        /// Pass rate that is looked for.
        centre: f64,
    },
    /// Those of a band first.
    Within {
        /// Lowest pass rate of the band.
        low: f64,
        /// Highest one.
        high: f64,
    },
}

/// When and how a round follows another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refill {
    /// Never: one round of exactly the groups to train on.
    Never,
    /// Rounds of one size, as in dynamic sampling.
    Fixed,
    /// Rounds of the size that is expected to be needed.
    TopUp,
    /// As GRESO's code does: a small top-up is the last, whatever it brings.
    GresoCode,
}

impl Plan {
    /// The plan of a validated configuration.
    pub fn new(config: &RunConfig) -> Self {
        let selection = &config.selection;
        let rounds = &selection.rounds;
        let open = Self {
            train_groups: selection.prompts_per_step,
            group_size: config.rollout.group_size,
            size: RoundSize {
                candidates: selection.candidate_target(),
                at_least: selection.top_up_min(),
                factor: rounds.top_up_factor,
            },
            raw_batch: rounds.raw_batch,
            max_rounds: rounds.max_rounds,
            on_short: rounds.on_short,
            screen: Screen::Pass,
            gate: PoolGate::Open,
            pool: PoolRule::Pooled,
            refill: Refill::TopUp,
            filter: Some(rounds.filter),
            epoch_end: EpochEnd::GoOn,
            controller: None,
            decay: 1.0,
            levels: reward_levels(&config.reward),
        };
        open.with(&selection.method)
    }

    fn with(self, method: &SelectionMethod) -> Self {
        let hive_controller = |it: ExplorationConfig| Some((it, AtTarget::Keep));
        match method {
            SelectionMethod::Uniform => Self {
                refill: Refill::Never,
                filter: None,
                ..self
            },
            SelectionMethod::DynamicSampling => Self {
                refill: Refill::Fixed,
                ..self
            },
            SelectionMethod::GresoCode(it) => Self {
                screen: Screen::Greso(it.p_floor),
                refill: Refill::GresoCode,
                epoch_end: EpochEnd::Drop,
                controller: Some((it.exploration, AtTarget::Lower)),
                ..self
            },
            SelectionMethod::Greso(it) => Self {
                screen: Screen::Stage1(it.stage1),
                controller: hive_controller(it.exploration),
                ..self
            },
            SelectionMethod::Hive(it) => Self {
                screen: Screen::Stage1(it.stage1),
                gate: PoolGate::Entropy(it.preset.gate()),
                pool: it.pool,
                controller: hive_controller(it.exploration),
                ..self
            },
            SelectionMethod::Stage1Only(it) => Self {
                screen: Screen::Stage1(it.stage1),
                controller: hive_controller(it.exploration),
                ..self
            },
            SelectionMethod::Stage2Only(it) => Self {
                gate: PoolGate::Entropy(it.preset.gate()),
                pool: it.pool,
                ..self
            },
            SelectionMethod::RandomGate(it) => Self {
                screen: Screen::Stage1(it.stage1),
                gate: PoolGate::Random(it.band()),
                pool: it.pool,
                controller: hive_controller(it.exploration),
                ..self
            },
            SelectionMethod::Mopps(it) => Self {
                gate: PoolGate::Posterior {
                    rule: it.within.map_or(
                        PosteriorRule::Nearest { centre: it.centre },
                        |[low, high]| PosteriorRule::Within { low, high },
                    ),
                    factor: it.pool_factor,
                },
                decay: it.decay,
                ..self
            },
        }
    }

    /// The exploration probabilities before the first step.
    pub fn exploration(&self) -> Exploration {
        let controller = self.controller.as_ref();
        controller.map_or_else(Exploration::default, |(config, _)| config.start())
    }

    /// True if the arm remembers what became of a prompt.
    pub fn has_memory(&self) -> bool {
        self.screen != Screen::Pass || matches!(self.gate, PoolGate::Posterior { .. })
    }

    /// Survivors of the history filter that a round of `target` prompts needs.
    pub fn pool_target(&self, target: usize) -> usize {
        match &self.gate {
            PoolGate::Open => target,
            PoolGate::Entropy(gate) => pool_target_of(target, Some(gate)),
            PoolGate::Random(band) => pool_target_of(target, Some(&Gate::Band(*band))),
            PoolGate::Posterior { factor, .. } => (target as f64 * factor).ceil() as usize,
        }
    }
}

/// With a reward for form, a wrong answer in form is told from no answer.
fn reward_levels(config: &RewardConfig) -> RewardLevels {
    let form = config.components.iter().filter_map(|it| match it {
        Component::Format { weight } => Some(*weight),
        Component::Correct { .. } | Component::Model { .. } => None,
    });
    let answered: f64 = form.sum();
    match answered == 0.0 {
        true => RewardLevels::Binary,
        false => RewardLevels::Shaped { answered },
    }
}

impl SelectionConfig {
    /// True if the arm scores prompts before it rolls them out.
    pub fn has_entropy_gate(&self) -> bool {
        matches!(
            self.method,
            SelectionMethod::Hive(_) | SelectionMethod::Stage2Only(_)
        )
    }
}
