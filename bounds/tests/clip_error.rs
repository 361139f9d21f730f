//! The bounds on the clip error against estimates from samples: random policies and references
//! over completions of several tokens, clipped per token and per sequence.

#![allow(clippy::unwrap_used, reason = "a test panics by design")]

use proptest::prelude::*;
use rlvr_bounds::*;
use worlds::Uniform;

#[allow(dead_code)]
mod worlds;

const VOCABULARY: usize = 5;
const DRAWS: usize = 4000;

/// A policy and a reference that know only the position.
struct Models {
    policy: Vec<[f64; VOCABULARY]>,
    reference: Vec<[f64; VOCABULARY]>,
}

impl Models {
    fn random(tokens: usize, spread: f64, uniform: &mut Uniform) -> Self {
        let mut rows = |_| {
            let logits: [f64; VOCABULARY] =
                core::array::from_fn(|_| spread * (uniform.next() - 0.5));
            let total: f64 = logits.iter().map(|z| z.exp()).sum();
            logits.map(|z| z.exp() / total)
        };
        Self {
            policy: (0..tokens).map(&mut rows).collect(),
            reference: (0..tokens).map(&mut rows).collect(),
        }
    }

    /// Token log-ratios of a completion drawn from the policy.
    fn draw(&self, uniform: &mut Uniform) -> Vec<f64> {
        let positions = self.policy.iter().zip(&self.reference);
        positions
            .map(|(policy, reference)| {
                let token = uniform.index(policy);
                (policy[token] / reference[token]).ln()
            })
            .collect()
    }
}

/// Mean and standard error.
fn mean_of(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let square = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / (n - 1.0);
    (mean, (square / n).sqrt())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn the_sampled_clip_error_is_within_its_bounds(
        seed in any::<u64>(), tokens in 1..6_usize, spread in 0.5..6.0_f64, tau in 0.0..3.0_f64,
    ) {
        let mut uniform = Uniform(seed);
        let models = Models::random(tokens, spread, &mut uniform);
        let draws: Vec<Vec<f64>> = (0..DRAWS).map(|_| models.draw(&mut uniform)).collect();
        let sums: Vec<f64> = draws.iter().map(|row| row.iter().sum()).collect();
        check_level(&sums, tau)?;
        for position in 0..tokens {
            let one: Vec<f64> = draws.iter().map(|row| row[position]).collect();
            check_level(&one, tau)?;
        }
        // Clipping each token moves the sum at most as far as the tokens together.
        let by_token = |row: &Vec<f64>| row.iter().map(|l| l - l.clamp(-tau, tau)).sum::<f64>();
        let moved: Vec<f64> = draws.iter().map(|row| by_token(row).abs()).collect();
        let parts: f64 = (0..tokens)
            .map(|position| {
                let one: Vec<f64> = draws.iter().map(|row| row[position]).collect();
                tail(&Distribution::sample(&one).unwrap(), tau).unwrap().abs
            })
            .sum();
        prop_assert!(mean_of(&moved).0 <= parts + 1e-9);
    }
}

/// The sampled error of one clipped variable against C1, C2 and C5.
fn check_level(l: &[f64], tau: f64) -> std::result::Result<(), TestCaseError> {
    let found = tail(&Distribution::sample(l).unwrap(), tau).unwrap();
    let moved = |sign: f64| -> Vec<f64> {
        l.iter()
            .map(|l| (sign * (l - l.clamp(-tau, tau))).max(0.0))
            .collect()
    };
    let absolute: Vec<f64> = l.iter().map(|l| (l - l.clamp(-tau, tau)).abs()).collect();
    let signed: Vec<f64> = l.iter().map(|l| l - l.clamp(-tau, tau)).collect();
    prop_assert!((mean_of(&absolute).0 - found.abs).abs() < 1e-9);
    prop_assert!((mean_of(&signed).0 - found.signed).abs() < 1e-9);
    prop_assert!(found.signed.abs() <= found.abs + 1e-12);
    // C2 holds for the expectation; a sample may exceed it by its own error.
    let (down, error) = mean_of(&moved(-1.0));
    let free = free_lower_tail(tau).unwrap();
    prop_assert!(
        down <= free + 5.0 * error + 1e-3,
        "{down} ± {error} against {free}"
    );
    // C5 with the sample's own Renyi divergence is a bound on the sample's tail.
    let renyi = |lam: f64| {
        let scaled: Vec<f64> = l.iter().map(|l| lam * l).collect();
        (Distribution::sample(&scaled).unwrap().log_mean_exp() / lam).max(0.0)
    };
    if let Ok(bound) = renyi_tail(renyi, tau) {
        prop_assert!(
            found.up <= bound.value + 1e-9,
            "{} above {}",
            found.up,
            bound.value
        );
    }
    let bias = clip_bias(&Distribution::sample(l).unwrap(), tau, 0.1).unwrap();
    prop_assert!(bias.value() <= 0.1 * found.abs + 1e-12);
    prop_assert!(bias.value() >= 0.1 * found.up - 1e-12);
    Ok(())
}
