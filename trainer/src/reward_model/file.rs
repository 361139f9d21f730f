//! A reward model on disk.
//!
//! ```text
//! DIR/reward_model.json   base model, distribution, calibration, accuracy and errors of each head
//!     head.safetensors    `head.weight`, f32, one row per head, `[H, D]`
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::calibration::Platt;
use crate::accuracy::Share;
use crate::checkpoint::checksum;
use crate::config::hex;
use crate::policy::tensor_file::{TensorFile, TensorFileError};
use crate::record::PromptId;

/// Name of the description.
pub const DESCRIPTION: &str = "reward_model.json";
/// Name of the weights.
pub const WEIGHTS: &str = "head.safetensors";
const TENSOR: &str = "head.weight";
/// Format of the description; a reader refuses another one.
pub const FORMAT: u32 = 1;

/// A reward model cannot be read or written.
#[derive(Debug, Error)]
pub enum FileError {
    /// Nothing is there.
    #[error(
        "open reward model {}: there is no {DESCRIPTION}; make one with `trainer reward-model --out {}`",
        path.display(), path.display()
    )]
    Missing {
        /// The folder.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("{action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The description is not one.
    #[error("read {}", path.display())]
    Description {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: serde_json::Error,
    },
    /// The weights cannot be read.
    #[error(transparent)]
    Weights(#[from] TensorFileError),
    /// The weights cannot be written.
    #[error("write the weights of the reward heads: {0}")]
    Safetensors(#[from] safetensors::SafeTensorError),
    /// Description and weights contradict each other.
    #[error("open reward model {}: {reason}", path.display())]
    Damaged {
        /// The folder.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// Whose hidden states a head reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Base {
    /// The model as it was named.
    pub model: String,
    /// SHA-256 of its weights, see [`base_digest`].
    pub sha256: String,
    /// Width of its hidden states, D.
    pub width: usize,
    /// Which hidden states, and how a completion is read from them.
    pub layer: String,
}

/// One head: fitted on `num_pairs` pairs, calibrated, and measured on completions that served
/// neither purpose.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Pairs of the fit, m.
    pub num_pairs: usize,
    /// Score to reward.
    pub calibration: Platt,
    /// Held-out pairs ranked right, mean over prompts, 95 % interval clustered by prompt.
    pub pair_accuracy: Share,
    /// Those pairs.
    pub num_held_out_pairs: usize,
    /// Expected calibration error on the completions of `errors`.
    pub calibration_error: f64,
    /// Reward minus truth, one completion of the base model on each of as many prompts.
    pub errors: Vec<f64>,
}

/// Everything a reward model says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// Version of this record.
    pub format: u32,
    /// Whose hidden states.
    pub base: Base,
    /// Configuration on which the base model's completions depend, key to TOML value: the
    /// distribution under which the errors were measured.
    pub distribution: BTreeMap<String, String>,
    /// Heads by number of pairs; the last one is the reward.
    pub heads: Vec<Head>,
    /// Prompts that pairs, calibration or errors came from.
    pub prompt_ids: Vec<PromptId>,
}

/// A reward model as it is saved.
#[derive(Clone, Debug, PartialEq)]
pub struct RewardModelFile {
    /// What it says of itself.
    pub description: Description,
    /// Weights of each head, D each.
    pub weights: Vec<Vec<f32>>,
}

impl RewardModelFile {
    /// Writes the folder. The description comes last: a folder without one is no reward model.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn save(&self, dir: &Path) -> Result<(), FileError> {
        let io = |action, path: &Path| {
            let path = path.to_path_buf();
            move |source| FileError::Io {
                action,
                path,
                source,
            }
        };
        fs::create_dir_all(dir).map_err(io("make", dir))?;
        let values = self.weights.iter().flatten();
        let bytes: Vec<u8> = values.flat_map(|value| value.to_le_bytes()).collect();
        let shape = vec![self.weights.len(), self.description.base.width];
        let view = TensorView::new(Dtype::F32, shape, &bytes)?;
        let path = dir.join(WEIGHTS);
        let file = safetensors::serialize([(TENSOR, view)], None)?;
        fs::write(&path, file).map_err(io("write", &path))?;
        let path = dir.join(DESCRIPTION);
        let text = serde_json::to_string_pretty(&self.description);
        let text = text.map_err(|source| FileError::Description {
            path: path.clone(),
            source,
        })?;
        fs::write(&path, text + "\n").map_err(io("write", &path))
    }

    /// Reads the folder.
    ///
    /// # Errors
    /// If it is not there, damaged, or of another format.
    pub fn load(dir: &Path) -> Result<Self, FileError> {
        let description = Description::load(dir)?;
        let damaged = |reason: String| FileError::Damaged {
            path: dir.into(),
            reason,
        };
        let file = TensorFile::open(&dir.join(WEIGHTS))?;
        let (heads, width) = (description.heads.len(), description.base.width);
        if file.shape(TENSOR) != Some(&[heads, width]) {
            let found = file.shape(TENSOR);
            return Err(damaged(format!(
                "{WEIGHTS} should hold {TENSOR} as [{heads}, {width}] and holds {found:?}"
            )));
        }
        let values = file.read(TENSOR, 0..heads * width)?;
        if values.iter().any(|value| !value.is_finite()) {
            return Err(damaged(format!("{TENSOR} is not finite")));
        }
        Ok(Self {
            description,
            weights: values.chunks_exact(width).map(<[f32]>::to_vec).collect(),
        })
    }
}

impl Description {
    /// Reads the description of a folder.
    ///
    /// # Errors
    /// If it is not there, not one, or of another format.
    pub fn load(dir: &Path) -> Result<Self, FileError> {
        let path = dir.join(DESCRIPTION);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(FileError::Missing { path: dir.into() });
            }
            Err(source) => {
                return Err(FileError::Io {
                    action: "read",
                    path,
                    source,
                });
            }
        };
        let found: Self = serde_json::from_str(&text)
            .map_err(|source| FileError::Description { path, source })?;
        let reason = if found.format != FORMAT {
            format!("format {} instead of {FORMAT}", found.format)
        } else if found.heads.is_empty() || found.base.width == 0 {
            "it has no head".into()
        } else {
            return Ok(found);
        };
        Err(FileError::Damaged {
            path: dir.into(),
            reason,
        })
    }
}

/// Copies a reward model into the directory of a run, which can then be reported on by itself, or
/// checks that the copy of an earlier process is the same: a resumed run must not learn from
/// another reward.
///
/// # Errors
/// If the disk refuses, or the copy differs.
pub fn keep_copy(from: &Path, to: &Path) -> Result<(), FileError> {
    let read = |dir: &Path, name: &str| {
        let path = dir.join(name);
        fs::read(&path).map_err(|source| FileError::Io {
            action: "read",
            path,
            source,
        })
    };
    let is_copied = to.join(DESCRIPTION).exists();
    if !is_copied {
        fs::create_dir_all(to).map_err(|source| FileError::Io {
            action: "make",
            path: to.into(),
            source,
        })?;
    }
    for name in [WEIGHTS, DESCRIPTION] {
        let bytes = read(from, name)?;
        if is_copied {
            if bytes != read(to, name)? {
                let reason = format!(
                    "it is not the one that the run began with, of which {} is a copy",
                    to.display()
                );
                let path = from.into();
                return Err(FileError::Damaged { path, reason });
            }
            continue;
        }
        let path = to.join(name);
        fs::write(&path, bytes).map_err(|source| FileError::Io {
            action: "write",
            path,
            source,
        })?;
    }
    Ok(())
}

/// SHA-256 over the names and the SHA-256 of the safetensors files of a model folder, in the order of
/// their names.
///
/// # Errors
/// If a file cannot be read.
pub fn base_digest(folder: &Path) -> Result<String, FileError> {
    let io = |path: &Path| {
        let path = path.to_path_buf();
        move |source| FileError::Io {
            action: "read",
            path,
            source,
        }
    };
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(io(folder))? {
        let path = entry.map_err(io(folder))?.path();
        if path.extension().is_some_and(|it| it == "safetensors") {
            paths.push(path);
        }
    }
    paths.sort();
    let mut hash = Sha256::new();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let (_, sum) = checksum(&path).map_err(io(&path))?;
        hash.update(format!("{sum}  {name}\n"));
    }
    Ok(hex(&hash.finalize()))
}
