//! Functions and their arguments, with and without brackets; finite sums and products.

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use crate::fold::{Built, number};
use crate::lex::Kind;
use crate::number::small;
use crate::parse::words::function;
use crate::parse::{Parser, refuse};
use crate::tree::{Expr, Function};

/// A finite sum or product of more terms stays as it is written.
const MAX_EXPANDED: i64 = 256;

fn inverse(function: &Function) -> Option<Function> {
    Some(match function {
        Function::Sin => Function::Asin,
        Function::Cos => Function::Acos,
        Function::Tan => Function::Atan,
        Function::Cot => Function::Acot,
        Function::Sec => Function::Asec,
        Function::Csc => Function::Acsc,
        _ => return None,
    })
}

impl<'a> Parser<'a> {
    /// The argument of a function whose name was read, with the power and the base between them.
    pub(super) fn call(&mut self, mut name: Function) -> Built<Expr> {
        let mut base = None;
        let mut power = None;
        loop {
            if self.peek() == Some(Kind::Mark('_')) && name == Function::PlainLog {
                self.bump();
                base = Some(self.log_base()?);
            } else if self.peek() == Some(Kind::Mark('^')) && power.is_none() {
                self.bump();
                power = Some(self.nested(Self::exponent)?);
            } else {
                break;
            }
        }
        if let Some(inverse) = inverse(&name)
            && power == Some(number(-1))
        {
            name = inverse;
            power = None;
        }
        let mut arguments = self.call_arguments(&name)?;
        if let Some(base) = base {
            name = Function::Log;
            arguments.push(base);
        }
        let is_many = matches!(
            name,
            Function::Gcd | Function::Lcm | Function::Min | Function::Max
        );
        let wanted = if name == Function::Log { 2 } else { 1 };
        if !is_many && arguments.len() != wanted {
            return refuse();
        }
        let value = self.builder.apply(name, arguments)?;
        match power {
            Some(power) => self.builder.power(value, power),
            None => Ok(value),
        }
    }

    /// The base of a logarithm: a group, or a run of digits, or one letter.
    fn log_base(&mut self) -> Built<Expr> {
        match self.peek() {
            Some(Kind::Mark('{')) => self.group(),
            // `\log_2 8`, and `\log_28`, which means the same in print.
            Some(Kind::Digits(_)) => self.argument(),
            _ => self.nested(Self::primary),
        }
    }

    fn call_arguments(&mut self, name: &Function) -> Built<Vec<Expr>> {
        match self.peek() {
            Some(Kind::Mark('(')) => self.arguments(),
            Some(Kind::Mark('{')) => Ok(vec![self.group()?]),
            Some(Kind::Mark('[')) => {
                self.bump();
                let value = self.bracketed(Self::additive)?;
                self.expect(Kind::Mark(']'))?;
                Ok(vec![value])
            }
            _ if matches!(
                name,
                Function::Min | Function::Max | Function::Gcd | Function::Lcm
            ) =>
            {
                refuse()
            }
            _ => Ok(vec![self.nested(Self::bare_argument)?]),
        }
    }

    /// A product without brackets, operators or another function: `\sin 2x`.
    fn bare_argument(&mut self) -> Built<Expr> {
        let is_negative = self.take(Kind::Mark('-'));
        let mut value = self.factor()?;
        while self.starts_bare_factor() {
            let right = self.factor()?;
            value = self.builder.product(value, right)?;
        }
        if is_negative {
            self.builder.negative(value)
        } else {
            Ok(value)
        }
    }

    fn starts_bare_factor(&self) -> bool {
        match self.peek() {
            Some(Kind::Word(word)) => function(word).is_none() && self.word_is_factor(word),
            Some(Kind::Command(name)) => {
                function(name).is_none()
                    && !matches!(name, "exp" | "lg" | "sum" | "prod")
                    && self.command_is_factor(name)
            }
            _ => false,
        }
    }

    pub(super) fn exponential(&mut self) -> Built<Expr> {
        let mut arguments = self.call_arguments(&Function::Ln)?;
        match (arguments.pop(), arguments.is_empty()) {
            (Some(argument), true) => self.builder.power(Expr::Euler, argument),
            _ => refuse(),
        }
    }

    pub(super) fn common_log(&mut self) -> Built<Expr> {
        let mut arguments = self.call_arguments(&Function::Ln)?;
        arguments.push(number(10));
        if arguments.len() != 2 {
            return refuse();
        }
        self.builder.apply(Function::Log, arguments)
    }

    /// `\int_0^1 …` and `\lim_{x \to 0} …`: equal only to themselves.
    pub(super) fn opaque(&mut self, name: &str) -> Built<Expr> {
        let mut text = String::from(name);
        while let Some(Kind::Mark(mark @ ('_' | '^'))) = self.peek() {
            self.bump();
            text.push(mark);
            self.subscript(&mut text)?;
        }
        let body = self.nested(Self::term)?;
        Ok(Expr::Apply(Function::Named(text), vec![body]))
    }

    /// `\sum_{k=1}^{n} …`: expanded between small integers, an opaque form elsewhere.
    pub(super) fn big_operator(&mut self, name: &str) -> Built<Expr> {
        self.expect(Kind::Mark('_'))?;
        self.expect(Kind::Mark('{'))?;
        let variable = match self.peek() {
            Some(Kind::Word(word)) if word.len() == 1 => word.to_string(),
            _ => return refuse(),
        };
        self.bump();
        self.expect(Kind::Mark('='))?;
        let low = self.bracketed(Self::additive)?;
        self.expect(Kind::Mark('}'))?;
        self.expect(Kind::Mark('^'))?;
        let high = self.nested(Self::exponent)?;
        let outer = self.binds_i;
        self.binds_i |= variable == "i";
        let body = self.nested(Self::term);
        self.binds_i = outer;
        let body = body?;
        let bounds = low
            .exact()
            .and_then(small)
            .zip(high.exact().and_then(small));
        if let Some((low, high)) = bounds
            && high.saturating_sub(low) < MAX_EXPANDED
        {
            return self.expand(name, &variable, low, high, &body);
        }
        let arguments = vec![Expr::Name(variable), low, high, body];
        Ok(Expr::Apply(Function::Named(String::from(name)), arguments))
    }

    fn expand(
        &mut self,
        name: &str,
        variable: &str,
        low: i64,
        high: i64,
        body: &Expr,
    ) -> Built<Expr> {
        let mut terms = Vec::new();
        for value in low..=high {
            terms.push(self.substituted(body, variable, &number(value))?);
        }
        if name == "sum" {
            return if terms.is_empty() {
                Ok(number(0))
            } else {
                self.builder.sum(terms)
            };
        }
        let mut product = number(1);
        for term in terms {
            product = self.builder.product(product, term)?;
        }
        Ok(product)
    }

    fn substituted(&mut self, body: &Expr, name: &str, value: &Expr) -> Built<Expr> {
        self.builder.budget.charge(60)?;
        Ok(match body {
            Expr::Name(found) if found == name => value.clone(),
            Expr::Sum(terms) => {
                let terms: Built<Vec<Expr>> = terms
                    .iter()
                    .map(|it| self.substituted(it, name, value))
                    .collect();
                self.builder.sum(terms?)?
            }
            Expr::Product(factors) => {
                let mut product = number(1);
                for factor in factors {
                    let factor = self.substituted(factor, name, value)?;
                    product = self.builder.product(product, factor)?;
                }
                product
            }
            Expr::Power(base, exponent) => {
                let base = self.substituted(base, name, value)?;
                let exponent = self.substituted(exponent, name, value)?;
                self.builder.power(base, exponent)?
            }
            Expr::Apply(function, arguments) => {
                let arguments: Built<Vec<Expr>> = arguments
                    .iter()
                    .map(|it| self.substituted(it, name, value))
                    .collect();
                self.builder.apply(function.clone(), arguments?)?
            }
            other => other.clone(),
        })
    }
}
