//! Tokens to an exact rational, in the notations of school mathematics.

use alloc::string::String;

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Zero, pow};

use crate::lex::Token;
use crate::policy::Limits;

/// Why no number was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It is something else.
    NotNumber,
    /// It is a number that cannot be: a denominator of zero.
    Undefined,
}

/// A number without its sign.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Magnitude {
    pub(crate) value: BigRational,
    /// A comma was taken for a decimal comma, though it could separate list members.
    pub(crate) has_decimal_comma: bool,
}

/// Reads numbers from a token list, front to back.
pub(crate) struct Reader<'t, 'a> {
    tokens: &'t [Token<'a>],
    at: usize,
    parens: usize,
    depth: usize,
    limits: &'t Limits,
}

struct Literal {
    value: BigRational,
    is_integer: bool,
    is_grouped_by_blank: bool,
    has_decimal_comma: bool,
}

impl Literal {
    fn integer(value: BigInt) -> Self {
        Self {
            value: BigRational::from_integer(value),
            is_integer: true,
            is_grouped_by_blank: false,
            has_decimal_comma: false,
        }
    }

    /// True if the notation does not go together with a fraction bar: `1 234/5`, `1,5/2`.
    fn is_doubtful_part(&self) -> bool {
        self.is_grouped_by_blank || self.has_decimal_comma
    }
}

fn integer(digits: &str) -> Result<BigInt, Stop> {
    BigInt::parse_bytes(digits.as_bytes(), 10).ok_or(Stop::NotNumber)
}

fn ten_to(exponent: usize) -> BigInt {
    pow(BigInt::from(10u8), exponent)
}

fn quotient(numerator: &BigRational, denominator: &BigRational) -> Result<BigRational, Stop> {
    if denominator.is_zero() {
        Err(Stop::Undefined)
    } else {
        Ok(numerator / denominator)
    }
}

impl<'t, 'a> Reader<'t, 'a> {
    pub(crate) fn new(tokens: &'t [Token<'a>], limits: &'t Limits) -> Self {
        Self {
            tokens,
            at: 0,
            parens: 0,
            depth: 0,
            limits,
        }
    }

    pub(crate) fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.at).copied()
    }

    fn ahead(&self, distance: usize) -> Option<Token<'a>> {
        self.tokens.get(self.at.saturating_add(distance)).copied()
    }

    pub(crate) fn bump(&mut self) {
        self.at = self.at.saturating_add(1);
    }

    /// Takes the token if it is next.
    pub(crate) fn take(&mut self, token: Token<'_>) -> bool {
        let is_next = self.peek() == Some(token);
        if is_next {
            self.bump();
        }
        is_next
    }

    /// Skips blanks; true if there were any.
    pub(crate) fn skip_blanks(&mut self) -> bool {
        let start = self.at;
        while self.peek().is_some_and(Token::is_blank) {
            self.bump();
        }
        self.at > start
    }

    pub(crate) fn position(&self) -> usize {
        self.at
    }

    pub(crate) fn rewind(&mut self, position: usize) {
        self.at = position;
    }

    /// `+` or `-`; true for minus, `None` if no sign is written.
    pub(crate) fn sign(&mut self) -> Option<bool> {
        let is_minus = match self.peek() {
            Some(Token::Symbol('-')) => true,
            Some(Token::Symbol('+')) => false,
            _ => return None,
        };
        self.bump();
        self.skip_blanks();
        Some(is_minus)
    }

    fn signed(&mut self) -> Result<BigRational, Stop> {
        self.skip_blanks();
        let is_minus = self.sign() == Some(true);
        let value = self.magnitude()?.value;
        self.skip_blanks();
        Ok(if is_minus { -value } else { value })
    }

    /// A number without sign: a primary, a mixed number, or the quotient of two primaries.
    pub(crate) fn magnitude(&mut self) -> Result<Magnitude, Stop> {
        let first = self.part()?;
        if first.is_integer
            && !first.is_grouped_by_blank
            && let Some(fraction) = self.fraction_of_mixed()?
        {
            return Ok(Magnitude {
                value: first.value + fraction,
                has_decimal_comma: false,
            });
        }
        let before = self.at;
        self.skip_blanks();
        if !self.take(Token::Symbol('/')) {
            self.at = before;
            return Ok(Magnitude {
                value: first.value,
                has_decimal_comma: first.has_decimal_comma,
            });
        }
        self.skip_blanks();
        let second = self.part()?;
        if first.is_doubtful_part() || second.is_doubtful_part() {
            return Err(Stop::NotNumber);
        }
        Ok(Magnitude {
            value: quotient(&first.value, &second.value)?,
            has_decimal_comma: false,
        })
    }

    fn part(&mut self) -> Result<Literal, Stop> {
        match self.peek() {
            Some(Token::Digits(_) | Token::Symbol('.')) => self.literal(),
            _ => self.primary(),
        }
    }

    /// `\frac`, or a number in parentheses or braces.
    fn primary(&mut self) -> Result<Literal, Stop> {
        let value = match self.peek() {
            Some(Token::Command("frac")) => {
                self.bump();
                self.fraction()?
            }
            Some(Token::Symbol('(')) => {
                self.parens = self.parens.saturating_add(1);
                let value = self.enclosed(')');
                self.parens = self.parens.saturating_sub(1);
                value?
            }
            Some(Token::Symbol('{')) => self.enclosed('}')?,
            _ => return Err(Stop::NotNumber),
        };
        Ok(Literal {
            value,
            is_integer: false,
            is_grouped_by_blank: false,
            has_decimal_comma: false,
        })
    }

    /// A signed number up to the closing mark; the opening one is next.
    fn enclosed(&mut self, closing: char) -> Result<BigRational, Stop> {
        if self.depth >= self.limits.nesting {
            return Err(Stop::NotNumber);
        }
        self.bump();
        self.depth = self.depth.saturating_add(1);
        let value = self.signed();
        self.depth = self.depth.saturating_sub(1);
        let value = value?;
        if self.take(Token::Symbol(closing)) {
            Ok(value)
        } else {
            Err(Stop::NotNumber)
        }
    }

    /// The two arguments of `\frac`, with or without braces.
    fn fraction(&mut self) -> Result<BigRational, Stop> {
        self.skip_blanks();
        if let Some(Token::Digits(digits)) = self.peek() {
            let mut chars = digits.chars();
            let first = chars.next().and_then(|c| c.to_digit(10));
            let rest = chars.as_str();
            self.bump();
            let numerator = BigRational::from_integer(BigInt::from(first.unwrap_or(0)));
            return match rest.len() {
                0 => quotient(&numerator, &self.fraction_part()?),
                1 => quotient(&numerator, &BigRational::from_integer(integer(rest)?)),
                _ => Err(Stop::NotNumber),
            };
        }
        let numerator = self.fraction_part()?;
        let denominator = self.fraction_part()?;
        quotient(&numerator, &denominator)
    }

    fn fraction_part(&mut self) -> Result<BigRational, Stop> {
        self.skip_blanks();
        match self.peek() {
            Some(Token::Symbol('{')) => self.enclosed('}'),
            Some(Token::Digits(digit)) if digit.len() == 1 => {
                self.bump();
                Ok(BigRational::from_integer(integer(digit)?))
            }
            _ => Err(Stop::NotNumber),
        }
    }

    /// The fraction directly behind an integer: two positive integers, as in `1 2/3`.
    fn fraction_of_mixed(&mut self) -> Result<Option<BigRational>, Stop> {
        let before = self.at;
        let is_apart = self.skip_blanks();
        let fraction = match (self.peek(), self.ahead(1)) {
            (Some(Token::Command("frac")), _) => {
                self.bump();
                Some(self.fraction()?)
            }
            (Some(Token::Digits(numerator)), Some(Token::Symbol('/'))) if is_apart => {
                match self.ahead(2) {
                    Some(Token::Digits(denominator)) => {
                        self.at = self.at.saturating_add(3);
                        let [numerator, denominator] = [integer(numerator)?, integer(denominator)?];
                        if denominator.is_zero() {
                            return Err(Stop::Undefined);
                        }
                        Some(BigRational::new(numerator, denominator))
                    }
                    _ => None,
                }
            }
            _ => None,
        };
        match fraction {
            Some(value) if value > BigRational::zero() => Ok(Some(value)),
            Some(_) => Err(Stop::NotNumber),
            None => {
                self.at = before;
                Ok(None)
            }
        }
    }

    /// Digits with separators, decimals, repeating decimals and a power of ten.
    fn literal(&mut self) -> Result<Literal, Stop> {
        let mut literal = match self.peek() {
            Some(Token::Digits(first)) => {
                self.bump();
                self.grouped(first)?
            }
            _ => {
                // `.5`: digits must follow the point.
                if !matches!(self.ahead(1), Some(Token::Digits(_))) {
                    return Err(Stop::NotNumber);
                }
                Literal::integer(BigInt::zero())
            }
        };
        if !literal.has_decimal_comma
            && !literal.is_grouped_by_blank
            && self.take(Token::Symbol('.'))
        {
            literal.is_integer = false;
            literal.value += self.decimals()?;
        }
        self.power_of_ten(literal)
    }

    /// The digits behind a decimal point, the repeating ones included.
    fn decimals(&mut self) -> Result<BigRational, Stop> {
        let fixed = match self.peek() {
            Some(Token::Digits(digits)) => {
                self.bump();
                digits
            }
            _ => "",
        };
        let scale = ten_to(fixed.len());
        let value = if fixed.is_empty() {
            BigRational::zero()
        } else {
            BigRational::new(integer(fixed)?, scale.clone())
        };
        let Some(repeating) = self.repeating() else {
            return Ok(value);
        };
        let nines = ten_to(repeating.len()) - BigInt::one();
        Ok(value + BigRational::new(integer(repeating)?, scale * nines))
    }

    /// `\overline{3}`, `\dot{3}` or `(3)` behind a decimal point.
    fn repeating(&mut self) -> Option<&'a str> {
        let (open, digits, close, length) = match (self.peek()?, self.ahead(1)) {
            (Token::Command("overline" | "bar" | "dot"), Some(open @ Token::Symbol('{'))) => {
                (open, self.ahead(2), self.ahead(3), 4)
            }
            (open @ Token::Symbol('('), digits) => (open, digits, self.ahead(2), 3),
            _ => return None,
        };
        let closing = if open == Token::Symbol('(') { ')' } else { '}' };
        match (digits, close) {
            (Some(Token::Digits(digits)), Some(Token::Symbol(c))) if c == closing => {
                self.at = self.at.saturating_add(length);
                Some(digits)
            }
            _ => None,
        }
    }

    /// Groups of three digits behind the first group, or a decimal comma.
    fn grouped(&mut self, first: &'a str) -> Result<Literal, Stop> {
        let Some(separator) = self.separator() else {
            return Ok(Literal::integer(integer(first)?));
        };
        let is_blank = separator.is_blank();
        let mut digits = String::from(first);
        let mut num_groups = 0usize;
        let mut is_thousands = first.len() <= 3 && !first.starts_with('0');
        let mut last = "";
        while self.separator() == Some(separator) {
            self.bump();
            if separator == Token::GroupComma {
                self.skip_blanks();
            }
            let Some(Token::Digits(group)) = self.peek() else {
                return Err(Stop::NotNumber);
            };
            self.bump();
            is_thousands &= group.len() == 3;
            num_groups = num_groups.saturating_add(1);
            digits.push_str(group);
            last = group;
        }
        if is_thousands {
            return Ok(Literal {
                is_grouped_by_blank: is_blank,
                ..Literal::integer(integer(&digits)?)
            });
        }
        if is_blank || num_groups != 1 {
            return Err(Stop::NotNumber);
        }
        Ok(Literal {
            value: BigRational::new(integer(&digits)?, ten_to(last.len())),
            is_integer: false,
            is_grouped_by_blank: false,
            has_decimal_comma: separator == Token::Symbol(','),
        })
    }

    /// The separator that is next, if digits follow it and it can be one here.
    fn separator(&self) -> Option<Token<'a>> {
        let separator = self.peek()?;
        let mut distance = 1;
        if separator == Token::GroupComma && self.ahead(1).is_some_and(Token::is_blank) {
            distance = 2;
        }
        let Some(Token::Digits(group)) = self.ahead(distance) else {
            return None;
        };
        match separator {
            // Inside parentheses a comma separates members: `(1,234)` is a pair.
            Token::Symbol(',') if self.parens == 0 => Some(separator),
            Token::GroupComma => Some(separator),
            // A blank before three digits separates thousands unless a fraction follows.
            Token::Blank | Token::Thin
                if group.len() == 3 && self.ahead(2) != Some(Token::Symbol('/')) =>
            {
                Some(separator)
            }
            _ => None,
        }
    }

    /// `e-3`, `\times 10^{-3}`, or the power itself where the literal is `10`.
    fn power_of_ten(&mut self, mut literal: Literal) -> Result<Literal, Stop> {
        let before = self.at;
        let is_ten = literal.is_integer && literal.value == BigRational::from_integer(10.into());
        if is_ten && self.take(Token::Symbol('^')) {
            literal.value = self.power()?;
            literal.is_integer = false;
            return Ok(literal);
        }
        if matches!(self.peek(), Some(Token::Word("e" | "E"))) {
            self.bump();
            let factor = self.power()?;
            literal.value *= factor;
            literal.is_integer = false;
            return Ok(literal);
        }
        self.skip_blanks();
        if matches!(
            self.peek(),
            Some(Token::Command("times" | "cdot") | Token::Symbol('*'))
        ) {
            self.bump();
            self.skip_blanks();
            if self.take(Token::Digits("10")) && self.take(Token::Symbol('^')) {
                literal.value *= self.power()?;
                literal.is_integer = false;
                return Ok(literal);
            }
        }
        self.at = before;
        Ok(literal)
    }

    /// Ten to the exponent that is next, with or without braces.
    fn power(&mut self) -> Result<BigRational, Stop> {
        let is_braced = self.take(Token::Symbol('{'));
        let is_minus = self.sign() == Some(true);
        let Some(Token::Digits(digits)) = self.peek() else {
            return Err(Stop::NotNumber);
        };
        self.bump();
        if is_braced && !self.take(Token::Symbol('}')) {
            return Err(Stop::NotNumber);
        }
        let exponent: u32 = digits.parse().map_err(|_| Stop::NotNumber)?;
        if exponent > self.limits.exponent {
            return Err(Stop::NotNumber);
        }
        let power = BigRational::from_integer(ten_to(exponent as usize));
        Ok(if is_minus { power.recip() } else { power })
    }
}
