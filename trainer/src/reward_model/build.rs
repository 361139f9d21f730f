//! From completions of the base model to a reward model: what `trainer reward-model` does.
//!
//! Three sets of training prompts that share none: the first gives pairs, to fit heads and to
//! measure how often they rank a pair right; the second calibrates; on the third the error of the
//! finished reward is measured, one completion per prompt, as a bound wants its draws.

use burn::tensor::TensorReadError;
use thiserror::Error;

use super::bradley_terry::{NotConverged, Pairs, fit};
use super::calibration::{Platt, calibration_error};
use super::features::{LAYER, features};
use super::file::{Base, Description, FORMAT, FileError, Head, RewardModelFile, base_digest};
use super::section::RewardModelSection;
use super::{distribution, score};
use crate::accuracy::clustered_share;
use crate::config::ConfigError;
use crate::groups::{grade_groups, requests, scoring_rows};
use crate::policy::decoder::Decoder;
use crate::record::{Group, Prompt, PromptId};
use crate::rollout::RolloutError;
use crate::seed::{Stage, stream};
use crate::session::Session;

/// Heads on an eighth, a quarter, a half and all of the pairs, so that a report can show how the
/// number of pairs matters.
const FRACTIONS: [usize; 4] = [8, 4, 2, 1];
/// Bins of the calibration error.
const BINS: usize = 10;

/// A reward model cannot be made.
#[derive(Debug, Error)]
pub enum BuildError {
    /// The data are too few.
    #[error(
        "make a reward model: {found} training problems, {needed} are needed (reward_model.prompts \
         + calibration_prompts + error_prompts); lower these or raise data.num_problems"
    )]
    TooFewPrompts {
        /// Training problems.
        found: usize,
        /// Needed.
        needed: usize,
    },
    /// Too few prompts had both a right and a wrong completion.
    #[error(
        "make a reward model: {pairs} pairs to fit and {held_out} to test on, at least 8 and 1 are \
         needed; of {prompts} problems x {samples} completions {share:.1} % were right, and a pair needs \
         a right and a wrong completion of one problem: raise reward_model.prompts or samples, or \
         take problems that the model solves sometimes"
    )]
    TooFewPairs {
        /// Pairs to fit.
        pairs: usize,
        /// Pairs that measure the accuracy.
        held_out: usize,
        /// Problems.
        prompts: usize,
        /// Completions of each.
        samples: usize,
        /// Percentage of right completions.
        share: f64,
    },
    /// Nothing to calibrate with.
    #[error(
        "calibrate the reward: all {prompts} completions are {verdict}; raise \
         reward_model.calibration_prompts or take other problems"
    )]
    OneVerdict {
        /// Completions.
        prompts: usize,
        /// `right` or `wrong`.
        verdict: &'static str,
    },
    /// The fit does not end.
    #[error(transparent)]
    NotConverged(#[from] NotConverged),
    /// A rollout failed.
    #[error(transparent)]
    Rollout(#[from] RolloutError),
    /// The device cannot be read.
    #[error(transparent)]
    Device(#[from] TensorReadError),
    /// The base model's weights cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The configuration cannot be written as text.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// Completions of the base model with what heads see of them.
struct Labelled {
    groups: Vec<Group>,
    /// In the order of the rollouts.
    features: Vec<Vec<f32>>,
}

impl Labelled {
    fn is_right(&self) -> Vec<bool> {
        let rollouts = self.groups.iter().flat_map(|group| &group.rollouts);
        rollouts.map(|it| it.reward.is_correct).collect()
    }

    fn scores(&self, weights: &[f64]) -> Vec<f64> {
        self.features.iter().map(|it| score(weights, it)).collect()
    }
}

/// Makes a reward model for the session's model, which is `base`, without gradients.
///
/// # Errors
/// [`BuildError`].
pub fn build(session: &Session, base: &Decoder) -> Result<RewardModelFile, BuildError> {
    let section = &session.config.reward_model;
    let prompts = chosen_prompts(session, section)?;
    let (for_pairs, rest) = prompts.split_at(section.prompts);
    let (for_calibration, for_errors) = rest.split_at(section.calibration_prompts);
    let labelled = label(session, base, for_pairs, section.samples)?;
    let (pairs, held_out) = pairs_of(&labelled, section, base.config().hidden_size)?;
    let calibrating = label(session, base, for_calibration, 1)?;
    let is_right = calibrating.is_right();
    if let Some(verdict) = one_verdict(&is_right) {
        let prompts = is_right.len();
        return Err(BuildError::OneVerdict { prompts, verdict });
    }
    let measuring = label(session, base, for_errors, 1)?;
    let (mut heads, mut weights) = (Vec::new(), Vec::new());
    for fraction in FRACTIONS {
        let part = pairs.first(pairs.len().div_ceil(fraction));
        let (head, found) = head(&part, &held_out, &calibrating, &measuring, section.penalty)?;
        heads.push(head);
        weights.push(found);
    }
    let description = Description {
        format: FORMAT,
        base: Base {
            model: session.config.model.path.clone(),
            sha256: base_digest(&session.model.folder.path)?,
            width: base.config().hidden_size,
            layer: LAYER.into(),
        },
        distribution: distribution(&session.config)?,
        heads,
        prompt_ids: prompts.iter().map(|it| it.id).collect(),
    };
    Ok(RewardModelFile {
        description,
        weights,
    })
}

/// Seeded sample of the training prompts.
fn chosen_prompts(
    session: &Session,
    section: &RewardModelSection,
) -> Result<Vec<Prompt>, BuildError> {
    let (found, needed) = (session.data.train.len(), section.num_prompts());
    if found < needed {
        return Err(BuildError::TooFewPrompts { found, needed });
    }
    let mut prompts: Vec<&Prompt> = session.data.train.iter().collect();
    let seed = session.config.run.seed;
    stream(seed, Stage::RewardModel, 0, PromptId(0), 0).shuffle(&mut prompts);
    Ok(prompts.into_iter().take(needed).cloned().collect())
}

fn label(
    session: &Session,
    base: &Decoder,
    prompts: &[Prompt],
    samples: usize,
) -> Result<Labelled, BuildError> {
    let config = &session.config;
    let tokenizer = &session.model.folder.tokenizer;
    let output = session.engine.roll_out(
        base,
        &|tokens: &[u32]| tokenizer.decode(tokens, true),
        &requests(prompts, samples as u32),
        &session.sampling(),
        config.run.seed,
        Stage::RewardModel,
        0,
    )?;
    let completions = output.completions;
    let (reward, verifier) = (&config.reward, &session.verifier);
    let groups = grade_groups(prompts.to_vec(), completions, tokenizer, reward, verifier);
    let rows = scoring_rows(&groups);
    let max_tokens = config.update.max_tokens_per_microbatch;
    let features = features(base, &rows, max_tokens, &session.device)?;
    Ok(Labelled { groups, features })
}

/// Pairs to fit, and pairs of each held-out prompt. Completions of a prompt are paired in order, the
/// first right one with the first wrong one, each at most once: pairs of a prompt share no
/// completion.
fn pairs_of(
    labelled: &Labelled,
    section: &RewardModelSection,
    width: usize,
) -> Result<(Pairs, Vec<Pairs>), BuildError> {
    let (mut pairs, mut held_out) = (Pairs::new(width), Vec::new());
    for (index, group) in labelled.groups.iter().enumerate() {
        let places = |is_right: bool| {
            let first = index * section.samples;
            let rollouts = group.rollouts.iter().enumerate();
            let wanted = rollouts.filter(move |(_, it)| it.reward.is_correct == is_right);
            wanted.map(move |(place, _)| first + place)
        };
        let mut of_prompt = Pairs::new(width);
        for (right, wrong) in places(true).zip(places(false)) {
            let features = &labelled.features;
            let chosen = if index < section.num_fit_prompts() {
                &mut pairs
            } else {
                &mut of_prompt
            };
            chosen.push(&features[right], &features[wrong]);
        }
        if !of_prompt.is_empty() {
            held_out.push(of_prompt);
        }
    }
    let pairs = pairs.first(section.max_pairs.unwrap_or(usize::MAX).min(pairs.len()));
    if pairs.len() < FRACTIONS[0] || held_out.is_empty() {
        let is_right = labelled.is_right();
        let right = is_right.iter().filter(|&&it| it).count();
        return Err(BuildError::TooFewPairs {
            pairs: pairs.len(),
            held_out: held_out.iter().map(Pairs::len).sum(),
            prompts: labelled.groups.len(),
            samples: section.samples,
            share: 100.0 * right as f64 / is_right.len().max(1) as f64,
        });
    }
    Ok((pairs, held_out))
}

fn one_verdict(is_right: &[bool]) -> Option<&'static str> {
    match (is_right.contains(&true), is_right.contains(&false)) {
        (true, true) => None,
        (true, false) => Some("right"),
        _ => Some("wrong"),
    }
}

/// A head with its calibration and its errors. The weights are rounded to what a file holds before
/// anything is measured of them.
fn head(
    pairs: &Pairs,
    held_out: &[Pairs],
    calibrating: &Labelled,
    measuring: &Labelled,
    penalty: f64,
) -> Result<(Head, Vec<f32>), NotConverged> {
    let rounded: Vec<f32> = fit(pairs, penalty)?.iter().map(|&it| it as f32).collect();
    let weights: Vec<f64> = rounded.iter().map(|&it| f64::from(it)).collect();
    let calibration = Platt::fit(&calibrating.scores(&weights), &calibrating.is_right());
    let scores = measuring.scores(&weights).into_iter();
    let rewards: Vec<f64> = scores.map(|it| calibration.value(it)).collect();
    let is_right = measuring.is_right();
    let truths = is_right.iter().map(|&it| f64::from(u8::from(it)));
    let rates: Vec<f64> = held_out
        .iter()
        .map(|pairs| pairs.ranked_right(&weights).iter().sum::<f64>() / pairs.len() as f64)
        .collect();
    let head = Head {
        num_pairs: pairs.len(),
        calibration,
        pair_accuracy: clustered_share(&rates),
        num_held_out_pairs: held_out.iter().map(Pairs::len).sum(),
        calibration_error: calibration_error(&rewards, &is_right, BINS.min(rewards.len())),
        errors: rewards.iter().zip(truths).map(|(r, t)| r - t).collect(),
    };
    Ok((head, rounded))
}
