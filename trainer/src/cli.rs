//! What was typed. Clap types only: nothing here reads a file or opens a device.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use rlvr_backends::BackendKind;
use toml::Value;

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

/// The flags of `trainer report`.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct ReportArgs {
    /// Run directory; report.json and report.html are written there
    #[arg(long, value_name = "DIR")]
    pub run: PathBuf,
    /// Policies compared on the held-out problems, if they chose this one
    #[arg(long, value_name = "N")]
    pub candidates: Option<u64>,
    /// Size of the class of policies, such as bits times 0.6931: certifies training problems
    #[arg(long, value_name = "NATS")]
    pub nats: Option<f64>,
    /// Failure probability instead of the run's report.delta
    #[arg(long, value_name = "DELTA")]
    pub delta: Option<f64>,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

/// The flags of `trainer bounds`.
#[derive(Clone, Debug, PartialEq, Args)]
#[command(group(ArgGroup::new("statistics").required(true).args(["input", "from_verl"])))]
pub struct BoundsArgs {
    /// Statistics as JSON, see the README; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// Instead, the newest validation rollouts in verl's trainer.validation_data_dir
    #[arg(long, value_name = "DIR")]
    pub from_verl: Option<PathBuf>,
    /// With --from-verl: policies compared on those prompts, if they chose this one
    #[arg(long, value_name = "N", conflicts_with = "input", value_parser = clap::value_parser!(u64).range(1..))]
    pub candidates: Option<u64>,
    /// Print a table instead of JSON
    #[arg(long)]
    pub table: bool,
}

/// The flags of `trainer certify`.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct CertifyArgs {
    /// Where values come from; the default recipe is `tiny-certify`.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Prompts to train and certify on
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(2..))]
    pub prompts: u32,
    /// Bits of each multiplier
    #[arg(long, value_name = "B", default_value_t = 4, value_parser = clap::value_parser!(u32).range(2..=i64::from(crate::adapter::MAX_BITS)))]
    pub bits: u32,
    /// Failure probability of the certificate
    #[arg(long, value_name = "DELTA", default_value_t = 0.05)]
    pub delta: f64,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

/// The flags of `trainer reward-model`.
#[derive(Clone, Debug, Default, PartialEq, Args)]
pub struct RewardModelArgs {
    /// Where values come from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Folder of the reward model
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

/// The flags of `trainer plan`: what is not given is read from a run.
#[derive(Clone, Debug, PartialEq, Args)]
#[command(group(ArgGroup::new("budget").required(true).args(["budget_secs", "budget_tokens", "budget_completions"])))]
pub struct PlanArgs {
    /// Run directory with measured variances and costs
    #[arg(long, value_name = "DIR")]
    pub run: Option<PathBuf>,
    /// Budget in seconds
    #[arg(long, value_name = "S")]
    pub budget_secs: Option<f64>,
    /// Budget in prompt and completion tokens
    #[arg(long, value_name = "N")]
    pub budget_tokens: Option<f64>,
    /// Budget in completions
    #[arg(long, value_name = "N")]
    pub budget_completions: Option<f64>,
    /// Variance between prompts of their expected reward
    #[arg(long, value_name = "V")]
    pub variance_prompts: Option<f64>,
    /// Variance of a reward given its prompt
    #[arg(long, value_name = "V")]
    pub variance_rollouts: Option<f64>,
    /// Cost of reading a prompt, in the unit of the budget
    #[arg(long, value_name = "C")]
    pub prefill: Option<f64>,
    /// Cost of a completion, in the unit of the budget
    #[arg(long, value_name = "C")]
    pub decode: Option<f64>,
    /// Cost of a preference pair, if the reward is learned
    #[arg(long, value_name = "C", requires = "pair_slope")]
    pub pair_cost: Option<f64>,
    /// Reward-shift term times the root of the number of pairs
    #[arg(long, value_name = "G", requires = "pair_cost")]
    pub pair_slope: Option<f64>,
    /// Failure probability of the certified half-widths
    #[arg(long, value_name = "DELTA", default_value_t = 0.05)]
    pub delta: f64,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

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

#[cfg(test)]
mod tests;
