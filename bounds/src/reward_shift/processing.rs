//! R5: data processing. **Plug-in**: a KL divergence cannot be certified from samples.
//!
//! **Assumptions.** `KL(D_theta‖D_tr)` is known.
//!
//! **Constants.** `kl(E_theta|e| ‖ E_tr|e|) <= KL(D_theta‖D_tr)`: the unknown is the **first**
//! argument. Inverting the second one gives numbers below the truth.

use crate::bernoulli::kl_inv_first_upper;
use crate::bound::{Bound, Standing, inputs};
use crate::error::Result;

/// R5.
///
/// # Errors
/// If `mean_abs_e` is outside `[0, 1]` or `kl` is negative.
pub fn kl_dpi(mean_abs_e: f64, kl: f64) -> Result<Bound> {
    let value = kl_inv_first_upper(mean_abs_e, kl)?;
    let named = inputs([("mean_abs_e", mean_abs_e), ("kl", kl)]);
    Ok(Bound::new("R5", Standing::PlugIn, 0.0, value, named))
}
