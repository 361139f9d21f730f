//! Fresh rollouts of a frozen policy, on held-out prompts and on prompts that were trained on:
//! what predictions are compared with.
//!
//! Training rollouts cannot serve: they come from weights that have moved since. Completions are
//! sampled as in training and scored under the policy and under the policy of the start.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use burn::module::Module;
use rlvr_core::ClipLevel;
use serde::{Deserialize, Serialize};

use crate::batch::Row;
use crate::config::InvalidValue;
use crate::config::range::at_least;
use crate::failure::Failure;
use crate::groups::{requests, scoring_rows};
use crate::metrics::{LogError, StepMetrics};
use crate::policy::decoder::Decoder;
use crate::record::{Group, Prompt, PromptId};
use crate::report::fresh_statistics::fresh_statistics;
use crate::report::live;
use crate::report::run_files::Additions;
use crate::room::MicroBatchLimit;
use crate::run::{Objective, Run};
use crate::seed::{Stage, stream};
use crate::state::{TrainState, load_decoder};
use crate::update::{UpdateError, score_rows};

/// The section `[report]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReportSection {
    /// Prompts rolled out afresh, held-out and trained on, so many of each; 0 means none.
    pub prompts: usize,
    /// Completions of each, 1 or more.
    pub samples: usize,
    /// Also at every evaluation, not only after the last step.
    pub at_eval: bool,
    /// Score the completions under the policy of the start as well.
    pub reference: bool,
    /// Failure probability of every bound, above 0 and below 1.
    pub delta: f64,
}

impl Default for ReportSection {
    fn default() -> Self {
        Self {
            prompts: 64,
            samples: 4,
            at_eval: false,
            reference: true,
            delta: super::statistics::DEFAULT_DELTA,
        }
    }
}

impl ReportSection {
    /// Checks the ranges.
    ///
    /// # Errors
    /// If a value is impossible.
    pub fn validate(&self) -> Result<(), InvalidValue> {
        at_least("report.samples", self.samples, 1)?;
        if self.delta > 0.0 && self.delta < 1.0 {
            return Ok(());
        }
        let allowed = "above 0 and below 1";
        Err(InvalidValue::new("report.delta", self.delta, allowed))
    }
}

/// What the prompts of a line were used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PromptSet {
    /// Nothing.
    HeldOut,
    /// Training.
    Train,
}

/// One line of `fresh.jsonl`: a prompt with its fresh completions. Log-probs are sums over a
/// completion's tokens, in nats, at the temperature of training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FreshLine {
    /// Steps that were complete.
    pub step: u64,
    /// What the prompt was used for.
    pub set: PromptSet,
    /// The prompt.
    pub prompt_id: PromptId,
    /// Total rewards.
    pub rewards: Vec<f64>,
    /// The verifier's verdicts.
    pub correct: Vec<bool>,
    /// Under the policy.
    pub policy_logprobs: Vec<f64>,
    /// Under the policy of the start.
    pub ref_logprobs: Option<Vec<f64>>,
    /// What decoding reported.
    pub sampler_logprobs: Vec<f64>,
    /// Completion lengths.
    pub num_tokens: Vec<usize>,
    /// Completions that hit a length limit.
    pub is_truncated: Vec<bool>,
    /// Learned rewards before their weight, one list per head of the reward model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub learned: Vec<Vec<f64>>,
}

impl Run<'_> {
    /// Rolls out afresh and logs it, if this step is one for it.
    ///
    /// # Errors
    /// If a rollout fails, the device cannot be read, or the disk refuses.
    pub fn roll_out_afresh(
        &mut self,
        state: &mut TrainState,
        metrics: &mut StepMetrics,
    ) -> Result<(), Failure> {
        let section = &self.session.config.report;
        let step = state.counters.step;
        let is_last = step == self.optimizer.total_steps;
        let is_supervised = matches!(self.objective, Objective::Supervised);
        if section.prompts == 0
            || is_supervised
            || !(is_last || section.at_eval && self.is_eval_due(step))
        {
            return Ok(());
        }
        self.log.progress.phase("fresh rollouts");
        let policy = state.policy.valid();
        let learned = self.session.reward_model.as_ref().map(|it| &it.base);
        let kept = self.reference.as_ref().or(learned);
        let loaded = match (kept, section.reference) {
            (None, true) => {
                let folder = &self.session.model.folder;
                let start = load_decoder(folder, &self.session.device).map_err(Failure::run)?;
                Some(start.valid())
            }
            _ => None,
        };
        let reference = kept.or(loaded.as_ref());
        let reference = reference.filter(|_| section.reference);
        let (mut lines, mut limit) = (Vec::new(), self.limit(&state.counters));
        for (set, prompts) in [
            (PromptSet::HeldOut, self.held_out_sample()),
            (PromptSet::Train, self.trained_sample()?),
        ] {
            let found = self.fresh_lines(step, set, prompts, &policy, reference, &mut limit)?;
            lines.extend(found);
        }
        limit.keep(&mut state.counters);
        self.log.warn(limit.warning(step));
        for line in &lines {
            self.log.fresh(line)?;
        }
        self.choose_clip(state, &lines);
        metrics.kl_clip_tau = self.clip_tau(state);
        live::fill(metrics, &lines);
        self.fill_prediction(metrics, &lines)?;
        for warning in live::warnings(&lines) {
            self.log.warn(Some(warning));
        }
        Ok(())
    }

    /// The predicted error of these rollouts beside the measured one: the numbers that a report of
    /// this step would show.
    fn fill_prediction(
        &self,
        metrics: &mut StepMetrics,
        lines: &[FreshLine],
    ) -> Result<(), Failure> {
        let config = &self.session.config;
        let heads = self.session.reward_model.as_ref();
        let heads = heads.map_or(&[][..], |it| &it.description.heads);
        let head = heads.iter().enumerate().next_back();
        let found = fresh_statistics(config, lines, Additions::default(), head);
        if let Some(mut statistics) = found.map_err(Failure::run)? {
            statistics.tau = metrics.kl_clip_tau.or(statistics.tau);
            live::fill_prediction(metrics, &statistics).map_err(Failure::run)?;
        }
        Ok(())
    }

    /// Moves the KL clip by its rule. The pilot are training prompts: the held-out ones stay free
    /// for a bound that takes this threshold as given.
    fn choose_clip(&self, state: &mut TrainState, lines: &[FreshLine]) {
        let config = &self.session.config;
        if config.control.kl_clip.is_some()
            && let Some(tau) = live::pilot_tau(lines, config.report.delta)
        {
            state.counters.controllers.choose_kl_clip(tau);
        }
    }

    /// Threshold in force after this step, of a sequence-level clip.
    fn clip_tau(&self, state: &TrainState) -> Option<f64> {
        let clip = self.session.config.loss.kl.and_then(|kl| kl.clip);
        let clip = clip.filter(|clip| clip.level == ClipLevel::Sequence)?;
        state.counters.controllers.kl_clip_tau().or(Some(clip.tau))
    }

    fn held_out_sample(&self) -> Vec<Prompt> {
        let held_out = &self.session.data.held_out;
        held_out[..held_out.len().min(self.session.config.report.prompts)].to_vec()
    }

    /// Prompts that steps really used, as far as `completions.jsonl` has them; a seeded sample.
    fn trained_sample(&self) -> Result<Vec<Prompt>, Failure> {
        let visited = visited(self.log.completions_path()).map_err(Failure::run)?;
        let train = self.session.data.train.iter();
        let mut prompts: Vec<&Prompt> = train.filter(|it| visited.contains(&it.id)).collect();
        let seed = self.session.config.run.seed;
        stream(seed, Stage::Report, 0, PromptId(0), 0).shuffle(&mut prompts);
        prompts.truncate(self.session.config.report.prompts);
        Ok(prompts.into_iter().cloned().collect())
    }

    fn fresh_lines(
        &self,
        step: u64,
        set: PromptSet,
        prompts: Vec<Prompt>,
        policy: &Decoder,
        reference: Option<&Decoder>,
        limit: &mut MicroBatchLimit,
    ) -> Result<Vec<FreshLine>, Failure> {
        let (session, config) = (self.session, &self.session.config);
        if prompts.is_empty() {
            return Ok(Vec::new());
        }
        let tokenizer = &session.model.folder.tokenizer;
        let decode = |tokens: &[u32]| tokenizer.decode(tokens, true);
        let output = session.engine.roll_out(
            policy,
            &decode,
            &requests(&prompts, config.report.samples as u32),
            &session.sampling(),
            config.run.seed,
            Stage::Report,
            step,
        );
        let output = output.map_err(Failure::run)?;
        let (groups, learned) = session
            .grade(prompts, output.completions)
            .map_err(Failure::run)?;
        let rows = scoring_rows(&groups);
        let views: Vec<&Row> = rows.iter().collect();
        let mut sums = |decoder: &Decoder| -> Result<Vec<f64>, UpdateError> {
            let scoring = session.scoring();
            let found = score_rows(decoder, &views, &scoring, limit, &session.device)?;
            Ok(found.iter().map(|values| sum(values)).collect())
        };
        let policy_sums = sums(policy).map_err(Failure::run)?;
        let ref_sums = reference.map(sums).transpose().map_err(Failure::run)?;
        let samples = config.report.samples;
        let cut =
            |sums: &[f64], index: usize| sums[index * samples..(index + 1) * samples].to_vec();
        let lines = groups.iter().enumerate().map(|(index, group)| {
            let ref_logprobs = ref_sums.as_ref().map(|sums| cut(sums, index));
            FreshLine {
                learned: learned.iter().map(|values| cut(values, index)).collect(),
                ..line(step, set, group, cut(&policy_sums, index), ref_logprobs)
            }
        });
        Ok(lines.collect())
    }
}

fn sum(values: &[f32]) -> f64 {
    values.iter().map(|&value| f64::from(value)).sum()
}

fn line(
    step: u64,
    set: PromptSet,
    group: &Group,
    policy_logprobs: Vec<f64>,
    ref_logprobs: Option<Vec<f64>>,
) -> FreshLine {
    let rollouts = &group.rollouts;
    let completions = || rollouts.iter().map(|it| &it.completion);
    FreshLine {
        step,
        set,
        prompt_id: group.prompt.id,
        rewards: rollouts.iter().map(|it| it.reward.total).collect(),
        correct: rollouts.iter().map(|it| it.reward.is_correct).collect(),
        policy_logprobs,
        ref_logprobs,
        sampler_logprobs: completions().map(|it| sum(&it.sampler_logprobs)).collect(),
        num_tokens: completions().map(|it| it.tokens.len()).collect(),
        is_truncated: completions().map(|it| it.stop.is_truncated()).collect(),
        learned: Vec::new(),
    }
}

/// The prompts of the logged rollouts.
fn visited(path: &Path) -> Result<BTreeSet<PromptId>, LogError> {
    #[derive(Deserialize)]
    struct IdOnly {
        prompt_id: PromptId,
    }
    let io = |source| LogError::Io {
        action: "read",
        path: path.into(),
        source,
    };
    let mut found = BTreeSet::new();
    for (index, line) in BufReader::new(File::open(path).map_err(io)?)
        .lines()
        .enumerate()
    {
        let record: Result<IdOnly, _> = serde_json::from_str(&line.map_err(io)?);
        let damaged = |error: serde_json::Error| LogError::Damaged {
            path: path.into(),
            line: index + 1,
            message: error.to_string(),
        };
        found.insert(record.map_err(damaged)?.prompt_id);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use crate::cli::{ConfigArgs, TrainArgs};
    use crate::commands::train;
    use crate::room::pretended::with_room;

    #[test]
    fn scoring_starts_from_what_the_step_left_of_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("run");
        let sets = [
            "data.num_problems=100",
            "eval.problems=4",
            "eval.at_start=false",
            "selection.prompts_per_step=8",
            "rollout.group_size=4",
            "report.prompts=8",
            "report.samples=4",
        ];
        let args = TrainArgs {
            config: ConfigArgs {
                recipe: Some("tiny".into()),
                sets: sets.map(String::from).to_vec(),
                ..ConfigArgs::default()
            },
            out: Some(out.display().to_string()),
            steps: Some(1),
            quiet: true,
            ..TrainArgs::default()
        };
        let (ended, tried) = with_room(300, || train::run(&args, train::Kind::Reinforce));
        ended.unwrap();
        let metrics = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap();
        let step: serde_json::Value =
            serde_json::from_str(metrics.lines().last().unwrap()).unwrap();
        let num_retries = step["timing"]["num_oom_retries"].as_u64().unwrap();
        assert!(num_retries > 0, "{step}");
        assert_eq!(tried.num_refused as u64, num_retries);
        let fresh = std::fs::read_to_string(out.join("fresh.jsonl")).unwrap();
        let has = |set: &str| fresh.contains(&format!("\"set\":\"{set}\""));
        assert!(has("held_out") && has("train"), "{fresh}");
    }
}
