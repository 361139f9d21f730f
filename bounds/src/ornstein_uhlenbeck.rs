//! P4: SGD as an Ornstein-Uhlenbeck process. **Model-based, never a certificate** as it stands.
//!
//! **Assumptions.** Near its optimum, training follows `d theta = -A (theta - theta*) dt +
//! sqrt(eta/b) C^(1/2) dW`: A the negated Hessian of the objective, positive definite; C the
//! covariance of one prompt's gradient; eta the learning rate; b prompts per batch. Adam, ratio
//! clipping, drift and non-concavity are ignored, and A and C come from the training data.
//!
//! **Constants.** Mandt, Hoffman, Blei 2017, arXiv 1704.04289: the stationary law is
//! `N(theta*, Sigma)` with
//!
//! ```text
//! A Sigma + Sigma A = (eta/b) C                      so 2 tr Sigma = (eta/b) tr(A^-1 C)
//! Sigma = (I - eta A) Sigma (I - eta A) + eta^2 C / b  (discrete steps; needs eta a_max < 2)
//! KL(Q‖P) = (tr Sigma / s2 + |theta* - theta_0|^2 / s2 - d + d log s2 - log det Sigma) / 2
//! ```
//!
//! for the prior `P = N(theta_0, s2 I)`, theta_0 where the run began. The KL goes into
//! `pac_bayes` with [`Posterior::Estimated`](crate::Posterior::Estimated). A legal variant: train,
//! then *define* Q and draw every rollout from it (P2b to P2d).
//!
//! Matrices are dense, row-major, `d x d`.

use alloc::vec;
use alloc::vec::Vec;

use libm::log;

use crate::error::{BoundsError, Result, check_count, check_finite, check_positive, domain};
use crate::sums::sum;
use crate::symmetric::{Eigen, Matrix, eigen};

/// Sigma of `A Sigma + Sigma A = scale C`; `scale` is `eta / b`.
///
/// # Errors
/// If sizes differ, a matrix is not symmetric, A is not positive definite, or `scale` is not
/// above 0.
pub fn lyapunov(a: &[f64], c: &[f64], scale: f64) -> Result<Vec<f64>> {
    let scale = check_positive("scale", scale)?;
    let (basis, noise) = in_basis_of(a, c)?;
    let values = &basis.values;
    let sigma = noise.map(|i, j, c| scale * c / (values[i] + values[j]));
    Ok(sigma.congruence(&basis.vectors).data)
}

/// Sigma of discrete SGD with learning rate `eta` and `batch` prompts a step.
///
/// # Errors
/// As [`lyapunov`], or if `eta` times the largest eigenvalue of A is not below 2.
pub fn lyapunov_discrete(a: &[f64], c: &[f64], eta: f64, batch: f64) -> Result<Vec<f64>> {
    let (eta, batch) = (check_positive("eta", eta)?, check_positive("batch", batch)?);
    let (basis, noise) = in_basis_of(a, c)?;
    let values = &basis.values;
    if values.iter().any(|value| eta * value >= 2.0) {
        return Err(domain("eta", "below 2 / the largest eigenvalue of A"));
    }
    let sigma = noise.map(|i, j, c| {
        // 1 - (1 - eta a_i)(1 - eta a_j), without the cancellation.
        let lost = eta * (values[i] + values[j]) - eta * eta * values[i] * values[j];
        eta * eta * c / (batch * lost)
    });
    Ok(sigma.congruence(&basis.vectors).data)
}

/// Eigenbasis of A, and C in it.
fn in_basis_of(a: &[f64], c: &[f64]) -> Result<(Eigen, Matrix)> {
    let (a, c) = (Matrix::symmetric("A", a)?, Matrix::symmetric("C", c)?);
    if a.size != c.size {
        return Err(BoundsError::Shape("A and C differ in size"));
    }
    let basis = eigen(&a);
    if basis.values.iter().any(|&value| value <= 0.0) {
        return Err(BoundsError::NotPositiveDefinite("A"));
    }
    let noise = c.congruence(&basis.vectors.transposed());
    Ok((basis, noise))
}

/// Covariance and shift of a Gaussian posterior, checked.
struct Posterior {
    basis: Eigen,
    log_det: f64,
    trace: f64,
    square: f64,
    size: f64,
}

fn posterior(sigma: &[f64], shift: &[f64]) -> Result<Posterior> {
    let matrix = Matrix::symmetric("Sigma", sigma)?;
    check_finite("shift", shift)?;
    if matrix.size != shift.len() {
        return Err(BoundsError::Shape("Sigma and shift differ in size"));
    }
    let basis = eigen(&matrix);
    if basis.values.iter().any(|&value| value <= 0.0) {
        return Err(BoundsError::NotPositiveDefinite("Sigma"));
    }
    Ok(Posterior {
        log_det: sum(basis.values.iter().map(|&value| log(value))),
        trace: sum(basis.values.iter().copied()),
        square: sum(shift.iter().map(|value| value * value)),
        size: shift.len() as f64,
        basis,
    })
}

/// `KL(N(theta_0 + shift, Sigma) ‖ N(theta_0, s2 I))`.
///
/// # Errors
/// If sizes differ, Sigma is not positive definite, or `s2` is not above 0.
pub fn gauss_kl(sigma: &[f64], shift: &[f64], s2: f64) -> Result<f64> {
    let (q, s2) = (posterior(sigma, shift)?, check_positive("s2", s2)?);
    let fit = (q.trace + q.square) / s2;
    Ok((0.5 * (fit - q.size + q.size * log(s2) - q.log_det)).max(0.0))
}

/// The `s2` with the smallest [`gauss_kl`]. It depends on the posterior, so a certificate needs
/// a grid of G values fixed beforehand, and log G more nats.
///
/// # Errors
/// As [`gauss_kl`].
pub fn gauss_best_s2(sigma: &[f64], shift: &[f64]) -> Result<f64> {
    let q = posterior(sigma, shift)?;
    Ok((q.trace + q.square) / q.size)
}

/// `log dQ/dP` at `theta - theta_0 = z`, for P2d.
///
/// # Errors
/// As [`gauss_kl`].
pub fn gauss_log_ratio(sigma: &[f64], shift: &[f64], s2: f64, z: &[f64]) -> Result<f64> {
    let (q, s2) = (posterior(sigma, shift)?, check_positive("s2", s2)?);
    check_finite("z", z)?;
    if z.len() != shift.len() {
        return Err(BoundsError::Shape("z and shift differ in size"));
    }
    let residual: Vec<f64> = z.iter().zip(shift).map(|(z, shift)| z - shift).collect();
    let mut distance = vec![0.0; residual.len()];
    for (component, slot) in distance.iter_mut().enumerate() {
        let along =
            sum((0..residual.len()).map(|row| q.basis.vectors.at(row, component) * residual[row]));
        *slot = along * along / q.basis.values[component];
    }
    let from_prior = sum(z.iter().map(|value| value * value)) / s2;
    let from_posterior = sum(distance);
    Ok(0.5 * (from_prior - from_posterior + q.size * log(s2) - q.log_det))
}

/// Nats that a legal choice of `s2` from a grid of `grid` values costs: `kl + log(grid)`.
///
/// # Errors
/// If the grid is empty.
pub fn with_grid(kl: f64, grid: usize) -> Result<f64> {
    Ok(kl + log(check_count("grid", grid, 1)?))
}
