//! The Bradley-Terry model of preferences: a pair is won with probability `sigmoid(s_won - s_lost)`.
//!
//! Bradley and Terry, "Rank analysis of incomplete block designs" (1952), Biometrika 39. The score
//! is linear in a completion's features, so a pair enters through the difference of its features
//! alone and the fit is a logistic regression without intercept: strictly convex with a penalty,
//! one optimum, no random numbers.

use thiserror::Error;

/// Largest entry of the gradient, in standardised units, at which a fit is done.
const TOLERANCE: f64 = 1e-9;
const MAX_ITERATIONS: usize = 50_000;
/// Power iterations for the largest curvature, and the margin on what they find from below.
const POWER_ITERATIONS: usize = 60;
const MARGIN: f64 = 1.1;

/// A fit did not end.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
#[error(
    "fit the reward head: after {MAX_ITERATIONS} iterations the gradient is still {gradient:.1e}; \
     raise reward_model.penalty"
)]
pub struct NotConverged {
    /// Largest entry of the gradient.
    pub gradient: f64,
}

/// Feature differences, won minus lost, one row per pair.
#[derive(Clone, Debug, PartialEq)]
pub struct Pairs {
    width: usize,
    differences: Vec<f64>,
}

impl Pairs {
    /// No pairs of features of this width.
    ///
    /// # Panics
    /// If `width` is 0.
    pub fn new(width: usize) -> Self {
        assert!(width > 0, "Pairs::new: features need a width");
        Self {
            width,
            differences: Vec::new(),
        }
    }

    /// Adds a pair.
    ///
    /// # Panics
    /// If the features have another width.
    pub fn push(&mut self, won: &[f32], lost: &[f32]) {
        assert!(
            won.len() == self.width && lost.len() == self.width,
            "Pairs::push: features of width {}",
            self.width
        );
        let differences = won.iter().zip(lost);
        self.differences
            .extend(differences.map(|(&won, &lost)| f64::from(won) - f64::from(lost)));
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.differences.len() / self.width
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.differences.is_empty()
    }

    /// The first `count` pairs.
    #[must_use]
    pub fn first(&self, count: usize) -> Self {
        let end = (count * self.width).min(self.differences.len());
        Self {
            width: self.width,
            differences: self.differences[..end].to_vec(),
        }
    }

    /// For each pair whether the head ranks it right; one half for a tie.
    pub fn ranked_right(&self, weights: &[f64]) -> Vec<f64> {
        let margins = self.rows().map(|row| dot(row, weights));
        margins
            .map(|margin| match margin {
                m if m > 0.0 => 1.0,
                m if m < 0.0 => 0.0,
                _ => 0.5,
            })
            .collect()
    }

    fn rows(&self) -> impl Iterator<Item = &[f64]> {
        self.differences.chunks_exact(self.width)
    }

    /// Root mean square of each feature's differences; 1 where all are 0.
    fn scales(&self) -> Vec<f64> {
        let mut sums = vec![0.0; self.width];
        for row in self.rows() {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += value * value;
            }
        }
        let count = self.len().max(1) as f64;
        sums.into_iter()
            .map(|sum| if sum > 0.0 { (sum / count).sqrt() } else { 1.0 })
            .collect()
    }

    fn scaled(&self, scales: &[f64]) -> Self {
        let scaled = self
            .rows()
            .flat_map(|row| row.iter().zip(scales).map(|(value, scale)| value / scale));
        Self {
            width: self.width,
            differences: scaled.collect(),
        }
    }

    /// Largest eigenvalue of the second moment of the differences, by power iteration.
    fn largest_curvature(&self) -> f64 {
        let (mut vector, mut found) = (vec![1.0; self.width], 0.0);
        for _ in 0..POWER_ITERATIONS {
            let mut next = vec![0.0; self.width];
            for row in self.rows() {
                add(&mut next, row, dot(row, &vector));
            }
            let length = dot(&next, &next).sqrt();
            let before = dot(&vector, &vector).sqrt();
            if length == 0.0 {
                return found;
            }
            found = length / before / self.len() as f64;
            vector = next.into_iter().map(|value| value / length).collect();
        }
        found
    }
}

/// Mean over pairs of `-log sigmoid(w · d)` plus `penalty / 2 |w|^2`, and its gradient
/// `-mean(sigmoid(-w · d) d) + penalty w`.
///
/// # Panics
/// If there is no pair, or `weights` has another width.
pub fn loss_and_gradient(pairs: &Pairs, weights: &[f64], penalty: f64) -> (f64, Vec<f64>) {
    assert!(!pairs.is_empty(), "loss_and_gradient: no pairs");
    assert_eq!(weights.len(), pairs.width, "loss_and_gradient: width");
    let count = pairs.len() as f64;
    let mut loss = 0.5 * penalty * dot(weights, weights);
    let mut gradient: Vec<f64> = weights.iter().map(|weight| penalty * weight).collect();
    for row in pairs.rows() {
        let margin = dot(row, weights);
        loss += softplus(-margin) / count;
        add(&mut gradient, row, -sigmoid(-margin) / count);
    }
    (loss, gradient)
}

/// The head that minimises [`loss_and_gradient`] on standardised differences (each feature by its
/// root mean square, so that one penalty fits every model), in the units of the features.
///
/// Accelerated gradient steps with restarts (Nesterov, 1983; O'Donoghue and Candès, 2015,
/// arXiv:1204.3982).
///
/// # Errors
/// If the gradient does not vanish.
///
/// # Panics
/// If there is no pair.
pub fn fit(pairs: &Pairs, penalty: f64) -> Result<Vec<f64>, NotConverged> {
    let scales = pairs.scales();
    let scaled = pairs.scaled(&scales);
    let rate = 1.0 / (MARGIN * scaled.largest_curvature() / 4.0 + penalty);
    let (mut weights, mut ahead) = (vec![0.0; pairs.width], vec![0.0; pairs.width]);
    let (mut momentum, mut largest) = (1.0_f64, f64::INFINITY);
    for _ in 0..MAX_ITERATIONS {
        let (_, gradient) = loss_and_gradient(&scaled, &ahead, penalty);
        largest = gradient.iter().fold(0.0, |max, it| it.abs().max(max));
        if largest < TOLERANCE {
            let unscaled = ahead.iter().zip(&scales);
            return Ok(unscaled.map(|(weight, scale)| weight / scale).collect());
        }
        let mut next = ahead.clone();
        add(&mut next, &gradient, -rate);
        let step: Vec<f64> = next.iter().zip(&weights).map(|(a, b)| a - b).collect();
        if dot(&gradient, &step) > 0.0 {
            // The momentum leads uphill: forget it.
            momentum = 1.0;
        }
        let faster = 0.5 * (1.0 + (1.0 + 4.0 * momentum * momentum).sqrt());
        ahead.clone_from(&next);
        add(&mut ahead, &step, (momentum - 1.0) / faster);
        (weights, momentum) = (next, faster);
    }
    Err(NotConverged { gradient: largest })
}

/// `log(1 + exp(x))` without overflow.
pub(super) fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// `1 / (1 + exp(-x))` without overflow.
pub(super) fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 {
        1.0 / (1.0 + (-x).exp())
    } else {
        let e = x.exp();
        e / (1.0 + e)
    }
}

/// Sum of products, in order.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(sum: &mut [f64], values: &[f64], by: f64) {
    for (sum, value) in sum.iter_mut().zip(values) {
        *sum += by * value;
    }
}
