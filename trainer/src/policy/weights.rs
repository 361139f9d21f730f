//! The weights of a model folder: `model.safetensors`, or the shards that
//! `model.safetensors.index.json` lists.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::json_file::{JsonFileError, read_object};
use super::tensor_file::{TensorFile, TensorFileError};

/// The weights in one file.
pub const SINGLE_FILE: &str = "model.safetensors";

/// The list of shards.
pub const INDEX_FILE: &str = "model.safetensors.index.json";

/// Weights that cannot be opened.
#[derive(Debug, Error)]
pub enum WeightsError {
    /// Neither a single file nor an index.
    #[error(
        "`{}` holds no weights: neither {SINGLE_FILE} nor {INDEX_FILE} is there \
         (pickled `.bin` weights are not read; convert them to safetensors)", .folder.display()
    )]
    NoWeights {
        /// The folder.
        folder: PathBuf,
    },
    /// The index is not usable JSON.
    #[error(transparent)]
    Json(#[from] JsonFileError),
    /// The index lacks its map, or maps to something that is not a file name.
    #[error("`{}` is not a weight index: {reason}", .path.display())]
    BadIndex {
        /// The index.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A shard that the index names is not there.
    #[error(
        "`{}` is missing: {INDEX_FILE} places tensor `{tensor}` in it", .path.display()
    )]
    MissingShard {
        /// The shard.
        path: PathBuf,
        /// A tensor that should be in it.
        tensor: String,
    },
    /// A shard lacks a tensor that the index places in it.
    #[error("`{}` lacks tensor `{tensor}`, which {INDEX_FILE} places in it", .path.display())]
    NotInShard {
        /// The shard.
        path: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// Two shards hold the same tensor.
    #[error("`{}` holds tensor `{tensor}` again, after another shard", .path.display())]
    Duplicate {
        /// The later shard.
        path: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// A file is damaged.
    #[error(transparent)]
    File(#[from] TensorFileError),
}

/// The open weight files of a folder: headers checked, values not yet read.
#[derive(Debug)]
pub struct Weights {
    files: Vec<TensorFile>,
    /// Tensor name -> index into `files`.
    places: BTreeMap<String, usize>,
    /// The file that lists the tensors, for messages about what is not there.
    listing: PathBuf,
}

impl Weights {
    /// Opens the weights in `folder`.
    pub fn open(folder: &Path) -> Result<Self, WeightsError> {
        let single = folder.join(SINGLE_FILE);
        let index = folder.join(INDEX_FILE);
        let (files, listing) = if single.exists() {
            (vec![TensorFile::open(&single)?], single)
        } else if index.exists() {
            (open_shards(folder, &index)?, index)
        } else {
            return Err(WeightsError::NoWeights {
                folder: folder.into(),
            });
        };
        let mut places = BTreeMap::new();
        for (place, file) in files.iter().enumerate() {
            for tensor in file.names() {
                if places.insert(tensor.clone(), place).is_some() {
                    let path = file.path().into();
                    return Err(WeightsError::Duplicate { path, tensor });
                }
            }
        }
        Ok(Self {
            files,
            places,
            listing,
        })
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    /// The file that holds a tensor, or the one that should list it.
    pub fn path_of(&self, name: &str) -> &Path {
        match self.places.get(name) {
            Some(&place) => self.files[place].path(),
            None => &self.listing,
        }
    }

    /// Shape of a tensor, if it is there.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.places
            .get(name)
            .and_then(|&place| self.files[place].shape(name))
    }

    /// The values `range` of a tensor as f32; see [`TensorFile::read`].
    ///
    /// # Panics
    /// If there is no such tensor or the range goes beyond it.
    pub fn read(&self, name: &str, range: Range<usize>) -> Result<Vec<f32>, TensorFileError> {
        let place = self.places.get(name);
        let place = place.unwrap_or_else(|| panic!("read: no tensor {name}"));
        self.files[*place].read(name, range)
    }
}

fn open_shards(folder: &Path, index: &Path) -> Result<Vec<TensorFile>, WeightsError> {
    let map = read_index(index)?;
    let mut files = Vec::new();
    for shard in map.values().collect::<BTreeSet<_>>() {
        let path = folder.join(shard);
        let mut tensors = map
            .iter()
            .filter(|entry| entry.1 == shard)
            .map(|entry| entry.0);
        if !path.exists() {
            let tensor = tensors.next().cloned().unwrap_or_default();
            return Err(WeightsError::MissingShard { path, tensor });
        }
        let file = TensorFile::open(&path)?;
        if let Some(tensor) = tensors.find(|tensor| file.shape(tensor).is_none()) {
            let tensor = tensor.clone();
            return Err(WeightsError::NotInShard { path, tensor });
        }
        files.push(file);
    }
    Ok(files)
}

/// Tensor name -> file name. A name that leads out of the folder is refused: an index comes from
/// elsewhere and must not choose which files are read.
pub fn read_index(index: &Path) -> Result<BTreeMap<String, String>, WeightsError> {
    let bad = |reason: String| WeightsError::BadIndex {
        path: index.into(),
        reason,
    };
    let object = read_object(index)?;
    let map = object
        .get("weight_map")
        .and_then(|map| map.as_object())
        .ok_or_else(|| bad("it has no object `weight_map`".into()))?;
    map.iter()
        .map(|(tensor, shard)| match shard.as_str() {
            Some(name)
                if Path::new(name)
                    .file_name()
                    .is_some_and(|plain| plain == name) =>
            {
                Ok((tensor.clone(), name.to_string()))
            }
            _ => Err(bad(format!(
                "tensor `{tensor}` maps to {shard}, not to a file name"
            ))),
        })
        .collect()
}
