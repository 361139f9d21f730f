//! What was typed of commands about this machine: `doctor` and `bench`.

use clap::{ArgGroup, Args, ValueEnum};
use rlvr_backends::BackendKind;

/// The flags of `trainer doctor`.
#[derive(Clone, Debug, Default, PartialEq, Args)]
pub struct DoctorArgs {
    /// Print the table of all metrics instead
    #[arg(long)]
    pub metrics: bool,
    /// Print the names of the embedded recipes instead
    #[arg(long, conflicts_with = "metrics")]
    pub recipes: bool,
    /// Hold every working backend, or that of --backend, against the CPU; minutes on a new GPU
    #[arg(long, conflicts_with_all = ["metrics", "recipes"])]
    pub self_test: bool,
    /// The backend of the self-test
    #[arg(long, value_name = "NAME", requires = "self_test")]
    pub backend: Option<BackendKind>,
}

/// The flags of `trainer bench`.
#[derive(Clone, Debug, PartialEq, Args)]
#[command(group(ArgGroup::new("what").args(["model", "shape"])))]
pub struct BenchArgs {
    /// Shape with random weights: tiny, small, smollm2-135m or qwen2.5-0.5b
    #[arg(long, value_name = "NAME", default_value = "smollm2-135m")]
    pub shape: String,
    /// Instead, the weights of a model folder, hub id, or `embedded`
    #[arg(long, value_name = "DIR|ID")]
    pub model: Option<String>,
    /// What to compute on
    #[arg(long, value_name = "NAME", default_value_t)]
    pub backend: BackendKind,
    /// CPU threads
    #[arg(long, value_name = "N")]
    pub threads: Option<u32>,
    /// What to time, separated by commas; the optimizer comes with an update
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "rollout,update,optimizer"
    )]
    pub stages: Vec<BenchStage>,
    /// Completions decoded at once, a measurement each, separated by commas
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "32", value_parser = clap::value_parser!(u32).range(1..))]
    pub completions: Vec<u32>,
    /// Completions of one micro-batch of the update
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    pub update_completions: u32,
    /// Completions of each prompt
    #[arg(long, value_name = "G", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    pub group: u32,
    /// Tokens of each prompt
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    pub prompt_tokens: u32,
    /// Tokens of each completion
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub new_tokens: u32,
    /// Timed runs of each stage, after a first one that prepares kernels
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub repeats: u32,
    /// Do not measure what the device can do at most
    #[arg(long)]
    pub no_peaks: bool,
    /// Sections rollout, update and backend, such as backend.precision=f32
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub sets: Vec<String>,
    /// Print one JSON object per line instead of a table
    #[arg(long)]
    pub json: bool,
}

/// What `trainer bench` times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BenchStage {
    /// Prefill and decode.
    Rollout,
    /// Forward and backward pass.
    Update,
    /// Norm, clipping and AdamW.
    Optimizer,
}
