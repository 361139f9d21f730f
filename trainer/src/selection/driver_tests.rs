//! The driver over a simulated source, whose prompts have fixed pass rates and entropies.

use std::collections::BTreeSet;

use proptest::prelude::{Strategy, prop, prop_assert, prop_assert_eq, proptest};
use proptest::test_runner::Config;

use super::super::config::SelectionMethod;
use super::super::counts::AuditCounts;
use super::super::source::SourceStats;
use super::*;
use crate::config::{Layers, RecipeText, RunConfig};
use crate::record::{Completion, Reward, Rollout, StopReason};
use crate::rollout::RolloutError;

const G: usize = 4;

/// Rollouts without a model: each prompt has a pass rate and an entropy of its own.
struct Simulated {
    seed: u64,
    step: u64,
    scored: usize,
    /// Prompts whose rewards are all 0 or all 1.
    extremes: f64,
    rolled: Vec<PromptId>,
}

impl Simulated {
    fn new(seed: u64, step: u64, extremes: f64) -> Self {
        Self {
            seed,
            step,
            scored: 0,
            extremes,
            rolled: Vec::new(),
        }
    }

    fn pass_rate(&self, id: PromptId) -> f64 {
        let mut draws = stream(99, Stage::Init, 0, id, 0);
        match draws.uniform() < self.extremes {
            true => draws.uniform().round(),
            false => draws.uniform(),
        }
    }
}

impl RolloutSource for Simulated {
    fn score(&mut self, prompts: &[&Prompt]) -> Result<Vec<PromptEntropy>, RolloutError> {
        self.scored += prompts.len();
        let entropy = |prompt: &&Prompt| PromptEntropy {
            prompt_id: prompt.id,
            entropy: stream(98, Stage::Init, self.step, prompt.id, 0).uniform(),
            question_entropy: None,
        };
        Ok(prompts.iter().map(entropy).collect())
    }

    fn keep(&mut self, _: &dyn Fn(&PromptEntropy) -> bool, _: &[PromptEntropy]) {}

    fn roll_out(&mut self, prompts: Vec<Prompt>, stage: Stage) -> Result<Vec<Group>, RolloutError> {
        if stage == Stage::Rollout {
            self.rolled.extend(prompts.iter().map(|it| it.id));
        }
        let group = |prompt: Prompt| {
            let rollout = |index: u32| {
                let mut draws = stream(self.seed, stage, self.step, prompt.id, index);
                let is_correct = draws.uniform() < self.pass_rate(prompt.id);
                let num_tokens = 1 + draws.below(3) as usize;
                Rollout {
                    completion: Completion {
                        prompt_id: prompt.id,
                        index,
                        tokens: vec![0; num_tokens],
                        sampler_logprobs: vec![0.0; num_tokens],
                        entropies: vec![draws.uniform() as f32; num_tokens],
                        stop: StopReason::StopToken,
                    },
                    completion_text: String::new(),
                    reward: Reward {
                        total: f64::from(u8::from(is_correct)),
                        components: Vec::new(),
                        is_correct,
                        is_strict_format: true,
                        reason: String::new(),
                        extracted: None,
                        learned: None,
                    },
                }
            };
            Group {
                rollouts: (0..G as u32).map(rollout).collect(),
                prompt: prompt.clone(),
            }
        };
        Ok(prompts.into_iter().map(group).collect())
    }

    fn take_stats(&mut self) -> SourceStats {
        SourceStats::default()
    }
}

fn prompts(count: usize) -> Vec<Prompt> {
    let prompt = |number: usize| Prompt {
        id: PromptId(1000 + 7 * number as u64 % 1009),
        prompt_text: String::new(),
        prompt_tokens: vec![1; 3 + number % 4],
        reference_answer: String::new(),
        solution: None,
    };
    (0..count).map(prompt).collect()
}

fn config(method: &str, sets: &[&str]) -> RunConfig {
    let recipe = RecipeText::inline(
        "test.toml",
        "[selection]\nprompts_per_step = 8\n[rollout]\ngroup_size = 4\n\
               [selection.rounds]\nraw_batch = 10\n[selection.audit]\nevery = 2\ngroups = 3\n",
    );
    let mut layers = Layers::new(&recipe).unwrap();
    layers.set(&format!("selection.method={method}")).unwrap();
    for set in sets {
        layers.set(set).unwrap();
    }
    layers.resolve().unwrap()
}

/// A run of some steps.
struct Simulation {
    config: RunConfig,
    plan: Plan,
    prompts: Vec<Prompt>,
    state: SelectionState,
    step: u64,
    extremes: f64,
}

impl Simulation {
    fn new(config: RunConfig, num_prompts: usize, extremes: f64) -> Self {
        let (plan, prompts) = (Plan::new(&config), prompts(num_prompts));
        Self {
            state: SelectionState::fresh(&prompts, plan.exploration()),
            config,
            plan,
            prompts,
            step: 0,
            extremes,
        }
    }

    fn step(&mut self) -> Result<(Collected, Vec<PromptId>), CollectError> {
        let audit = &self.config.selection.audit;
        let collector = Collector {
            plan: &self.plan,
            audit,
            prompts: &self.prompts,
            seed: self.config.run.seed,
            step: self.step,
        };
        let mut source = Simulated::new(5, self.step, self.extremes);
        let collected = collector.collect(&self.state, &mut source)?;
        collected.apply(&mut self.state, &self.plan, audit);
        self.step += 1;
        Ok((collected, source.rolled))
    }

    fn digests(&mut self, steps: usize) -> Vec<String> {
        let digest = |_| {
            self.step().unwrap();
            self.state.digest().unwrap()
        };
        (0..steps).map(digest).collect()
    }
}

fn run(method: &str, sets: &[&str], extremes: f64) -> Simulation {
    Simulation::new(config(method, sets), 120, extremes)
}

fn ids(groups: &[Group]) -> Vec<PromptId> {
    groups.iter().map(|it| it.prompt.id).collect()
}

/// Order in which the stream hands prompts out, from a position on.
fn arrival(simulation: &Simulation, position: u64) -> Vec<PromptId> {
    let seed = simulation.config.run.seed;
    let count = simulation.prompts.len() as u64;
    let mut stream = DataStream::new(seed, count, position, simulation.plan.epoch_end);
    let places = stream.pull(count as usize);
    let id = |place: u64| simulation.prompts[place as usize].id;
    places.into_iter().map(id).collect()
}

fn methods() -> impl Strategy<Value = &'static str> {
    prop::sample::select(SelectionMethod::NAMES.to_vec())
}

proptest! {
    #![proptest_config(Config::with_cases(24))]

    #[test]
    fn every_arm_keeps_the_laws_of_a_step(method in methods(), extremes in 0.0..0.5_f64) {
        let mut simulation = Simulation::new(config(method, &[]), 400, extremes);
        for _ in 0..12 {
            let before = simulation.state.clone();
            let (mut collected, rolled) = simulation.step().unwrap();
            let counts = collected.counts.clone();
            let distinct: BTreeSet<_> = rolled.iter().collect();
            prop_assert!(method == "uniform" || distinct.len() == rolled.len(), "{} twice", method);
            let by_kind = counts.num_groups_mixed + counts.num_groups_easy
                + counts.num_groups_hard + counts.num_groups_other;
            prop_assert_eq!(by_kind, counts.num_groups_generated);
            prop_assert_eq!(counts.num_groups_generated, rolled.len() as u64);
            prop_assert_eq!(counts.num_completions, (rolled.len() * G) as u64);
            prop_assert_eq!(counts.correct_counts.iter().sum::<u64>(), counts.num_groups_generated);
            prop_assert_eq!(ids(&collected.groups), rolled.clone());
            prop_assert!(counts.num_gate_kept <= counts.num_stage1_kept);
            prop_assert!(counts.num_stage1_kept <= counts.num_raw_prompts);
            let trained = ids(&collected.take_trained());
            prop_assert_eq!(trained.len() as u64, counts.num_groups_trained);
            if method == "uniform" {
                prop_assert_eq!(trained, rolled);
            } else {
                let outcome = counts.num_groups_trained + counts.num_groups_surplus;
                prop_assert_eq!(outcome, counts.num_groups_mixed);
                prop_assert!(trained.len() == 8 || (method == "greso_code" && collected.is_short));
                // The trained are the first mixed ones, in the order in which prompts arrived.
                let order = arrival(&simulation, before.position);
                let places: Vec<usize> = rolled.iter()
                    .filter_map(|id| order.iter().position(|other| other == id))
                    .collect();
                // GRESO's code drops the ends of epochs, and a posterior's candidates may wait.
                prop_assert!(
                    ["greso_code", "mopps"].contains(&method)
                        || places.windows(2).all(|pair| pair[0] < pair[1])
                );
            }
            let exploration = simulation.state.exploration;
            prop_assert!((0.05..=0.95).contains(&exploration.p_easy));
            prop_assert!((0.05..=0.95).contains(&exploration.p_hard));
        }
    }

    #[test]
    fn a_run_continues_bit_equal_from_its_saved_state(method in methods(), at in 1_usize..9) {
        let mut straight = run(method, &[], 0.5);
        let expected = straight.digests(10);
        let mut first = run(method, &[], 0.5);
        let mut found = first.digests(at);
        let bytes = first.state.to_bytes().unwrap();
        let mut second = run(method, &[], 0.5);
        second.state = SelectionState::from_bytes(&bytes).unwrap();
        second.step = at as u64;
        found.extend(second.digests(10 - at));
        prop_assert_eq!(found, expected);
        prop_assert!(straight.state.epoch() >= 1 || method == "uniform", "no epoch was crossed");
        prop_assert_eq!(straight.state, second.state);
    }
}

#[test]
fn an_audit_changes_no_selection() {
    let mut with = run("hive", &[], 0.4);
    let mut without = run("hive", &["selection.audit.every=none"], 0.4);
    let mut audited = 0;
    for _ in 0..10 {
        let (left, left_rolled) = with.step().unwrap();
        let (right, right_rolled) = without.step().unwrap();
        assert_eq!(left_rolled, right_rolled);
        assert_eq!(left.trained, right.trained);
        assert_eq!(left.counts, right.counts);
        assert_eq!(with.state.histories, without.state.histories);
        assert_eq!(with.state.exploration, without.state.exploration);
        audited += left.audit.audit_num_groups;
        assert_eq!(right.audit, AuditCounts::default());
        let kept: BTreeSet<_> = ids(&left.groups).into_iter().collect();
        assert!(left.audited.iter().all(|it| !kept.contains(&it.prompt.id)));
    }
    assert_eq!(audited, 5 * 3);
}

#[test]
fn hive_and_its_random_control_roll_out_equally_many_of_a_pool() {
    let (mut hive, mut random) = (run("hive", &[], 0.3), run("random_gate", &[], 0.3));
    let (left, left_rolled) = hive.step().unwrap();
    let (right, right_rolled) = random.step().unwrap();
    let first = |it: &Collected| (it.counts.pool_sizes[0], it.counts.round_sizes[0]);
    assert_eq!(first(&left), first(&right));
    assert_eq!(
        left.counts.num_scored_prompts, 0,
        "the simulation reports no statistics"
    );
    assert_ne!(left_rolled, right_rolled);
    assert_eq!(right.counts.gate_low_edge, None);
    assert!(left.counts.gate_low_edge < left.counts.gate_high_edge);
}

#[test]
fn arms_differ_where_they_should() {
    let rolled = |method: &str, sets: &[&str]| {
        let mut simulation = run(method, sets, 0.5);
        (0..8)
            .flat_map(|_| simulation.step().unwrap().1)
            .collect::<Vec<_>>()
    };
    let hive = rolled("hive", &[]);
    let median = ["selection.method.preset=paper-main-text"];
    assert_ne!(hive, rolled("hive", &median));
    assert_ne!(
        hive,
        rolled("hive", &["selection.method.pool=per_raw_batch"])
    );
    assert_ne!(rolled("dynamic_sampling", &[]), rolled("stage1_only", &[]));
    assert_ne!(rolled("greso", &[]), rolled("greso_code", &[]));
    // The gate without a history is not the history without a gate.
    assert_ne!(rolled("stage2_only", &[]), rolled("stage1_only", &[]));
}

#[test]
fn the_controller_waits_for_its_epoch() {
    let mut hive = run("hive", &[], 0.5);
    let mut greso = run("greso", &[], 0.5);
    hive.step().unwrap();
    greso.step().unwrap();
    assert_ne!(hive.state.exploration, hive.plan.exploration());
    assert_eq!(greso.state.exploration, greso.plan.exploration());
    while greso.state.epoch() == 0 {
        greso.step().unwrap();
    }
    assert_ne!(greso.state.exploration, greso.plan.exploration());
}

#[test]
fn a_step_that_stays_short_ends_with_its_figures() {
    let mut hopeless = run("hive", &["selection.rounds.max_rounds=2"], 1.0);
    let before = hopeless.state.clone();
    let CollectError::Short(short) = hopeless.step().unwrap_err() else {
        panic!("another error");
    };
    assert_eq!(
        (short.step, short.needed, short.mixed, short.rounds),
        (1, 8, 0, 2)
    );
    assert!((short.easy + short.hard - 1.0).abs() < 1e-12);
    let words = short.to_string();
    for word in [
        "8 mixed groups",
        "2 rounds",
        "p_easy 0.50",
        "pools of [30, 30]",
    ] {
        assert!(words.contains(word), "{words}");
    }
    assert_eq!(hopeless.state, before);
    // Without any mixed group there is nothing to train on, short or not.
    let sets = ["selection.rounds.on_short=train_short"];
    assert!(run("hive", &sets, 1.0).step().is_err());
}

#[test]
fn a_short_step_may_be_trained_on() {
    let sets = [
        "selection.rounds.on_short=train_short",
        "selection.rounds.max_rounds=1",
    ];
    let mut simulation = run("dynamic_sampling", &sets, 0.8);
    let (collected, _) = simulation.step().unwrap();
    assert!(collected.is_short && !collected.trained.is_empty());
    assert!(collected.trained.len() < 8);
    assert_eq!(simulation.state.totals.num_short_steps, 1);
}

#[test]
fn data_that_runs_out_closes_the_pool() {
    // Twelve prompts, and pools that ask for 24.
    let mut simulation = Simulation::new(config("hive", &[]), 12, 0.0);
    match simulation.step() {
        Ok((collected, rolled)) => {
            assert!(rolled.len() <= 12);
            assert_eq!(collected.counts.num_raw_prompts, 12);
        }
        Err(CollectError::Short(short)) => assert_eq!(short.unseen, 0),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn only_arms_with_a_memory_remember() {
    for (method, remembers) in [
        ("uniform", false),
        ("dynamic_sampling", false),
        ("stage2_only", false),
        ("greso_code", true),
        ("mopps", true),
        ("hive", true),
    ] {
        let mut simulation = run(method, &[], 0.3);
        let (collected, _) = simulation.step().unwrap();
        assert_eq!(
            !simulation.state.histories.is_empty(),
            remembers,
            "{method}"
        );
        assert_eq!(
            simulation.state.totals.num_groups_generated,
            collected.counts.num_groups_generated
        );
    }
}

#[test]
fn mopps_prefers_prompts_near_one_half() {
    for rule in ["centre=0.5", "within=[0.3, 0.7]"] {
        mopps_learns_where_to_look(&format!("selection.method.{rule}"));
    }
}

fn mopps_learns_where_to_look(rule: &str) {
    let mut simulation = run("mopps", &["selection.method.pool_factor=4", rule], 0.7);
    let share = |collected: &Collected| {
        collected.counts.num_groups_mixed as f64 / collected.counts.num_groups_generated as f64
    };
    let shares: Vec<f64> = (0..24)
        .map(|_| share(&simulation.step().unwrap().0))
        .collect();
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    assert!(
        mean(&shares[16..]) > mean(&shares[..4]) + 0.1,
        "{rule}: {shares:?}"
    );
}
