//! The whole configuration, and the sections that belong to no single stage.

use burn::tensor::Device;
use rlvr_backends::{BackendKind, NoPrecision, Precision, PrecisionChoice};
use rlvr_core::{
    ClipLevel, GrpoLossConfig, ImportanceBound, ImportanceCorrection, ImportanceLevel,
};
use serde::{Deserialize, Serialize};

use super::auto_sizes::AutoSizes;
use super::error::InvalidValue;
use super::memory_section::MemorySection;
use super::range::{at_least, not_blank, not_negative, positive};
use super::update_section::UpdateSection;
use super::verifier_section::VerifierSection;
use crate::advantage::AdvantageSection;
use crate::control::ControlConfig;
use crate::dataset::{DataConfig, PromptConfig};
use crate::report::fresh::ReportSection;
use crate::reward::RewardConfig;
use crate::reward_model::section::RewardModelSection;
use crate::rollout::RolloutConfig;
use crate::selection::SelectionConfig;

/// Cap of the importance weights that half precision gets by default: that of TIS as TRL and verl
/// set it.
const IMPORTANCE_CAP: f64 = 2.0;

/// A run. A section is a stage's configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunConfig {
    /// Length, seed and place of the run.
    pub run: RunSection,
    /// The policy to start from.
    pub model: ModelSection,
    /// Where problems come from.
    pub data: DataConfig,
    /// How a problem becomes what the policy sees.
    pub prompt: PromptConfig,
    /// Which prompts a step uses.
    pub selection: SelectionConfig,
    /// How completions are sampled.
    pub rollout: RolloutConfig,
    /// What a completion earns.
    pub reward: RewardConfig,
    /// How a learned reward is made.
    pub reward_model: RewardModelSection,
    /// How answers are found and compared.
    pub verifier: VerifierSection,
    /// How rewards become advantages.
    pub advantage: AdvantageSection,
    /// The objective.
    pub loss: GrpoLossConfig,
    /// Coefficients of the objective that follow a measurement.
    pub control: ControlConfig,
    /// The optimizer and its schedule.
    pub update: UpdateSection,
    /// Held-out evaluation.
    pub eval: EvalSection,
    /// Fresh rollouts and the bounds beside them.
    pub report: ReportSection,
    /// What is saved, and how often.
    pub checkpoint: CheckpointSection,
    /// What is written besides metrics.
    pub log: LogSection,
    /// The supervised warm start of `trainer sft`.
    pub sft: SftSection,
    /// What the run computes on.
    pub backend: BackendSection,
    /// How much memory it may take.
    pub memory: MemorySection,
    /// Sizes whose numbers are those of a laptop so far, and not yet those of the device.
    #[serde(skip)]
    pub automatic: AutoSizes,
}

impl RunConfig {
    /// True if a term of the objective needs a frozen reference policy.
    pub fn needs_reference(&self) -> bool {
        self.loss.kl.is_some() || self.advantage.kl_in_reward.is_some()
    }

    /// Decides what depends on the opened device: the precision, and the correction of the
    /// sampler-trainer gap, which is on where rounded products open one unless one is configured
    /// already or `backend.correct_sampler` forbids it.
    ///
    /// # Errors
    /// If the device does not compute in what was asked for.
    pub fn decide_for(&mut self, device: &Device) -> Result<Precision, NoPrecision> {
        let precision = self.backend.precision.resolve(self.backend.kind, device)?;
        self.backend.precision = precision.into();
        let opens_gap = precision == Precision::Bf16;
        if opens_gap && self.backend.correct_sampler && self.loss.importance.is_none() {
            self.loss.importance = Some(ImportanceCorrection {
                level: ImportanceLevel::Token,
                bound: ImportanceBound::Truncate {
                    cap: IMPORTANCE_CAP,
                },
            });
        }
        Ok(precision)
    }

    /// Checks every value by itself, then those that must fit together.
    pub fn validate(&self) -> Result<(), InvalidValue> {
        self.run.validate()?;
        self.model.validate()?;
        self.data.validate()?;
        self.prompt.validate()?;
        self.selection.validate()?;
        self.rollout.validate()?;
        self.selection
            .validate_group_size(self.rollout.group_size)?;
        self.reward.validate()?;
        self.reward_model.validate()?;
        self.verifier.validate()?;
        self.advantage.validate(self.rollout.group_size)?;
        self.loss.validate().map_err(|err| {
            InvalidValue::new(&format!("loss.{}", err.key), err.value, err.allowed)
        })?;
        self.control.validate(self.loss.kl.is_some())?;
        self.update.validate()?;
        self.eval.validate()?;
        self.report.validate()?;
        self.checkpoint.validate()?;
        self.log.validate()?;
        self.sft.validate()?;
        self.backend.validate()?;
        self.memory.validate()?;
        self.validate_together()?;
        self.validate_kl_clip_rule()
    }

    /// The rule for the KL clip needs a clip to move and rollouts to measure.
    fn validate_kl_clip_rule(&self) -> Result<(), InvalidValue> {
        if self.control.kl_clip.is_none() {
            return Ok(());
        }
        let clip = self.loss.kl.and_then(|kl| kl.clip);
        let is_sequence = clip.is_some_and(|clip| clip.level == ClipLevel::Sequence);
        let report = &self.report;
        let needs = [
            (is_sequence, "loss.kl.clip with level = \"sequence\""),
            (report.prompts >= 2, "report.prompts of 2 or more"),
            (report.reference, "report.reference = true"),
            (
                report.at_eval && self.eval.every.is_some(),
                "report.at_eval = true and eval.every",
            ),
        ];
        match needs.into_iter().find(|(holds, _)| !holds) {
            None => Ok(()),
            Some((_, need)) => {
                let allowed = format!("needs {need}");
                Err(InvalidValue::new("control.kl_clip", "auto", allowed))
            }
        }
    }

    fn validate_together(&self) -> Result<(), InvalidValue> {
        let rollouts = self.selection.prompts_per_step * self.rollout.group_size;
        if self.update.minibatches > rollouts {
            let allowed = format!(
                "at most the {rollouts} rollouts of a step \
                 (selection.prompts_per_step times rollout.group_size)"
            );
            let key = "update.minibatches";
            return Err(InvalidValue::new(key, self.update.minibatches, allowed));
        }
        if self.rollout.temperature == 0.0 {
            let allowed = "above 0: greedy rollouts of a group are all the same and teach nothing";
            return Err(InvalidValue::new("rollout.temperature", 0.0, allowed));
        }
        Ok(())
    }
}

/// Length, seed and place of the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunSection {
    /// Seed of every random stream of the run; up to 2^63 - 1, what TOML can hold.
    pub seed: u64,
    /// Training steps, 1 or more.
    pub steps: u64,
    /// Run directory; unset means `runs/<name>-<n>` with the first free n.
    pub out: Option<String>,
    /// Name of the run; unset means the recipe's.
    pub name: Option<String>,
}

impl Default for RunSection {
    fn default() -> Self {
        Self {
            seed: 17,
            steps: 100,
            out: None,
            name: None,
        }
    }
}

impl RunSection {
    /// Checks the ranges.
    pub fn validate(&self) -> Result<(), InvalidValue> {
        if i64::try_from(self.seed).is_err() {
            let allowed = format!("at most {}", i64::MAX);
            return Err(InvalidValue::new("run.seed", self.seed, allowed));
        }
        at_least("run.steps", self.steps, 1)?;
        if let Some(out) = &self.out {
            not_blank("run.out", out)?;
        }
        let name = self.name.as_deref().unwrap_or("run");
        not_blank("run.name", name)?;
        if name.contains(['/', '\\']) || name.starts_with('.') {
            let allowed = "a name without slashes that does not start with a dot";
            return Err(InvalidValue::new("run.name", name, allowed));
        }
        Ok(())
    }
}

/// The policy to start from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelSection {
    /// A model folder, a hub id `org/name[@revision]`, or `embedded` for the tiny model.
    pub path: String,
    /// Start `trainer sft` from fresh weights of that folder's shape instead of its weights.
    pub from_scratch: bool,
}

impl Default for ModelSection {
    fn default() -> Self {
        Self {
            path: "embedded".into(),
            from_scratch: false,
        }
    }
}

impl ModelSection {
    /// Checks that a model is named.
    pub fn validate(&self) -> Result<(), InvalidValue> {
        not_blank("model.path", &self.path)
    }
}

/// Held-out evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvalSection {
    /// Steps between two evaluations; unset means none in between.
    pub every: Option<u64>,
    /// Held-out problems, 1 or more; fewer if the data has fewer.
    pub problems: usize,
    /// Completions per problem, 1 or more.
    pub samples: usize,
    /// Sampling temperature, 0 or more; 0 is greedy.
    pub temperature: f64,
    /// The k of pass@k, each from 1 to `samples`.
    pub pass_at_k: Vec<usize>,
    /// Evaluate before the first step.
    pub at_start: bool,
    /// Evaluate after the last step.
    pub at_end: bool,
}

impl Default for EvalSection {
    fn default() -> Self {
        Self {
            every: Some(20),
            problems: 500,
            samples: 1,
            temperature: 0.0,
            pass_at_k: vec![1],
            at_start: true,
            at_end: true,
        }
    }
}

impl EvalSection {
    /// Checks the ranges.
    pub fn validate(&self) -> Result<(), InvalidValue> {
        at_least("eval.every", self.every.unwrap_or(1), 1)?;
        at_least("eval.problems", self.problems, 1)?;
        at_least("eval.samples", self.samples, 1)?;
        not_negative("eval.temperature", self.temperature)?;
        for &k in &self.pass_at_k {
            if k == 0 || k > self.samples {
                let allowed = format!("from 1 to eval.samples = {}", self.samples);
                return Err(InvalidValue::new("eval.pass_at_k", k, allowed));
            }
        }
        Ok(())
    }
}

/// What is saved, and how often.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CheckpointSection {
    /// Steps between two checkpoints; unset means only at the end and when interrupted.
    pub every: Option<u64>,
    /// Newest checkpoints kept, 1 or more.
    pub keep_last: usize,
    /// Checkpoints of highest held-out accuracy kept besides those, 0 or more.
    pub keep_best: usize,
}

impl Default for CheckpointSection {
    fn default() -> Self {
        Self {
            every: Some(20),
            keep_last: 2,
            keep_best: 1,
        }
    }
}

impl CheckpointSection {
    /// Checks the ranges.
    pub fn validate(&self) -> Result<(), InvalidValue> {
        at_least("checkpoint.every", self.every.unwrap_or(1), 1)?;
        at_least("checkpoint.keep_last", self.keep_last, 1)
    }
}

/// What is written besides metrics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSection {
    /// Completions written to `completions.jsonl` in every step; unset means all.
    pub completions_per_step: Option<usize>,
}

impl Default for LogSection {
    fn default() -> Self {
        Self {
            completions_per_step: Some(16),
        }
    }
}

impl LogSection {
    /// Every value is possible.
    pub fn validate(&self) -> Result<(), InvalidValue> {
        Ok(())
    }
}

/// The supervised warm start of `trainer sft`; whatever is not here comes from `update`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SftSection {
    /// Optimizer steps, 1 or more.
    pub steps: u64,
    /// Worked solutions per step, 1 or more.
    pub batch_size: usize,
    /// Peak learning rate, more than 0.
    pub learning_rate: f64,
    /// Steps of linear warm-up.
    pub warmup_steps: u64,
}

impl Default for SftSection {
    fn default() -> Self {
        Self {
            steps: 500,
            batch_size: 32,
            learning_rate: 1e-3,
            warmup_steps: 20,
        }
    }
}

impl SftSection {
    /// Checks the ranges.
    pub fn validate(&self) -> Result<(), InvalidValue> {
        at_least("sft.steps", self.steps, 1)?;
        at_least("sft.batch_size", self.batch_size, 1)?;
        positive("sft.learning_rate", self.learning_rate)
    }
}

/// What the run computes on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BackendSection {
    /// The backend; it must be compiled in.
    pub kind: BackendKind,
    /// What the matrix products of rollouts and update are computed in: f32, bf16, or auto, which is
    /// bf16 on CUDA devices that have it and f32 elsewhere. Weights, norms, softmax, log-probs, loss
    /// and optimizer are f32 in any case.
    pub precision: PrecisionChoice,
    /// With products in bf16, weigh each token by what the update's forward pass gives it over what
    /// the sampler gave it, at most 2, if `loss.importance` is unset.
    pub correct_sampler: bool,
    /// CPU threads, 1 or more; unset means all cores.
    pub threads: Option<usize>,
}

impl Default for BackendSection {
    fn default() -> Self {
        Self {
            kind: BackendKind::default(),
            precision: PrecisionChoice::Auto,
            correct_sampler: true,
            threads: None,
        }
    }
}

impl BackendSection {
    /// Checks the ranges; whether the backend exists is checked when its device is opened.
    pub fn validate(&self) -> Result<(), InvalidValue> {
        at_least("backend.threads", self.threads.unwrap_or(1), 1)
    }
}
