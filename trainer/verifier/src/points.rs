//! Evaluation in ball arithmetic: constants, and expressions with variables at fixed points.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use dashu_int::{IBig, UBig};
use dashu_ratio::RBig;

use crate::ball::{Ball, Unknown};
use crate::budget::Budget;
use crate::elementary::Elementary;
use crate::number::small;
use crate::tree::{Expr, Function};

/// A root with a larger index goes through the logarithm.
const LARGEST_INDEX: usize = 12;

/// A value of each variable, sorted by name.
pub(crate) type Point = [(String, RBig)];

pub(crate) type Known<T> = Result<T, Unknown>;

/// A complex number as two balls.
#[derive(Clone, Debug)]
pub(crate) struct Complex {
    pub(crate) re: Ball,
    pub(crate) im: Ball,
}

impl Complex {
    fn real(re: Ball) -> Self {
        Self {
            re,
            im: Ball::zero(),
        }
    }

    fn is_real(&self) -> bool {
        self.im.is_exact_zero()
    }
}

/// Evaluates formulas at one precision.
pub(crate) struct Evaluator {
    pub(crate) elementary: Elementary,
    pub(crate) budget: Budget,
    /// The meaning of `\log` without a base.
    pub(crate) log_is_natural: bool,
    /// True if a negative number has complex roots and logarithms.
    pub(crate) is_complex: bool,
    pub(crate) prec: usize,
}

/// True if `i` occurs.
pub(crate) fn has_imaginary(expr: &Expr) -> bool {
    any(expr, &|part| *part == Expr::Imaginary)
}

/// True if some part of a formula has a property.
pub(crate) fn any(expr: &Expr, property: &dyn Fn(&Expr) -> bool) -> bool {
    property(expr)
        || match expr {
            Expr::Sum(parts) | Expr::Product(parts) | Expr::Apply(_, parts) => {
                parts.iter().any(|part| any(part, property))
            }
            Expr::Power(base, exponent) => any(base, property) || any(exponent, property),
            Expr::PlusMinus(_, inner) => any(inner, property),
            _ => false,
        }
}

/// Adds the names of a formula. Those of variables that take small naturals are marked.
pub(crate) fn names(expr: &Expr, is_natural: bool, found: &mut BTreeMap<String, bool>) {
    match expr {
        Expr::Name(name) => match found.get_mut(name) {
            Some(marked) => *marked |= is_natural,
            None => {
                found.insert(name.clone(), is_natural);
            }
        },
        Expr::Sum(parts) | Expr::Product(parts) => {
            parts.iter().for_each(|part| names(part, is_natural, found))
        }
        Expr::Power(base, exponent) => {
            names(base, is_natural, found);
            // A negative number has real powers only for integers.
            let is_integer = base.exact().is_some_and(|base| *base < RBig::ZERO);
            names(exponent, is_natural || is_integer, found);
        }
        Expr::Apply(function, parts) => {
            let inner = is_natural
                || matches!(
                    function,
                    Function::Factorial
                        | Function::DoubleFactorial
                        | Function::Binomial
                        | Function::Gcd
                        | Function::Lcm
                        | Function::Mod
                );
            parts.iter().for_each(|part| names(part, inner, found));
        }
        Expr::PlusMinus(_, inner) => names(inner, is_natural, found),
        _ => {}
    }
}

/// The fixed points: four each from (-10, -1), (-1, 0), (0, 1), (1, 10), or small naturals.
pub(crate) fn point(
    index: usize,
    names: &[(String, bool)],
    is_positive: bool,
) -> Vec<(String, RBig)> {
    // FNV-1a over the names.
    let mut seed = 0xcbf2_9ce4_8422_2325u64;
    for (name, _) in names {
        for byte in name.bytes() {
            seed = (seed ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    let mut state = seed ^ (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut draw = |range: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % range
    };
    let value = |draw: u64, low: i64, width: i64| {
        // (draw + 1) / 1010 lies strictly between 0 and 1.
        let part = RBig::from_parts(IBig::from(draw.saturating_add(1)), UBig::from(1010u32));
        RBig::from(low) + RBig::from(width) * part
    };
    names
        .iter()
        .enumerate()
        .map(|(position, (name, is_natural))| {
            let number = draw(1009);
            if *is_natural {
                return (name.clone(), RBig::from(draw(7).saturating_add(1)));
            }
            let interval = index.saturating_add(position.saturating_mul(index / 4)) % 4;
            let number = match interval {
                0 => value(number, 1, 9),
                1 => value(number, 0, 1),
                2 if is_positive => value(number, 0, 1),
                3 if is_positive => value(number, 1, 9),
                2 => value(number, -10, 9),
                _ => value(number, -1, 1),
            };
            (name.clone(), number)
        })
        .collect()
}

fn value_at<'p>(point: &'p Point, name: &str) -> Option<&'p RBig> {
    let place = point.binary_search_by(|(known, _)| known.as_str().cmp(name));
    place
        .ok()
        .and_then(|at| point.get(at))
        .map(|(_, value)| value)
}

impl Evaluator {
    pub(crate) fn new(budget: Budget) -> Self {
        Self {
            elementary: Elementary::new(),
            budget,
            log_is_natural: false,
            is_complex: false,
            prec: 128,
        }
    }

    pub(crate) fn eval(&mut self, expr: &Expr, point: &Point) -> Known<Complex> {
        self.budget.charge(30)?;
        match expr {
            Expr::Number(value) => self.rational(value),
            Expr::Decimal(decimal) => self.rational(&decimal.value),
            Expr::Name(name) => match value_at(point, name) {
                Some(value) => self.rational(value),
                None => Err(Unknown::Unsure),
            },
            Expr::Pi => Ok(Complex::real(
                self.elementary.pi(self.prec, &mut self.budget)?,
            )),
            Expr::Euler => {
                let e = self
                    .elementary
                    .exp(&Ball::one(), self.prec, &mut self.budget)?;
                Ok(Complex::real(e))
            }
            Expr::Imaginary => Ok(Complex {
                re: Ball::zero(),
                im: Ball::one(),
            }),
            Expr::Infinity | Expr::PlusMinus(..) => Err(Unknown::Unsure),
            Expr::Sum(terms) => {
                let mut sum = Complex::real(Ball::zero());
                for term in terms {
                    let term = self.eval(term, point)?;
                    sum = self.add(&sum, &term)?;
                }
                Ok(sum)
            }
            Expr::Product(factors) => {
                let mut product = Complex::real(Ball::one());
                for factor in factors {
                    let factor = self.eval(factor, point)?;
                    product = self.mul(&product, &factor)?;
                }
                Ok(product)
            }
            Expr::Power(base, exponent) => self.eval_power(base, exponent, point),
            Expr::Apply(function, arguments) => self.apply(function, arguments, point),
        }
    }

    fn rational(&mut self, value: &RBig) -> Known<Complex> {
        Ok(Complex::real(Ball::rational(
            value,
            self.prec,
            &mut self.budget,
        )?))
    }

    fn add(&mut self, a: &Complex, b: &Complex) -> Known<Complex> {
        Ok(Complex {
            re: a.re.add(&b.re, self.prec, &mut self.budget)?,
            im: a.im.add(&b.im, self.prec, &mut self.budget)?,
        })
    }

    pub(crate) fn sub(&mut self, a: &Complex, b: &Complex) -> Known<Complex> {
        let negative = Complex {
            re: b.re.neg(),
            im: b.im.neg(),
        };
        self.add(a, &negative)
    }

    fn mul(&mut self, a: &Complex, b: &Complex) -> Known<Complex> {
        let (prec, budget) = (self.prec, &mut self.budget);
        if a.is_real() && b.is_real() {
            return Ok(Complex::real(a.re.mul(&b.re, prec, budget)?));
        }
        let re = a.re.mul(&b.re, prec, budget)?;
        let re = re.sub(&a.im.mul(&b.im, prec, budget)?, prec, budget)?;
        let im = a.re.mul(&b.im, prec, budget)?;
        let im = im.add(&a.im.mul(&b.re, prec, budget)?, prec, budget)?;
        Ok(Complex { re, im })
    }

    fn inverse(&mut self, z: &Complex) -> Known<Complex> {
        let (prec, budget) = (self.prec, &mut self.budget);
        if z.is_real() {
            return Ok(Complex::real(Ball::one().div(&z.re, prec, budget)?));
        }
        let norm = z.re.mul(&z.re, prec, budget)?;
        let norm = norm.add(&z.im.mul(&z.im, prec, budget)?, prec, budget)?;
        Ok(Complex {
            re: z.re.div(&norm, prec, budget)?,
            im: z.im.neg().div(&norm, prec, budget)?,
        })
    }

    fn magnitude(&mut self, z: &Complex) -> Known<Ball> {
        if z.is_real() {
            return Ok(z.re.abs());
        }
        let (prec, budget) = (self.prec, &mut self.budget);
        let norm = z.re.mul(&z.re, prec, budget)?;
        let norm = norm.add(&z.im.mul(&z.im, prec, budget)?, prec, budget)?;
        norm.root(2, prec, budget)
    }

    fn integer_power(&mut self, base: &Complex, n: i64) -> Known<Complex> {
        let magnitude = n.unsigned_abs();
        let power = if base.is_real() {
            Complex::real(base.re.power(magnitude, self.prec, &mut self.budget)?)
        } else {
            let mut result = Complex::real(Ball::one());
            let mut square = base.clone();
            let mut rest = magnitude;
            while rest > 0 {
                if rest & 1 == 1 {
                    result = self.mul(&result, &square)?;
                }
                rest >>= 1;
                if rest > 0 {
                    square = self.mul(&square, &square)?;
                }
            }
            result
        };
        if n < 0 {
            self.inverse(&power)
        } else {
            Ok(power)
        }
    }

    fn eval_power(&mut self, base: &Expr, exponent: &Expr, point: &Point) -> Known<Complex> {
        if *base == Expr::Euler && exponent.exact().is_none() {
            let exponent = self.eval(exponent, point)?;
            return self.exp(&exponent);
        }
        let value = self.eval(base, point)?;
        if let Some(exact) = exponent.exact() {
            return self.rational_power(&value, exact);
        }
        // A variable that stands for an integer gives an integer power.
        if let Expr::Name(name) = exponent
            && let Some(n) = value_at(point, name).and_then(small)
        {
            return self.integer_power(&value, n);
        }
        let exponent = self.eval(exponent, point)?;
        if exponent.is_real()
            && exponent.re.rad.is_zero()
            && let Some(n) = exponent.re.floor()
            && let Ok(small) = i64::try_from(&n)
            && exponent
                .re
                .sub(&Ball::exact(n), self.prec, &mut self.budget)?
                .is_exact_zero()
        {
            return self.integer_power(&value, small);
        }
        self.general_power(&value, &exponent)
    }

    fn general_power(&mut self, base: &Complex, exponent: &Complex) -> Known<Complex> {
        if base.is_real() && base.re.is_exact_zero() {
            return if exponent.is_real() && exponent.re.is_positive() {
                Ok(base.clone())
            } else {
                Err(Unknown::Undefined)
            };
        }
        let log = self.log(base)?;
        let product = self.mul(&log, exponent)?;
        self.exp(&product)
    }

    fn rational_power(&mut self, base: &Complex, exponent: &RBig) -> Known<Complex> {
        if let Some(n) = small(exponent) {
            if n == 0 && base.re.contains_zero() && base.im.contains_zero() {
                return Err(Unknown::Undefined);
            }
            return self.integer_power(base, n);
        }
        let index = usize::try_from(exponent.denominator()).ok();
        let count = i64::try_from(exponent.numerator()).ok();
        let (Some(index), Some(count)) = (index, count) else {
            let exponent = self.rational(exponent)?;
            return self.general_power(base, &exponent);
        };
        let is_odd = index % 2 == 1;
        if base.is_real() && base.re.is_negative() && is_odd && !self.is_complex {
            // The real root of a negative number.
            let root = self.rational_power(
                &Complex::real(base.re.neg()),
                &RBig::from_parts(IBig::ONE, UBig::from(index)),
            )?;
            let root = Complex {
                re: root.re.neg(),
                im: root.im,
            };
            return self.integer_power(&root, count);
        }
        if base.is_real() && base.re.is_negative() && index == 2 && self.is_complex {
            let root = base.re.neg().root(2, self.prec, &mut self.budget)?;
            let root = Complex {
                re: Ball::zero(),
                im: root,
            };
            return self.integer_power(&root, count);
        }
        if base.is_real() && !(base.re.is_negative() && self.is_complex) && index <= LARGEST_INDEX {
            let root = base.re.root(index, self.prec, &mut self.budget)?;
            return self.integer_power(&Complex::real(root), count);
        }
        let exponent = self.rational(exponent)?;
        self.general_power(base, &exponent)
    }

    fn exp(&mut self, z: &Complex) -> Known<Complex> {
        let scale = self.elementary.exp(&z.re, self.prec, &mut self.budget)?;
        if z.is_real() {
            return Ok(Complex::real(scale));
        }
        let (sin, cos) = self
            .elementary
            .sin_cos(&z.im, self.prec, &mut self.budget)?;
        Ok(Complex {
            re: scale.mul(&cos, self.prec, &mut self.budget)?,
            im: scale.mul(&sin, self.prec, &mut self.budget)?,
        })
    }

    fn log(&mut self, z: &Complex) -> Known<Complex> {
        if z.is_real() && (!z.re.is_negative() || !self.is_complex) {
            let log = self.elementary.ln(&z.re, self.prec, &mut self.budget)?;
            return Ok(Complex::real(log));
        }
        let magnitude = self.magnitude(z)?;
        let re = self
            .elementary
            .ln(&magnitude, self.prec, &mut self.budget)?;
        let im = self.argument(z)?;
        Ok(Complex { re, im })
    }

    /// The argument in (-π, π].
    fn argument(&mut self, z: &Complex) -> Known<Ball> {
        let prec = self.prec;
        if z.re.is_positive() {
            let ratio = z.im.div(&z.re, prec, &mut self.budget)?;
            return self.elementary.atan(&ratio, prec, &mut self.budget);
        }
        let pi = self.elementary.pi(prec, &mut self.budget)?;
        if z.is_real() && z.re.is_negative() {
            return Ok(pi);
        }
        if z.im.contains_zero() {
            return Err(Unknown::Unsure);
        }
        // ±π/2 - atan(re / im)
        let mut half_pi = pi;
        half_pi.exp = half_pi.exp.saturating_sub(1);
        if z.im.is_negative() {
            half_pi = half_pi.neg();
        }
        let ratio = z.re.div(&z.im, prec, &mut self.budget)?;
        let part = self.elementary.atan(&ratio, prec, &mut self.budget)?;
        half_pi.sub(&part, prec, &mut self.budget)
    }

    fn apply(&mut self, function: &Function, arguments: &[Expr], point: &Point) -> Known<Complex> {
        let mut values = Vec::with_capacity(arguments.len());
        for argument in arguments {
            values.push(self.eval(argument, point)?);
        }
        match (function, values.as_slice()) {
            (Function::Abs, [z]) => Ok(Complex::real(self.magnitude(z)?)),
            (Function::Ln, [z]) => self.log(z),
            (Function::PlainLog, [z]) if self.log_is_natural => self.log(z),
            (Function::PlainLog, [z]) => {
                let ten = Complex::real(Ball::exact(IBig::from(10)));
                self.log_to_base(z, &ten)
            }
            (Function::Log, [z, base]) => self.log_to_base(z, base),
            (_, values) => {
                let mut reals = Vec::with_capacity(values.len());
                for value in values {
                    if !value.is_real() {
                        return Err(Unknown::Unsure);
                    }
                    reals.push(value.re.clone());
                }
                Ok(Complex::real(self.real_function(function, &reals)?))
            }
        }
    }

    fn log_to_base(&mut self, z: &Complex, base: &Complex) -> Known<Complex> {
        let top = self.log(z)?;
        let bottom = self.log(base)?;
        let inverse = self.inverse(&bottom)?;
        self.mul(&top, &inverse)
    }
}
