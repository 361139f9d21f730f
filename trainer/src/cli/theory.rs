//! What was typed of commands about generalisation: `report`, `bounds`, `certify`, `reward-model`
//! and `plan`.

use std::path::PathBuf;

use clap::{ArgGroup, Args};

use super::ConfigArgs;

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
