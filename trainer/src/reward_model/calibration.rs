//! Scores to rewards in `[0, 1]`.
//!
//! Bradley-Terry leaves a score free up to a constant, so absolute errors need labelled
//! completions: Platt, "Probabilistic outputs for support vector machines" (1999), with the
//! targets and the safeguarded Newton steps of Lin, Lin and Weng, "A note on Platt's
//! probabilistic outputs for support vector machines" (2007).

use serde::{Deserialize, Serialize};

use super::bradley_terry::{sigmoid, softplus};

const MAX_ITERATIONS: usize = 100;
const TOLERANCE: f64 = 1e-12;
/// Keeps the Hessian of equal scores invertible.
const RIDGE: f64 = 1e-12;

/// `sigmoid(slope * score + offset)`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Platt {
    /// By what a score is multiplied.
    pub slope: f64,
    /// What is added.
    pub offset: f64,
}

impl Platt {
    /// The reward of a score, in `[0, 1]`.
    pub fn value(self, score: f64) -> f64 {
        sigmoid(self.slope * score + self.offset)
    }

    /// The fit to labelled scores, by maximum likelihood with Platt's targets: `(r + 1) / (r + 2)`
    /// for the r right ones and `1 / (w + 2)` for the w wrong ones, so that scores that separate the
    /// labels have a finite fit.
    ///
    /// # Panics
    /// If there are no scores, or not as many labels.
    pub fn fit(scores: &[f64], is_right: &[bool]) -> Self {
        assert!(
            !scores.is_empty() && scores.len() == is_right.len(),
            "Platt::fit: one label per score"
        );
        let right = is_right.iter().filter(|&&it| it).count() as f64;
        let wrong = is_right.len() as f64 - right;
        let target = |is_right| {
            if is_right {
                (right + 1.0) / (right + 2.0)
            } else {
                1.0 / (wrong + 2.0)
            }
        };
        let targets: Vec<f64> = is_right.iter().map(|&it| target(it)).collect();
        let mut found = Self {
            slope: 0.0,
            offset: ((right + 1.0) / (wrong + 1.0)).ln(),
        };
        for _ in 0..MAX_ITERATIONS {
            let Some(better) = found.newton(scores, &targets) else {
                break;
            };
            found = better;
        }
        found
    }

    /// One step, halved until the likelihood rises; `None` at the optimum.
    fn newton(self, scores: &[f64], targets: &[f64]) -> Option<Self> {
        let (mut g, mut h) = ([0.0; 2], [RIDGE, 0.0, RIDGE]);
        for (&score, &target) in scores.iter().zip(targets) {
            let p = self.value(score);
            let (error, weight) = (p - target, p * (1.0 - p));
            g = [g[0] + error * score, g[1] + error];
            h = [
                h[0] + weight * score * score,
                h[1] + weight * score,
                h[2] + weight,
            ];
        }
        if g[0].abs().max(g[1].abs()) < TOLERANCE * scores.len() as f64 {
            return None;
        }
        let determinant = h[0] * h[2] - h[1] * h[1];
        let step = [
            (g[1] * h[1] - g[0] * h[2]) / determinant,
            (g[0] * h[1] - g[1] * h[0]) / determinant,
        ];
        let before = self.loss(scores, targets);
        let mut length = 1.0;
        while length > 1e-10 {
            let tried = Self {
                slope: self.slope + length * step[0],
                offset: self.offset + length * step[1],
            };
            if tried.loss(scores, targets) < before {
                return Some(tried);
            }
            length /= 2.0;
        }
        None
    }

    fn loss(self, scores: &[f64], targets: &[f64]) -> f64 {
        let pairs = scores.iter().zip(targets);
        pairs
            .map(|(&score, &target)| {
                let x = self.slope * score + self.offset;
                softplus(x) - target * x
            })
            .sum()
    }
}

/// Expected calibration error: over bins of equally many completions, sorted by reward, the mean
/// distance of the mean reward from the share that is right (Naeini, Cooper, Hauskrecht, 2015, with
/// bins of equal count). The last bins are one larger if the number does not divide.
///
/// # Panics
/// If there are no rewards or no bins, or not as many labels.
pub fn calibration_error(rewards: &[f64], is_right: &[bool], bins: usize) -> f64 {
    assert!(
        !rewards.is_empty() && bins > 0 && rewards.len() == is_right.len(),
        "calibration_error: one label per reward"
    );
    let mut pairs: Vec<(f64, bool)> = rewards
        .iter()
        .copied()
        .zip(is_right.iter().copied())
        .collect();
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let count = pairs.len();
    let gap = |bin: usize| {
        let members = &pairs[bin * count / bins..(bin + 1) * count / bins];
        let reward: f64 = members.iter().map(|it| it.0).sum();
        let right = members.iter().filter(|it| it.1).count() as f64;
        (reward - right).abs() / count as f64
    };
    (0..bins).map(gap).sum()
}
