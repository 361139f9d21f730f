//! Exact rationals and written decimals.

use dashu_int::ops::{BitTest, Gcd, UnsignedAbs};
use dashu_int::{IBig, UBig};
use dashu_ratio::RBig;

use crate::budget::{Budget, Exhausted};
use crate::policy::{DecimalMatch, Policy};

/// Digits that an unfinished decimal has to show.
const UNFINISHED_DIGITS: u32 = 3;

/// A decimal as written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Decimal {
    pub(crate) value: RBig,
    /// Digits behind the point; negative where a power of ten follows.
    pub(crate) places: i32,
    /// Digits from the first that is not zero.
    pub(crate) significant: u32,
    /// True for `0.333…`.
    pub(crate) is_unfinished: bool,
}

/// The integer that decimal digits write.
pub(crate) fn integer(digits: &str) -> Option<UBig> {
    if digits.len() <= 18 {
        return digits.parse::<u64>().ok().map(UBig::from);
    }
    UBig::from_str_radix(digits, 10).ok()
}

/// 10^exponent, for a size that the limits allow.
pub(crate) fn power_of_ten(exponent: i32) -> RBig {
    let magnitude = usize::try_from(exponent.unsigned_abs()).unwrap_or(0);
    let power = UBig::from(10u8).pow(magnitude);
    if exponent >= 0 {
        RBig::from(power)
    } else {
        RBig::from_parts(IBig::ONE, power)
    }
}

impl Decimal {
    /// From the digits on both sides of the point.
    pub(crate) fn written(whole: &str, fraction: &str) -> Option<Self> {
        let places = i32::try_from(fraction.len()).ok()?;
        let mut value = RBig::ZERO;
        if !whole.is_empty() {
            value += RBig::from(integer(whole)?);
        }
        if !fraction.is_empty() {
            value += RBig::from(integer(fraction)?) * power_of_ten(places.saturating_neg());
        }
        let digits = whole.trim_start_matches('0');
        let shown = if digits.is_empty() {
            fraction.trim_start_matches('0').len()
        } else {
            digits.len().saturating_add(fraction.len())
        };
        Some(Self {
            value,
            places,
            significant: u32::try_from(shown).ok()?,
            is_unfinished: false,
        })
    }

    pub(crate) fn negated(&self) -> Self {
        Self {
            value: -self.value.clone(),
            ..self.clone()
        }
    }

    /// Times 10^exponent.
    pub(crate) fn scaled(&self, exponent: i32) -> Self {
        Self {
            value: &self.value * power_of_ten(exponent),
            places: self.places.saturating_sub(exponent),
            ..self.clone()
        }
    }

    /// One unit in the last written place.
    pub(crate) fn unit(&self) -> RBig {
        power_of_ten(self.places.saturating_neg())
    }

    /// True if the decimal shows enough digits to stand for something that rounds to it.
    pub(crate) fn shows_enough(&self, policy: &Policy) -> bool {
        match policy.decimal_match {
            _ if self.is_unfinished => self.significant >= UNFINISHED_DIGITS,
            DecimalMatch::Exact => false,
            DecimalMatch::Rounded { min_digits } => self.significant >= min_digits,
            DecimalMatch::GoldDigits => false,
        }
    }

    /// The rounding rule against an exact number. Ties may round either way; an unfinished decimal
    /// may be cut.
    pub(crate) fn stands_for(&self, exact: &RBig) -> bool {
        // Comparisons with short quotients: a difference would have to be reduced.
        let unit = self.unit();
        let half = &unit / RBig::from(2u8);
        if &self.value - &half <= *exact && *exact <= &self.value + &half {
            return true;
        }
        let above = self.value >= RBig::ZERO && *exact > self.value && *exact < &self.value + &unit;
        let below = self.value <= RBig::ZERO && *exact < self.value && *exact > &self.value - &unit;
        self.is_unfinished && (above || below)
    }
}

/// Steps of the power below: its last squaring takes most of them, and is no schoolbook product.
pub(crate) fn charge_power(
    base: &RBig,
    exponent: i64,
    limit_bits: usize,
    budget: &mut Budget,
) -> Result<(), Exhausted> {
    let magnitude = usize::try_from(exponent.unsigned_abs()).unwrap_or(usize::MAX);
    let size = size_bits(base);
    if magnitude <= 1 || size.saturating_sub(1).saturating_mul(magnitude) > limit_bits {
        // A copy, or a power that is too large.
        return budget.charge_bits(size, 0);
    }
    let result_bits = size.saturating_mul(magnitude).min(limit_bits);
    budget.charge_bits(result_bits, result_bits / 8)
}

/// A power with an integer exponent, if its size is within the limit of bits.
pub(crate) fn power(base: &RBig, exponent: i64, limit_bits: usize) -> Option<RBig> {
    if base.is_zero() {
        return match exponent {
            0 => Some(RBig::ONE),
            1.. => Some(RBig::ZERO),
            _ => None,
        };
    }
    let magnitude = usize::try_from(exponent.unsigned_abs()).ok()?;
    if *base == RBig::ONE || magnitude == 0 {
        return Some(RBig::ONE);
    }
    if *base == RBig::NEG_ONE {
        let is_even = magnitude % 2 == 0;
        return Some(if is_even { RBig::ONE } else { RBig::NEG_ONE });
    }
    let size = size_bits(base);
    // A number of n bits is at least 2^(n - 1): powers of two reach the limit exactly.
    if size.saturating_sub(1).checked_mul(magnitude)? > limit_bits {
        return None;
    }
    // A reduced quotient stays reduced.
    isize::try_from(exponent)
        .ok()
        .map(|exponent| base.pow(exponent))
}

/// Bits of the larger part of a rational.
pub(crate) fn size_bits(value: &RBig) -> usize {
    let top = value.numerator().bit_len();
    top.max(value.denominator().bit_len())
}

/// The value as a small integer.
pub(crate) fn small(value: &RBig) -> Option<i64> {
    if !value.is_int() {
        return None;
    }
    i64::try_from(value.numerator()).ok()
}

/// `n!` or `n!!`, if its size is within the limit of bits.
pub(crate) fn factorial(
    n: i64,
    step: usize,
    limit_bits: usize,
    budget: &mut Budget,
) -> Result<Option<RBig>, Exhausted> {
    let Some(n) = u64::try_from(n).ok().filter(|n| *n < 100_000) else {
        return Ok(None);
    };
    let mut product = UBig::ONE;
    // Factors are gathered in one word first: a product with a word takes as long as with a digit.
    let mut word = 1u64;
    let mut factor = n;
    while factor > 1 {
        budget.charge(1)?;
        match word.checked_mul(factor) {
            Some(larger) => word = larger,
            None => {
                budget.charge_bits(product.bit_len(), 0)?;
                product *= core::mem::replace(&mut word, factor);
                if product.bit_len() > limit_bits {
                    return Ok(None);
                }
            }
        }
        factor = factor.saturating_sub(step as u64);
    }
    product *= word;
    Ok((product.bit_len() <= limit_bits).then(|| RBig::from(product)))
}

/// `n` over `k` for naturals.
pub(crate) fn binomial(
    n: i64,
    k: i64,
    limit_bits: usize,
    budget: &mut Budget,
) -> Result<Option<RBig>, Exhausted> {
    if n < 0 {
        return Ok(None);
    }
    if k < 0 || k > n {
        return Ok(Some(RBig::ZERO));
    }
    let k = k.min(n.saturating_sub(k));
    if k > 100_000 {
        return Ok(None);
    }
    let mut value = UBig::ONE;
    for i in 1..=k {
        budget.charge_bits(value.bit_len(), 0)?;
        budget.charge_bits(value.bit_len(), 0)?;
        value *= u64::try_from(n.saturating_sub(k).saturating_add(i)).unwrap_or(1);
        value /= u64::try_from(i).unwrap_or(1);
        if value.bit_len() > limit_bits {
            return Ok(None);
        }
    }
    Ok(Some(RBig::from(value)))
}

/// Greatest common divisor or least common multiple of integers.
pub(crate) fn gcd_lcm(
    values: &[&RBig],
    is_lcm: bool,
    budget: &mut Budget,
) -> Result<Option<RBig>, Exhausted> {
    let mut result: Option<UBig> = None;
    for value in values {
        if !value.is_int() {
            return Ok(None);
        }
        let known_bits = result.as_ref().map_or(0, BitTest::bit_len);
        budget.charge_quotients(known_bits, size_bits(value))?;
        let next = value.numerator().clone().unsigned_abs();
        result = Some(match result {
            None => next,
            Some(so_far) if so_far.is_zero() || next.is_zero() => {
                if is_lcm {
                    UBig::ZERO
                } else {
                    so_far + next
                }
            }
            Some(so_far) => {
                let gcd = (&so_far).gcd(&next);
                if is_lcm { so_far / &gcd * next } else { gcd }
            }
        });
    }
    Ok(result.map(RBig::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ratio(top: i32, bottom: u32) -> RBig {
        RBig::from_parts(IBig::from(top), UBig::from(bottom))
    }

    #[test]
    fn decimals_know_their_digits() {
        for (whole, fraction, value, places, significant) in [
            ("0", "50", ratio(1, 2), 2, 2),
            ("", "5", ratio(1, 2), 1, 1),
            ("12", "", ratio(12, 1), 0, 2),
            ("0", "0012", ratio(3, 2500), 4, 2),
            ("10", "0", ratio(10, 1), 1, 3),
        ] {
            let decimal = Decimal::written(whole, fraction).unwrap();
            assert_eq!(
                (decimal.value, decimal.places, decimal.significant),
                (value, places, significant)
            );
        }
    }

    #[test]
    fn rounding_goes_to_the_written_place() {
        let third = Decimal::written("0", "333333").unwrap();
        assert!(third.stands_for(&ratio(1, 3)));
        assert!(!third.stands_for(&ratio(1, 4)));
        let tie = Decimal::written("0", "12").unwrap();
        assert!(tie.stands_for(&ratio(125, 1000)) && tie.stands_for(&ratio(115, 1000)));
        assert!(!tie.stands_for(&ratio(126, 1000)));
        let cut = Decimal {
            is_unfinished: true,
            ..Decimal::written("0", "666").unwrap()
        };
        assert!(cut.stands_for(&ratio(2, 3)));
        assert!(!cut.stands_for(&ratio(667, 1000)));
    }

    #[test]
    fn powers_factorials_and_binomials() {
        let mut budget = Budget::new(1_000_000);
        assert_eq!(power(&ratio(-2, 3), -3, 100), Some(ratio(-27, 8)));
        assert_eq!(power(&RBig::ZERO, -1, 100), None);
        assert_eq!(power(&ratio(2, 1), 1000, 100), None);
        assert_eq!(factorial(6, 1, 100, &mut budget), Ok(Some(ratio(720, 1))));
        assert_eq!(factorial(7, 2, 100, &mut budget), Ok(Some(ratio(105, 1))));
        // 30! = 30 · 29!, beyond one word; its 108 bits do not fit into 107.
        let large = |n| {
            factorial(n, 1, 200, &mut Budget::new(100_000))
                .unwrap()
                .unwrap()
        };
        assert_eq!(large(30), large(29) * ratio(30, 1));
        assert_eq!(size_bits(&large(30)), 108);
        assert_eq!(factorial(30, 1, 107, &mut budget), Ok(None));
        assert_eq!(factorial(0, 1, 107, &mut budget), Ok(Some(RBig::ONE)));
        assert_eq!(binomial(10, 3, 100, &mut budget), Ok(Some(ratio(120, 1))));
        assert_eq!(
            gcd_lcm(&[&ratio(12, 1), &ratio(18, 1)], false, &mut budget),
            Ok(Some(ratio(6, 1)))
        );
        assert_eq!(
            gcd_lcm(&[&ratio(4, 1), &ratio(6, 1)], true, &mut budget),
            Ok(Some(ratio(12, 1)))
        );
    }
}
