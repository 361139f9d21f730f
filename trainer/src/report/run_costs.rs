//! What a run measured of variances and costs, for `trainer plan`.

use std::path::Path;

use super::run_files::{Additions, ReportError, metrics_of, run_report};

/// Unit of a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Seconds on the device of the run.
    Secs,
    /// Prompt and completion tokens.
    Tokens,
    /// Completions.
    Completions,
}

impl Unit {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Secs => "seconds",
            Self::Tokens => "tokens",
            Self::Completions => "completions",
        }
    }
}

/// What is known; `None` where the run did not measure it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measurements {
    /// Variance between prompts.
    pub sigma_p2: Option<f64>,
    /// Variance of a rollout given its prompt.
    pub sigma_r2: Option<f64>,
    /// Cost of a prompt.
    pub prefill: Option<f64>,
    /// Cost of a completion.
    pub decode: Option<f64>,
}

/// Variances of the newest held-out rollouts and mean costs over the steps.
///
/// # Errors
/// If the directory cannot be reported on.
pub fn measurements(dir: &Path, unit: Unit) -> Result<Measurements, ReportError> {
    let held_out = run_report(dir, Additions::default())?.report.held_out;
    let metrics = metrics_of(dir)?;
    let (mut prefill, mut decode) = ([0.0; 2], [0.0; 2]);
    for step in &metrics {
        let (Some(prompts), Some(rollouts)) = (step.num_prompts_kept, step.num_rollouts) else {
            continue;
        };
        let costs = match unit {
            Unit::Secs => step.timing.prefill_secs.zip(step.timing.decode_secs),
            Unit::Tokens => step
                .prompt_tokens_mean
                .zip(step.completion_tokens_mean)
                .map(|(prompt, completion)| {
                    (prompt * prompts as f64, completion * rollouts as f64)
                }),
            Unit::Completions => Some((0.0, rollouts as f64)),
        };
        if let Some((read, sampled)) = costs {
            prefill = [prefill[0] + read, prefill[1] + prompts as f64];
            decode = [decode[0] + sampled, decode[1] + rollouts as f64];
        }
    }
    let mean = |[total, count]: [f64; 2]| (count > 0.0).then(|| total / count);
    Ok(Measurements {
        sigma_p2: held_out.and_then(|it| it.sigma_p2),
        sigma_r2: held_out.and_then(|it| it.sigma_r2),
        prefill: mean(prefill),
        decode: mean(decode),
    })
}
