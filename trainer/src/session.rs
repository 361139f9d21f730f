//! Everything a command needs before it starts: device, model folder, prompts, engine.

use std::path::Path;

use burn::tensor::Device;
use rlvr_backends::{Precision, RowLayout};
use rlvr_core::GrpoLoss;
use rlvr_verifier::Policy;
use tempfile::TempDir;

use crate::config::{InvalidValue, RunConfig};
use crate::dataset::{self, DataReport};
use crate::failure::Failure;
use crate::gradient::ScoringSettings;
use crate::groups::grade_groups;
use crate::memory::{self, RunMemory, RunShape, run_memory};
use crate::optimizer::OptimizerSettings;
use crate::policy::config::ModelConfig;
use crate::policy::folder::ModelFolder;
use crate::policy::hub;
use crate::prompts::render_prompts;
use crate::record::{Completion, Group, Problem, Prompt};
use crate::reward_model::RewardModel;
use crate::rollout::{Engine, RolloutError, SamplingParams};

/// Name of the tiny model that the binary carries.
pub const EMBEDDED_MODEL: &str = "embedded";

/// A model folder that may have been unpacked for this process alone.
#[derive(Debug)]
pub struct OpenModel {
    /// The folder.
    pub folder: ModelFolder,
    /// Keeps an unpacked folder alive; it goes with this value.
    _unpacked: Option<TempDir>,
}

/// Opens a model: the embedded one, a folder, or a hub id.
///
/// # Errors
/// If there is no such model or its folder is damaged.
pub fn open_model(spec: &str) -> Result<OpenModel, Failure> {
    if spec != EMBEDDED_MODEL {
        let open = |failure: Failure| failure.while_doing(format!("open model `{spec}`"));
        let path = hub::resolve(spec).map_err(|err| open(Failure::usage(err)))?;
        let folder = ModelFolder::open(&path).map_err(|err| open(Failure::usage(err)))?;
        return Ok(OpenModel {
            folder,
            _unpacked: None,
        });
    }
    let unpacked = tempfile::Builder::new()
        .prefix("rlvr-model-")
        .tempdir()
        .map_err(Failure::run)?;
    for (name, bytes) in rlvr_fixtures::tiny_model() {
        std::fs::write(unpacked.path().join(name), bytes).map_err(Failure::run)?;
    }
    let folder = ModelFolder::open(unpacked.path()).map_err(Failure::run)?;
    Ok(OpenModel {
        folder,
        _unpacked: Some(unpacked),
    })
}

/// The device that records gradients, as the configuration says what is kept for them.
pub fn training_device(device: &Device, config: &RunConfig) -> Device {
    let device = device.clone().autodiff();
    match config.update.gradient_checkpointing {
        true => device.gradient_checkpointing(),
        false => device,
    }
}

/// Prompts of a run.
#[derive(Clone, Debug, Default)]
pub struct RunData {
    /// To train on.
    pub train: Vec<Prompt>,
    /// To evaluate on; shares no problem with `train`.
    pub held_out: Vec<Prompt>,
    /// What became of the records.
    pub report: DataReport,
}

/// A validated run with its inputs opened.
pub struct Session {
    /// The configuration.
    pub config: RunConfig,
    /// Where it computes; without gradients.
    pub device: Device,
    /// What it computes matrix products in.
    pub precision: Precision,
    /// The model.
    pub model: OpenModel,
    /// The prompts.
    pub data: RunData,
    /// The rollout engine.
    pub engine: Engine,
    /// What counts as a right answer.
    pub verifier: Policy,
    /// The learned reward, once a command that trains has opened it.
    pub reward_model: Option<RewardModel>,
}

impl Session {
    /// Opens device, model and data. In the session's configuration everything that depends on the
    /// device is decided.
    ///
    /// # Errors
    /// If any of them cannot be had; nothing has been written then.
    pub fn open(mut config: RunConfig) -> Result<Self, Failure> {
        if let Some(threads) = config.backend.threads {
            rlvr_backends::set_threads(threads)?;
        }
        let device = rlvr_backends::device(config.backend.kind)?;
        let precision = config.decide_for(&device)?;
        let model = open_model(&config.model.path)?;
        let data = load_data(&config, &model.folder)?;
        let shape = run_shape(&config, &model.folder.config, &data, precision);
        memory::choose(&shape, &mut config, rlvr_backends::total_memory(&device));
        let engine = Engine::new(&model.folder.config, config.rollout.clone(), precision);
        Ok(Self {
            device,
            precision,
            model,
            data,
            engine,
            verifier: config.verifier.policy(),
            reward_model: None,
            config,
        })
    }

    /// Opens the learned reward, if the configuration has one. Commands that only look at verdicts
    /// do without.
    ///
    /// # Errors
    /// If it is not there or does not fit the run.
    pub fn open_reward_model(&mut self) -> Result<(), Failure> {
        if let Some((path, weight)) = self.config.reward.learned() {
            let (model, data) = (&self.model, &self.data);
            let found = RewardModel::open(path, weight, model, &self.config, data, &self.device);
            self.reward_model = Some(found.map_err(Failure::usage)?);
        }
        Ok(())
    }

    /// Grades completions with everything that the run pays for; `completions` are by prompt, then
    /// by index. With a learned reward also the values of its heads, for all rollouts in order.
    ///
    /// # Errors
    /// If the device cannot be read.
    pub fn grade(
        &self,
        prompts: Vec<Prompt>,
        completions: Vec<Vec<Completion>>,
    ) -> Result<(Vec<Group>, Vec<Vec<f64>>), RolloutError> {
        let (reward, tokenizer) = (&self.config.reward, &self.model.folder.tokenizer);
        let mut groups = grade_groups(prompts, completions, tokenizer, reward, &self.verifier);
        let paid = self.reward_model.as_ref().map(|it| it.pay(&mut groups));
        let values = paid.transpose().map_err(|error| RolloutError::Device {
            reason: error.to_string(),
        })?;
        Ok((groups, values.unwrap_or_default()))
    }

    /// The shape of the run, as far as its memory goes.
    pub fn shape(&self) -> RunShape<'_> {
        let model = &self.model.folder.config;
        run_shape(&self.config, model, &self.data, self.precision)
    }

    /// Predicts the peak memory, after fitting the configuration into `memory.budget` if there is
    /// one.
    ///
    /// # Errors
    /// If the budget is too small for the run in any form.
    pub fn fit_memory(&mut self) -> Result<RunMemory, Failure> {
        let Some(budget) = self.config.memory.budget_bytes() else {
            return run_memory(&self.shape(), &self.config).map_err(Failure::usage);
        };
        let mut config = self.config.clone();
        let memory = memory::fit(&self.shape(), &mut config, budget).map_err(Failure::usage)?;
        let rollout = config.rollout.clone();
        self.engine = Engine::new(&self.model.folder.config, rollout, self.precision);
        self.config = config;
        Ok(memory)
    }

    /// The device that records gradients.
    pub fn training_device(&self) -> Device {
        training_device(&self.device, &self.config)
    }

    /// How completions are sampled in training.
    pub fn sampling(&self) -> SamplingParams {
        self.config
            .rollout
            .sampling(self.model.folder.stop_ids.clone())
    }

    /// How log-probs are computed.
    pub fn scoring(&self) -> ScoringSettings {
        ScoringSettings {
            temperature: self.config.rollout.temperature,
            max_logits_bytes: self.config.update.max_logits_bytes,
            precision: self.precision,
        }
    }

    /// The optimizer of a run of `run.steps` steps.
    pub fn optimizer_settings(&self) -> OptimizerSettings {
        let update = &self.config.update;
        OptimizerSettings {
            learning_rate: update.learning_rate,
            beta_1: update.betas[0],
            beta_2: update.betas[1],
            eps: update.eps,
            weight_decay: update.weight_decay,
            max_grad_norm: update.max_grad_norm,
            warmup_steps: update.warmup_steps,
            schedule: update.schedule,
            total_steps: self.config.run.steps,
        }
    }

    /// The optimizer of a supervised warm start; what `sft` leaves open comes from `update`.
    pub fn supervised_settings(&self) -> OptimizerSettings {
        let sft = &self.config.sft;
        OptimizerSettings {
            learning_rate: sft.learning_rate,
            warmup_steps: sft.warmup_steps,
            total_steps: sft.steps,
            ..self.optimizer_settings()
        }
    }

    /// The loss at its configured coefficients.
    ///
    /// # Errors
    /// If a value is impossible; validation has seen to that.
    pub fn loss(&self) -> Result<GrpoLoss, Failure> {
        self.config.loss.init().map_err(|err| {
            let key = format!("loss.{}", err.key);
            Failure::usage(InvalidValue::new(&key, err.value, err.allowed))
                .while_doing("use the configuration")
        })
    }

    /// Folder whose tokenizer and templates go into every checkpoint.
    pub fn source(&self) -> &Path {
        &self.model.folder.path
    }
}

fn run_shape<'a>(
    config: &RunConfig,
    model: &'a ModelConfig,
    data: &RunData,
    precision: Precision,
) -> RunShape<'a> {
    let prompts = data.train.iter().chain(&data.held_out);
    let longest = prompts.map(|prompt| prompt.prompt_tokens.len()).max();
    RunShape {
        model,
        longest_prompt: longest.unwrap_or(0),
        precision,
        layout: RowLayout::of(config.backend.kind),
        keeps_start: config.needs_reference() || config.reward.learned().is_some(),
    }
}

fn load_data(config: &RunConfig, folder: &ModelFolder) -> Result<RunData, Failure> {
    let loaded = dataset::load(&config.data, config.run.seed)
        .map_err(|err| Failure::usage(err).while_doing("load the data"))?;
    let render = |problems: Vec<Problem>| {
        render_prompts(problems, folder, &config.prompt).map_err(Failure::usage)
    };
    let (train, held_out) = (render(loaded.train)?, render(loaded.held_out)?);
    if train.prompts.is_empty() {
        return Err(Failure::usage(format!(
            "find a problem to train on in data.train = {:?}",
            config.data.train
        )));
    }
    let mut report = loaded.report;
    report.num_over_length = train.num_too_long + held_out.num_too_long;
    (report.num_train, report.num_held_out) = (train.prompts.len(), held_out.prompts.len());
    Ok(RunData {
        train: train.prompts,
        held_out: held_out.prompts,
        report,
    })
}
