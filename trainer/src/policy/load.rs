//! Weights of a model folder into a module.
//!
//! The module says what it needs: its parameter paths are the checkpoint's names (see
//! [`super::tensor_name`]). Everything is checked against the files' headers first; then one tensor
//! at a time is read, converted to f32, transposed where the layouts differ, and put in place. At no
//! time is more than one tensor held twice.

use std::collections::BTreeSet;
use std::path::PathBuf;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};
use thiserror::Error;

use super::folder::ModelFolder;
use super::tensor_file::TensorFileError;
use super::tensor_name::{EMBEDDING, HEAD, TensorName, stored_shape, tensor_name, transpose};
use super::weights::{Weights, WeightsError};

/// Values compared at a time when a stored head must equal the embedding.
const COMPARED_VALUES: usize = 1 << 20;

/// Weights that do not fit the model.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The files cannot be opened.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] TensorFileError),
    /// The model needs a tensor that no file holds.
    #[error("`{}` lacks tensor `{tensor}` of shape {expected:?}{hint}", .path.display())]
    Missing {
        /// The weight file or the index.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The shape that `config.json` implies.
        expected: Vec<usize>,
        /// What may be the reason.
        hint: &'static str,
    },
    /// A tensor that the model has no place for.
    #[error(
        "`{}` holds tensor `{tensor}`, which the model of config.json has no place for",
        .path.display()
    )]
    Unexpected {
        /// The weight file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// A tensor of another shape.
    #[error(
        "`{}` holds tensor `{tensor}` with shape {found:?}, but config.json implies {expected:?}",
        .path.display()
    )]
    Shape {
        /// The weight file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The shape that `config.json` implies.
        expected: Vec<usize>,
        /// The shape in the file.
        found: Vec<usize>,
    },
    /// A tied model whose files hold a head of its own.
    #[error(
        "`{}` holds a `{HEAD}` that differs from `{EMBEDDING}`, but config.json says \
         tie_word_embeddings = true; one of the two is wrong", .path.display()
    )]
    HeadNotTied {
        /// The weight file.
        path: PathBuf,
    },
}

/// Replaces every parameter of `module` by the folder's values, on the device where the parameter
/// is. Parameters that were not initialised yet are not initialised on the way.
pub fn load_module<M: Module>(folder: &ModelFolder, module: M) -> Result<M, LoadError> {
    let weights = Weights::open(&folder.path)?;
    let mut wanted = Wanted::default();
    module.visit(&mut wanted);
    check(&weights, &wanted.parameters)?;
    let mut loader = Loader {
        weights: &weights,
        module_path: Vec::new(),
        error: None,
    };
    let module = module.map(&mut loader);
    match loader.error {
        Some(error) => Err(error.into()),
        None => Ok(module),
    }
}

/// Collects what a module needs.
#[derive(Default)]
struct Wanted {
    module_path: Vec<String>,
    parameters: Vec<(TensorName, Vec<usize>)>,
}

impl ModuleVisitor for Wanted {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.module_path.push(name.into());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.module_path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let name = tensor_name(&self.module_path.join("."));
        let shape = stored_shape(&param.lazy_shape(), name.is_transposed);
        self.parameters.push((name, shape));
    }
}

/// Compares names and shapes, and the head of a tied model, before anything is loaded.
fn check(weights: &Weights, wanted: &[(TensorName, Vec<usize>)]) -> Result<(), LoadError> {
    for (TensorName { name, .. }, expected) in wanted {
        let path = || weights.path_of(name).to_path_buf();
        let Some(found) = weights.shape(name) else {
            return Err(LoadError::Missing {
                path: path(),
                tensor: name.clone(),
                expected: expected.clone(),
                hint: match name == HEAD {
                    true => " (is `tie_word_embeddings` of config.json wrong?)",
                    false => "",
                },
            });
        };
        if found != expected {
            return Err(LoadError::Shape {
                path: path(),
                tensor: name.clone(),
                expected: expected.clone(),
                found: found.to_vec(),
            });
        }
    }
    let known: BTreeSet<&str> = wanted.iter().map(|(name, _)| name.name.as_str()).collect();
    for tensor in weights.names().filter(|name| !known.contains(name)) {
        if tensor == HEAD {
            check_tied_head(weights)?;
        } else if !is_recomputed(tensor) {
            return Err(LoadError::Unexpected {
                path: weights.path_of(tensor).into(),
                tensor: tensor.into(),
            });
        }
    }
    Ok(())
}

/// Old checkpoints carry the rotary frequencies, which follow from `config.json`.
fn is_recomputed(tensor: &str) -> bool {
    tensor.ends_with(".rotary_emb.inv_freq")
}

/// Some writers store the head of a tied model too; it must then be the embedding.
fn check_tied_head(weights: &Weights) -> Result<(), LoadError> {
    let differs = || LoadError::HeadNotTied {
        path: weights.path_of(HEAD).into(),
    };
    let shape = weights.shape(HEAD).unwrap_or_default();
    if weights.shape(EMBEDDING) != Some(shape) {
        return Err(differs());
    }
    let num_values: usize = shape.iter().product();
    for start in (0..num_values).step_by(COMPARED_VALUES) {
        let range = start..(start + COMPARED_VALUES).min(num_values);
        if weights.read(HEAD, range.clone())? != weights.read(EMBEDDING, range)? {
            return Err(differs());
        }
    }
    Ok(())
}

/// Puts the values in place; keeps the first error, since a mapper cannot return one.
struct Loader<'a> {
    weights: &'a Weights,
    module_path: Vec<String>,
    error: Option<TensorFileError>,
}

impl Loader<'_> {
    fn values(&self, shape: &[usize]) -> Result<Vec<f32>, TensorFileError> {
        let name = tensor_name(&self.module_path.join("."));
        let values = self.weights.read(&name.name, 0..shape.iter().product())?;
        match (name.is_transposed, shape) {
            (true, &[d_input, d_output]) => Ok(transpose(&values, d_output, d_input)),
            _ => Ok(values),
        }
    }
}

impl ModuleMapper for Loader<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.module_path.push(name.into());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.module_path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if self.error.is_some() {
            return param;
        }
        let shape = param.lazy_shape();
        match self.values(&shape) {
            Ok(values) => {
                let data = TensorData::new(values, shape);
                let tensor = Tensor::from_data(data, &param.lazy_device());
                let mut loaded = Param::from_tensor(tensor);
                loaded.id = param.id;
                loaded
            }
            Err(error) => {
                self.error = Some(error);
                param
            }
        }
    }
}
