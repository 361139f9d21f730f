//! Formulas: sums, products, signs, powers and what stands behind an operand.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use crate::fold::{Built, number};
use crate::lex::{Gap, Kind};
use crate::parse::{Parser, refuse};
use crate::tree::{Expr, Function};

/// A sign before a term.
#[derive(Clone, Copy)]
enum Sign {
    Plus,
    Minus,
    PlusMinus(bool),
}

impl<'a> Parser<'a> {
    /// A sum of signed terms.
    pub(super) fn additive(&mut self) -> Built<Expr> {
        self.nested(|parser| {
            let mut terms: Vec<Expr> = Vec::new();
            loop {
                let sign = parser.sign();
                if sign.is_none() && !terms.is_empty() {
                    break;
                }
                let term = parser.signed_term(sign.unwrap_or(Sign::Plus))?;
                terms.push(term);
                if terms.len() > parser.limits.tokens {
                    return refuse();
                }
            }
            parser.builder.sum(terms)
        })
    }

    fn sign(&mut self) -> Option<Sign> {
        let sign = match self.peek()? {
            Kind::Mark('+')
                if self.peek_at(1) == Some(Kind::Mark('/'))
                    && self.peek_at(2) == Some(Kind::Mark('-')) =>
            {
                self.skip(2);
                Sign::PlusMinus(true)
            }
            Kind::Mark('+') => Sign::Plus,
            Kind::Mark('-') => Sign::Minus,
            Kind::Command("pm") => Sign::PlusMinus(true),
            Kind::Command("mp") => Sign::PlusMinus(false),
            _ => return None,
        };
        self.bump();
        Some(sign)
    }

    /// A term behind a sign that was read; one more sign may follow.
    fn signed_term(&mut self, sign: Sign) -> Built<Expr> {
        let term = match self.sign() {
            Some(inner) => self.nested(|parser| parser.signed_term(inner))?,
            None => self.term()?,
        };
        match sign {
            Sign::Plus => Ok(term),
            Sign::Minus => self.builder.negative(term),
            Sign::PlusMinus(is_plus) => Ok(Expr::PlusMinus(is_plus, Box::new(term))),
        }
    }

    /// A product: factors with and without operators, from left to right.
    pub(super) fn term(&mut self) -> Built<Expr> {
        let mut left = self.factor()?;
        loop {
            let is_division = match self.peek() {
                Some(Kind::Mark('*') | Kind::Command("times" | "cdot")) => false,
                Some(Kind::Mark('/') | Kind::Command("div")) => true,
                Some(Kind::Command("bmod")) | Some(Kind::Word("mod")) => {
                    self.bump();
                    let right = self.factor()?;
                    left = self.builder.apply(Function::Mod, vec![left, right])?;
                    continue;
                }
                _ if self.continues_product() => {
                    let right = self.factor()?;
                    left = self.builder.product(left, right)?;
                    continue;
                }
                _ => return Ok(left),
            };
            self.bump();
            let right = self.operand()?;
            left = if is_division {
                self.builder.quotient(left, right)?
            } else {
                self.builder.product(left, right)?
            };
        }
    }

    /// A factor that may carry a sign: `3 * -2`.
    fn operand(&mut self) -> Built<Expr> {
        match self.sign() {
            Some(sign) => {
                let factor = self.nested(Self::factor)?;
                match sign {
                    Sign::Plus => Ok(factor),
                    Sign::Minus => self.builder.negative(factor),
                    Sign::PlusMinus(is_plus) => Ok(Expr::PlusMinus(is_plus, Box::new(factor))),
                }
            }
            None => self.factor(),
        }
    }

    /// True if a factor follows without an operator. A number may follow only what ends in a
    /// bracket: `2 3` and `x2` are refused.
    fn continues_product(&self) -> bool {
        let Some(kind) = self.peek() else {
            return false;
        };
        let before = self.at.checked_sub(1).and_then(|at| self.tokens.get(at));
        match kind {
            Kind::Digits(_) => {
                before.is_some_and(|token| matches!(token.kind, Kind::Mark(')' | '}' | ']' | '!')))
            }
            Kind::Mark('.') => false,
            Kind::Mark('|') => self.bars == 0,
            Kind::Mark('[') => {
                // A square bracket multiplies only as a whole group without a comma.
                self.partners
                    .get(self.at)
                    .copied()
                    .flatten()
                    .is_some_and(|p| {
                        !p.has_comma
                            && self
                                .tokens
                                .get(p.at)
                                .is_some_and(|t| t.kind == Kind::Mark(']'))
                    })
            }
            Kind::Mark('(') => self
                .partners
                .get(self.at)
                .copied()
                .flatten()
                .is_some_and(|p| {
                    !p.has_comma
                        && self
                            .tokens
                            .get(p.at)
                            .is_some_and(|t| t.kind == Kind::Mark(')'))
                }),
            Kind::Word(word) => self.word_is_factor(word),
            Kind::Mark('{') => true,
            Kind::Command(name) => self.command_is_factor(name),
            _ => false,
        }
    }

    /// A power, with what stands behind its base.
    pub(super) fn factor(&mut self) -> Built<Expr> {
        let base = self.primary()?;
        self.postfix(base)
    }

    fn postfix(&mut self, mut value: Expr) -> Built<Expr> {
        loop {
            match self.peek() {
                Some(Kind::Mark('!')) => {
                    self.bump();
                    let is_double =
                        self.peek() == Some(Kind::Mark('!')) && self.gap(0) == Gap::None;
                    if is_double {
                        self.bump();
                    }
                    let function = if is_double {
                        Function::DoubleFactorial
                    } else {
                        Function::Factorial
                    };
                    value = self.builder.apply(function, vec![value])?;
                }
                Some(Kind::Mark('°')) => {
                    self.bump();
                    value = self.builder.apply(Function::Degree, vec![value])?;
                }
                // `a ** b` is a power.
                Some(Kind::Mark('*')) if self.is_double_star() => {
                    self.skip(2);
                    let exponent = self.nested(Self::operand)?;
                    value = self.raise(value, exponent)?;
                }
                Some(Kind::Mark('^')) => {
                    if self.is_degree_sign() {
                        value = self.builder.apply(Function::Degree, vec![value])?;
                        continue;
                    }
                    self.bump();
                    let exponent = self.nested(Self::exponent)?;
                    value = self.raise(value, exponent)?;
                }
                _ => return Ok(value),
            }
        }
    }

    fn is_double_star(&self) -> bool {
        self.peek_at(1) == Some(Kind::Mark('*')) && self.gap(1) == Gap::None
    }

    /// A power of a function's name was read before; the power of an angle is none.
    fn raise(&mut self, base: Expr, exponent: Expr) -> Built<Expr> {
        self.builder.power(base, exponent)
    }

    /// `^\circ` or `^{\circ}`: skipped if it is there.
    pub(super) fn is_degree_sign(&mut self) -> bool {
        let is_circle = |kind: Option<Kind<'_>>| {
            matches!(
                kind,
                Some(Kind::Command("circ") | Kind::Mark('°')) | Some(Kind::Word("o" | "circ"))
            )
        };
        let is_bare = matches!(
            self.peek_at(1),
            Some(Kind::Command("circ") | Kind::Mark('°'))
        );
        if is_bare {
            self.skip(2);
            return true;
        }
        let is_braced = self.peek_at(1) == Some(Kind::Mark('{'))
            && is_circle(self.peek_at(2))
            && self.peek_at(3) == Some(Kind::Mark('}'));
        if is_braced {
            self.skip(4);
        }
        is_braced
    }

    /// What stands behind `^`: a group, a signed operand, a whole run of digits.
    pub(super) fn exponent(&mut self) -> Built<Expr> {
        match self.peek() {
            Some(Kind::Mark('{')) => self.group(),
            Some(Kind::Mark('-')) => {
                self.bump();
                let value = self.exponent_operand()?;
                self.builder.negative(value)
            }
            Some(Kind::Mark('+')) => {
                self.bump();
                self.exponent_operand()
            }
            _ => self.exponent_operand(),
        }
    }

    fn exponent_operand(&mut self) -> Built<Expr> {
        // Without braces one letter is the exponent: `e^xy` is a product.
        let value = self.primary()?;
        // Powers bind to the right.
        if self.peek() == Some(Kind::Mark('^')) && !self.is_degree_sign() {
            self.bump();
            let exponent = self.nested(Self::exponent)?;
            return self.builder.power(value, exponent);
        }
        if self.peek() == Some(Kind::Mark('!')) {
            self.bump();
            return self.builder.apply(Function::Factorial, vec![value]);
        }
        Ok(value)
    }

    /// `{…}` around a formula, which may be a fraction written with `\over`.
    pub(super) fn group(&mut self) -> Built<Expr> {
        self.expect(Kind::Mark('{'))?;
        let value = self.bracketed(Self::over)?;
        self.expect(Kind::Mark('}'))?;
        Ok(value)
    }

    /// A formula, with `\over` or `\choose` at its own level.
    pub(super) fn over(&mut self) -> Built<Expr> {
        let left = self.additive()?;
        if self.take_command("over") {
            let right = self.additive()?;
            return self.builder.quotient(left, right);
        }
        if self.take_command("choose") {
            let right = self.additive()?;
            return self.builder.apply(Function::Binomial, vec![left, right]);
        }
        Ok(left)
    }

    /// An argument of a command: a group, or one digit or letter, or one command.
    pub(super) fn argument(&mut self) -> Built<Expr> {
        match self.peek() {
            Some(Kind::Mark('{')) => self.group(),
            Some(Kind::Digits(_)) => {
                let digit = self
                    .single_digit()
                    .and_then(|digit| digit.parse::<i64>().ok());
                match digit {
                    Some(digit) => Ok(number(digit)),
                    None => refuse(),
                }
            }
            Some(Kind::Word(_) | Kind::Command(_)) => self.nested(Self::primary),
            _ => refuse(),
        }
    }
}
