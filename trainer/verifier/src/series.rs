//! Series in fixed-point integer arithmetic: numbers times a power of two, with every term charged.

use dashu_int::IBig;

use crate::ball::Unknown;
use crate::budget::Budget;

/// The number one.
pub(crate) fn one(places: usize) -> IBig {
    IBig::ONE << places
}

/// Steps of a series of so many terms.
pub(crate) fn charge(budget: &mut Budget, terms: usize, places: usize) -> Result<(), Unknown> {
    for _ in 0..terms {
        budget.charge_bits(places, places)?;
    }
    Ok(())
}

/// The sum of `(-1)^i x^(2i+1) / (2i+1)`, or without the signs, for a small argument.
pub(crate) fn odd_series(
    x: &IBig,
    places: usize,
    has_signs: bool,
    budget: &mut Budget,
) -> Result<IBig, Unknown> {
    let square: IBig = (x * x) >> places;
    let mut power = x.clone();
    let mut sum = x.clone();
    let mut odd = 1u64;
    while !power.is_zero() {
        budget.charge_bits(places, places)?;
        power = (power * &square) >> places;
        odd = odd.saturating_add(2);
        let term = &power / IBig::from(odd);
        let is_subtracted = has_signs && odd & 2 == 2;
        if is_subtracted {
            sum -= term;
        } else {
            sum += term;
        }
        if power == IBig::NEG_ONE {
            break;
        }
    }
    Ok(sum)
}

/// `atan(1/n)` or `atanh(1/n)` by division by small integers alone.
pub(crate) fn inverse_series(
    n: u32,
    places: usize,
    has_signs: bool,
    budget: &mut Budget,
) -> Result<IBig, Unknown> {
    let square = IBig::from(u64::from(n).saturating_mul(u64::from(n)));
    let mut power = one(places) / IBig::from(n);
    let mut sum = power.clone();
    let mut odd = 1u64;
    while !power.is_zero() {
        // Two divisions by a small number.
        budget.charge_bits(places, 0)?;
        budget.charge_bits(places, 0)?;
        power /= &square;
        odd = odd.saturating_add(2);
        let term = &power / IBig::from(odd);
        if has_signs && odd & 2 == 2 {
            sum -= term;
        } else {
            sum += term;
        }
    }
    Ok(sum)
}

/// e^x for |x| up to 0.35: Taylor at x / 2^8, then eight squarings.
pub(crate) fn fixed_exp(x: &IBig, places: usize, budget: &mut Budget) -> Result<IBig, Unknown> {
    let small: IBig = x >> 8usize;
    let mut term = one(places);
    let mut sum = term.clone();
    for n in 1u32..4096 {
        budget.charge_bits(places, places)?;
        term = ((term * &small) >> places) / IBig::from(n);
        if term.is_zero() || term == IBig::NEG_ONE {
            break;
        }
        sum += &term;
    }
    for _ in 0..8 {
        budget.charge_bits(places, places)?;
        sum = (&sum * &sum) >> places;
    }
    Ok(sum)
}

/// Sine and cosine for |x| up to 0.8: Taylor at x / 2^6, then six doublings.
pub(crate) fn fixed_sin_cos(
    x: &IBig,
    places: usize,
    budget: &mut Budget,
) -> Result<(IBig, IBig), Unknown> {
    let small: IBig = x >> 6usize;
    let square: IBig = (&small * &small) >> places;
    let unit = one(places);
    let mut term = small.clone();
    let mut sin = small;
    // Versed sine instead of cosine: doubling keeps its small errors small.
    let mut versine = IBig::ZERO;
    let mut even = unit.clone();
    for n in 1u32..2048 {
        budget.charge_bits(places, places.saturating_mul(2))?;
        let m = 2u32.saturating_mul(n);
        even = ((even * &square) >> places) / IBig::from(m.saturating_mul(m.saturating_sub(1)));
        term = ((term * &square) >> places) / IBig::from(m.saturating_mul(m.saturating_add(1)));
        if n % 2 == 1 {
            versine += &even;
            sin -= &term;
        } else {
            versine -= &even;
            sin += &term;
        }
        let is_done = |value: &IBig| value.is_zero() || *value == IBig::NEG_ONE;
        if is_done(&even) && is_done(&term) {
            break;
        }
    }
    for _ in 0..6 {
        charge(budget, 2, places)?;
        let cos = &unit - &versine;
        let twice: IBig = (&sin * &cos) >> places.saturating_sub(1);
        // 1 - cos 2x = 2 sin² x
        versine = (&sin * &sin) >> places.saturating_sub(1);
        sin = twice;
    }
    Ok((sin, unit - versine))
}
