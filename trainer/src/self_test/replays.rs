//! Recorded decode steps against the same steps launched kernel by kernel.

use burn::module::Module;
use rlvr_backends::graph::records_launches;

use super::{Check, NUM_PROMPTS, check};
use crate::failure::Failure;
use crate::groups::requests;
use crate::policy::decoder::Decoder;
use crate::record::Completion;
use crate::rollout::{Engine, RolloutConfig, RolloutStats};
use crate::seed::Stage;
use crate::session::Session;

/// More completions than slots: some begin when steps have been recorded.
const GROUP: u32 = 4;
const SLOTS: usize = 12;

/// Nothing where the device does not record launches.
///
/// # Errors
/// If the engine fails.
pub(super) fn replays(session: &Session, policy: &Decoder) -> Result<Vec<Check>, Failure> {
    if !records_launches(&session.device) {
        return Ok(Vec::new());
    }
    let (expected, _) = roll_out(session, policy, false)?;
    let (found, stats) = roll_out(session, policy, true)?;
    let pairs = || found.iter().zip(&expected);
    let num_different = pairs().filter(|(a, b)| a.tokens != b.tokens).count();
    let alike = pairs().filter(|(a, b)| a.tokens == b.tokens);
    let gaps = alike.flat_map(|(a, b)| {
        let pairs = a.sampler_logprobs.iter().zip(&b.sampler_logprobs);
        pairs.map(|(a, b)| f64::from((a - b).abs()))
    });
    Ok(vec![
        // The kernels are the same, and so is what they read; but the rows may be more.
        check(
            "recorded decode steps: completions that differ, share",
            num_different as f64 / expected.len() as f64,
            1.0 / expected.len() as f64,
        ),
        check("their log-probs (nats)", gaps.fold(0.0, f64::max), 1e-4),
        check(
            "decode steps that were no replay, share",
            1.0 - stats.replayed_steps as f64 / stats.decode_steps as f64,
            0.5,
        ),
    ])
}

/// Several completions of each of the first prompts.
///
/// # Errors
/// If the engine fails or warns.
pub(super) fn roll_out(
    session: &Session,
    policy: &Decoder,
    record_steps: bool,
) -> Result<(Vec<Completion>, RolloutStats), Failure> {
    let config = &session.config;
    let rollout = RolloutConfig {
        max_slots: SLOTS,
        record_steps,
        ..config.rollout.clone()
    };
    let engine = Engine::new(policy.config(), rollout, session.precision);
    let tokenizer = &session.model.folder.tokenizer;
    let output = engine.roll_out(
        &policy.valid(),
        &|tokens| tokenizer.decode(tokens, true),
        &requests(&session.data.train[..NUM_PROMPTS], GROUP),
        &session.sampling(),
        config.run.seed,
        Stage::Rollout,
        0,
    );
    let output = output.map_err(Failure::run)?;
    match engine.warning() {
        Some(warning) => Err(Failure::run(warning)),
        None => Ok((output.completions.concat(), output.stats)),
    }
}
