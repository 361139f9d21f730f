//! The clip error of `rlvr-core`'s own estimators against the bounds of `rlvr-bounds`: completions
//! drawn from random policies, clipped per token and per sequence by the functions that training
//! calls.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use burn::tensor::{Bool, Device, Tensor, TensorData};
use proptest::prelude::*;
use rlvr_bounds::{Distribution, Tail, clipped_k1, free_lower_tail, k1, k2, k3, tail};
use rlvr_core::{ClipGradient, ClipLevel, KlClip, KlEstimator, KlTerms, kl_terms};
use trainer::record::PromptId;
use trainer::seed::{Stage, Stream, stream};

const VOCABULARY: usize = 5;
const DRAWS: usize = 600;

/// Completions of different lengths, drawn from a random policy; per-token log-ratios policy minus
/// reference, and garbage outside the mask.
struct Draws {
    l: Vec<Vec<f64>>,
    width: usize,
}

fn random_policy(random: &mut Stream, spread: f64) -> Vec<f64> {
    let logits: Vec<f64> = (0..VOCABULARY)
        .map(|_| spread * (random.uniform() - 0.5))
        .collect();
    let total: f64 = logits.iter().map(|z| z.exp()).sum();
    logits.iter().map(|z| z.exp() / total).collect()
}

fn pick(random: &mut Stream, policy: &[f64]) -> usize {
    let mut left = random.uniform();
    let found = policy.iter().position(|p| {
        left -= p;
        left < 0.0
    });
    found.unwrap_or(policy.len() - 1)
}

impl Draws {
    fn new(seed: u64, width: usize, spread: f64) -> Self {
        let mut random = stream(seed, Stage::Bootstrap, 0, PromptId(0), 0);
        let mut models = || -> Vec<Vec<f64>> {
            (0..width)
                .map(|_| random_policy(&mut random, spread))
                .collect()
        };
        let (policy, reference) = (models(), models());
        let l = (0..DRAWS)
            .map(|_| {
                let length = 1 + random.below(width as u64) as usize;
                (0..length)
                    .map(|c| {
                        let token = pick(&mut random, &policy[c]);
                        // Rounded to the tensors' precision, so that both sides see one number.
                        f64::from((policy[c][token] / reference[c][token]).ln() as f32)
                    })
                    .collect()
            })
            .collect();
        Self { l, width }
    }

    /// `log_r = log reference - log policy` and the mask, `[N, C]`.
    fn tensors(&self, device: &Device) -> (Tensor<2>, Tensor<2, Bool>) {
        let (mut log_r, mut mask) = (Vec::new(), Vec::new());
        for row in &self.l {
            let at = |c: usize| row.get(c).map_or(f32::NAN, |l| -*l as f32);
            log_r.extend((0..self.width).map(at));
            mask.extend((0..self.width).map(|c| c < row.len()));
        }
        let shape = [self.l.len(), self.width];
        (
            Tensor::from_data(TensorData::new(log_r, shape), device),
            Tensor::from_data(TensorData::new(mask, shape), device),
        )
    }

    fn terms(&self, estimator: KlEstimator, tau: f64, level: ClipLevel) -> KlTerms {
        let device = Device::default();
        let (log_r, mask) = self.tensors(&device);
        let gradient = ClipGradient::Zero;
        let clip = KlClip {
            tau,
            level,
            gradient,
        };
        kl_terms(log_r, mask, estimator, Some(clip))
    }

    /// What is clipped: every token, or every sum.
    fn clipped_variables(&self, level: ClipLevel) -> Vec<f64> {
        match level {
            ClipLevel::Token => self.l.concat(),
            ClipLevel::Sequence => self.l.iter().map(|row| row.iter().sum()).collect(),
        }
    }
}

fn total(values: Tensor<2>) -> f64 {
    let values = values.into_data();
    values.iter::<f32>().map(f64::from).sum()
}

fn estimate(estimator: KlEstimator, l: f64) -> f64 {
    match estimator {
        KlEstimator::K1 => k1(l),
        KlEstimator::K2 => k2(l),
        KlEstimator::K3 => k3(l),
        KlEstimator::Abs => l.abs(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_estimators_that_training_calls_obey_the_bounds(
        seed in any::<u64>(), width in 1..6_usize, spread in 0.5..6.0_f64, tau in 0.05..3.0_f64,
    ) {
        let draws = Draws::new(seed, width, spread);
        for level in [ClipLevel::Token, ClipLevel::Sequence] {
            let l = draws.clipped_variables(level);
            let count = l.len() as f64;
            let sample = Distribution::sample(&l).unwrap();
            let found = tail(&sample, tau).unwrap();
            let terms = draws.terms(KlEstimator::K1, tau, level);
            // E|l - l_tau|: absolute and signed, and how often the clip acts.
            let excess = total(terms.clip_excesses) / count;
            close(excess, found.abs, "absolute")?;
            let bias = total(terms.clip_biases) / count;
            close(-bias, found.signed, "signed")?;
            close(bias, clipped_k1(&sample, tau).unwrap().bias, "k1")?;
            close(total(terms.clip_counts) / count, found.exceed, "exceed")?;
            prop_assert!(bias.abs() <= excess + 1e-5);
            check_tails(&l, tau, &found)?;
            for estimator in [KlEstimator::K2, KlEstimator::K3, KlEstimator::Abs] {
                let terms = draws.terms(estimator, tau, level);
                let expected: f64 = l
                    .iter()
                    .map(|&l| estimate(estimator, l.clamp(-tau, tau)) - estimate(estimator, l))
                    .sum();
                close(total(terms.clip_biases) / count, expected / count, "bias")?;
                // A clip of the log-ratio never raises these estimators.
                prop_assert!(expected <= 1e-9, "{estimator:?}: {expected}");
            }
        }
    }
}

/// The free lower tail for a sample: it holds for the expectation, so the sample gets its error.
fn check_tails(l: &[f64], tau: f64, found: &Tail) -> Result<(), TestCaseError> {
    let down: Vec<f64> = l.iter().map(|l| (-l - tau).max(0.0)).collect();
    let n = down.len() as f64;
    let square = down.iter().map(|x| (x - found.down).powi(2)).sum::<f64>() / (n - 1.0);
    let free = free_lower_tail(tau).unwrap();
    let error = (square / n).sqrt();
    prop_assert!(
        found.down <= free + 5.0 * error + 0.01,
        "{} against {free}",
        found.down
    );
    Ok(())
}

/// Equal within the rounding of 32-bit sums.
fn close(found: f64, expected: f64, name: &str) -> Result<(), TestCaseError> {
    let slack = 1e-4 * expected.abs().max(1.0);
    prop_assert!(
        (found - expected).abs() < slack,
        "{name}: {found} is not {expected}"
    );
    Ok(())
}
