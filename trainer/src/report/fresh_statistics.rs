//! Fresh rollouts of one step to statistics, and from there to predictions beside measurements.

use rlvr_core::ClipLevel;

use super::fresh::{FreshLine, PromptSet};
use super::live::{column, log_ratios, verdicts};
use super::run_files::Additions;
use super::statistics::{Rollouts, Statistics, StatisticsError};
use crate::config::RunConfig;
use crate::reward_model::file::Head;

/// A head of the reward model and its place among them.
pub type PlacedHead<'a> = (usize, &'a Head);

/// Statistics of one step's fresh rollouts; `None` if they have fewer than two held-out prompts.
///
/// Without a head the reward is the verifier's verdict, which is the truth. With one it is that
/// head's value and the verdict is the truth beside it; the data of the reward model came from the
/// model of the start, so the log-ratio to the start is the log-ratio to their policy.
///
/// # Errors
/// If the lines differ in length.
pub fn fresh_statistics(
    config: &RunConfig,
    lines: &[FreshLine],
    additions: Additions,
    head: Option<PlacedHead<'_>>,
) -> Result<Option<Statistics>, StatisticsError> {
    let set = |set: PromptSet| -> Result<Option<Rollouts>, StatisticsError> {
        if lines.iter().filter(|line| line.set == set).count() < 2 {
            return Ok(None);
        }
        let truth = column("fresh.jsonl", lines, set, verdicts)?;
        let log_ratio_ref = column("fresh.jsonl", lines, set, log_ratios).ok();
        let learned = |(place, _): PlacedHead<'_>| {
            let values = |line: &FreshLine| line.learned.get(place).cloned().unwrap_or_default();
            column("learned rewards of fresh.jsonl", lines, set, values)
        };
        let learned = head.map(learned).transpose()?;
        Ok(Some(Rollouts {
            is_verified: learned.is_none(),
            rewards: learned.unwrap_or_else(|| truth.clone()),
            log_ratio_old: log_ratio_ref.clone().filter(|_| head.is_some()),
            log_ratio_ref,
            truth,
        }))
    };
    let (held_out, train) = (set(PromptSet::HeldOut)?, set(PromptSet::Train)?);
    let kl = config.loss.kl;
    let clip = kl.and_then(|kl| kl.clip);
    let clip = clip.filter(|clip| clip.level == ClipLevel::Sequence);
    let found = Statistics {
        delta: additions.delta.unwrap_or(config.report.delta),
        kl_coef: kl.map_or(0.0, |kl| kl.coef),
        tau: clip.map(|clip| clip.tau),
        candidates: additions.candidates,
        complexity: additions.complexity,
        reward_errors: head.map_or_else(Vec::new, |(_, head)| head.errors.clone()),
        cost: None,
        held_out,
        train,
    };
    Ok(found.held_out.is_some().then_some(found))
}
