//! Real numbers as balls: a midpoint with a radius that encloses every rounding error.
//!
//! A ball stands for `(mid ± rad) · 2^exp`. Every operation returns a ball that contains the
//! exact result for every choice of operands inside their balls.

use dashu_int::ops::{Abs, BitTest, UnsignedAbs};
use dashu_int::{IBig, UBig};
use dashu_ratio::RBig;

use crate::budget::{Budget, Exhausted};
use crate::number::size_bits;

/// Why a value is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// Outside the domain of the function: proved.
    Undefined,
    /// The ball is too wide, or the number too large, to tell.
    Unsure,
    /// The steps are spent.
    Exhausted,
}

impl From<Exhausted> for Unknown {
    fn from(_: Exhausted) -> Self {
        Self::Exhausted
    }
}

/// Exponents beyond this are given up.
const MAX_EXPONENT: i64 = 1 << 48;

/// Bits that a radius keeps.
const RADIUS_BITS: usize = 32;

#[derive(Clone, Debug)]
pub(crate) struct Ball {
    pub(crate) mid: IBig,
    pub(crate) rad: UBig,
    pub(crate) exp: i64,
}

pub(crate) fn bits(value: &IBig) -> usize {
    value.unsigned_abs().bit_len()
}

fn signed(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl Ball {
    pub(crate) fn exact(value: IBig) -> Self {
        Self {
            mid: value,
            rad: UBig::ZERO,
            exp: 0,
        }
    }

    pub(crate) fn zero() -> Self {
        Self::exact(IBig::ZERO)
    }

    pub(crate) fn one() -> Self {
        Self::exact(IBig::ONE)
    }

    /// The rational with so many bits.
    pub(crate) fn rational(
        value: &RBig,
        prec: usize,
        budget: &mut Budget,
    ) -> Result<Self, Unknown> {
        budget.charge(16)?;
        budget.charge_bits(size_bits(value), 0)?;
        let top = Self::exact(value.numerator().clone());
        if value.is_int() {
            return top.round(prec);
        }
        // Long numbers are cut first: their quotient needs no more digits than the result.
        let long = prec.saturating_add(RADIUS_BITS);
        let bottom = Self::exact(IBig::from(value.denominator().clone()));
        top.round(long)?.div(&bottom.round(long)?, prec, budget)
    }

    /// From integer ends of an interval.
    fn from_ends(low: &IBig, high: &IBig, exp: i64) -> Self {
        let mid: IBig = (low + high) >> 1usize;
        let rad = (high - &mid)
            .unsigned_abs()
            .max((&mid - low).unsigned_abs());
        Self { mid, rad, exp }
    }

    /// Cuts the midpoint to the precision and the radius to a few bits.
    pub(crate) fn round(mut self, prec: usize) -> Result<Self, Unknown> {
        let over = bits(&self.mid).saturating_sub(prec);
        let wide = self.rad.bit_len().saturating_sub(RADIUS_BITS);
        let shift = over.max(wide);
        if shift > 0 {
            // An exact number stays exact where only zeros are cut off.
            let is_lossless = self.rad.is_zero()
                && self
                    .mid
                    .trailing_zeros()
                    .is_some_and(|zeros| zeros >= shift);
            self.mid >>= shift;
            self.rad = (self.rad >> shift) + UBig::from(if is_lossless { 0u8 } else { 2u8 });
            self.exp = self.exp.saturating_add(signed(shift));
        }
        if self.exp.abs() > MAX_EXPONENT {
            return Err(Unknown::Unsure);
        }
        Ok(self)
    }

    /// An exponent of two above every number of the ball.
    pub(crate) fn top(&self) -> i64 {
        let size = self.mid.clone().unsigned_abs() + &self.rad;
        signed(size.bit_len()).saturating_add(self.exp)
    }

    pub(crate) fn is_exact_zero(&self) -> bool {
        self.mid.is_zero() && self.rad.is_zero()
    }

    pub(crate) fn contains_zero(&self) -> bool {
        self.mid.unsigned_abs_ref_le(&self.rad)
    }

    pub(crate) fn is_positive(&self) -> bool {
        !self.contains_zero() && self.mid > IBig::ZERO
    }

    pub(crate) fn is_negative(&self) -> bool {
        !self.contains_zero() && self.mid < IBig::ZERO
    }

    /// True if the radius is below 2^-bits of the larger of the given magnitude (a power of two)
    /// and the ball itself.
    pub(crate) fn is_tight(&self, magnitude: i64, num_bits: i64) -> bool {
        if self.rad.is_zero() {
            return true;
        }
        let radius = signed(self.rad.bit_len()).saturating_add(self.exp);
        radius <= magnitude.saturating_sub(num_bits)
    }

    pub(crate) fn neg(&self) -> Self {
        Self {
            mid: -self.mid.clone(),
            rad: self.rad.clone(),
            exp: self.exp,
        }
    }

    pub(crate) fn abs(&self) -> Self {
        if self.is_negative() {
            return self.neg();
        }
        if self.is_positive() || self.is_exact_zero() {
            return self.clone();
        }
        let high = IBig::from(self.mid.clone().unsigned_abs() + &self.rad);
        Self::from_ends(&IBig::ZERO, &high, self.exp)
    }

    pub(crate) fn add(
        &self,
        other: &Self,
        prec: usize,
        budget: &mut Budget,
    ) -> Result<Self, Unknown> {
        budget.charge(32)?;
        budget.charge_bits(prec, 0)?;
        if self.is_exact_zero() {
            return other.clone().round(prec);
        }
        if other.is_exact_zero() {
            return self.clone().round(prec);
        }
        let (large, small) = if self.top() >= other.top() {
            (self, other)
        } else {
            (other, self)
        };
        let reach = signed(prec).saturating_add(64);
        let mut large = large.clone();
        let floor = large.top().saturating_sub(reach);
        if large.exp > floor {
            let shift = large.exp.saturating_sub(floor);
            large = large.finer(shift)?;
        }
        if small.top() < large.exp {
            large.rad += UBig::ONE;
            return large.round(prec);
        }
        let exp = large.exp;
        let small = small.coarser_to(exp);
        let shift = small.exp.saturating_sub(exp);
        let small = small.finer(shift)?;
        Self {
            mid: large.mid + small.mid,
            rad: large.rad + small.rad,
            exp,
        }
        .round(prec)
    }

    /// The same ball with a smaller exponent.
    fn finer(mut self, shift: i64) -> Result<Self, Unknown> {
        let num_bits = usize::try_from(shift).map_err(|_| Unknown::Unsure)?;
        if num_bits > 1 << 20 {
            return Err(Unknown::Unsure);
        }
        self.mid <<= num_bits;
        self.rad <<= num_bits;
        self.exp = self.exp.saturating_sub(shift);
        Ok(self)
    }

    /// A wider ball whose exponent is at least the given one.
    fn coarser_to(&self, exp: i64) -> Self {
        let Some(shift) = exp.checked_sub(self.exp).filter(|shift| *shift > 0) else {
            return self.clone();
        };
        let shift = usize::try_from(shift).unwrap_or(usize::MAX).min(1 << 30);
        Self {
            mid: self.mid.clone() >> shift,
            rad: (self.rad.clone() >> shift) + UBig::from(2u8),
            exp,
        }
    }

    pub(crate) fn sub(
        &self,
        other: &Self,
        prec: usize,
        budget: &mut Budget,
    ) -> Result<Self, Unknown> {
        self.add(&other.neg(), prec, budget)
    }

    pub(crate) fn mul(
        &self,
        other: &Self,
        prec: usize,
        budget: &mut Budget,
    ) -> Result<Self, Unknown> {
        budget.charge(48)?;
        budget.charge_bits(bits(&self.mid), bits(&other.mid))?;
        let rad = self.mid.clone().unsigned_abs() * &other.rad
            + other.mid.clone().unsigned_abs() * &self.rad
            + &self.rad * &other.rad;
        Self {
            mid: &self.mid * &other.mid,
            rad,
            exp: self.exp.saturating_add(other.exp),
        }
        .round(prec)
    }

    /// # Errors
    /// `Undefined` if the divisor is zero, `Unsure` if it may be.
    pub(crate) fn div(
        &self,
        other: &Self,
        prec: usize,
        budget: &mut Budget,
    ) -> Result<Self, Unknown> {
        if other.is_exact_zero() {
            return Err(Unknown::Undefined);
        }
        if other.contains_zero() {
            return Err(Unknown::Unsure);
        }
        if self.is_exact_zero() {
            return Ok(Self::zero());
        }
        let wanted = prec.saturating_add(bits(&other.mid)).saturating_add(2);
        let shift = wanted.saturating_sub(bits(&self.mid));
        budget.charge(32)?;
        budget.charge_bits(wanted, bits(&other.mid))?;
        let divisor = other.mid.clone().unsigned_abs();
        let dividend = self.mid.clone().unsigned_abs();
        let near = &divisor - &other.rad;
        let spread = (dividend * &other.rad + &divisor * &self.rad) << shift;
        Self {
            mid: (self.mid.clone() << shift) / &other.mid,
            rad: spread / (divisor * near) + UBig::from(2u8),
            exp: self
                .exp
                .saturating_sub(other.exp)
                .saturating_sub(signed(shift)),
        }
        .round(prec)
    }

    /// The real root of a number that is not negative.
    ///
    /// # Errors
    /// `Undefined` if the number is negative.
    pub(crate) fn root(
        &self,
        degree: usize,
        prec: usize,
        budget: &mut Budget,
    ) -> Result<Self, Unknown> {
        if self.is_negative() {
            return Err(Unknown::Undefined);
        }
        if self.is_exact_zero() || degree == 0 {
            return if degree == 0 {
                Err(Unknown::Undefined)
            } else {
                Ok(Self::zero())
            };
        }
        let num_bits = prec.saturating_mul(degree).max(1);
        let mut shift = num_bits.saturating_sub(bits(&self.mid));
        let remainder = self
            .exp
            .saturating_sub(signed(shift))
            .rem_euclid(signed(degree));
        shift = shift.saturating_add(usize::try_from(remainder).unwrap_or(0));
        budget.charge_bits(num_bits, num_bits.saturating_mul(2))?;
        if degree > 2 {
            // Newton's iteration with products, twice.
            budget.charge_bits(num_bits, num_bits.saturating_mul(8))?;
        }
        let low = (&self.mid - IBig::from(self.rad.clone())).max(IBig::ZERO);
        let high = &self.mid + IBig::from(self.rad.clone());
        let floor = |value: IBig| {
            let value = value.unsigned_abs() << shift;
            IBig::from(if degree == 2 {
                dashu_int::ops::SquareRoot::sqrt(&value)
            } else {
                value.nth_root(degree)
            })
        };
        let exp = self
            .exp
            .saturating_sub(signed(shift))
            .div_euclid(signed(degree));
        let low = floor(low);
        let high = floor(high) + IBig::ONE;
        Self::from_ends(&low, &high, exp).round(prec)
    }

    /// Raises to a natural power by squaring.
    pub(crate) fn power(
        &self,
        exponent: u64,
        prec: usize,
        budget: &mut Budget,
    ) -> Result<Self, Unknown> {
        let mut result = Self::one();
        let mut square = self.clone();
        let mut rest = exponent;
        while rest > 0 {
            if rest & 1 == 1 {
                result = result.mul(&square, prec, budget)?;
            }
            rest >>= 1;
            if rest > 0 {
                square = square.mul(&square, prec, budget)?;
            }
        }
        Ok(result)
    }

    /// The integer that every number of the ball rounds down to, if there is one.
    pub(crate) fn floor(&self) -> Option<IBig> {
        let exact = |value: IBig| {
            if self.exp >= 0 {
                let shift = usize::try_from(self.exp)
                    .ok()
                    .filter(|shift| *shift < 1 << 16)?;
                Some(value << shift)
            } else {
                let shift = usize::try_from(self.exp.saturating_neg()).ok()?;
                Some(value >> shift)
            }
        };
        let rad = IBig::from(self.rad.clone());
        let low = exact(&self.mid - &rad)?;
        let high = exact(&self.mid + &rad)?;
        (low == high).then_some(low)
    }
}

/// Comparison of a signed midpoint with a radius.
trait MidpointOrder {
    fn unsigned_abs_ref_le(&self, rad: &UBig) -> bool;
}

impl MidpointOrder for IBig {
    fn unsigned_abs_ref_le(&self, rad: &UBig) -> bool {
        self.clone().abs().unsigned_abs() <= *rad
    }
}
