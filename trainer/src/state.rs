//! What passes from one step to the next, and how it is saved and read back.
//!
//! ```text
//! checkpoints/step-000120/model/          a Hugging Face folder, f32
//!                         optimizer.bin   moments and step counts of AdamW
//!                         state.json      counters and controllers
//!                         selection.json  what prompt selection remembers
//! ```

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::checkpoint::BoxError;
use crate::control::Controllers;
use crate::optimizer::{Optimizer, OptimizerSettings, OptimizerStateError, with_stable_ids};
use crate::policy::decoder::Decoder;
use crate::policy::folder::{FolderError, ModelFolder};
use crate::policy::load::{LoadError, load_module};
use crate::policy::save::write_folder;
use crate::selection::{SelectionState, SelectionStateError};

const MODEL: &str = "model";
const OPTIMIZER: &str = "optimizer.bin";
const COUNTERS: &str = "state.json";
const SELECTION: &str = "selection.json";

/// Counters of a run. Everything else that a step needs is a function of config and step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counters {
    /// Steps that are complete.
    pub step: u64,
    /// Prompt and completion tokens processed.
    pub num_tokens: u64,
    /// Inner steps that were skipped.
    pub num_skipped_steps: u64,
    /// Steps in a row without a single applied update because of non-finite numbers.
    pub consecutive_skips: u64,
    /// Best held-out accuracy so far.
    pub best_accuracy: Option<f64>,
    /// Newest held-out accuracy.
    pub last_accuracy: Option<f64>,
    /// Adaptive coefficients.
    pub controllers: Controllers,
    /// What the device's memory left of update.max_tokens_per_microbatch, if it ran out.
    pub max_tokens_per_microbatch: Option<usize>,
}

/// Policy, optimizer, counters and prompt statistics: the whole state of a run.
pub struct TrainState {
    /// Tracked weights.
    pub policy: Decoder,
    /// AdamW with its moments.
    pub optimizer: Optimizer,
    /// Steps, tokens, controllers.
    pub counters: Counters,
    /// What prompt selection remembers.
    pub selection: SelectionState,
}

/// A checkpoint or model cannot be read.
#[derive(Debug, Error)]
pub enum StateError {
    /// The folder is not a model folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The weights do not fit.
    #[error(transparent)]
    Weights(#[from] LoadError),
    /// A file of the checkpoint cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The counters are not what this version writes.
    #[error("read {}", path.display())]
    Counters {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: serde_json::Error,
    },
    /// The state of prompt selection is not what this version writes.
    #[error("read {}", path.display())]
    Selection {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: SelectionStateError,
    },
    /// The optimizer state is not what this version writes.
    #[error("read {}", path.display())]
    Optimizer {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: OptimizerStateError,
    },
}

/// The decoder of a folder, with the parameter identities that checkpoints rely on.
///
/// # Errors
/// If the weights are missing or do not fit.
pub fn load_decoder(folder: &ModelFolder, device: &Device) -> Result<Decoder, StateError> {
    let decoder = load_module(folder, Decoder::zeroed(&folder.config, device))?;
    Ok(with_stable_ids(decoder))
}

impl TrainState {
    /// The state before the first step.
    pub fn fresh(
        policy: Decoder,
        settings: &OptimizerSettings,
        controllers: Controllers,
        selection: SelectionState,
    ) -> Self {
        let counters = Counters {
            controllers,
            ..Counters::default()
        };
        Self {
            policy: with_stable_ids(policy),
            optimizer: Optimizer::new(settings),
            counters,
            selection,
        }
    }

    /// Writes the state into a checkpoint directory; tokenizer and templates come from `source`.
    ///
    /// # Errors
    /// If a file cannot be written or the state cannot be serialised.
    pub fn save(&self, dir: &Path, source: &Path) -> Result<(), BoxError> {
        write_folder(&dir.join(MODEL), self.policy.config(), &self.policy, source)?;
        self.optimizer.save(&dir.join(OPTIMIZER))?;
        let counters = serde_json::to_string_pretty(&self.counters)?;
        std::fs::write(dir.join(COUNTERS), counters + "\n")?;
        std::fs::write(dir.join(SELECTION), self.selection.to_bytes()?)?;
        Ok(())
    }

    /// Reads a state that [`TrainState::save`] wrote.
    ///
    /// # Errors
    /// If a file is missing or does not fit.
    pub fn load(
        dir: &Path,
        settings: &OptimizerSettings,
        device: &Device,
    ) -> Result<Self, StateError> {
        let read = |name: &str| {
            let path = dir.join(name);
            std::fs::read(&path).map_err(|source| StateError::Read { path, source })
        };
        let folder = ModelFolder::open(&dir.join(MODEL))?;
        let optimizer = Optimizer::new(settings)
            .restored(&dir.join(OPTIMIZER))
            .map_err(|source| StateError::Optimizer {
                path: dir.join(OPTIMIZER),
                source,
            })?;
        let counters =
            serde_json::from_slice(&read(COUNTERS)?).map_err(|source| StateError::Counters {
                path: dir.join(COUNTERS),
                source,
            })?;
        let selection = SelectionState::from_bytes(&read(SELECTION)?).map_err(|source| {
            let path = dir.join(SELECTION);
            StateError::Selection { path, source }
        })?;
        Ok(Self {
            policy: load_decoder(&folder, device)?,
            optimizer,
            counters,
            selection,
        })
    }
}

/// Where the model of a checkpoint directory is.
pub fn model_of(checkpoint: &Path) -> PathBuf {
    checkpoint.join(MODEL)
}
