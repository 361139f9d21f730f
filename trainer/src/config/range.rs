//! Range checks that word their own errors, for the `validate` of every section.

use core::fmt::Display;
use core::ops::RangeInclusive;

use super::error::InvalidValue;

/// `value >= least`.
pub fn at_least<T: PartialOrd + Display>(
    key: &str,
    value: T,
    least: T,
) -> Result<(), InvalidValue> {
    if value >= least {
        return Ok(());
    }
    Err(InvalidValue::new(key, value, format!("{least} or more")))
}

/// `value` in a closed range; NaN is in none.
pub fn within(key: &str, value: f64, range: RangeInclusive<f64>) -> Result<(), InvalidValue> {
    if range.contains(&value) {
        return Ok(());
    }
    let allowed = format!("from {} to {}", range.start(), range.end());
    Err(InvalidValue::new(key, value, allowed))
}

/// `low <= value < high`; NaN is not.
pub fn below(key: &str, value: f64, low: f64, high: f64) -> Result<(), InvalidValue> {
    if value >= low && value < high {
        return Ok(());
    }
    let allowed = format!("{low} or more and less than {high}");
    Err(InvalidValue::new(key, value, allowed))
}

/// `value > 0` and finite.
pub fn positive(key: &str, value: f64) -> Result<(), InvalidValue> {
    if value > 0.0 && value.is_finite() {
        return Ok(());
    }
    Err(InvalidValue::new(key, value, "more than 0 and finite"))
}

/// `value >= 0` and finite.
pub fn not_negative(key: &str, value: f64) -> Result<(), InvalidValue> {
    if value >= 0.0 && value.is_finite() {
        return Ok(());
    }
    Err(InvalidValue::new(key, value, "0 or more and finite"))
}

/// The text holds something besides blanks.
pub fn not_blank(key: &str, value: &str) -> Result<(), InvalidValue> {
    if value.trim().is_empty() {
        return Err(InvalidValue::new(key, format!("{value:?}"), "a text"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_a_range_belong_to_it_and_nan_to_none() {
        assert!(within("k", 0.0, 0.0..=1.0).is_ok() && within("k", 1.0, 0.0..=1.0).is_ok());
        assert!(below("k", 0.0, 0.0, 1.0).is_ok() && below("k", 1.0, 0.0, 1.0).is_err());
        assert!(at_least("k", 1, 1).is_ok() && at_least("k", 0, 1).is_err());
        assert!(positive("k", 0.0).is_err() && not_negative("k", 0.0).is_ok());
        for check in [positive, not_negative] {
            assert!(check("k", f64::NAN).is_err() && check("k", f64::INFINITY).is_err());
        }
        assert!(within("k", f64::NAN, 0.0..=1.0).is_err());
        assert!(below("k", f64::NAN, 0.0, 1.0).is_err());
        assert!(not_blank("k", " ").is_err());
        let error = within("eval.temperature", 3.0, 0.0..=2.0).unwrap_err();
        let expected = "`eval.temperature = 3` is not possible: from 0 to 2";
        assert_eq!(error.to_string(), expected);
    }
}
