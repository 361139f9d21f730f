//! The policy: a decoder with real weights.
//!
//! A model folder is the Hugging Face layout: [`folder`] opens it whole, [`load`] and [`save`] move
//! weights between its safetensors files and a module, [`hub`] finds the folder in the first place.

pub mod attention;
pub mod cache;
pub mod config;
pub mod config_file;
pub mod config_write;
pub mod decode;
pub mod decoder;
pub mod folder;
pub mod generation;
pub mod hub;
pub mod json_file;
pub mod load;
pub mod packed;
pub mod prefill;
pub mod python_text;
pub mod rope;
pub mod save;
pub mod snapshot;
pub mod template;
pub mod template_env;
pub mod tensor_file;
pub mod tensor_name;
pub mod tokenizer;
pub mod weights;
