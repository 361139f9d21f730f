//! R7: mixture refresh, certified by design: nothing is estimated but the error on D_tr.
//!
//! **Assumptions.** D_tr holds a fraction lam of on-policy data, so `w <= 1/lam`.
//!
//! **Constants.** `E_theta|e| <= min(sqrt(L2/lam), E_tr|e|/lam)`.

use libm::sqrt;

use crate::bound::{Bound, inputs};
use crate::error::{Result, check, check_unit};

/// R7 from bounds on L2 and on `E_tr|e|`; certified if both are.
///
/// # Errors
/// If `lam` is not in (0, 1] or an error is outside `[0, 1]`.
pub fn mixture_refresh(lam: f64, l2: &Bound, mean_abs_e: &Bound) -> Result<Bound> {
    check("lam", lam, "above 0 and at most 1", |v| v > 0.0 && v <= 1.0)?;
    check_unit("l2", l2.value())?;
    check_unit("mean_abs_e", mean_abs_e.value())?;
    let value = sqrt(l2.value() / lam).min(mean_abs_e.value() / lam);
    let standing = l2.standing().max(mean_abs_e.standing());
    let named = inputs([
        ("lam", lam),
        ("l2", l2.value()),
        ("mean_abs_e", mean_abs_e.value()),
    ]);
    let delta = l2.delta() + mean_abs_e.delta();
    Ok(Bound::new("R7", standing, delta, value.min(1.0), named))
}
