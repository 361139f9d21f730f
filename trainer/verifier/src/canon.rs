//! The canonical form: a quotient of polynomials with rational coefficients over names, named
//! constants, prime roots and opaque atoms.
//!
//! Two formulas with the same form by cross multiplication are equal, wherever both are defined.

use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Write;

use dashu_int::ops::BitTest;
use dashu_int::{IBig, UBig};
use dashu_ratio::RBig;

use crate::budget::{Budget, Exhausted};
use crate::number::{power, size_bits};
use crate::tree::{Expr, Function};

/// Longest text of an opaque atom, in bytes.
const MAX_KEY: usize = 2048;

/// Most nodes of a formula that is kept for an opaque atom.
const MAX_NODES: usize = 200;

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
    /// The formulas behind the texts of opaque atoms.
    pub(crate) opaque: &'b mut BTreeMap<String, Expr>,
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

pub(crate) type Formed<T> = Result<T, NoForm>;

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

    pub(crate) fn atom(atom: Atom, exponent: u32) -> Self {
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

    pub(crate) fn insert(&mut self, monomial: Monomial, coefficient: RBig) {
        if coefficient.is_zero() {
            return;
        }
        match self.0.entry(monomial) {
            Entry::Vacant(slot) => {
                slot.insert(coefficient);
            }
            Entry::Occupied(mut slot) => {
                *slot.get_mut() += coefficient;
                if slot.get().is_zero() {
                    slot.remove();
                }
            }
        }
    }

    /// The text that identifies the polynomial.
    ///
    /// # Errors
    /// `TooLarge` for a long text: powers in exponents would double it at each level.
    pub(crate) fn write(&self, text: &mut String) -> Formed<()> {
        for (monomial, coefficient) in &self.0 {
            if text.len() > MAX_KEY || size_bits(coefficient) > MAX_KEY {
                return Err(NoForm::TooLarge);
            }
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
        Ok(())
    }
}

impl Form {
    pub(crate) fn of(top: Poly) -> Self {
        Self {
            top,
            bottom: Poly::one(),
        }
    }

    /// The text that identifies the form.
    pub(crate) fn key(&self) -> Formed<String> {
        let mut text = String::new();
        self.top.write(&mut text)?;
        if self.bottom.as_constant() != Some(RBig::ONE) {
            text.push('|');
            self.bottom.write(&mut text)?;
        }
        Ok(text)
    }
}

impl Canon<'_> {
    fn check(&mut self, poly: Poly) -> Formed<Poly> {
        if poly.0.len() > self.max_terms {
            return Err(NoForm::TooLarge);
        }
        Ok(poly)
    }

    fn add(&mut self, mut sum: Poly, b: Poly) -> Formed<Poly> {
        for (monomial, coefficient) in b.0 {
            self.budget.charge(monomial_steps(&monomial))?;
            let known = sum.0.get(&monomial).map_or(0, size_bits);
            self.budget
                .charge_quotients(known, size_bits(&coefficient))?;
            sum.insert(monomial, coefficient);
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
                self.budget
                    .charge(monomial_steps(left).saturating_add(monomial_steps(right)))?;
                self.budget.charge_quotients(size_bits(x), size_bits(y))?;
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

    pub(crate) fn poly_power(&mut self, base: &Poly, exponent: u32) -> Formed<Poly> {
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
                top: self.add(a.top, b.top)?,
                bottom: a.bottom,
            });
        }
        let left = self.multiply(&a.top, &b.bottom)?;
        let right = self.multiply(&b.top, &a.bottom)?;
        Ok(Form {
            top: self.add(left, right)?,
            bottom: self.multiply(&a.bottom, &b.bottom)?,
        })
    }

    pub(crate) fn product(&mut self, a: &Form, b: &Form) -> Formed<Form> {
        Ok(Form {
            top: self.multiply(&a.top, &b.top)?,
            bottom: self.multiply(&a.bottom, &b.bottom)?,
        })
    }

    /// The numerator of the difference of two forms.
    pub(crate) fn difference(&mut self, a: &Form, b: &Form) -> Formed<Poly> {
        let mut right = self.multiply(&b.top, &a.bottom)?;
        right
            .0
            .values_mut()
            .for_each(|value| *value = -value.clone());
        let left = self.multiply(&a.top, &b.bottom)?;
        self.add(left, right)
    }

    pub(crate) fn form(&mut self, expr: &Expr) -> Formed<Form> {
        self.budget.charge(100)?;
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

    /// An atom that is known by the text of its canonical form.
    ///
    /// # Errors
    /// `TooLarge` if the text is long; `Exhausted` if the steps are spent.
    pub(crate) fn opaque_atom(
        &mut self,
        key: String,
        formula: Option<Expr>,
        exponent: u32,
    ) -> Formed<Poly> {
        if key.len() > MAX_KEY {
            return Err(NoForm::TooLarge);
        }
        self.budget.charge_each(key.len(), 1)?;
        if let Some(formula) = formula {
            self.opaque.entry(key.clone()).or_insert(formula);
        }
        Ok(Poly::atom(Atom::Opaque(key), exponent))
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
            let form = self.form(argument)?;
            key.push_str(&self.key(&form)?);
            key.push(';');
        }
        key.push(')');
        let formula =
            are_small(arguments).then(|| Expr::Apply(function.clone(), arguments.to_vec()));
        Ok(Form::of(self.opaque_atom(key, formula, 1)?))
    }

    /// The text that identifies a form.
    pub(crate) fn key(&mut self, form: &Form) -> Formed<String> {
        let text = form.key()?;
        // Numbers are turned into digits.
        self.budget.charge_each(text.len(), 4)?;
        Ok(text)
    }
}

/// Formulas share no parts: a large one is not kept, or nested powers would double it.
pub(crate) fn are_small(parts: &[Expr]) -> bool {
    parts
        .iter()
        .try_fold(MAX_NODES, |left, part| has_at_most(part, left))
        .is_some()
}

/// Steps of copying and comparing a monomial.
fn monomial_steps(monomial: &Monomial) -> u64 {
    let steps = |atom: &Atom| match atom {
        Atom::Name(text) | Atom::Opaque(text) => text.len() as u64 / 8 + 12,
        Atom::Root(radicand, _) => radicand.bit_len() as u64 / 64 + 12,
        _ => 4,
    };
    monomial.iter().map(|(atom, _)| steps(atom)).sum::<u64>() + 24
}

/// What is left of a number of nodes once a formula has taken its own; none if it has more.
fn has_at_most(expr: &Expr, nodes: usize) -> Option<usize> {
    let left = nodes.checked_sub(1)?;
    match expr {
        Expr::Sum(parts) | Expr::Product(parts) | Expr::Apply(_, parts) => parts
            .iter()
            .try_fold(left, |left, part| has_at_most(part, left)),
        Expr::Power(base, exponent) => has_at_most(exponent, has_at_most(base, left)?),
        Expr::PlusMinus(_, inner) => has_at_most(inner, left),
        _ => Some(left),
    }
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

/// A polynomial as a formula; none if an opaque atom is not in the table, or the steps are spent.
pub(crate) fn to_expr(
    poly: &Poly,
    opaque: &BTreeMap<String, Expr>,
    budget: &mut Budget,
) -> Option<Expr> {
    use alloc::boxed::Box;
    let mut terms = Vec::new();
    for (monomial, coefficient) in &poly.0 {
        let mut factors = vec![Expr::Number(coefficient.clone())];
        budget.charge(monomial_steps(monomial)).ok()?;
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
                Atom::Opaque(key) => {
                    let formula = opaque.get(key)?;
                    let rest = has_at_most(formula, MAX_NODES).unwrap_or(0);
                    let num_nodes = MAX_NODES.saturating_sub(rest);
                    budget.charge_each(num_nodes, 10).ok()?;
                    formula.clone()
                }
            };
            let exponent = Expr::Number(RBig::from(*exponent));
            factors.push(Expr::Power(Box::new(base), Box::new(exponent)));
        }
        terms.push(Expr::Product(factors));
    }
    Some(Expr::Sum(terms))
}
