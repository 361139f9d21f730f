//! Powers in canonical form: integer powers, surds by their prime roots, exponentials by the terms
//! of their exponents.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use dashu_int::ops::{BitTest, UnsignedAbs};
use dashu_int::{IBig, UBig};
use dashu_ratio::RBig;

use crate::canon::{Atom, Canon, Form, Formed, Monomial, NoForm, Poly, are_small, to_expr};
use crate::number::{charge_power, power, small};
use crate::tree::Expr;

/// Trial division ends here; what is left counts as one prime.
const LARGEST_DIVISOR: u32 = 1000;

/// A power of a sum is multiplied out up to this exponent.
const LARGEST_EXPONENT: i64 = 64;

/// Steps of looking for roots of a number up to the size below.
const ROOT_STEPS: u64 = 2000;

/// A larger number counts as a prime.
const LARGEST_ROOT: usize = 512;

/// A part of the base of a power.
struct Part<'a> {
    /// The text that identifies it.
    key: &'a str,
    /// The part as a formula, if it is a prime or e.
    known: &'a Option<Expr>,
    /// The whole base, which is the part where it is none of these.
    formula: &'a Expr,
}

impl Canon<'_> {
    pub(crate) fn power(&mut self, base: &Expr, exponent: &Expr) -> Formed<Form> {
        if let Some(n) = exponent.exact().and_then(small)
            && n.abs() <= LARGEST_EXPONENT
        {
            let form = self.form(base)?;
            return self.integer_power(form, n);
        }
        if let (Some(base), Some(exponent)) = (base.exact(), exponent.exact())
            && let Some(form) = self.surd(base, exponent)?
        {
            return Ok(form);
        }
        let formula = base;
        let written = exponent;
        let base = self.form(base)?;
        let exponent = self.form(exponent)?;
        match exponent.bottom.as_constant() {
            Some(bottom) if !bottom.is_zero() => {
                self.split_power(formula, &base, &exponent.top, &bottom)
            }
            _ => {
                let key = alloc::format!("({})^({})", self.key(&base)?, self.key(&exponent)?);
                let is_small = [formula, written]
                    .iter()
                    .all(|part| are_small(core::slice::from_ref(*part)));
                let power = is_small
                    .then(|| Expr::Power(Box::new(formula.clone()), Box::new(written.clone())));
                Ok(Form::of(self.opaque_atom(key, power, 1)?))
            }
        }
    }

    fn integer_power(&mut self, form: Form, n: i64) -> Formed<Form> {
        let magnitude = u32::try_from(n.unsigned_abs()).map_err(|_| NoForm::TooLarge)?;
        let top = self.poly_power(&form.top, magnitude)?;
        let bottom = self.poly_power(&form.bottom, magnitude)?;
        if n >= 0 {
            return Ok(Form { top, bottom });
        }
        if top.is_zero() {
            return Err(NoForm::TooLarge);
        }
        Ok(Form {
            top: bottom,
            bottom: top,
        })
    }

    /// b^(s + t) = b^s b^t, with one atom for each term of the exponent.
    fn split_power(
        &mut self,
        formula: &Expr,
        base: &Form,
        exponent: &Poly,
        bottom: &RBig,
    ) -> Formed<Form> {
        let parts = self.prime_parts(base)?;
        let mut product = Form::of(Poly::one());
        for (monomial, coefficient) in &exponent.0 {
            let coefficient = coefficient / bottom;
            for (key, multiplicity, prime) in &parts {
                let total = &coefficient * RBig::from(*multiplicity);
                let part = Part {
                    key,
                    known: prime,
                    formula,
                };
                let factor = self.power_atom(&part, monomial, &total)?;
                product = self.product(&product, &factor)?;
            }
        }
        Ok(product)
    }

    /// The base as a product: a positive rational by its primes, anything else as one.
    fn prime_parts(&mut self, base: &Form) -> Formed<Vec<(String, i64, Option<Expr>)>> {
        let rational = base.top.as_constant().zip(base.bottom.as_constant());
        let Some((top, bottom)) = rational.filter(|(_, bottom)| !bottom.is_zero()) else {
            let is_euler = base.top == Poly::atom(Atom::Euler, 1) && base.bottom == Poly::one();
            return Ok(vec![(self.key(base)?, 1, is_euler.then_some(Expr::Euler))]);
        };
        let value = top / bottom;
        if value <= RBig::ZERO {
            return Ok(vec![(self.key(base)?, 1, None)]);
        }
        let mut parts = Vec::new();
        for (number, sign) in [
            (value.numerator().clone().unsigned_abs(), 1),
            (value.denominator().clone(), -1),
        ] {
            for (prime, count) in self.factors(number)? {
                let expr = Expr::Number(RBig::from(prime.clone()));
                parts.push((
                    prime.to_string(),
                    i64::from(count).saturating_mul(sign),
                    Some(expr),
                ));
            }
        }
        Ok(parts)
    }

    fn power_atom(&mut self, part: &Part<'_>, monomial: &Monomial, total: &RBig) -> Formed<Form> {
        if monomial.is_empty()
            && let Some(base) = part.known
        {
            if let Some(base) = base.exact()
                && let Some(form) = self.surd(base, total)?
            {
                return Ok(form);
            }
            if let Some(n) = small(total).filter(|n| n.abs() <= LARGEST_EXPONENT) {
                let form = self.form(base)?;
                return self.integer_power(form, n);
            }
        }
        let mut exponent = Poly::default();
        let unit = RBig::from_parts(IBig::ONE, total.denominator().clone());
        exponent.insert(monomial.clone(), unit);
        let mut text = alloc::format!("({})^(", part.key);
        exponent.write(&mut text)?;
        text.push(')');
        let count = i64::try_from(total.numerator()).map_err(|_| NoForm::TooLarge)?;
        let magnitude = u32::try_from(count.unsigned_abs()).map_err(|_| NoForm::TooLarge)?;
        let base = part.known.as_ref().unwrap_or(part.formula);
        let power = to_expr(&exponent, self.opaque, self.budget)
            .filter(|exponent| {
                are_small(core::slice::from_ref(base)) && are_small(core::slice::from_ref(exponent))
            })
            .map(|exponent| Expr::Power(Box::new(base.clone()), Box::new(exponent)));
        let atom = self.opaque_atom(text, power, magnitude)?;
        Ok(if count >= 0 {
            Form::of(atom)
        } else {
            Form {
                top: Poly::one(),
                bottom: atom,
            }
        })
    }

    /// A rational to a rational power, as prime roots. None where there is no real value, or the
    /// index is large.
    fn surd(&mut self, base: &RBig, exponent: &RBig) -> Formed<Option<Form>> {
        let Some(index) = u32::try_from(exponent.denominator())
            .ok()
            .filter(|index| *index <= 64)
        else {
            return Ok(None);
        };
        let Some(count) = i64::try_from(exponent.numerator())
            .ok()
            .filter(|count| count.abs() <= 4096)
        else {
            return Ok(None);
        };
        if base.is_zero() {
            return Ok(None);
        }
        let mut result = Form::of(Poly::one());
        if *base < RBig::ZERO {
            let is_odd_count = count.rem_euclid(2) == 1;
            if index == 2 {
                let unit = self.form(&Expr::Imaginary)?;
                result = self.integer_power(unit, count.rem_euclid(4))?;
            } else if index % 2 == 0 {
                return Ok(None);
            } else if is_odd_count {
                result = Form::of(Poly::constant(RBig::NEG_ONE));
            }
        }
        for (number, sign) in [
            (base.numerator().clone().unsigned_abs(), 1),
            (base.denominator().clone(), -1),
        ] {
            for (prime, multiplicity) in self.factors(number)? {
                let total = count
                    .saturating_mul(i64::from(multiplicity))
                    .saturating_mul(sign);
                let whole = total.div_euclid(i64::from(index));
                let rest = u32::try_from(total.rem_euclid(i64::from(index))).unwrap_or(0);
                let prime_value = RBig::from(prime.clone());
                charge_power(&prime_value, whole, self.max_bits, self.budget)?;
                let outer = power(&prime_value, whole, self.max_bits).ok_or(NoForm::TooLarge)?;
                let mut poly = Poly::constant(outer);
                if rest > 0 {
                    let common = gcd(rest, index);
                    let root = Poly::atom(Atom::Root(prime, index / common), rest / common);
                    poly = self.multiply(&poly, &root)?;
                }
                result = self.product(&result, &Form::of(poly))?;
            }
        }
        Ok(Some(result))
    }

    /// Prime factors by trial division; a large rest counts as a prime, or as the power of one.
    fn factors(&mut self, number: UBig) -> Formed<Vec<(UBig, u32)>> {
        let mut result = Vec::new();
        let mut rest = number;
        let mut divisor = 2u32;
        while divisor < LARGEST_DIVISOR && rest > UBig::ONE {
            if u64::try_from(&rest).is_ok_and(|rest| u64::from(divisor) * u64::from(divisor) > rest)
            {
                break;
            }
            self.budget.charge_bits(rest.bit_len(), 0)?;
            if (&rest % divisor) == 0 {
                // Divides by squares of squares first.
                self.budget.charge_bits(rest.bit_len(), rest.bit_len())?;
                let prime = UBig::from(divisor);
                let count = rest
                    .remove(&prime)
                    .and_then(|count| u32::try_from(count).ok());
                result.push((prime, count.ok_or(NoForm::TooLarge)?));
            }
            divisor = divisor.saturating_add(if divisor == 2 { 1 } else { 2 });
        }
        if rest > UBig::ONE {
            self.budget.charge(ROOT_STEPS)?;
            let (root, count) = perfect_power(rest);
            result.push((root, count));
        }
        Ok(result)
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The smallest root of a perfect square or cube, and its exponent.
fn perfect_power(number: UBig) -> (UBig, u32) {
    if number.bit_len() > LARGEST_ROOT {
        return (number, 1);
    }
    for exponent in [2u32, 3, 5] {
        let root = number.nth_root(exponent as usize);
        if root.pow(exponent as usize) == number {
            let (inner, count) = perfect_power(root);
            return (inner, count.saturating_mul(exponent));
        }
    }
    (number, 1)
}
