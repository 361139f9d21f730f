//! R6: the variational formula of Donsker and Varadhan. **Plug-in**, as R5.
//!
//! **Assumptions.** `KL(D_theta‖D_tr)` and the moment generating function of |e| under D_tr are
//! known.
//!
//! **Constants.** `E_theta|e| <= min over lam > 0 of (KL + log E_tr e^(lam |e|)) / lam`.

use libm::{exp, log};

use crate::bound::{Bound, Standing, inputs};
use crate::distribution::Distribution;
use crate::error::{Result, check_not_negative, domain};
use crate::search::golden_section;

/// Bounds of log lam in the search.
const LOG_LAM: (f64, f64) = (-20.0, 20.0);

/// R6 from the distribution of |e| under D_tr; the best lam is among its inputs.
///
/// # Errors
/// If `kl` is negative or a value of |e| is outside `[0, 1]`.
pub fn donsker_varadhan(kl: f64, abs_e: &Distribution<'_>) -> Result<Bound> {
    let kl = check_not_negative("kl", kl)?;
    if abs_e.atoms().any(|(e, _)| !(0.0..=1.0).contains(&e)) {
        return Err(domain("abs_e", "in [0, 1]"));
    }
    let top = abs_e.max();
    // log E exp(lam e) with the largest exponent taken out, so that no lam overflows.
    let objective = |log_lam: f64| {
        let lam = exp(log_lam);
        let rest = log(abs_e.mean_of(|e| exp(lam * (e - top))));
        top + (kl + rest) / lam
    };
    let log_lam = golden_section(LOG_LAM.0, LOG_LAM.1, objective);
    // lam -> infinity gives the largest |e|, which is a bound as well.
    let value = objective(log_lam).min(top);
    let named = inputs([("kl", kl), ("lam", exp(log_lam))]);
    Ok(Bound::new("R6", Standing::PlugIn, 0.0, value, named))
}
