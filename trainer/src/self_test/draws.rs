//! Tokens drawn from the same logits, where the engine would draw them: on the host for a CPU, on
//! the device otherwise.

use burn::tensor::{Device, Tensor, TensorData};
use rlvr_backends::is_host;

use super::{Check, check};
use crate::failure::Failure;
use crate::record::PromptId;
use crate::rollout::device_sampling::DeviceSampler;
use crate::rollout::sampling::{Draw, Sampler};
use crate::rollout::{RolloutConfig, SamplingParams};
use crate::seed::{Stage, stream};

/// Rows of random logits, and their columns: not a multiple of anything.
const ROWS: usize = 200;
const VOCAB: usize = 1011;

/// What a backend draws.
pub(super) struct Draws {
    /// From the random rows, for each kind of sampling.
    tokens: Vec<Draw>,
    /// Random rows without a token, and rows that are not finite with one.
    num_wrong: usize,
}

impl Draws {
    pub(super) fn on(device: &Device) -> Result<Self, Failure> {
        let mut random = stream(1, Stage::Rollout, 0, PromptId(0), 0);
        let numbers = (0..ROWS * VOCAB).map(|_| 3.0 * random.normal() as f32);
        let mut logits: Vec<f32> = numbers.collect();
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            logits.extend((0..VOCAB).map(|token| if token == 700 { bad } else { 0.0 }));
        }
        let count = logits.len() / VOCAB;
        let uniforms: Vec<f64> = (0..count).map(|_| random.uniform()).collect();
        let mut found = Self {
            tokens: Vec::new(),
            num_wrong: 0,
        };
        for params in kinds() {
            let draws = draw(device, &params, &logits, &uniforms)?;
            let (random, broken) = draws.split_at(ROWS);
            let missing = random.iter().filter(|draw| draw.is_none()).count();
            found.num_wrong += missing + broken.iter().flatten().count();
            found.tokens.extend(random.iter().flatten());
        }
        Ok(found)
    }

    pub(super) fn against(&self, expected: &Self) -> Vec<Check> {
        let pairs = || self.tokens.iter().zip(&expected.tokens);
        let num_different = pairs().filter(|(a, b)| a.token != b.token).count();
        let gap = |(a, b): (&Draw, &Draw)| {
            let gap = (a.logprob - b.logprob).abs();
            f64::from(gap.max((a.entropy - b.entropy).abs()))
        };
        let alike = pairs().filter(|(a, b)| a.token == b.token);
        vec![
            // A number may lie within rounding of the boundary between two tokens.
            check(
                "draws from the same logits, share that differ",
                num_different as f64 / expected.tokens.len() as f64,
                5e-3,
            ),
            check(
                "their log-probs and entropies (nats)",
                alike.map(gap).fold(0.0, f64::max),
                1e-4,
            ),
            check(
                "rows wrongly taken for finite, or for not",
                self.num_wrong as f64,
                0.0,
            ),
        ]
    }
}

/// Greedy, free, and every filter, alone and together.
fn kinds() -> Vec<SamplingParams> {
    let filters = [
        (0.0, None, None, None),
        (0.8, None, None, None),
        (0.8, Some(20), None, None),
        (0.8, None, Some(0.9), None),
        (0.8, None, None, Some(0.05)),
        (1.2, Some(50), Some(0.8), Some(0.01)),
    ];
    let kind = |(temperature, top_k, top_p, min_p)| {
        let config = RolloutConfig {
            temperature,
            top_k,
            top_p,
            min_p,
            ..RolloutConfig::default()
        };
        config.sampling(Vec::new())
    };
    filters.map(kind).into()
}

fn draw(
    device: &Device,
    params: &SamplingParams,
    logits: &[f32],
    uniforms: &[f64],
) -> Result<Vec<Option<Draw>>, Failure> {
    if is_host(device) {
        let mut sampler = Sampler::new(params);
        let rows = logits.chunks(VOCAB).zip(uniforms);
        let draws = rows.map(|(row, uniform)| sampler.draw(row, &[], *uniform));
        return Ok(draws.collect());
    }
    let rows = TensorData::new(logits.to_vec(), [uniforms.len(), VOCAB]);
    let sampler = DeviceSampler::new(params);
    let draws = sampler.draw(Tensor::from_data(rows, device), uniforms);
    draws.map_err(Failure::run)
}
