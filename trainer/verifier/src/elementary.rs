//! Elementary functions of balls, in fixed-point integer arithmetic with proved error bounds.
//!
//! Each function works with [`GUARD`] more bits than wanted and adds [`SLACK_BITS`] bits of those
//! as error: the series below lose far less. Argument reduction: Brent and Zimmermann, *Modern
//! Computer Arithmetic* (2010), sections 4.2 to 4.4; Machin-like formulas for π and log 2 as in
//! section 4.8.

use dashu_int::ops::{BitTest, SquareRoot, UnsignedAbs};
use dashu_int::{IBig, UBig};

use crate::ball::{Ball, Unknown};
use crate::budget::Budget;
use crate::series::{charge, fixed_exp, fixed_sin_cos, inverse_series, odd_series, one};

/// Extra working bits.
const GUARD: usize = 80;

/// The declared error of a fixed-point result: 2^40 units in the last working place.
const SLACK_BITS: usize = 40;

/// Arguments of this size and more are given up.
const MAX_TOP: i64 = 4096;

/// Fixed-point evaluation with constants kept between calls.
pub(crate) struct Elementary {
    pi: Option<(usize, IBig)>,
    log2: Option<(usize, IBig)>,
}

/// A ball around a fixed-point result.
fn around(value: IBig, places: usize) -> Ball {
    Ball {
        mid: value,
        rad: UBig::ONE << SLACK_BITS,
        exp: -i64::try_from(places).unwrap_or(i64::MAX),
    }
}

/// The midpoint as a fixed-point number; what is cut off is below one unit.
fn fixed(x: &Ball, places: usize) -> Result<IBig, Unknown> {
    let shift = x
        .exp
        .saturating_add(i64::try_from(places).unwrap_or(i64::MAX));
    let distance = usize::try_from(shift.unsigned_abs()).map_err(|_| Unknown::Unsure)?;
    if shift >= 0 {
        if distance > 1 << 20 {
            return Err(Unknown::Unsure);
        }
        Ok(x.mid.clone() << distance)
    } else {
        Ok(x.mid.clone() >> distance.min(1 << 30))
    }
}

impl Elementary {
    pub(crate) fn new() -> Self {
        Self {
            pi: None,
            log2: None,
        }
    }

    fn fixed_pi(&mut self, places: usize, budget: &mut Budget) -> Result<IBig, Unknown> {
        if let Some((known, value)) = &self.pi
            && *known >= places
        {
            return Ok(value >> known.saturating_sub(places));
        }
        let inner = places.saturating_add(16);
        let fifth = inverse_series(5, inner, true, budget)?;
        let other = inverse_series(239, inner, true, budget)?;
        let value: IBig = fifth * IBig::from(16) - other * IBig::from(4);
        self.pi = Some((inner, value.clone()));
        Ok(value >> 16usize)
    }

    fn fixed_log2(&mut self, places: usize, budget: &mut Budget) -> Result<IBig, Unknown> {
        if let Some((known, value)) = &self.log2
            && *known >= places
        {
            return Ok(value >> known.saturating_sub(places));
        }
        let inner = places.saturating_add(16);
        let mut value = inverse_series(26, inner, false, budget)? * IBig::from(18);
        value -= inverse_series(4801, inner, false, budget)? * IBig::from(2);
        value += inverse_series(8749, inner, false, budget)? * IBig::from(8);
        self.log2 = Some((inner, value.clone()));
        Ok(value >> 16usize)
    }

    pub(crate) fn pi(&mut self, prec: usize, budget: &mut Budget) -> Result<Ball, Unknown> {
        let places = prec.saturating_add(GUARD);
        around(self.fixed_pi(places, budget)?, places).round(prec)
    }

    pub(crate) fn exp(
        &mut self,
        x: &Ball,
        prec: usize,
        budget: &mut Budget,
    ) -> Result<Ball, Unknown> {
        if x.is_exact_zero() {
            return Ok(Ball::one());
        }
        let top = x.top();
        if top > 44 {
            return Err(Unknown::Unsure);
        }
        let extra = usize::try_from(top.max(0)).unwrap_or(0);
        let places = prec.saturating_add(GUARD).saturating_add(extra);
        let log2 = self.fixed_log2(places, budget)?;
        budget.charge_bits(places, places)?;
        let value = fixed(x, places)?;
        let twos: IBig = (&value + (&log2 >> 1usize)).div_euclid_floor(&log2);
        let rest = value - &twos * log2;
        let result = fixed_exp(&rest, places, budget)?;
        let twos = i64::try_from(twos).map_err(|_| Unknown::Unsure)?;
        let mut ball = around(result, places.saturating_sub(extra));
        ball.mid >>= extra;
        ball.exp = ball.exp.saturating_add(twos);
        // e^(m ± r) = e^m (1 ± 2r) for r up to 1.
        widen_relative(ball, x, prec, budget)
    }

    pub(crate) fn ln(
        &mut self,
        x: &Ball,
        prec: usize,
        budget: &mut Budget,
    ) -> Result<Ball, Unknown> {
        if x.is_negative() || x.is_exact_zero() {
            return Err(Unknown::Undefined);
        }
        if !x.is_positive() {
            return Err(Unknown::Unsure);
        }
        let num_bits = x.mid.clone().unsigned_abs().bit_len();
        let places = prec.saturating_add(GUARD);
        let point = Ball {
            mid: x.mid.clone(),
            rad: UBig::ZERO,
            exp: -i64::try_from(num_bits).unwrap_or(0),
        };
        let twos = x.exp.saturating_add(i64::try_from(num_bits).unwrap_or(0));
        let extra = places.saturating_add(64);
        let mut y = fixed(&point, extra)?;
        // Four square roots bring the argument close to one.
        for _ in 0..4 {
            budget.charge_bits(extra, extra)?;
            y = IBig::from((y.unsigned_abs() << extra).sqrt());
        }
        budget.charge_bits(extra, extra.saturating_mul(4))?;
        let unit = one(extra);
        let ratio = ((&y - &unit) << extra) / (&y + &unit);
        let series = odd_series(&ratio, extra, false, budget)? << 5usize;
        let log2 = self.fixed_log2(extra, budget)?;
        let sum = series + log2 * IBig::from(twos);
        let mut result = around(sum >> 64usize, places);
        // |ln(m ± r) - ln m| is at most r / (m - r).
        if !x.rad.is_zero() {
            let near = x.mid.clone().unsigned_abs() - &x.rad;
            result.rad += (x.rad.clone() << places) / near + UBig::ONE;
        }
        result.round(prec)
    }

    /// Sine and cosine.
    pub(crate) fn sin_cos(
        &mut self,
        x: &Ball,
        prec: usize,
        budget: &mut Budget,
    ) -> Result<(Ball, Ball), Unknown> {
        let top = x.top();
        if top > MAX_TOP {
            return Err(Unknown::Unsure);
        }
        let extra = usize::try_from(top.max(0)).unwrap_or(0);
        let places = prec.saturating_add(GUARD).saturating_add(extra);
        let half_pi: IBig = self.fixed_pi(places, budget)? >> 1usize;
        budget.charge_bits(places, places)?;
        let value = fixed(x, places)?;
        let quarters = (&value + (&half_pi >> 1usize)).div_euclid_floor(&half_pi);
        let rest = value - &quarters * half_pi;
        let (sin, cos) = fixed_sin_cos(&(rest >> extra), places.saturating_sub(extra), budget)?;
        let quadrant = (quarters & IBig::from(3)).to_le_quadrant();
        let (sin, cos) = match quadrant {
            0 => (sin, cos),
            1 => (cos, -sin),
            2 => (-sin, -cos),
            _ => (-cos, sin),
        };
        let places = places.saturating_sub(extra);
        let ball = |value: IBig| {
            let mut ball = around(value, places);
            ball.rad += radius_at(x, places)?;
            ball.round(prec)
        };
        Ok((ball(sin)?, ball(cos)?))
    }

    pub(crate) fn atan(
        &mut self,
        x: &Ball,
        prec: usize,
        budget: &mut Budget,
    ) -> Result<Ball, Unknown> {
        if x.is_exact_zero() {
            return Ok(Ball::zero());
        }
        if x.top() > 1 && !x.contains_zero() {
            // atan x = ±π/2 - atan(1/x)
            let inverse = Ball::one().div(x, prec.saturating_add(8), budget)?;
            let part = self.atan(&inverse, prec, budget)?;
            let mut half_pi = self.pi(prec, budget)?;
            half_pi.exp = half_pi.exp.saturating_sub(1);
            let half_pi = if x.is_negative() {
                half_pi.neg()
            } else {
                half_pi
            };
            return half_pi.sub(&part, prec, budget);
        }
        if x.top() > 3 {
            return Err(Unknown::Unsure);
        }
        let places = prec.saturating_add(GUARD);
        let mut value = fixed(x, places)?;
        let unit = one(places);
        // atan x = 2 atan(x / (1 + sqrt(1 + x²)))
        for _ in 0..3 {
            charge(budget, 3, places)?;
            let square: IBig = &unit + ((&value * &value) >> places);
            let root = IBig::from((square.unsigned_abs() << places).sqrt());
            value = (value << places) / (&unit + root);
        }
        let series = odd_series(&value, places, true, budget)? << 3usize;
        let mut result = around(series, places);
        result.rad += radius_at(x, places)?;
        result.round(prec)
    }
}

/// The radius of an argument, in units of the last place, rounded up.
fn radius_at(x: &Ball, places: usize) -> Result<UBig, Unknown> {
    if x.rad.is_zero() {
        return Ok(UBig::ZERO);
    }
    let as_number = Ball {
        mid: IBig::from(x.rad.clone()),
        rad: UBig::ZERO,
        exp: x.exp,
    };
    Ok(fixed(&as_number, places)?.unsigned_abs() + UBig::ONE)
}

fn widen_relative(ball: Ball, x: &Ball, prec: usize, budget: &mut Budget) -> Result<Ball, Unknown> {
    if x.rad.is_zero() {
        return ball.round(prec);
    }
    let radius = Ball {
        mid: IBig::from(x.rad.clone()),
        rad: UBig::ZERO,
        exp: x.exp.saturating_add(1),
    };
    if radius.top() > 1 {
        return Err(Unknown::Unsure);
    }
    let factor = Ball {
        mid: IBig::ZERO,
        rad: radius.mid.unsigned_abs(),
        exp: radius.exp,
    };
    let spread = ball.mul(&factor, prec, budget)?;
    ball.add(&spread, prec, budget)
}

/// Integer division that rounds down, and the lowest two bits.
trait FloorDivision {
    fn div_euclid_floor(&self, divisor: &IBig) -> IBig;
    fn to_le_quadrant(&self) -> u8;
}

impl FloorDivision for IBig {
    fn div_euclid_floor(&self, divisor: &IBig) -> IBig {
        dashu_int::ops::DivEuclid::div_euclid(self.clone(), divisor.clone())
    }

    fn to_le_quadrant(&self) -> u8 {
        u8::try_from(self).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::{String, ToString};

    fn decimal(ball: &Ball, places: usize) -> String {
        // The value times 10^places, rounded down.
        let scaled = Ball {
            mid: &ball.mid * IBig::from(10).pow(places),
            rad: UBig::ZERO,
            exp: ball.exp,
        };
        scaled.floor().unwrap().to_string()
    }

    fn ratio(top: i32, bottom: i32, budget: &mut Budget) -> Ball {
        let exact = |value: i32| Ball::exact(IBig::from(value));
        exact(top).div(&exact(bottom), 300, budget).unwrap()
    }

    // References: tables of constants to 40 places, Abramowitz and Stegun, chapter 1.
    #[test]
    fn constants_of_the_tables() {
        let mut budget = Budget::new(10_000_000);
        let mut functions = Elementary::new();
        let pi = functions.pi(256, &mut budget).unwrap();
        assert_eq!(
            decimal(&pi, 40),
            "31415926535897932384626433832795028841971"
        );
        let e = functions.exp(&Ball::one(), 256, &mut budget).unwrap();
        assert_eq!(decimal(&e, 40), "27182818284590452353602874713526624977572");
        let ten = Ball::exact(IBig::from(10));
        let ln = functions.ln(&ten, 256, &mut budget).unwrap();
        assert_eq!(
            decimal(&ln, 40),
            "23025850929940456840179914546843642076011"
        );
        for ball in [pi, e, ln] {
            assert!(ball.rad.bit_len() < 20, "{ball:?}");
        }
    }

    #[test]
    fn functions_undo_each_other() {
        let mut budget = Budget::new(1_000_000_000);
        let mut f = Elementary::new();
        let prec = 256;
        for (top, bottom) in [(1, 3), (-7, 2), (22, 7), (1, 1000), (355, 3), (-12345, 7)] {
            let x = ratio(top, bottom, &mut budget);
            let exp = f.exp(&x, prec, &mut budget).unwrap();
            let back = f.ln(&exp, prec, &mut budget).unwrap();
            let gap = back.sub(&x, prec, &mut budget).unwrap();
            assert!(
                gap.contains_zero() && gap.top() < -150,
                "{top}/{bottom}: {gap:?}"
            );
            let (sin, cos) = f.sin_cos(&x, prec, &mut budget).unwrap();
            let square = |b: &Ball, budget: &mut Budget| b.mul(b, prec, budget).unwrap();
            let one = square(&sin, &mut budget)
                .add(&square(&cos, &mut budget), prec, &mut budget)
                .unwrap();
            let gap = one.sub(&Ball::one(), prec, &mut budget).unwrap();
            assert!(
                gap.contains_zero() && gap.top() < -200,
                "{top}/{bottom}: {gap:?}"
            );
            let atan = f.atan(&x, prec, &mut budget).unwrap();
            let (sin, cos) = f.sin_cos(&atan, prec, &mut budget).unwrap();
            let back = sin.div(&cos, prec, &mut budget).unwrap();
            let gap = back.sub(&x, prec, &mut budget).unwrap();
            assert!(
                gap.contains_zero() && gap.top() < -200,
                "{top}/{bottom}: {gap:?}"
            );
        }
    }

    #[test]
    fn roots_and_powers() {
        let mut budget = Budget::new(10_000_000);
        let two = Ball::exact(IBig::from(2));
        for degree in [2usize, 3, 7] {
            let root = two.root(degree, 256, &mut budget).unwrap();
            let back = root.power(degree as u64, 256, &mut budget).unwrap();
            let gap = back.sub(&two, 256, &mut budget).unwrap();
            assert!(gap.contains_zero() && gap.top() < -200, "{gap:?}");
        }
        assert_eq!(
            decimal(&two.root(2, 256, &mut budget).unwrap(), 30),
            "1414213562373095048801688724209"
        );
        let minus = Ball::exact(IBig::from(-2));
        assert_eq!(
            minus.root(2, 64, &mut budget).unwrap_err(),
            Unknown::Undefined
        );
    }
}
