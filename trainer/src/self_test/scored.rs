//! Log-probs of fixed rows and the update that they make, in f32 and, where a device has it, in bf16.

use burn::module::Module;
use burn::tensor::{Device, FloatDType};
use rlvr_backends::{BackendKind, Precision};
use rlvr_core::GrpoLossConfig;

use super::sampled::Sampled;
use super::{Check, NUM_PROMPTS, check, config, relative};
use crate::batch::Row;
use crate::failure::Failure;
use crate::optimizer::Optimizer;
use crate::record::Prompt;
use crate::room::MicroBatchLimit;
use crate::session::Session;
use crate::state::load_decoder;
use crate::supervised::supervised_row;
use crate::update::{UpdateSettings, score_rows, update};

/// Scores of fixed rows, and the update that they make.
pub(super) struct Scored {
    logprobs: Vec<f32>,
    loss: f64,
    entropy_sum: f64,
    grad_norm: f64,
}

impl Scored {
    pub(super) fn on(session: &Session) -> Result<Self, Failure> {
        let device = session.training_device();
        let policy = load_decoder(&session.model.folder, &device).map_err(Failure::run)?;
        let mut rows = rows(session, &session.data.train[..NUM_PROMPTS])?;
        let settings = update_settings(session);
        let views: Vec<&Row> = rows.iter().collect();
        let mut limit = MicroBatchLimit::new(settings.max_tokens_per_microbatch);
        let frozen = policy.valid();
        let scoring = &settings.scoring;
        let scored = score_rows(&frozen, &views, scoring, &mut limit, &session.device)
            .map_err(Failure::run)?;
        let loss = GrpoLossConfig {
            entropy_coef: 0.01,
            ..GrpoLossConfig::default()
        };
        let loss = loss.init().map_err(Failure::run)?;
        let mut optimizer = Optimizer::new(&session.optimizer_settings());
        let moved = update(policy, &mut optimizer, &mut rows, &loss, None, &settings);
        let (_, outcome) = moved.map_err(Failure::run)?;
        Ok(Self {
            logprobs: scored.concat(),
            loss: outcome.sums.loss(),
            entropy_sum: outcome.sums.entropy_sum,
            grad_norm: outcome.grad_norms.first().copied().unwrap_or(f64::NAN),
        })
    }

    pub(super) fn against(&self, expected: &Self) -> Vec<Check> {
        let most = self.gaps(expected).fold(0.0, f64::max);
        let entropy = relative(self.entropy_sum, expected.entropy_sum);
        let loss = (self.loss - expected.loss).abs();
        let grad_norm = relative(self.grad_norm, expected.grad_norm);
        vec![
            check("log-probs, largest difference (nats)", most, 1e-3),
            check("entropy, relative", entropy, 1e-3),
            check("loss, difference", loss, 1e-4),
            check("gradient norm, relative", grad_norm, 1e-3),
        ]
    }

    /// Two devices that round every product to 8 bits, each in its own order of sums.
    fn against_in_bf16(&self, expected: &Self) -> Vec<Check> {
        let mean = self.gaps(expected).sum::<f64>() / expected.logprobs.len() as f64;
        let entropy = relative(self.entropy_sum, expected.entropy_sum);
        let grad_norm = relative(self.grad_norm, expected.grad_norm);
        vec![
            check("in bf16: log-probs, mean difference (nats)", mean, 0.02),
            check("in bf16: entropy, relative", entropy, 0.02),
            check("in bf16: gradient norm, relative", grad_norm, 0.1),
        ]
    }

    fn gaps(&self, expected: &Self) -> impl Iterator<Item = f64> {
        let pairs = self.logprobs.iter().zip(&expected.logprobs);
        pairs.map(|(a, b)| f64::from((a - b).abs()))
    }
}

/// Scores and samples in bf16 on both sides, where the device computes in it.
pub(super) fn half_precision(kind: BackendKind, device: &Device) -> Result<Vec<Check>, Failure> {
    if !device.supports_dtype(FloatDType::BF16) {
        return Ok(Vec::new());
    }
    let on = |kind| {
        let session = Session::open(config(kind, Precision::Bf16)?)?;
        Ok::<_, Failure>((Scored::on(&session)?, Sampled::on(&session)?))
    };
    let ((scored, sampled), (expected, expected_samples)) = (on(kind)?, on(BackendKind::Cpu)?);
    let mut checks = scored.against_in_bf16(&expected);
    checks.extend(sampled.against(&expected_samples));
    Ok(checks)
}

/// Worked solutions with advantages of both signs: the same rows on every backend.
fn rows(session: &Session, prompts: &[Prompt]) -> Result<Vec<Row>, Failure> {
    let folder = &session.model.folder;
    let stop_id = folder.stop_ids.first().copied().unwrap_or(0);
    let rows = prompts.iter().enumerate().map(|(index, prompt)| {
        let solution = prompt.solution.as_deref().unwrap_or("");
        let tokens = folder
            .tokenizer
            .encode(solution, false)
            .map_err(Failure::run)?;
        let row = supervised_row(prompt, tokens, stop_id).map_err(Failure::run)?;
        let advantage = if index % 2 == 0 { 1.0 } else { -0.5 };
        Ok(Row { advantage, ..row })
    });
    rows.collect()
}

fn update_settings(session: &Session) -> UpdateSettings {
    UpdateSettings {
        inner_epochs: 1,
        minibatches: 1,
        max_tokens_per_microbatch: session.config.update.max_tokens_per_microbatch,
        scoring: session.scoring(),
        kl_in_reward: None,
        seed: session.config.run.seed,
        step: 0,
        learning_rate: 1e-4,
    }
}
