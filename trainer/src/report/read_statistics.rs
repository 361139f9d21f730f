//! Statistics as JSON: the input of `trainer bounds`.
//!
//! ```json
//! {
//!   "delta": 0.05,
//!   "kl_coef": 0.05, "tau": 2.0,
//!   "held_out": {
//!     "rewards":       [[1, 0, 1, 1], [0, 0, 1, 0]],
//!     "truth":         [[1, 0, 1, 1], [0, 0, 1, 0]],
//!     "log_ratio_ref": [[0.1, -0.2, 0.0, 0.3], [0.5, 0.1, -0.1, 0.2]],
//!     "log_ratio_old": [[0.1, -0.2, 0.0, 0.3], [0.5, 0.1, -0.1, 0.2]]
//!   },
//!   "train": {"rewards": [[1, 1, 1, 1], [1, 0, 1, 1]]},
//!   "candidates": 5,
//!   "complexity": {"kind": "bits", "params": 13, "bits_each": 16},
//!   "reward_errors": [0.0, 0.1, -0.2],
//!   "cost": {"prefill": 0.02, "decode": 0.1}
//! }
//! ```
//!
//! A table has one row per prompt (prompts that share a template are one row), one column per
//! rollout of the **frozen** policy; a plain list is a table of one column. Rewards and truths lie
//! in `[0, 1]`; `truth` is absent if the reward is the truth (a verifier). Log-ratios are sums
//! over a completion's tokens, policy minus reference and policy minus the policy whose rollouts
//! the reward model was fitted on. `candidates` counts policies compared on the held-out prompts,
//! discarded ones included. `complexity` is one of `{"kind": "nats", "nats": x}`, `bits` as above,
//! `{"kind": "prefix", "bits": n}` and `{"kind": "posterior", "kl": x, "rollouts": "fresh_draws" |
//! "single_draw" | "estimated"}`. `reward_errors` are reward minus truth on independent labelled draws
//! of the reward model's own distribution. `cost` is per prompt and per rollout, in any unit.

use serde::Deserialize;

use super::numbers::{Number, quote_non_finite};
use super::statistics::{
    Complexity, Cost, DEFAULT_DELTA, Rollouts, Statistics, StatisticsError, Table,
};

#[derive(Deserialize)]
#[serde(untagged)]
enum Column {
    Rows(Vec<Vec<Number>>),
    Single(Vec<Number>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRollouts {
    rewards: Column,
    truth: Option<Column>,
    log_ratio_ref: Option<Column>,
    log_ratio_old: Option<Column>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStatistics {
    delta: Option<Number>,
    kl_coef: Option<Number>,
    tau: Option<Number>,
    held_out: Option<RawRollouts>,
    train: Option<RawRollouts>,
    candidates: Option<u64>,
    complexity: Option<Complexity>,
    reward_errors: Option<Vec<Number>>,
    cost: Option<Cost>,
}

/// Reads and checks the documented JSON; `name` is what messages call it.
///
/// # Errors
/// [`StatisticsError`], naming the number or the table.
pub fn read_statistics(name: &str, text: &str) -> Result<Statistics, StatisticsError> {
    let json = |source| StatisticsError::Json {
        name: name.into(),
        source,
    };
    let raw: RawStatistics = serde_json::from_str(&quote_non_finite(text)).map_err(json)?;
    checked(raw)
}

/// Held-out rewards alone, prompt by prompt; the reward is the truth.
///
/// # Errors
/// As [`read_statistics`].
pub(super) fn held_out_rewards(rows: Vec<Vec<Number>>) -> Result<Statistics, StatisticsError> {
    checked(RawStatistics {
        held_out: Some(RawRollouts {
            rewards: Column::Rows(rows),
            truth: None,
            log_ratio_ref: None,
            log_ratio_old: None,
        }),
        ..RawStatistics::default()
    })
}

fn checked(raw: RawStatistics) -> Result<Statistics, StatisticsError> {
    let number = |name: &str, value: Option<Number>, default: f64| {
        finite(name, value.map_or(default, |it| it.0))
    };
    let errors = raw
        .reward_errors
        .unwrap_or_default()
        .into_iter()
        .enumerate();
    let errors: Result<Vec<f64>, _> = errors
        .map(|(index, it)| ranged(&format!("reward_errors[{index}]"), it.0, -1.0, "in [-1, 1]"))
        .collect();
    let statistics = Statistics {
        delta: number("delta", raw.delta, DEFAULT_DELTA)?,
        kl_coef: number("kl_coef", raw.kl_coef, 0.0)?,
        tau: raw.tau.map(|it| finite("tau", it.0)).transpose()?,
        held_out: raw
            .held_out
            .map(|it| rollouts("held_out", it))
            .transpose()?,
        train: raw.train.map(|it| rollouts("train", it)).transpose()?,
        candidates: raw.candidates,
        complexity: raw.complexity,
        reward_errors: errors?,
        cost: raw.cost,
    };
    statistics.check()?;
    Ok(statistics)
}

fn finite(name: &str, value: f64) -> Result<f64, StatisticsError> {
    if value.is_finite() {
        return Ok(value);
    }
    let name = name.into();
    Err(StatisticsError::NonFinite { name, value })
}

/// `value` if it lies in `[lo, 1]`.
fn ranged(name: &str, value: f64, lo: f64, need: &'static str) -> Result<f64, StatisticsError> {
    finite(name, value)?;
    if value >= lo && value <= 1.0 {
        return Ok(value);
    }
    let name = name.into();
    Err(StatisticsError::Range { name, value, need })
}

fn rollouts(name: &str, raw: RawRollouts) -> Result<Rollouts, StatisticsError> {
    let at = |column: &str| format!("{name}.{column}");
    let rewards = table(&at("rewards"), raw.rewards, true)?;
    let like = |column: &str, values: Option<Column>, is_reward: bool| {
        let Some(values) = values else {
            return Ok(None);
        };
        let found = table(&at(column), values, is_reward)?;
        if (found.n, found.k) == (rewards.n, rewards.k) {
            return Ok(Some(found));
        }
        let problem = format!(
            "it is {} x {}, {} is {} x {}",
            found.n,
            found.k,
            at("rewards"),
            rewards.n,
            rewards.k
        );
        let name = at(column);
        Err(StatisticsError::Table { name, problem })
    };
    let truth = like("truth", raw.truth, true)?;
    let log_ratio_ref = like("log_ratio_ref", raw.log_ratio_ref, false)?;
    let log_ratio_old = like("log_ratio_old", raw.log_ratio_old, false)?;
    Ok(Rollouts {
        is_verified: truth.is_none(),
        truth: truth.unwrap_or_else(|| rewards.clone()),
        log_ratio_ref,
        log_ratio_old,
        rewards,
    })
}

fn table(name: &str, column: Column, is_reward: bool) -> Result<Table, StatisticsError> {
    let rows: Vec<Vec<Number>> = match column {
        Column::Rows(rows) => rows,
        Column::Single(values) => values.into_iter().map(|value| vec![value]).collect(),
    };
    let check = |prompt: usize, rollout: usize, value: Number| {
        let name = format!("{name}[{prompt}][{rollout}]");
        if is_reward {
            ranged(&name, value.0, 0.0, "in [0, 1]: rescale the reward first")
        } else {
            finite(&name, value.0)
        }
    };
    let rows: Result<Vec<Vec<f64>>, _> = rows
        .into_iter()
        .enumerate()
        .map(|(prompt, row)| {
            let row = row.into_iter().enumerate();
            row.map(|(rollout, value)| check(prompt, rollout, value))
                .collect()
        })
        .collect();
    Table::new(name, &rows?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        read_statistics("stats.json", text).unwrap_err().to_string()
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, expected) in [
            (
                r#"{"held_out": {"rewards": [[1], [NaN]]}}"#,
                "held_out.rewards[1][0]: it is NaN",
            ),
            (
                r#"{"held_out": {"rewards": [[1], [Infinity]]}}"#,
                "held_out.rewards[1][0]: it is inf",
            ),
            (
                r#"{"held_out": {"rewards": [1, 0], "log_ratio_ref": [0.5, -Infinity]}}"#,
                "held_out.log_ratio_ref[1][0]: it is -inf",
            ),
            (
                r#"{"held_out": {"rewards": [[1], [2]]}}"#,
                "held_out.rewards[1][0] = 2: it has to be in [0, 1]",
            ),
            (
                r#"{"held_out": {"rewards": []}}"#,
                "held_out.rewards: n = 0",
            ),
            (
                r#"{"held_out": {"rewards": [[], []]}}"#,
                "held_out.rewards: K = 0",
            ),
            (
                r#"{"train": {"rewards": [[1, 0], [1]]}}"#,
                "train.rewards: prompt 1 has 1 rollouts",
            ),
            (
                r#"{"train": {"rewards": [[1, 0]]}}"#,
                "train.rewards: 1 prompts; an interval needs at least 2",
            ),
            (
                r#"{"delta": 0, "train": {"rewards": [1, 0]}}"#,
                "delta = 0: it has to be above 0 and below 1",
            ),
            (
                r#"{"delta": 1.5, "train": {"rewards": [1, 0]}}"#,
                "delta = 1.5",
            ),
            (
                r#"{"delta": NaN, "train": {"rewards": [1, 0]}}"#,
                "delta: it is NaN",
            ),
            (
                r#"{"train": {"rewards": [1, 0], "truth": [1, 0, 0]}}"#,
                "train.truth: it is 3 x 1, train.rewards is 2 x 1",
            ),
            (r#"{"rewards": [1]}"#, "unknown field `rewards`"),
            (r#"{}"#, "give held_out, train, or both"),
        ] {
            let found = error(text);
            assert!(found.contains(expected), "{text}: {found}");
        }
    }

    #[test]
    fn a_list_is_one_rollout_per_prompt() {
        let text = r#"{"held_out": {"rewards": [1, 0, 0.5]}}"#;
        let found = read_statistics("stats.json", text).unwrap();
        let held_out = found.held_out.unwrap();
        assert_eq!((held_out.rewards.n, held_out.rewards.k), (3, 1));
        assert!(held_out.is_verified && held_out.truth == held_out.rewards);
        assert_eq!((found.delta, found.kl_coef, found.tau), (0.05, 0.0, None));
    }
}
