//! Functions of real numbers in ball arithmetic.

use alloc::vec::Vec;

use dashu_int::IBig;
use dashu_ratio::RBig;

use crate::ball::{Ball, Unknown};
use crate::number::{binomial, factorial, gcd_lcm, size_bits, small};
use crate::points::{Evaluator, Known};
use crate::tree::Function;

/// Largest integer that a factorial may reach here, in bits.
const INTEGER_BITS: usize = 32_768;

impl Evaluator {
    pub(crate) fn real_function(&mut self, function: &Function, values: &[Ball]) -> Known<Ball> {
        match (function, values) {
            (Function::Sin, [x]) => Ok(self.sin_cos(x)?.0),
            (Function::Cos, [x]) => Ok(self.sin_cos(x)?.1),
            (Function::Tan, [x]) => self.quotient_of(x, false, false),
            (Function::Cot, [x]) => self.quotient_of(x, true, false),
            (Function::Sec, [x]) => self.quotient_of(x, false, true),
            (Function::Csc, [x]) => self.quotient_of(x, true, true),
            (Function::Asin, [x]) => self.asin(x),
            (Function::Acos, [x]) => self.acos(x),
            (Function::Atan, [x]) => self.elementary.atan(x, self.prec, &mut self.budget),
            (Function::Acot, [x]) => {
                // In (0, π).
                let atan = self.elementary.atan(x, self.prec, &mut self.budget)?;
                self.half_pi()?.sub(&atan, self.prec, &mut self.budget)
            }
            (Function::Asec, [x]) => {
                let inverse = Ball::one().div(x, self.prec, &mut self.budget)?;
                self.acos(&inverse)
            }
            (Function::Acsc, [x]) => {
                let inverse = Ball::one().div(x, self.prec, &mut self.budget)?;
                self.asin(&inverse)
            }
            (Function::Sinh | Function::Cosh | Function::Tanh, [x]) => self.hyperbolic(function, x),
            (Function::Floor, [x]) => x.floor().map(Ball::exact).ok_or(Unknown::Unsure),
            (Function::Ceil, [x]) => {
                let floor = x.neg().floor().ok_or(Unknown::Unsure)?;
                Ok(Ball::exact(-floor))
            }
            (Function::Degree, [x]) => {
                let pi = self.elementary.pi(self.prec, &mut self.budget)?;
                let turn = x.mul(&pi, self.prec, &mut self.budget)?;
                turn.div(&Ball::exact(IBig::from(180)), self.prec, &mut self.budget)
            }
            (Function::Min | Function::Max, values) => {
                self.extreme(values, *function == Function::Max)
            }
            (_, values) => self.integer_function(function, values),
        }
    }

    fn sin_cos(&mut self, x: &Ball) -> Known<(Ball, Ball)> {
        self.elementary.sin_cos(x, self.prec, &mut self.budget)
    }

    fn half_pi(&mut self) -> Known<Ball> {
        let mut pi = self.elementary.pi(self.prec, &mut self.budget)?;
        pi.exp = pi.exp.saturating_sub(1);
        Ok(pi)
    }

    /// tan, cot, sec and csc as quotients.
    fn quotient_of(&mut self, x: &Ball, over_sin: bool, top_is_one: bool) -> Known<Ball> {
        let (sin, cos) = self.sin_cos(x)?;
        let (top, bottom) = if over_sin { (cos, sin) } else { (sin, cos) };
        let top = if top_is_one { Ball::one() } else { top };
        top.div(&bottom, self.prec, &mut self.budget)
    }

    /// asin x = 2 atan(x / (1 + sqrt(1 - x²)))
    fn asin(&mut self, x: &Ball) -> Known<Ball> {
        let (prec, budget) = (self.prec, &mut self.budget);
        let square = x.mul(x, prec, budget)?;
        let rest = Ball::one().sub(&square, prec, budget)?;
        let root = rest.root(2, prec, budget)?;
        let bottom = Ball::one().add(&root, prec, budget)?;
        let ratio = x.div(&bottom, prec, budget)?;
        let mut half = self.elementary.atan(&ratio, prec, budget)?;
        half.exp = half.exp.saturating_add(1);
        Ok(half)
    }

    fn acos(&mut self, x: &Ball) -> Known<Ball> {
        let asin = self.asin(x)?;
        self.half_pi()?.sub(&asin, self.prec, &mut self.budget)
    }

    fn hyperbolic(&mut self, function: &Function, x: &Ball) -> Known<Ball> {
        let (prec, budget) = (self.prec, &mut self.budget);
        let up = self.elementary.exp(x, prec, budget)?;
        let down = self.elementary.exp(&x.neg(), prec, budget)?;
        let mut sinh = up.sub(&down, prec, budget)?;
        let mut cosh = up.add(&down, prec, budget)?;
        sinh.exp = sinh.exp.saturating_sub(1);
        cosh.exp = cosh.exp.saturating_sub(1);
        match function {
            Function::Sinh => Ok(sinh),
            Function::Cosh => Ok(cosh),
            _ => sinh.div(&cosh, prec, budget),
        }
    }

    fn extreme(&mut self, values: &[Ball], is_max: bool) -> Known<Ball> {
        let mut values = values.iter();
        let mut best = values.next().ok_or(Unknown::Unsure)?.clone();
        for value in values {
            let gap = value.sub(&best, self.prec, &mut self.budget)?;
            if gap.contains_zero() && !gap.is_exact_zero() {
                return Err(Unknown::Unsure);
            }
            if gap.is_positive() == is_max {
                best = value.clone();
            }
        }
        Ok(best)
    }

    fn integer_function(&mut self, function: &Function, values: &[Ball]) -> Known<Ball> {
        let mut integers = Vec::with_capacity(values.len());
        for value in values {
            let is_exact = value.rad.is_zero();
            let integer = value.floor().filter(|_| is_exact).ok_or(Unknown::Unsure)?;
            if !value
                .sub(&Ball::exact(integer.clone()), self.prec, &mut self.budget)?
                .is_exact_zero()
            {
                return Err(Unknown::Unsure);
            }
            integers.push(RBig::from(integer));
        }
        let references: Vec<&RBig> = integers.iter().collect();
        let result = match (function, references.as_slice()) {
            (Function::Factorial, [n]) => self.factorial(n, 1)?,
            (Function::DoubleFactorial, [n]) => self.factorial(n, 2)?,
            (Function::Binomial, [n, k]) => match (small(n), small(k)) {
                (Some(n), Some(k)) => binomial(n, k, INTEGER_BITS, &mut self.budget)?,
                _ => None,
            },
            (Function::Gcd, values) => gcd_lcm(values, false, &mut self.budget)?,
            (Function::Lcm, values) => gcd_lcm(values, true, &mut self.budget)?,
            (Function::Mod, [a, n]) if !n.is_zero() => {
                self.budget.charge_quotients(size_bits(a), size_bits(n))?;
                let quotient = RBig::from((*a / *n).floor());
                Some(*a - quotient * *n)
            }
            _ => None,
        };
        let result = result.ok_or(Unknown::Unsure)?;
        Ball::rational(&result, self.prec, &mut self.budget)
    }

    fn factorial(&mut self, n: &RBig, step: usize) -> Known<Option<RBig>> {
        match small(n) {
            Some(n) if n < 0 => Err(Unknown::Undefined),
            Some(n) => Ok(factorial(n, step, INTEGER_BITS, &mut self.budget)?),
            None => Ok(None),
        }
    }
}
