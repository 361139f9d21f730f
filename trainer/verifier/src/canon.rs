//! The canonical form: a quotient of polynomials with rational coefficients over names, named
//! constants, prime roots and opaque atoms.
//!
//! Two formulas with the same form by cross multiplication are equal, wherever both are defined.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Write;

use dashu_int::ops::{BitTest, UnsignedAbs};
use dashu_int::{IBig, UBig};
use dashu_ratio::RBig;

use crate::budget::{Budget, Exhausted};
use crate::number::{power, size_bits, small};
use crate::tree::{Expr, Function};

/// Trial division ends here; what is left counts as one prime.
const LARGEST_DIVISOR: u32 = 1000;

/// A power of a sum is multiplied out up to this exponent.
const LARGEST_EXPONENT: i64 = 64;

/// What a monomial is a product of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Atom {
    Name(String),
    Pi,
    Euler,
    Imaginary,
    /// The root of a prime: radicand and index.
    Root(UBig, u32),
    /// Anything else, by the text of its canonical form.
    Opaque(String),
}

pub(crate) type Monomial = Vec<(Atom, u32)>;

/// Coefficients by monomial; none is zero.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Poly(pub(crate) BTreeMap<Monomial, RBig>);

/// A quotient of polynomials.
#[derive(Clone, Debug)]
pub(crate) struct Form {
    pub(crate) top: Poly,
    pub(crate) bottom: Poly,
}

/// Steps and terms that a canonical form may take.
pub(crate) struct Canon<'b> {
    pub(crate) budget: &'b mut Budget,
    pub(crate) max_terms: usize,
    pub(crate) max_bits: usize,
}

/// Why there is no canonical form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoForm {
    /// Too many terms, too large numbers, or no algebraic expression.
    TooLarge,
    /// The steps are spent.
    Exhausted,
}

impl From<Exhausted> for NoForm {
    fn from(_: Exhausted) -> Self {
        Self::Exhausted
    }
}

type Formed<T> = Result<T, NoForm>;

impl Poly {
    pub(crate) fn constant(value: RBig) -> Self {
        let mut terms = BTreeMap::new();
        if !value.is_zero() {
            terms.insert(Vec::new(), value);
        }
        Self(terms)
    }

    pub(crate) fn one() -> Self {
        Self::constant(RBig::ONE)
    }

    fn atom(atom: Atom, exponent: u32) -> Self {
        let mut terms = BTreeMap::new();
        terms.insert(vec![(atom, exponent)], RBig::ONE);
        Self(terms)
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of a polynomial without atoms.
    pub(crate) fn as_constant(&self) -> Option<RBig> {
        match self.0.len() {
            0 => Some(RBig::ZERO),
            1 => self.0.get(&Vec::new()).cloned(),
            _ => None,
        }
    }

    /// True if every atom is a name.
    pub(crate) fn is_over_names(&self) -> bool {
        self.0
            .keys()
            .flatten()
            .all(|(atom, _)| matches!(atom, Atom::Name(_)))
    }

    fn insert(&mut self, monomial: Monomial, coefficient: RBig) {
        if coefficient.is_zero() {
            return;
        }
        match self.0.remove(&monomial) {
            Some(known) => {
                let sum = known + coefficient;
                if !sum.is_zero() {
                    self.0.insert(monomial, sum);
                }
            }
            None => {
                self.0.insert(monomial, coefficient);
            }
        }
    }

    /// The text that identifies the polynomial.
    fn write(&self, text: &mut String) {
        for (monomial, coefficient) in &self.0 {
            let _ = write!(
                text,
                "{}/{}",
                coefficient.numerator(),
                coefficient.denominator()
            );
            for (atom, exponent) in monomial {
                let _ = match atom {
                    Atom::Name(name) => write!(text, "*{name}"),
                    Atom::Pi => write!(text, "*#pi"),
                    Atom::Euler => write!(text, "*#e"),
                    Atom::Imaginary => write!(text, "*#i"),
                    Atom::Root(radicand, index) => write!(text, "*#r({radicand},{index})"),
                    Atom::Opaque(key) => write!(text, "*[{key}]"),
                };
                let _ = write!(text, "^{exponent}");
            }
            text.push('+');
        }
    }
}

impl Form {
    fn of(top: Poly) -> Self {
        Self {
            top,
            bottom: Poly::one(),
        }
    }

    /// The text that identifies the form.
    fn key(&self) -> String {
        let mut text = String::new();
        self.top.write(&mut text);
        if self.bottom.as_constant() != Some(RBig::ONE) {
            text.push('|');
            self.bottom.write(&mut text);
        }
        text
    }
}

impl Canon<'_> {
    fn check(&mut self, poly: Poly) -> Formed<Poly> {
        if poly.0.len() > self.max_terms {
            return Err(NoForm::TooLarge);
        }
        Ok(poly)
    }

    fn add(&mut self, a: &Poly, b: &Poly) -> Formed<Poly> {
        let mut sum = a.clone();
        for (monomial, coefficient) in &b.0 {
            self.budget.charge(4)?;
            sum.insert(monomial.clone(), coefficient.clone());
        }
        self.check(sum)
    }

    pub(crate) fn multiply(&mut self, a: &Poly, b: &Poly) -> Formed<Poly> {
        let mut product = Poly::default();
        if a.0.len().saturating_mul(b.0.len()) > self.max_terms.saturating_mul(16) {
            return Err(NoForm::TooLarge);
        }
        for (left, x) in &a.0 {
            for (right, y) in &b.0 {
                self.budget.charge(4)?;
                self.budget.charge_bits(size_bits(x), size_bits(y))?;
                let mut coefficient = x * y;
                let monomial = merged(left, right, &mut coefficient, self.max_bits)?;
                if size_bits(&coefficient) > self.max_bits {
                    return Err(NoForm::TooLarge);
                }
                product.insert(monomial, coefficient);
            }
            if product.0.len() > self.max_terms {
                return Err(NoForm::TooLarge);
            }
        }
        self.check(product)
    }

    fn poly_power(&mut self, base: &Poly, exponent: u32) -> Formed<Poly> {
        let mut result = Poly::one();
        let mut square = base.clone();
        let mut rest = exponent;
        while rest > 0 {
            if rest & 1 == 1 {
                result = self.multiply(&result, &square)?;
            }
            rest >>= 1;
            if rest > 0 {
                square = self.multiply(&square, &square)?;
            }
        }
        Ok(result)
    }

    fn sum(&mut self, a: Form, b: Form) -> Formed<Form> {
        if a.bottom == b.bottom {
            return Ok(Form {
                top: self.add(&a.top, &b.top)?,
                bottom: a.bottom,
            });
        }
        let left = self.multiply(&a.top, &b.bottom)?;
        let right = self.multiply(&b.top, &a.bottom)?;
        Ok(Form {
            top: self.add(&left, &right)?,
            bottom: self.multiply(&a.bottom, &b.bottom)?,
        })
    }

    pub(crate) fn product(&mut self, a: &Form, b: &Form) -> Formed<Form> {
        Ok(Form {
            top: self.multiply(&a.top, &b.top)?,
            bottom: self.multiply(&a.bottom, &b.bottom)?,
        })
    }

    /// True if both forms are the same by cross multiplication.
    pub(crate) fn are_equal(&mut self, a: &Form, b: &Form) -> Formed<bool> {
        Ok(self.multiply(&a.top, &b.bottom)? == self.multiply(&b.top, &a.bottom)?)
    }

    pub(crate) fn form(&mut self, expr: &Expr) -> Formed<Form> {
        self.budget.charge(8)?;
        match expr {
            Expr::Number(value) => Ok(Form::of(Poly::constant(value.clone()))),
            Expr::Decimal(decimal) => Ok(Form::of(Poly::constant(decimal.value.clone()))),
            Expr::Name(name) => Ok(Form::of(Poly::atom(Atom::Name(name.clone()), 1))),
            Expr::Pi => Ok(Form::of(Poly::atom(Atom::Pi, 1))),
            Expr::Euler => Ok(Form::of(Poly::atom(Atom::Euler, 1))),
            Expr::Imaginary => Ok(Form::of(Poly::atom(Atom::Imaginary, 1))),
            Expr::Infinity | Expr::PlusMinus(..) => Err(NoForm::TooLarge),
            Expr::Sum(terms) => {
                let mut sum = Form::of(Poly::default());
                for term in terms {
                    let term = self.form(term)?;
                    sum = self.sum(sum, term)?;
                }
                Ok(sum)
            }
            Expr::Product(factors) => {
                let mut product = Form::of(Poly::one());
                for factor in factors {
                    let factor = self.form(factor)?;
                    product = self.product(&product, &factor)?;
                }
                Ok(product)
            }
            Expr::Power(base, exponent) => self.power(base, exponent),
            Expr::Apply(function, arguments) => self.apply(function, arguments),
        }
    }

    fn apply(&mut self, function: &Function, arguments: &[Expr]) -> Formed<Form> {
        if let (Function::Degree, [angle]) = (function, arguments) {
            let angle = self.form(angle)?;
            let factor = RBig::from_parts(IBig::ONE, UBig::from(180u8));
            let mut half_turn = Poly::atom(Atom::Pi, 1);
            half_turn
                .0
                .values_mut()
                .for_each(|value| *value = factor.clone());
            return self.product(&angle, &Form::of(half_turn));
        }
        let mut key = match function {
            Function::Named(name) => name.clone(),
            other => alloc::format!("#{other:?}"),
        };
        key.push('(');
        for argument in arguments {
            key.push_str(&self.form(argument)?.key());
            key.push(';');
        }
        key.push(')');
        Ok(Form::of(Poly::atom(Atom::Opaque(key), 1)))
    }

    fn power(&mut self, base: &Expr, exponent: &Expr) -> Formed<Form> {
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
        let base = self.form(base)?;
        let exponent = self.form(exponent)?;
        match exponent.bottom.as_constant() {
            Some(bottom) if !bottom.is_zero() => self.split_power(&base, &exponent.top, &bottom),
            _ => {
                let key = alloc::format!("({})^({})", base.key(), exponent.key());
                Ok(Form::of(Poly::atom(Atom::Opaque(key), 1)))
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
    fn split_power(&mut self, base: &Form, exponent: &Poly, bottom: &RBig) -> Formed<Form> {
        let parts = self.prime_parts(base)?;
        let mut product = Form::of(Poly::one());
        for (monomial, coefficient) in &exponent.0 {
            let coefficient = coefficient / bottom;
            for (key, multiplicity, prime) in &parts {
                let total = &coefficient * RBig::from(*multiplicity);
                let factor = self.power_atom(key, prime, monomial, &total)?;
                product = self.product(&product, &factor)?;
            }
        }
        Ok(product)
    }

    /// The base as a product: a positive rational by its primes, anything else as one.
    fn prime_parts(&mut self, base: &Form) -> Formed<Vec<(String, i64, Option<Expr>)>> {
        let rational = base.top.as_constant().zip(base.bottom.as_constant());
        let Some((top, bottom)) = rational.filter(|(_, bottom)| !bottom.is_zero()) else {
            let is_euler = base.key() == Form::of(Poly::atom(Atom::Euler, 1)).key();
            return Ok(vec![(base.key(), 1, is_euler.then_some(Expr::Euler))]);
        };
        let value = top / bottom;
        if value <= RBig::ZERO {
            return Ok(vec![(base.key(), 1, None)]);
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

    fn power_atom(
        &mut self,
        key: &str,
        known: &Option<Expr>,
        monomial: &Monomial,
        total: &RBig,
    ) -> Formed<Form> {
        if monomial.is_empty()
            && let Some(base) = known
        {
            if let (Some(base), true) = (base.exact(), true)
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
        let mut text = alloc::format!("({key})^(");
        exponent.write(&mut text);
        text.push(')');
        let count = i64::try_from(total.numerator()).map_err(|_| NoForm::TooLarge)?;
        let magnitude = u32::try_from(count.unsigned_abs()).map_err(|_| NoForm::TooLarge)?;
        let atom = Poly::atom(Atom::Opaque(text), magnitude);
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
            let mut count = 0u32;
            while (&rest % divisor) == 0 {
                rest /= divisor;
                count = count.saturating_add(1);
            }
            if count > 0 {
                result.push((UBig::from(divisor), count));
            }
            divisor = divisor.saturating_add(if divisor == 2 { 1 } else { 2 });
        }
        if rest > UBig::ONE {
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
    for exponent in [2u32, 3, 5] {
        let root = number.nth_root(exponent as usize);
        if root.pow(exponent as usize) == number {
            let (inner, count) = perfect_power(root);
            return (inner, count.saturating_mul(exponent));
        }
    }
    (number, 1)
}

/// The product of two monomials; powers of i and of roots are reduced into the coefficient.
fn merged(a: &Monomial, b: &Monomial, coefficient: &mut RBig, max_bits: usize) -> Formed<Monomial> {
    let mut result: Monomial = Vec::with_capacity(a.len().saturating_add(b.len()));
    let (mut left, mut right) = (a.iter().peekable(), b.iter().peekable());
    loop {
        let (atom, exponent) = match (left.peek(), right.peek()) {
            (Some((x, n)), Some((y, m))) if x == y => {
                let exponent = n.checked_add(*m).ok_or(NoForm::TooLarge)?;
                left.next();
                right.next();
                (x.clone(), exponent)
            }
            (Some((x, n)), Some((y, _))) if x < y => {
                left.next();
                (x.clone(), *n)
            }
            (Some((x, n)), None) => {
                left.next();
                (x.clone(), *n)
            }
            (_, Some((y, m))) => {
                right.next();
                (y.clone(), *m)
            }
            (None, None) => return Ok(result),
        };
        let kept = match &atom {
            Atom::Imaginary => {
                if exponent % 4 >= 2 {
                    *coefficient = -coefficient.clone();
                }
                exponent % 2
            }
            Atom::Root(radicand, index) => {
                let whole = RBig::from(radicand.clone());
                let factor =
                    power(&whole, i64::from(exponent / index), max_bits).ok_or(NoForm::TooLarge)?;
                *coefficient *= factor;
                exponent % index
            }
            _ => exponent,
        };
        if kept > 0 {
            result.push((atom, kept));
        }
    }
}

/// A polynomial without opaque atoms as a formula.
pub(crate) fn to_expr(poly: &Poly) -> Option<Expr> {
    use alloc::boxed::Box;
    let mut terms = Vec::new();
    for (monomial, coefficient) in &poly.0 {
        let mut factors = vec![Expr::Number(coefficient.clone())];
        for (atom, exponent) in monomial {
            let base = match atom {
                Atom::Name(name) => Expr::Name(name.clone()),
                Atom::Pi => Expr::Pi,
                Atom::Euler => Expr::Euler,
                Atom::Imaginary => Expr::Imaginary,
                Atom::Root(radicand, index) => Expr::Power(
                    Box::new(Expr::Number(RBig::from(radicand.clone()))),
                    Box::new(Expr::Number(RBig::from_parts(
                        IBig::ONE,
                        UBig::from(*index),
                    ))),
                ),
                Atom::Opaque(_) => return None,
            };
            let exponent = Expr::Number(RBig::from(*exponent));
            factors.push(Expr::Power(Box::new(base), Box::new(exponent)));
        }
        terms.push(Expr::Product(factors));
    }
    Some(Expr::Sum(terms))
}
