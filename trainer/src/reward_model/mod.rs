//! A learned reward: a Bradley-Terry head on the hidden states of a frozen base model.
//!
//! ```text
//! base model -> completions -> verifier -> pairs (right, wrong) -> head -> Platt -> reward in [0, 1]
//!            \-> further completions, graded ----------------------------> reward minus truth
//! ```
//!
//! The verifier could be the reward itself, and is the truth beside it: a run against the learned
//! reward logs both, so that over-optimisation (Gao, Schulman, Hilton, 2022, arXiv:2210.10760) and
//! what the reward-shift bounds say of it can be seen. The base model is the policy that the run
//! starts from, so its completions are the distribution under which the head's errors are known, and
//! the log-ratio to the start is the one that those bounds need.

pub mod bradley_terry;
pub mod build;
pub mod calibration;
pub mod features;
pub mod file;
pub mod section;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::{Device, TensorReadError};
use thiserror::Error;

use crate::config::{ConfigError, ConfigIdentity, KeyDifference, RunConfig, differences};
use crate::groups::scoring_rows;
use crate::policy::decoder::Decoder;
use crate::record::{Group, Prompt};
use crate::reward::LEARNED;
use crate::session::{OpenModel, RunData};
use crate::state::{StateError, load_decoder};
use file::{Description, FileError, Head, RewardModelFile, base_digest};

/// A reward model cannot serve a run.
#[derive(Debug, Error)]
pub enum RewardModelError {
    /// It cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The weights of the base model cannot be read.
    #[error(transparent)]
    Base(#[from] StateError),
    /// The configuration cannot be written as text.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It reads the hidden states of other weights.
    #[error(
        "use reward model {}: it reads the hidden states of `{made_for}` (weights {expected:.12}), \
         the run starts from `{given}` (weights {found:.12}); start from that model, or make a \
         reward model for this one with `trainer reward-model`", path.display()
    )]
    OtherBase {
        /// The reward model.
        path: PathBuf,
        /// Its base model.
        made_for: String,
        /// Digest of that model's weights.
        expected: String,
        /// The run's model.
        given: String,
        /// Digest of its weights.
        found: String,
    },
    /// Its completions were sampled otherwise.
    #[error(
        "use reward model {}: its errors are known for completions of another kind: {}; make one \
         for this configuration with `trainer reward-model`",
        path.display(), shown(differences)
    )]
    OtherDistribution {
        /// The reward model.
        path: PathBuf,
        /// Keys that differ.
        differences: Vec<KeyDifference>,
    },
    /// It was made from prompts that measure the truth.
    #[error(
        "use reward model {}: {num_shared} of its prompts are held out in this run", path.display()
    )]
    HeldOutPrompts {
        /// The reward model.
        path: PathBuf,
        /// How many.
        num_shared: usize,
    },
}

fn shown(differences: &[KeyDifference]) -> String {
    let words: Vec<String> = differences.iter().map(ToString::to_string).collect();
    words.join("; ")
}

/// An open reward model.
pub struct RewardModel {
    /// What it says of itself.
    pub description: Description,
    /// The base model, without gradients.
    pub base: Decoder,
    weights: Vec<Vec<f64>>,
    weight: f64,
    max_tokens: usize,
    device: Device,
}

impl RewardModel {
    /// Opens the reward model at `path` for a run; its reward counts with `weight`.
    ///
    /// # Errors
    /// If it is damaged, was made for another model or for other completions, or from prompts that
    /// the run holds out.
    pub fn open(
        path: &Path,
        weight: f64,
        model: &OpenModel,
        config: &RunConfig,
        data: &RunData,
        device: &Device,
    ) -> Result<Self, RewardModelError> {
        let RewardModelFile {
            description,
            weights,
        } = RewardModelFile::load(path)?;
        let found = base_digest(&model.folder.path)?;
        let width = model.folder.config.hidden_size;
        if (&description.base.sha256, description.base.width) != (&found, width) {
            return Err(RewardModelError::OtherBase {
                path: path.into(),
                made_for: description.base.model,
                expected: description.base.sha256,
                given: config.model.path.clone(),
                found,
            });
        }
        let differences = differences(&description.distribution, &distribution(config)?);
        if !differences.is_empty() {
            let path = path.into();
            return Err(RewardModelError::OtherDistribution { path, differences });
        }
        let is_shared = |it: &&Prompt| description.prompt_ids.contains(&it.id);
        let num_shared = data.held_out.iter().filter(is_shared).count();
        if num_shared > 0 {
            let path = path.into();
            return Err(RewardModelError::HeldOutPrompts { path, num_shared });
        }
        let widened = |row: &Vec<f32>| row.iter().map(|&value| f64::from(value)).collect();
        Ok(Self {
            description,
            base: load_decoder(&model.folder, device)?.valid(),
            weights: weights.iter().map(widened).collect(),
            weight,
            max_tokens: config.update.max_tokens_per_microbatch,
            device: device.clone(),
        })
    }

    /// Adds the learned reward to every rollout. Returns the value of each head, in `[0, 1]`, for
    /// all rollouts in order; the last head is the reward.
    ///
    /// # Errors
    /// If the device cannot be read.
    pub fn pay(&self, groups: &mut [Group]) -> Result<Vec<Vec<f64>>, TensorReadError> {
        let rows = scoring_rows(groups);
        let features = features::features(&self.base, &rows, self.max_tokens, &self.device)?;
        let heads = self.weights.iter().zip(&self.description.heads);
        let values: Vec<Vec<f64>> = heads
            .map(|(weights, head)| {
                let score = |features: &Vec<f32>| score(weights, features);
                let scores = features.iter().map(score);
                scores.map(|it| head.calibration.value(it)).collect()
            })
            .collect();
        let rollouts = groups.iter_mut().flat_map(|group| &mut group.rollouts);
        for (rollout, &value) in rollouts.zip(values.last().into_iter().flatten()) {
            let reward = &mut rollout.reward;
            reward.learned = Some(value);
            for (name, paid) in &mut reward.components {
                if name == LEARNED {
                    *paid = self.weight * value;
                }
            }
            reward.total = reward.components.iter().map(|(_, paid)| paid).sum();
        }
        Ok(values)
    }
}

/// G of `L2 = floor + G^2 / m`, by least squares over heads of different m; `None` if L2 does not
/// fall with the number of pairs. (Linear Bradley-Terry heads err at that rate: Zhu, Jordan and Jiao,
/// 2023, arXiv:2301.11270.)
pub fn pair_slope(heads: &[Head]) -> Option<f64> {
    let points: Vec<(f64, f64)> = heads
        .iter()
        .map(|head| {
            let squares: f64 = head.errors.iter().map(|e| e * e).sum();
            let count = head.errors.len() as f64;
            (1.0 / head.num_pairs as f64, squares / count)
        })
        .collect();
    let count = points.len() as f64;
    let mean_x = points.iter().map(|it| it.0).sum::<f64>() / count;
    let cross: f64 = points.iter().map(|it| (it.0 - mean_x) * it.1).sum();
    let square: f64 = points.iter().map(|it| (it.0 - mean_x).powi(2)).sum();
    let slope = cross / square;
    (slope > 0.0 && slope.is_finite()).then(|| slope.sqrt())
}

/// The head's score of a completion.
fn score(weights: &[f64], features: &[f32]) -> f64 {
    let products = weights.iter().zip(features);
    products.map(|(w, &x)| w * f64::from(x)).sum()
}

/// The part of a configuration on which the base model's completions and their truth depend.
fn distribution(config: &RunConfig) -> Result<BTreeMap<String, String>, ConfigError> {
    const KEYS: [&str; 10] = [
        "data.",
        "prompt.",
        "verifier.",
        "reward.truncated",
        "rollout.temperature",
        "rollout.top_",
        "rollout.min_p",
        "rollout.repetition_penalty",
        "rollout.max_new_tokens",
        "rollout.stop_strings",
    ];
    let mut values = ConfigIdentity::of(config)?.values;
    values.retain(|key, _| KEYS.iter().any(|start| key.starts_with(start)));
    Ok(values)
}
