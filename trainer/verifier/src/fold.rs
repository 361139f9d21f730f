//! Sums, products and powers that compute what is exact while they are built.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use dashu_int::IBig;
use dashu_int::ops::Abs;
use dashu_ratio::RBig;

use crate::budget::{Budget, Exhausted};
use crate::number::{binomial, charge_power, factorial, gcd_lcm, power, size_bits, small};
use crate::tree::{Expr, Function};
use crate::verdict::Reason;

impl From<Exhausted> for Reason {
    /// An answer whose reading takes all steps.
    fn from(_: Exhausted) -> Self {
        Self::AnswerTooLarge
    }
}

/// The result of building a formula.
pub(crate) type Built<T> = Result<T, Reason>;

/// What building needs: the largest integer and the steps that are left.
#[derive(Debug)]
pub(crate) struct Builder {
    pub(crate) integer_bits: usize,
    pub(crate) budget: Budget,
}

pub(crate) fn number(value: i64) -> Expr {
    Expr::Number(RBig::from(IBig::from(value)))
}

impl Expr {
    /// The exact value of a number or a decimal.
    pub(crate) fn exact(&self) -> Option<&RBig> {
        match self {
            Self::Number(value) => Some(value),
            Self::Decimal(decimal) if !decimal.is_unfinished => Some(&decimal.value),
            _ => None,
        }
    }

    pub(crate) fn is_infinite(&self) -> bool {
        match self {
            Self::Infinity => true,
            Self::Product(factors) => factors.contains(&Self::Infinity),
            _ => false,
        }
    }
}

/// Bits of the largest power of ten that is looked for.
const LARGEST_TEN: usize = 1330;

/// The exponent of a power of ten.
fn ten_exponent(value: &RBig) -> Option<i32> {
    let ten = IBig::from(10);
    let (mut rest, sign) = if value.is_int() {
        (value.numerator().clone(), 1)
    } else if *value.numerator() == IBig::ONE {
        (IBig::from(value.denominator().clone()), -1)
    } else {
        return None;
    };
    if size_bits(value) > LARGEST_TEN {
        return None;
    }
    let mut exponent = 0i32;
    while rest > IBig::ONE {
        if !(&rest % &ten).is_zero() {
            return None;
        }
        rest /= &ten;
        exponent = exponent.saturating_add(1);
    }
    (rest == IBig::ONE).then_some(exponent.saturating_mul(sign))
}

fn unparsable<T>() -> Built<T> {
    Err(Reason::AnswerUnparsable)
}

impl Builder {
    fn charge(&mut self, a: &RBig, b: &RBig) -> Built<()> {
        let (left, right) = (size_bits(a), size_bits(b));
        if left.max(right) > self.integer_bits.saturating_mul(2) {
            return Err(Reason::AnswerTooLarge);
        }
        Ok(self.budget.charge_quotients(left, right)?)
    }

    pub(crate) fn sum(&mut self, terms: Vec<Expr>) -> Built<Expr> {
        if let [single] = terms.as_slice() {
            return Ok(single.clone());
        }
        let mut constant = RBig::ZERO;
        let mut rest = Vec::new();
        for term in terms {
            match term {
                Expr::Sum(inner) => {
                    for term in inner {
                        match term.exact() {
                            Some(value) => {
                                self.charge(value, &constant)?;
                                constant += value;
                            }
                            None => rest.push(term),
                        }
                    }
                }
                Expr::Decimal(decimal) if decimal.is_unfinished => return unparsable(),
                _ => match term.exact() {
                    Some(value) => {
                        self.charge(value, &constant)?;
                        constant += value;
                    }
                    None => rest.push(term),
                },
            }
        }
        self.budget.charge_each(rest.len(), 4)?;
        if rest.is_empty() {
            return Ok(Expr::Number(constant));
        }
        if !constant.is_zero() {
            rest.push(Expr::Number(constant));
        }
        Ok(match rest.pop() {
            Some(single) if rest.is_empty() => single,
            last => {
                rest.extend(last);
                Expr::Sum(rest)
            }
        })
    }

    /// A product of two; a decimal stays one under a change of sign or a power of ten.
    pub(crate) fn product(&mut self, left: Expr, right: Expr) -> Built<Expr> {
        if let (Expr::Number(value), Expr::Decimal(decimal))
        | (Expr::Decimal(decimal), Expr::Number(value)) = (&left, &right)
        {
            if *value == RBig::NEG_ONE {
                return Ok(Expr::Decimal(decimal.negated()));
            }
            // One division for each digit.
            self.budget
                .charge_each(size_bits(value).min(LARGEST_TEN), 14)?;
            if let Some(exponent) = ten_exponent(value).filter(|_| !decimal.is_unfinished) {
                self.charge(value, &decimal.value)?;
                return Ok(Expr::Decimal(decimal.scaled(exponent)));
            }
        }
        let mut constant = RBig::ONE;
        let mut rest = Vec::new();
        for factor in [left, right] {
            let inner = match factor {
                Expr::Product(inner) => inner,
                other => vec![other],
            };
            for factor in inner {
                if matches!(&factor, Expr::Decimal(decimal) if decimal.is_unfinished) {
                    return unparsable();
                }
                match factor.exact() {
                    Some(value) => {
                        self.charge(value, &constant)?;
                        constant *= value;
                    }
                    None => rest.push(factor),
                }
            }
        }
        self.budget.charge_each(rest.len(), 2)?;
        if rest.is_empty() {
            return Ok(Expr::Number(constant));
        }
        if constant.is_zero() && !rest.contains(&Expr::Infinity) {
            return Ok(Expr::Number(constant));
        }
        if constant != RBig::ONE {
            rest.insert(0, Expr::Number(constant));
        }
        Ok(match rest.pop() {
            Some(single) if rest.is_empty() => single,
            last => {
                rest.extend(last);
                Expr::Product(rest)
            }
        })
    }

    pub(crate) fn negative(&mut self, value: Expr) -> Built<Expr> {
        if let Expr::Sum(terms) = value {
            let mut negated = Vec::new();
            for term in terms {
                negated.push(self.negative(term)?);
            }
            return self.sum(negated);
        }
        self.product(number(-1), value)
    }

    pub(crate) fn quotient(&mut self, top: Expr, bottom: Expr) -> Built<Expr> {
        let inverse = self.power(bottom, number(-1))?;
        self.product(top, inverse)
    }

    pub(crate) fn power(&mut self, base: Expr, exponent: Expr) -> Built<Expr> {
        if matches!(&base, Expr::Decimal(decimal) if decimal.is_unfinished) {
            return unparsable();
        }
        if let (Some(value), Some(exponent)) = (base.exact(), exponent.exact().and_then(small)) {
            if value.is_zero() && exponent < 0 {
                return unparsable();
            }
            charge_power(value, exponent, self.integer_bits, &mut self.budget)?;
            if let Some(result) = power(value, exponent, self.integer_bits) {
                return Ok(Expr::Number(result));
            }
        }
        if exponent.exact() == Some(&RBig::ONE) {
            return Ok(base);
        }
        // (x^a)^n = x^(an) for integers, which covers 1/(1/x).
        if let (Expr::Power(inner, first), Some(second)) = (&base, exponent.exact())
            && let Some(first) = first.exact()
            && first.is_int()
            && second.is_int()
        {
            return self.power((**inner).clone(), Expr::Number(first * second));
        }
        // i is a number of its own: its powers repeat.
        if base == Expr::Imaginary
            && let Some(n) = exponent.exact().and_then(small)
        {
            return Ok(match n.rem_euclid(4) {
                0 => number(1),
                1 => Expr::Imaginary,
                2 => number(-1),
                _ => Expr::Product(vec![number(-1), Expr::Imaginary]),
            });
        }
        Ok(Expr::Power(Box::new(base), Box::new(exponent)))
    }

    /// The root of the given index: a power with a rational exponent.
    pub(crate) fn root(&mut self, radicand: Expr, index: Expr) -> Built<Expr> {
        let exponent = self.quotient(number(1), index)?;
        self.power(radicand, exponent)
    }

    /// A function, computed where its arguments are exact and its value is.
    pub(crate) fn apply(&mut self, function: Function, arguments: Vec<Expr>) -> Built<Expr> {
        if arguments
            .iter()
            .any(|it| matches!(it, Expr::Decimal(decimal) if decimal.is_unfinished))
        {
            return unparsable();
        }
        let exact: Option<Vec<&RBig>> = arguments.iter().map(Expr::exact).collect();
        let value = match exact {
            Some(exact) => self.exact_function(&function, &exact)?,
            None => None,
        };
        Ok(match value {
            Some(value) => Expr::Number(value),
            None => Expr::Apply(function, arguments),
        })
    }

    fn exact_function(&mut self, function: &Function, arguments: &[&RBig]) -> Built<Option<RBig>> {
        let bits = self.integer_bits;
        for value in arguments {
            self.charge(value, &RBig::ONE)?;
        }
        Ok(match (function, arguments) {
            (Function::Abs, [x]) => Some((*x).clone().abs()),
            (Function::Floor, [x]) => Some(RBig::from(x.floor())),
            (Function::Ceil, [x]) => Some(RBig::from(x.ceil())),
            (Function::Min, [first, rest @ ..]) => {
                Some(rest.iter().fold(*first, |a, b| a.min(b)).clone())
            }
            (Function::Max, [first, rest @ ..]) => {
                Some(rest.iter().fold(*first, |a, b| a.max(b)).clone())
            }
            (Function::Gcd, values) => gcd_lcm(values, false, &mut self.budget)?,
            (Function::Lcm, values) => gcd_lcm(values, true, &mut self.budget)?,
            (Function::Mod, [a, n]) if !n.is_zero() => {
                self.charge(a, n)?;
                let quotient = RBig::from((*a / *n).floor());
                Some(*a - quotient * *n)
            }
            (Function::Factorial | Function::DoubleFactorial, [n]) => {
                if n.is_int() && **n < RBig::ZERO {
                    return unparsable();
                }
                let step = if *function == Function::Factorial {
                    1
                } else {
                    2
                };
                match small(n) {
                    Some(n) => factorial(n, step, bits, &mut self.budget)?,
                    None => None,
                }
            }
            (Function::Binomial, [n, k]) => match (small(n), small(k)) {
                (Some(n), Some(k)) => binomial(n, k, bits, &mut self.budget)?,
                _ => None,
            },
            _ => None,
        })
    }
}
