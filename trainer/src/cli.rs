//! What was typed. Clap types only: nothing here reads a file or opens a device.

mod machine;
mod theory;

use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand};
use rlvr_backends::BackendKind;
use toml::Value;

pub use machine::{BenchArgs, BenchStage, DoctorArgs};
pub use theory::{BoundsArgs, CertifyArgs, PlanArgs, ReportArgs, RewardModelArgs};

use crate::config::{ConfigError, Layers, RecipeText, RunConfig};

/// GRPO for mathematical reasoning: without a command, trains.
#[derive(Clone, Debug, PartialEq, Parser)]
#[command(name = "trainer", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// The command; none means `train`.
    #[command(subcommand)]
    command: Option<Command>,
    /// The flags of `train`.
    #[command(flatten)]
    train: TrainArgs,
}

impl Cli {
    /// The command, `train` if none was typed.
    pub fn into_command(self) -> Command {
        self.command.unwrap_or(Command::Train(self.train))
    }
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Subcommand)]
pub enum Command {
    /// Train by reinforcement learning (the default)
    Train(TrainArgs),
    /// Train on worked solutions, as a warm start
    Sft(TrainArgs),
    /// Compare ways to choose prompts, several seeds each
    Compare(CompareArgs),
    /// Measure whether prompt entropy ranks prompts, before a gate relies on it
    Calibrate(CalibrateArgs),
    /// Measure accuracy on held-out problems
    Eval(EvalArgs),
    /// Sample completions for prompts from a file
    Generate(GenerateArgs),
    /// Log-probs and entropies of given completions
    Score(ScoreArgs),
    /// Grade answers against reference answers
    Grade(GradeArgs),
    /// Predicted beside measured generalisation of a run
    Report(ReportArgs),
    /// The same from a file of statistics of any trainer
    Bounds(BoundsArgs),
    /// Train an adapter of a few bits and certify it on its own training prompts
    Certify(CertifyArgs),
    /// Learn a reward from completions that the verifier has graded
    RewardModel(RewardModelArgs),
    /// How many prompts and completions to evaluate within a budget
    Plan(PlanArgs),
    /// What this binary and this machine can do
    Doctor(DoctorArgs),
    /// Time rollouts and update of a shape, beside what the device can do at most
    Bench(BenchArgs),
}

/// Where values come from: flags of every command that has a configuration.
#[derive(Clone, Debug, Default, PartialEq, Args)]
pub struct ConfigArgs {
    /// Recipe: a TOML file, or the name of an embedded one
    #[arg(long, value_name = "FILE|NAME")]
    pub recipe: Option<String>,
    /// Model folder, hub id `org/name[@revision]`, or `embedded`
    #[arg(long, value_name = "DIR|ID")]
    pub model: Option<String>,
    /// Problems: file, hub id, or procedural task
    #[arg(long, value_name = "SPEC")]
    pub data: Option<String>,
    /// What to compute on: cpu, ndarray, wgpu, vulkan or cuda
    #[arg(long, value_name = "NAME")]
    pub backend: Option<BackendKind>,
    /// CPU threads
    #[arg(long, value_name = "N")]
    pub threads: Option<u32>,
    /// Seed of every random stream
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    pub seed: Option<u64>,
    /// Any other key, as often as needed
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub sets: Vec<String>,
}

/// The flags of a training command.
#[derive(Clone, Debug, Default, PartialEq, Args)]
pub struct TrainArgs {
    /// Where values come from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Run directory; if absent, the first free `runs/<name>-<n>`
    #[arg(long, value_name = "DIR")]
    pub out: Option<String>,
    /// Continue the run in DIR; without DIR, that of --out, else the newest in runs/
    #[arg(long, value_name = "DIR", num_args = 0..=1)]
    pub resume: Option<Option<PathBuf>>,
    /// Training steps
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=i64::MAX as u64))]
    pub steps: Option<u64>,
    /// Check everything, print the configuration and the memory estimate, train nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print nothing but errors
    #[arg(long, short)]
    pub quiet: bool,
}

/// A named flag as a configuration key.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedValue {
    /// Dotted key.
    pub key: &'static str,
    /// Its value.
    pub value: Value,
    /// How messages call it.
    pub typed: String,
}

impl ConfigArgs {
    /// The named flags that were given.
    pub fn named_values(&self) -> Vec<NamedValue> {
        let text = |text: &String| Value::String(text.clone());
        let backend = self.backend.map(|kind| Value::String(kind.to_string()));
        let threads = self.threads.map(|threads| Value::Integer(threads.into()));
        let values = [
            named("model.path", "--model", self.model.as_ref().map(text)),
            named("data.train", "--data", self.data.as_ref().map(text)),
            named("backend.kind", "--backend", backend),
            named("backend.threads", "--threads", threads),
            named("run.seed", "--seed", self.seed.map(integer)),
        ];
        values.into_iter().flatten().collect()
    }
}

impl TrainArgs {
    /// The named flags that were given; `steps_key` is the key that `--steps` means.
    pub fn named_values(&self, steps_key: &'static str) -> Vec<NamedValue> {
        let out = self.out.clone().map(Value::String);
        let mut values = self.config.named_values();
        values.extend(named("run.out", "--out", out));
        values.extend(named(steps_key, "--steps", self.steps.map(integer)));
        values
    }
}

/// The recipe under `--set`, in the order typed, under the named flags.
pub fn resolve(
    recipe: &RecipeText,
    sets: &[String],
    named_values: Vec<NamedValue>,
) -> Result<RunConfig, ConfigError> {
    let mut layers = Layers::new(recipe)?;
    for typed in sets {
        layers.set(typed)?;
    }
    for NamedValue { key, value, typed } in named_values {
        layers.put(key, value, &typed);
    }
    layers.resolve()
}

/// Flags are parsed with a range that fits; what does not is as large as possible.
fn integer(number: u64) -> Value {
    Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

fn named(key: &'static str, flag: &str, value: Option<Value>) -> Option<NamedValue> {
    let value = value?;
    let shown = value
        .as_str()
        .map_or_else(|| value.to_string(), String::from);
    let typed = format!("{flag} {shown}");
    Some(NamedValue { key, value, typed })
}

/// The flags of `trainer eval`.
#[derive(Clone, Debug, Default, PartialEq, Args)]
pub struct EvalArgs {
    /// Where values come from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Completions per problem
    #[arg(long, value_name = "K")]
    pub samples: Option<u32>,
    /// Held-out problems
    #[arg(long, value_name = "N")]
    pub problems: Option<u32>,
    /// Sampling temperature; 0 is greedy
    #[arg(long, value_name = "T")]
    pub temperature: Option<f64>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
    /// Print nothing but the result and errors
    #[arg(long, short)]
    pub quiet: bool,
}

impl EvalArgs {
    /// The named flags that were given.
    pub fn named_values(&self) -> Vec<NamedValue> {
        let whole = |number: u32| Value::Integer(number.into());
        let temperature = self.temperature.map(Value::Float);
        let mut values = self.config.named_values();
        values.extend(named("eval.samples", "--samples", self.samples.map(whole)));
        values.extend(named(
            "eval.problems",
            "--problems",
            self.problems.map(whole),
        ));
        values.extend(named("eval.temperature", "--temperature", temperature));
        values
    }
}

/// The flags of `trainer compare`.
#[derive(Clone, Debug, Default, PartialEq, Args)]
pub struct CompareArgs {
    /// Where values come from; the default recipe is `edge`.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Directory of the runs and the report; what is complete there is not repeated
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Arms, separated by commas; if absent, all
    #[arg(long, value_name = "LIST")]
    pub arms: Option<String>,
    /// Seeds per arm, from the recipe's on
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub seeds: u64,
    /// Runs at once; give each one thread with --threads 1
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub jobs: u32,
    /// Write the report of what is there, run nothing
    #[arg(long)]
    pub report_only: bool,
    /// Print nothing but errors
    #[arg(long, short)]
    pub quiet: bool,
}

/// The flags of `trainer calibrate`.
#[derive(Clone, Debug, Default, PartialEq, Args)]
pub struct CalibrateArgs {
    /// Where values come from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Training prompts to score and roll out
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    pub prompts: u32,
    /// Write one JSON line per prompt to FILE
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

/// The flags of `trainer generate`.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct GenerateArgs {
    /// Model folder, hub id, or `embedded`
    #[arg(long, value_name = "DIR|ID")]
    pub model: String,
    /// JSON lines {"prompt"}; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    pub input: PathBuf,
    /// Sampling temperature; 0 is greedy
    #[arg(long, value_name = "T", default_value_t = 1.0)]
    pub temperature: f64,
    /// Tokens after which a completion is truncated
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub max_new_tokens: u32,
    /// Completions per prompt
    #[arg(long, value_name = "K", default_value_t = 1)]
    pub n: u32,
    /// Wrap each prompt in the model's chat template
    #[arg(long)]
    pub chat: bool,
    /// Seed of the random streams
    #[arg(long, value_name = "N", default_value_t = 17)]
    pub seed: u64,
    /// What to compute on
    #[arg(long, value_name = "NAME", default_value_t)]
    pub backend: BackendKind,
    /// CPU threads
    #[arg(long, value_name = "N")]
    pub threads: Option<u32>,
    /// Sampling keys, such as rollout.top_p=0.9
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub sets: Vec<String>,
}

/// The flags of `trainer score`.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct ScoreArgs {
    /// Model folder, hub id, or `embedded`
    #[arg(long, value_name = "DIR|ID")]
    pub model: String,
    /// JSON lines {"prompt", "completion"}, raw text; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    pub input: PathBuf,
    /// What to compute on
    #[arg(long, value_name = "NAME", default_value_t)]
    pub backend: BackendKind,
    /// CPU threads
    #[arg(long, value_name = "N")]
    pub threads: Option<u32>,
}

/// The flags of `trainer grade`: a file of cases, or one case.
#[derive(Clone, Debug, PartialEq, Args)]
#[command(group(ArgGroup::new("cases").required(true).args(["input", "gold"])))]
pub struct GradeArgs {
    /// JSON lines {"gold", "answer", "id"?}; `-` reads standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["gold", "answer"])]
    pub input: Option<PathBuf>,
    /// Reference answer of one case
    #[arg(
        long,
        value_name = "TEXT",
        requires = "answer",
        allow_hyphen_values = true
    )]
    pub gold: Option<String>,
    /// Completion or bare answer of one case
    #[arg(
        long,
        value_name = "TEXT",
        requires = "gold",
        allow_hyphen_values = true
    )]
    pub answer: Option<String>,
    /// Policy switches, such as verifier.percent=exact
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub sets: Vec<String>,
}

#[cfg(test)]
mod tests;
