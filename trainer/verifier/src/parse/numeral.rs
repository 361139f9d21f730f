//! Written numbers: separators, decimals, repeating decimals, scientific notation, mixed numbers.

use alloc::string::String;

use dashu_int::{IBig, UBig};
use dashu_ratio::RBig;

use crate::fold::Built;
use crate::lex::{Gap, Kind};
use crate::number::{Decimal, integer, power_of_ten, size_bits};
use crate::parse::{Comma, Parser, refuse};
use crate::tree::Expr;
use crate::verdict::Reason;

/// Largest size of a written power of ten.
const MAX_TEN: i32 = 9000;

/// Digits as collected: the whole part without its separators, and the fraction if there is one.
struct Digits {
    whole: String,
    fraction: Option<String>,
}

/// Bits of a number of so many decimal digits, rounded up.
fn bits_of_digits(count: usize) -> usize {
    count.saturating_mul(10) / 3
}

impl<'a> Parser<'a> {
    /// True if a number starts here.
    pub(super) fn is_at_number(&self) -> bool {
        match self.peek() {
            Some(Kind::Digits(_)) => true,
            Some(Kind::Mark('.')) => self.is_joined_digits(1),
            _ => false,
        }
    }

    fn digits_at(&self, ahead: usize) -> Option<&'a str> {
        match self.peek_at(ahead) {
            Some(Kind::Digits(digits)) => Some(digits),
            _ => None,
        }
    }

    /// Digits without a gap before them.
    fn is_joined_digits(&self, ahead: usize) -> bool {
        self.digits_at(ahead).is_some() && self.gap(ahead) == Gap::None
    }

    pub(super) fn numeral(&mut self) -> Built<Expr> {
        let mut digits = Digits {
            whole: String::new(),
            fraction: None,
        };
        if let Some(first) = self.digits_at(0) {
            digits.whole.push_str(first);
            self.bump();
            self.groups(&mut digits);
        }
        if digits.fraction.is_none()
            && self.peek() == Some(Kind::Mark('.'))
            && self.gap(0) == Gap::None
            && !self.is_ellipsis(0)
        {
            self.point(&mut digits);
        }
        if let Some(value) = self.repeating(&digits)? {
            return Ok(Expr::Number(value));
        }
        let is_integer = digits.fraction.is_none();
        self.charge_digits(&digits)?;
        let mut decimal = Decimal::written(&digits.whole, digits.fraction.as_deref().unwrap_or(""))
            .ok_or(Reason::AnswerTooLarge)?;
        if !is_integer && self.ellipsis() {
            decimal.is_unfinished = true;
            return Ok(Expr::Decimal(decimal));
        }
        let exponent = self.scientific()?;
        if let Some(exponent) = exponent {
            let num_bits = bits_of_digits(usize::try_from(exponent.unsigned_abs()).unwrap_or(0));
            let budget = &mut self.builder.budget;
            budget.charge_bits(num_bits, num_bits / 8)?;
            budget.charge_quotients(num_bits, size_bits(&decimal.value))?;
            decimal = decimal.scaled(exponent);
        }
        if digits
            .fraction
            .as_deref()
            .is_some_and(|fraction| !fraction.is_empty())
        {
            return Ok(Expr::Decimal(decimal));
        }
        if exponent.is_none() && is_integer {
            return self.mixed(decimal.value);
        }
        Ok(Expr::Number(decimal.value))
    }

    /// Steps of turning digits into a number; a fraction is reduced.
    fn charge_digits(&mut self, digits: &Digits) -> Built<()> {
        let fraction = digits.fraction.as_deref().unwrap_or("");
        let num_bits = bits_of_digits(digits.whole.len().saturating_add(fraction.len()));
        let other = if fraction.is_empty() {
            num_bits / 8
        } else {
            num_bits
        };
        Ok(self.builder.budget.charge_bits(num_bits, other)?)
    }

    /// Separators of thousands, or a decimal comma.
    fn groups(&mut self, digits: &mut Digits) {
        let starts_group = digits.whole.len() <= 3 && !digits.whole.starts_with('0');
        // A braced comma.
        if self.peek() == Some(Kind::GroupComma) && self.digits_at(1).is_some() {
            let is_thousands =
                starts_group && self.digits_at(1).is_some_and(|next| next.len() == 3);
            if is_thousands {
                while self.peek() == Some(Kind::GroupComma)
                    && let Some(group) = self.digits_at(1).filter(|group| group.len() == 3)
                {
                    digits.whole.push_str(group);
                    self.skip(2);
                }
            } else if let Some(fraction) = self.digits_at(1) {
                digits.fraction = Some(String::from(fraction));
                self.skip(2);
            }
            return;
        }
        if starts_group {
            self.plain_groups(digits);
        }
        let is_decimal_comma = self.comma == Comma::Decimal
            && self.brackets == 0
            && self.peek() == Some(Kind::Mark(','))
            && self.gap(0) == Gap::None
            && self.is_joined_digits(1);
        if is_decimal_comma && let Some(fraction) = self.digits_at(1) {
            digits.fraction = Some(String::from(fraction));
            self.skip(2);
        }
    }

    /// `1,234,567` outside brackets, `1 234 567` and `1\,234\,567` everywhere. All groups behind
    /// the first have three digits, or none is one.
    fn plain_groups(&mut self, digits: &mut Digits) {
        let by_comma = self.comma != Comma::List
            && self.brackets == 0
            && self.peek() == Some(Kind::Mark(','))
            && self.gap(0) == Gap::None;
        let step = usize::from(by_comma);
        let is_group = |parser: &Self, ahead: usize| {
            if by_comma {
                parser.peek_at(ahead) == Some(Kind::Mark(','))
                    && parser.gap(ahead) == Gap::None
                    && parser.is_joined_digits(ahead.saturating_add(1))
            } else {
                parser.digits_at(ahead).is_some()
                    && parser.gap(ahead) != Gap::None
                    && parser.token(ahead).map(|token| token.is_text)
                        == parser
                            .at
                            .checked_sub(1)
                            .and_then(|at| parser.tokens.get(at))
                            .map(|token| token.is_text)
            }
        };
        let mut ahead = 0;
        let mut groups = String::new();
        while is_group(self, ahead) {
            let Some(group) = self.digits_at(ahead.saturating_add(step)) else {
                return;
            };
            if group.len() != 3 {
                return;
            }
            groups.push_str(group);
            ahead = ahead.saturating_add(step).saturating_add(1);
        }
        // `1 234/5` is a mixed number, not a quotient of 1234.
        if !by_comma && self.peek_at(ahead) == Some(Kind::Mark('/')) {
            return;
        }
        digits.whole.push_str(&groups);
        self.skip(ahead);
    }

    /// The point and what follows it.
    fn point(&mut self, digits: &mut Digits) {
        let mut fraction = String::new();
        self.bump();
        if self.is_joined_digits(0)
            && let Some(run) = self.digits_at(0)
        {
            fraction.push_str(run);
            self.bump();
            // 3.141\,592\,653
            while self.gap(0) == Gap::Thin
                && let Some(group) = self.digits_at(0)
            {
                fraction.push_str(group);
                self.bump();
            }
        }
        digits.fraction = Some(fraction);
    }

    /// `0.1\overline{6}`, `0.\dot{3}`, `0.1(6)`.
    fn repeating(&mut self, digits: &Digits) -> Built<Option<RBig>> {
        let Some(fixed) = digits.fraction.as_deref() else {
            return Ok(None);
        };
        let cycle = match (
            self.peek(),
            self.peek_at(1),
            self.peek_at(2),
            self.peek_at(3),
        ) {
            (
                Some(Kind::Command("overline" | "bar" | "overbar" | "dot")),
                Some(Kind::Mark('{')),
                Some(Kind::Digits(cycle)),
                Some(Kind::Mark('}')),
            ) => {
                self.skip(4);
                String::from(cycle)
            }
            (Some(Kind::Command("overline" | "bar" | "dot")), Some(Kind::Digits(cycle)), ..)
                if cycle.len() == 1 =>
            {
                self.skip(2);
                String::from(cycle)
            }
            (Some(Kind::Mark('(')), Some(Kind::Digits(cycle)), Some(Kind::Mark(')')), _)
                if self.gap(0) == Gap::None =>
            {
                self.skip(3);
                String::from(cycle)
            }
            _ => return Ok(None),
        };
        let cycle = self.second_dot(cycle);
        // Three dots behind a bar say the same once more.
        self.ellipsis();
        let num_bits = bits_of_digits(cycle.len().saturating_add(fixed.len()));
        self.builder.budget.charge_quotients(num_bits, num_bits)?;
        let size = |text: &str| i32::try_from(text.len()).map_err(|_| Reason::AnswerTooLarge);
        let base = Decimal::written(&digits.whole, fixed).ok_or(Reason::AnswerTooLarge)?;
        let nines = power_of_ten(size(&cycle)?) - RBig::ONE;
        let tail = RBig::from(integer(&cycle).ok_or(Reason::AnswerTooLarge)?) / nines;
        Ok(Some(
            base.value + tail * power_of_ten(size(fixed)?.saturating_neg()),
        ))
    }

    /// `\dot{1}4285\dot{7}`: the cycle goes from the first dot to the second.
    fn second_dot(&mut self, first: String) -> String {
        let mut cycle = first.clone();
        let mut ahead = 0;
        if self.is_joined_digits(0)
            && let Some(inner) = self.digits_at(0)
        {
            cycle.push_str(inner);
            ahead = 1;
        }
        let is_dot = self.peek_at(ahead) == Some(Kind::Command("dot"))
            && self.peek_at(ahead.saturating_add(1)) == Some(Kind::Mark('{'));
        match self.digits_at(ahead.saturating_add(2)) {
            Some(last) if is_dot => {
                cycle.push_str(last);
                self.skip(ahead.saturating_add(4));
                cycle
            }
            _ => first,
        }
    }

    pub(super) fn is_ellipsis(&self, ahead: usize) -> bool {
        self.peek_at(ahead) == Some(Kind::Command("ldots"))
            || (0..3).all(|i| self.peek_at(ahead.saturating_add(i)) == Some(Kind::Mark('.')))
    }

    pub(super) fn ellipsis(&mut self) -> bool {
        let length = match self.peek() {
            Some(Kind::Command("ldots")) => 1,
            _ if self.is_ellipsis(0) => 3,
            _ => return false,
        };
        self.skip(length);
        true
    }

    /// `e-3` directly behind the digits.
    fn scientific(&mut self) -> Built<Option<i32>> {
        if !matches!(self.peek(), Some(Kind::Word("e" | "E"))) || self.gap(0) != Gap::None {
            return Ok(None);
        }
        let is_negative = self.peek_at(1) == Some(Kind::Mark('-'));
        let sign = usize::from(is_negative || self.peek_at(1) == Some(Kind::Mark('+')));
        let ahead = sign.saturating_add(1);
        if !self.is_joined_digits(ahead) || (sign == 1 && self.gap(1) != Gap::None) {
            return Ok(None);
        }
        let exponent: i32 = self
            .digits_at(ahead)
            .and_then(|digits| digits.parse().ok())
            .filter(|exponent| *exponent <= MAX_TEN)
            .ok_or(Reason::AnswerTooLarge)?;
        self.skip(ahead.saturating_add(1));
        Ok(Some(if is_negative {
            exponent.saturating_neg()
        } else {
            exponent
        }))
    }

    /// An integer followed directly by a fraction of two positive integers is a mixed number.
    fn mixed(&mut self, whole: RBig) -> Built<Expr> {
        let part = match self.plain_fraction() {
            Some(part) => Some(part),
            None => self.command_fraction(),
        };
        match part {
            Some((top, bottom)) if !bottom.is_zero() && !top.is_zero() => {
                let part = RBig::from_parts(IBig::from(top), bottom);
                Ok(Expr::Number(whole + part))
            }
            Some(_) => refuse(),
            None => Ok(Expr::Number(whole)),
        }
    }

    /// ` 2/3` behind a blank.
    fn plain_fraction(&mut self) -> Option<(UBig, UBig)> {
        let top = self.digits_at(0)?;
        if self.gap(0) == Gap::None || self.peek_at(1) != Some(Kind::Mark('/')) {
            return None;
        }
        let bottom = self.digits_at(2)?;
        // 1 2/3.5 is no mixed number.
        if self.peek_at(3) == Some(Kind::Mark('.')) && self.is_joined_digits(4) {
            return None;
        }
        self.skip(3);
        Some((integer(top)?, integer(bottom)?))
    }

    /// `\frac{2}{3}` of two plain integers, with or without braces.
    fn command_fraction(&mut self) -> Option<(UBig, UBig)> {
        if self.peek() != Some(Kind::Command("frac")) {
            return None;
        }
        let start = self.at;
        // Only the runs of digits behind the command are cut into digits.
        let behind = start.saturating_add(1)..start.saturating_add(7).min(self.tokens.len());
        let tokens = self.tokens.get(behind.clone()).map(<[_]>::to_vec);
        self.bump();
        let parts = self.digit_argument().zip(self.digit_argument());
        if parts.is_none() {
            self.at = start;
            if let (Some(slot), Some(tokens)) = (self.tokens.get_mut(behind), tokens) {
                slot.copy_from_slice(&tokens);
            }
        }
        parts
    }

    fn digit_argument(&mut self) -> Option<UBig> {
        if self.peek() == Some(Kind::Mark('{')) {
            let digits = self.digits_at(1)?;
            if self.peek_at(2) != Some(Kind::Mark('}')) {
                return None;
            }
            self.skip(3);
            return integer(digits);
        }
        integer(self.single_digit()?)
    }

    /// The first digit of a run; the rest of the run stays.
    pub(super) fn single_digit(&mut self) -> Option<&'a str> {
        let digits = self.digits_at(0)?;
        let (first, rest) = digits.split_at_checked(1)?;
        if rest.is_empty() {
            self.bump();
        } else if let Some(token) = self.tokens.get_mut(self.at) {
            token.kind = Kind::Digits(rest);
            token.gap = Gap::None;
        }
        Some(first)
    }
}
