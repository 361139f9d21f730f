//! A3 to A5: prompts n against preference pairs m at a total cost of `c_n n + c_m m`.
//!
//! ```text
//! A3  minimise a/sqrt(n) + g/sqrt(m):  m/n = (g c_n / (a c_m))^(2/3)
//! A4  minimise a^2/n + g^2/m:          m/n = (g/a) sqrt(c_n/c_m)
//! A5  minimise a/sqrt(n) + g m^(-1/4): solved numerically
//! ```
//!
//! `a` is the sampling constant, `b sqrt(log(4/delta)/2)(1 + K^(-1/2))` for the published rate;
//! `g` is the coverage times the slope of sqrt(L2) in 1/sqrt(m). A verifiable reward has g = 0:
//! the whole budget buys prompts. A5 is for when only `L2 <= L2_hat + O(m^(-1/2))` holds. The
//! published work has such a rule whose text we have not seen; these are our reconstruction.

use libm::{pow, sqrt};

use crate::error::{Result, check_not_negative, check_positive};
use crate::search::golden_section;

/// Which objective.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PairRate {
    /// A3, the sum of two bounds.
    Bound,
    /// A4, the mean squared error.
    Error,
    /// A5, the slow rate.
    Slow,
}

/// How a budget is split; real numbers, to be rounded by the caller.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Allocation {
    /// Prompts.
    pub n: f64,
    /// Preference pairs.
    pub m: f64,
    /// The objective there.
    pub value: f64,
}

/// The best split of `cost`.
///
/// # Errors
/// If `a`, a cost or the budget is not above 0, or `g` is negative.
pub fn alloc_prompts_pairs(
    a: f64,
    g: f64,
    c_n: f64,
    c_m: f64,
    cost: f64,
    rate: PairRate,
) -> Result<Allocation> {
    let (a, g) = (check_positive("a", a)?, check_not_negative("g", g)?);
    let (c_n, c_m) = (check_positive("c_n", c_n)?, check_positive("c_m", c_m)?);
    let cost = check_positive("cost", cost)?;
    let prompts = |m: f64| (cost - c_m * m) / c_n;
    let value = |n: f64, m: f64| match rate {
        PairRate::Bound => a / sqrt(n) + g / sqrt(m),
        PairRate::Error => a * a / n + g * g / m,
        PairRate::Slow => a / sqrt(n) + g * pow(m, -0.25),
    };
    if g == 0.0 {
        let n = prompts(0.0);
        let value = if rate == PairRate::Error {
            a * a / n
        } else {
            a / sqrt(n)
        };
        return Ok(Allocation { n, m: 0.0, value });
    }
    let m = match rate {
        PairRate::Bound => share(pow(g * c_n / (a * c_m), 2.0 / 3.0), c_n, c_m, cost),
        PairRate::Error => share(g / a * sqrt(c_n / c_m), c_n, c_m, cost),
        PairRate::Slow => golden_section(0.0, cost / c_m, |m| value(prompts(m), m)),
    };
    let n = prompts(m);
    let value = value(n, m);
    Ok(Allocation { n, m, value })
}

/// Pairs, given pairs per prompt.
fn share(per_prompt: f64, c_n: f64, c_m: f64, cost: f64) -> f64 {
    per_prompt * cost / (c_n + c_m * per_prompt)
}
