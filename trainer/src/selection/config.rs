//! The section `[selection]`: the arm, and what all arms share.

use rlvr_core::{Band, ExplorationConfig, Gate, Stage1Config};
use serde::{Deserialize, Serialize};

use super::audit_config::AuditConfig;
use super::rounds_config::RoundsConfig;
use crate::config::InvalidValue;
use crate::config::range::{at_least, within};
use crate::config::tagged::name_or_table;

/// The section `[selection]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SelectionConfig {
    /// How prompts are chosen: a name, or a table of `kind` and its parameters.
    #[serde(deserialize_with = "name_or_table")]
    pub method: SelectionMethod,
    /// P: groups that a step trains on, at least 1.
    pub prompts_per_step: usize,
    /// Largest logits tensor of the prompt entropies, bytes, 1024 or more.
    pub entropy_logits_bytes: usize,
    /// Most bytes of keys and values that wait for the gate; prompts beyond are run again if they
    /// are selected.
    pub kv_pool_bytes: u64,
    /// Sizes and bounds of the rounds of a step; `uniform` has one round and reads none of them.
    pub rounds: RoundsConfig,
    /// What is measured about the gate, and when it is warned about.
    pub audit: AuditConfig,
}

impl Default for SelectionConfig {
    fn default() -> Self {
        Self {
            method: SelectionMethod::Uniform,
            prompts_per_step: 16,
            entropy_logits_bytes: 256 << 20,
            kv_pool_bytes: 1 << 30,
            rounds: RoundsConfig::default(),
            audit: AuditConfig::default(),
        }
    }
}

/// How prompts are chosen. Every arm but `uniform` trains on mixed groups alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum SelectionMethod {
    /// Every prompt once per epoch, in a seeded order that changes with the epoch; no filter.
    #[default]
    Uniform,
    /// DAPO: batches of the same size until enough groups are mixed (arXiv 2503.14476).
    DynamicSampling,
    /// GRESO as its published code has it (arXiv 2506.02177): may train on fewer groups.
    GresoCode(GresoCode),
    /// GRESO's history filter with exact batches.
    Greso(Greso),
    /// History filter, then the entropy gate (arXiv 2603.25184).
    Hive(Hive),
    /// HIVE without the gate.
    #[serde(rename = "stage1_only")]
    Stage1Only(History),
    /// HIVE without the history filter.
    #[serde(rename = "stage2_only")]
    Stage2Only(EntropyGate),
    /// HIVE with a gate that keeps as many prompts of a pool, chosen by chance.
    RandomGate(RandomGate),
    /// MoPPS: prompts whose sampled pass rate is nearest to one half (arXiv 2507.04632).
    Mopps(Mopps),
}

impl SelectionMethod {
    /// The names of all arms.
    pub const NAMES: [&'static str; 9] = [
        "uniform",
        "dynamic_sampling",
        "greso_code",
        "greso",
        "hive",
        "stage1_only",
        "stage2_only",
        "random_gate",
        "mopps",
    ];
}

/// The history filter of HIVE.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct History {
    /// How a history becomes a probability.
    pub stage1: Stage1Config,
    /// The exploration probabilities and their controller.
    pub exploration: ExplorationConfig,
}

/// Parameters of `greso`: the history filter, whose controller starts in the second epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Greso {
    /// How a history becomes a probability.
    pub stage1: Stage1Config,
    /// The exploration probabilities and their controller.
    pub exploration: ExplorationConfig,
}

/// Parameters of `greso_code`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GresoCode {
    /// Smallest probability with which a prompt passes, above 0.
    pub p_floor: f64,
    /// The exploration probabilities and their controller.
    pub exploration: ExplorationConfig,
}

fn from_second_epoch() -> ExplorationConfig {
    ExplorationConfig {
        controller_from_epoch: 1,
        ..ExplorationConfig::default()
    }
}

impl Default for Greso {
    fn default() -> Self {
        Self {
            stage1: Stage1Config::default(),
            exploration: from_second_epoch(),
        }
    }
}

impl Default for GresoCode {
    fn default() -> Self {
        Self {
            p_floor: Stage1Config::default().p_floor,
            exploration: from_second_epoch(),
        }
    }
}

/// Parameters of `hive`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hive {
    /// Which of the paper's two gates.
    #[serde(deserialize_with = "name_or_table")]
    pub preset: Preset,
    /// What the gate compares.
    pub pool: PoolRule,
    /// How a history becomes a probability.
    pub stage1: Stage1Config,
    /// The exploration probabilities and their controller.
    pub exploration: ExplorationConfig,
}

/// Parameters of `stage2_only`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EntropyGate {
    /// Which of the paper's two gates.
    #[serde(deserialize_with = "name_or_table")]
    pub preset: Preset,
    /// What the gate compares.
    pub pool: PoolRule,
}

/// Parameters of `random_gate`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RandomGate {
    /// Share of a pool that is kept, above 0 and at most 1.
    pub keep: f64,
    /// What is drawn from.
    pub pool: PoolRule,
    /// How a history becomes a probability.
    pub stage1: Stage1Config,
    /// The exploration probabilities and their controller.
    pub exploration: ExplorationConfig,
}

impl Default for RandomGate {
    fn default() -> Self {
        Self {
            keep: Band::default().keep,
            pool: PoolRule::default(),
            stage1: Stage1Config::default(),
            exploration: ExplorationConfig::default(),
        }
    }
}

impl RandomGate {
    /// The band whose size is kept.
    pub fn band(&self) -> Band {
        Band {
            off: 0.0,
            keep: self.keep,
            round_kept_to: 1,
        }
    }
}

/// Parameters of `mopps`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mopps {
    /// Candidates per prompt that is rolled out, more than 1.
    pub pool_factor: f64,
    /// Pass rate that is looked for, from 0 to 1.
    pub centre: f64,
    /// Draws from the first to the second of these are taken as they come instead, such as
    /// `[0.3, 0.7]`; the nearest to their middle fill up.
    pub within: Option<[f64; 2]>,
    /// What is left of a posterior at each visit, from 0 to 1; 1 forgets nothing.
    pub decay: f64,
}

impl Default for Mopps {
    fn default() -> Self {
        Self {
            pool_factor: 8.0,
            centre: 0.5,
            within: None,
            decay: 1.0,
        }
    }
}

/// The two gates of the paper, which contradicts itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
pub enum Preset {
    /// By rank: the appendix, which the deployed runs follow.
    #[serde(rename = "v2-deployed")]
    V2Deployed(Band),
    /// At the median: main text and first version.
    #[serde(rename = "paper-main-text")]
    PaperMainText,
}

impl Default for Preset {
    fn default() -> Self {
        Self::V2Deployed(Band::default())
    }
}

impl Preset {
    /// The gate.
    pub fn gate(&self) -> Gate {
        match self {
            Self::V2Deployed(band) => Gate::Band(*band),
            Self::PaperMainText => Gate::Median,
        }
    }
}

/// What a gate compares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PoolRule {
    /// All survivors of a round.
    #[default]
    Pooled,
    /// The survivors of one raw batch.
    PerRawBatch,
}

impl SelectionConfig {
    /// Prompts of the first round.
    pub fn candidate_target(&self) -> usize {
        let by_size = (3 * self.prompts_per_step).div_ceil(2);
        self.rounds.candidate_target.unwrap_or(by_size)
    }

    /// Fewest prompts of a later round.
    pub fn top_up_min(&self) -> usize {
        let by_size = self.prompts_per_step.div_ceil(2).min(64);
        self.rounds.top_up_min.unwrap_or(by_size)
    }

    /// Checks every value.
    ///
    /// # Errors
    /// The first key whose value cannot be used.
    pub fn validate(&self) -> Result<(), InvalidValue> {
        at_least("selection.prompts_per_step", self.prompts_per_step, 1)?;
        let bytes = self.entropy_logits_bytes;
        at_least("selection.entropy_logits_bytes", bytes, 1024)?;
        self.rounds.validate()?;
        if self.top_up_min() > self.candidate_target() {
            let allowed = format!(
                "at most the {} prompts of the first round (selection.rounds.candidate_target)",
                self.candidate_target()
            );
            let key = "selection.rounds.top_up_min";
            return Err(InvalidValue::new(key, self.top_up_min(), allowed));
        }
        self.audit.validate()?;
        self.method.validate()
    }

    /// Checks what depends on the number of completions per prompt.
    ///
    /// # Errors
    /// If the arm cannot work with groups of this size.
    pub fn validate_group_size(&self, group_size: usize) -> Result<(), InvalidValue> {
        let most = rlvr_core::selection::greso::MAX_GROUP_SIZE;
        let key = "rollout.group_size";
        match self.method {
            SelectionMethod::Uniform => Ok(()),
            _ if group_size < 2 => {
                let allowed = "at least 2 unless selection.method is \"uniform\": the rewards of a \
                               group of one cannot differ";
                Err(InvalidValue::new(key, group_size, allowed))
            }
            SelectionMethod::GresoCode(_) if group_size > most => {
                let allowed = format!(
                    "at most {most} with selection.method = \"greso_code\", which tells easy and \
                     hard groups by their mean reward; use \"greso\""
                );
                Err(InvalidValue::new(key, group_size, allowed))
            }
            _ => Ok(()),
        }
    }

    /// Checks what depends on the number of training prompts.
    ///
    /// # Errors
    /// If there are fewer than a step needs.
    pub fn validate_num_prompts(&self, num_prompts: usize) -> Result<(), InvalidValue> {
        if self.prompts_per_step <= num_prompts {
            return Ok(());
        }
        let allowed = format!(
            "at most the {num_prompts} training prompts: a step presents a prompt once; raise \
             data.num_problems or add data"
        );
        let key = "selection.prompts_per_step";
        Err(InvalidValue::new(key, self.prompts_per_step, allowed))
    }
}

impl SelectionMethod {
    fn validate(&self) -> Result<(), InvalidValue> {
        match self {
            Self::Uniform | Self::DynamicSampling => Ok(()),
            Self::GresoCode(GresoCode {
                p_floor,
                exploration,
            }) => {
                let stage1 = Stage1Config {
                    p_floor: *p_floor,
                    ..Stage1Config::default()
                };
                named("", stage1.validate())?;
                named("exploration.", exploration.validate())
            }
            Self::Greso(it) => history(&it.stage1, &it.exploration),
            Self::Stage1Only(it) => history(&it.stage1, &it.exploration),
            Self::Hive(it) => {
                it.preset.validate()?;
                history(&it.stage1, &it.exploration)
            }
            Self::Stage2Only(it) => it.preset.validate(),
            Self::RandomGate(it) => {
                named("", it.band().validate())?;
                history(&it.stage1, &it.exploration)
            }
            Self::Mopps(it) => {
                let factor = it.pool_factor;
                if factor.is_nan() || factor <= 1.0 || factor.is_infinite() {
                    let key = "selection.method.pool_factor";
                    return Err(InvalidValue::new(key, factor, "more than 1 and finite"));
                }
                within("selection.method.centre", it.centre, 0.0..=1.0)?;
                let is_band = |[low, high]: [f64; 2]| 0.0 <= low && low <= high && high <= 1.0;
                if let Some(band) = it.within.filter(|band| !is_band(*band)) {
                    let value = format!("[{}, {}]", band[0], band[1]);
                    let allowed = "two pass rates from 0 to 1, the lower one first";
                    return Err(InvalidValue::new("selection.method.within", value, allowed));
                }
                within("selection.method.decay", it.decay, 0.0..=1.0)
            }
        }
    }
}

impl Preset {
    fn validate(&self) -> Result<(), InvalidValue> {
        match self {
            Self::V2Deployed(band) => named("preset.", band.validate()),
            Self::PaperMainText => Ok(()),
        }
    }
}

fn history(stage1: &Stage1Config, exploration: &ExplorationConfig) -> Result<(), InvalidValue> {
    named("stage1.", stage1.validate())?;
    named("exploration.", exploration.validate())
}

/// A value of `core` under the name that a recipe gives it.
fn named(prefix: &str, checked: Result<(), rlvr_core::ConfigError>) -> Result<(), InvalidValue> {
    checked.map_err(|err| {
        let key = format!("selection.method.{prefix}{}", err.key);
        InvalidValue::new(&key, err.value, err.allowed)
    })
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
