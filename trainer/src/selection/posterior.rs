//! A pass rate drawn from a posterior by inverting its distribution at one uniform number, so that
//! a draw is a function of its stream alone.

use rlvr_core::BetaPosterior;
use statrs::distribution::{Beta, ContinuousCDF};

/// The quantile of the posterior at `uniform` in [0, 1). Parameters that are no distribution give
/// the uniform number itself, the quantile of the prior.
pub(super) fn quantile(posterior: BetaPosterior, uniform: f64) -> f64 {
    match Beta::new(posterior.alpha, posterior.beta) {
        Ok(beta) => beta.inverse_cdf(uniform),
        Err(_) => uniform,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_invert_known_distributions() {
        let close = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-6, "{found}");
        let prior = BetaPosterior::default();
        close(quantile(prior, 0.25), 0.25);
        // Beta(2, 1) has the distribution x^2, Beta(1, 3) has 1 - (1 - x)^3.
        let two = BetaPosterior {
            alpha: 2.0,
            beta: 1.0,
        };
        close(quantile(two, 0.49), 0.7);
        let three = BetaPosterior {
            alpha: 1.0,
            beta: 3.0,
        };
        close(quantile(three, 1.0 - 0.6_f64.powi(3)), 0.4);
    }
}
