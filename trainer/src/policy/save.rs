//! A module and its tokenizer into a model folder that Hugging Face `transformers` loads.
//!
//! The same weights and the same source give the same bytes: tensors stand in name order, JSON keys
//! in a fixed one, and nothing carries a date.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde_json::Value;
use thiserror::Error;

use super::config::ModelConfig;
use super::config_write::config_json;
use super::json_file::{JsonFileError, read_optional_object};
use super::tensor_name::{stored_shape, tensor_name, transpose};
use super::weights::SINGLE_FILE;

/// Files that a source folder hands on unchanged, where it has them.
const COPIED_FILES: [&str; 10] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
    "LICENSE",
];

/// Values converted at a time.
const CHUNK_VALUES: usize = 1 << 16;

/// A folder that could not be written.
#[derive(Debug, Error)]
pub enum SaveError {
    /// The system refused, for instance because the disk is full.
    #[error("`{}` cannot be written: {source}", .path.display())]
    Unwritable {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The source's `config.json` is damaged.
    #[error(transparent)]
    Json(#[from] JsonFileError),
    /// The target holds something that is not part of a model folder.
    #[error(
        "`{}` exists and holds `{foreign}`, so it is not replaced; name a new folder",
        .path.display()
    )]
    Occupied {
        /// The target.
        path: PathBuf,
        /// A file that would be lost.
        foreign: String,
    },
    /// The values of a parameter could not be fetched from the device.
    #[error("tensor `{tensor}` cannot be read from the device: {reason}")]
    Device {
        /// The tensor.
        tensor: String,
        /// What the backend said.
        reason: String,
    },
}

fn unwritable(path: &Path) -> impl Fn(std::io::Error) -> SaveError + '_ {
    move |source| SaveError::Unwritable {
        path: path.into(),
        source,
    }
}

/// Writes the folder `dir` whole or not at all: into a temporary folder beside it, synced to the
/// disk, then renamed. An earlier model folder at `dir` is replaced; anything else there is an error.
pub fn save_folder<M: Module>(
    dir: &Path,
    config: &ModelConfig,
    module: &M,
    source: &Path,
) -> Result<(), SaveError> {
    check_replaceable(dir)?;
    let fresh = sibling(dir, "writing");
    let written = write_folder(&fresh, config, module, source).and_then(|()| replace(dir, &fresh));
    if written.is_err() {
        // The first error is the one to report; what it left behind is only taking space.
        let _ = std::fs::remove_dir_all(&fresh);
    }
    written
}

/// Writes a model folder's files into `dir`, which is made if it is not there, and syncs them. For
/// callers that write a larger folder whole themselves; see [`save_folder`] otherwise.
pub fn write_folder<M: Module>(
    dir: &Path,
    config: &ModelConfig,
    module: &M,
    source: &Path,
) -> Result<(), SaveError> {
    std::fs::create_dir_all(dir).map_err(unwritable(dir))?;
    for name in COPIED_FILES {
        let from = source.join(name);
        if from.is_file() {
            let bytes = std::fs::read(&from)
                .map_err(|source| JsonFileError::Unreadable { path: from, source })?;
            write_synced(&dir.join(name), |file| file.write_all(&bytes))?;
        }
    }
    let source_config = read_optional_object(&source.join("config.json"))?.unwrap_or_default();
    let object = Value::Object(config_json(config, &source_config));
    let text = format!("{object:#}\n");
    write_synced(&dir.join("config.json"), |file| {
        file.write_all(text.as_bytes())
    })?;
    write_weights(&dir.join(SINGLE_FILE), module)?;
    sync_folder(dir)
}

/// Writes the parameters of `module` as 32-bit floats into one safetensors file.
pub fn write_weights<M: Module>(path: &Path, module: &M) -> Result<(), SaveError> {
    let mut collected = Parameters::default();
    module.visit(&mut collected);
    let mut parameters = collected.parameters;
    parameters.sort_by(|left, right| left.name.cmp(&right.name));
    let header = header(path, &parameters)?;
    let mut failed = None;
    let written = write_synced(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        for parameter in &parameters {
            match (parameter.values)() {
                Ok(values) => write_values(file, &values)?,
                Err(reason) => {
                    failed = Some((parameter.name.clone(), reason));
                    break;
                }
            }
        }
        Ok(())
    });
    match failed {
        Some((tensor, reason)) => Err(SaveError::Device { tensor, reason }),
        None => written,
    }
}

/// A parameter to be written; its values are fetched when its turn comes.
struct Parameter {
    name: String,
    shape: Vec<usize>,
    values: Box<dyn Fn() -> Result<Vec<f32>, String>>,
}

#[derive(Default)]
struct Parameters {
    module_path: Vec<String>,
    parameters: Vec<Parameter>,
}

impl ModuleVisitor for Parameters {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.module_path.push(name.into());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.module_path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let name = tensor_name(&self.module_path.join("."));
        let tensor = param.val();
        let shape = tensor.shape().to_vec();
        let is_transposed = name.is_transposed;
        self.parameters.push(Parameter {
            name: name.name,
            shape: stored_shape(&shape, is_transposed),
            values: Box::new(move || {
                let values = tensor.try_to_vec_as::<f32>();
                let values = values.map_err(|error| format!("{error:?}"))?;
                match (is_transposed, shape.as_slice()) {
                    (true, &[d_input, d_output]) => Ok(transpose(&values, d_input, d_output)),
                    _ => Ok(values),
                }
            }),
        });
    }
}

/// The header, padded with blanks to eight bytes. `transformers` wants the entry `format`.
fn header(path: &Path, parameters: &[Parameter]) -> Result<Vec<u8>, SaveError> {
    let mut offset = 0;
    let infos = parameters.iter().map(|parameter| {
        let start = offset;
        offset += 4 * parameter.shape.iter().product::<usize>();
        let info = TensorInfo {
            dtype: Dtype::F32,
            shape: parameter.shape.clone(),
            data_offsets: (start, offset),
        };
        (parameter.name.clone(), info)
    });
    let format = [("format".to_string(), "pt".to_string())].into();
    let metadata = Metadata::new(Some(format), infos.collect());
    let mut header = metadata
        .and_then(|metadata| Ok(serde_json::to_vec(&metadata)?))
        .map_err(|error| unwritable(path)(std::io::Error::other(error.to_string())))?;
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok(header)
}

fn write_values(file: &mut BufWriter<File>, values: &[f32]) -> std::io::Result<()> {
    let mut bytes = Vec::with_capacity(4 * CHUNK_VALUES);
    for chunk in values.chunks(CHUNK_VALUES) {
        bytes.clear();
        bytes.extend(chunk.iter().flat_map(|value| value.to_le_bytes()));
        file.write_all(&bytes)?;
    }
    Ok(())
}

fn write_synced(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>,
) -> Result<(), SaveError> {
    let file = File::create(path).map_err(unwritable(path))?;
    let mut buffered = BufWriter::with_capacity(1 << 20, file);
    write(&mut buffered).map_err(unwritable(path))?;
    let file = buffered
        .into_inner()
        .map_err(|error| unwritable(path)(error.into_error()))?;
    file.sync_all().map_err(unwritable(path))
}

/// Makes renames and new files in a folder durable, where the system can.
fn sync_folder(folder: &Path) -> Result<(), SaveError> {
    if cfg!(unix) {
        let opened = File::open(folder).map_err(unwritable(folder))?;
        opened.sync_all().map_err(unwritable(folder))?;
    }
    Ok(())
}

/// A folder that may be replaced holds nothing but what a model folder holds.
fn check_replaceable(dir: &Path) -> Result<(), SaveError> {
    if !dir.exists() {
        return Ok(());
    }
    for entry in std::fs::read_dir(dir).map_err(unwritable(dir))? {
        let entry = entry.map_err(unwritable(dir))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_ours = name == "config.json" || name == SINGLE_FILE;
        if !is_ours && !COPIED_FILES.contains(&name.as_str()) {
            return Err(SaveError::Occupied {
                path: dir.into(),
                foreign: name,
            });
        }
    }
    Ok(())
}

/// `fresh` takes the place of `dir`. Between the two renames an earlier folder stands under its
/// retired name, never half overwritten.
fn replace(dir: &Path, fresh: &Path) -> Result<(), SaveError> {
    let retired = sibling(dir, "retired");
    if dir.exists() {
        std::fs::rename(dir, &retired).map_err(unwritable(dir))?;
    }
    if let Err(error) = std::fs::rename(fresh, dir) {
        if retired.exists() {
            let _ = std::fs::rename(&retired, dir);
        }
        return Err(unwritable(dir)(error));
    }
    if retired.exists() {
        std::fs::remove_dir_all(&retired).map_err(unwritable(&retired))?;
    }
    match dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => sync_folder(parent),
        None => sync_folder(Path::new(".")),
    }
}

/// A hidden folder beside `dir`, of this process alone.
fn sibling(dir: &Path, purpose: &str) -> PathBuf {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    dir.with_file_name(format!(".{name}.{purpose}-{}", std::process::id()))
}
