//! Units behind a number: `5 cm`, `\text{ m/s}^2`, `30^\circ`, `12\%`, `18 eggs`.

use alloc::string::{String, ToString};

use crate::fold::{Built, number};
use crate::lex::{Gap, Kind};
use crate::parse::{Parser, WORD_STEPS, refuse};
use crate::tree::{Expr, Function, Value};
use crate::unit::{changes_meaning, currency, multiplier, usual_name};

impl<'a> Parser<'a> {
    /// True if a unit stands here and nothing but the end of an item behind it.
    pub(super) fn is_unit_here(&self) -> bool {
        let Some(Kind::Word(word)) = self.peek() else {
            return false;
        };
        let Some(token) = self.token(0) else {
            return false;
        };
        // A single letter is a unit only in upright type; `m` alone is a name.
        let is_unit = matches!(word, "sq" | "cu" | "square" | "cubic")
            || (usual_name(word).is_some() && (word.chars().count() > 1 || token.is_text));
        let is_behind_number = self.at > 0;
        is_unit && is_behind_number
    }

    /// What follows a formula as its unit.
    pub(super) fn with_unit(&mut self, value: Expr) -> Built<Value> {
        let currency = self.currency.take();
        let value = self.multiplied(value)?;
        if let Expr::Apply(Function::Degree, arguments) = &value
            && let [inner] = arguments.as_slice()
        {
            let unit = match self.peek() {
                Some(Kind::Word(scale @ ("C" | "F" | "Celsius" | "Fahrenheit"))) => {
                    self.bump();
                    let letter = scale.chars().next().unwrap_or('C');
                    let mut unit = String::from("degree ");
                    unit.push(letter);
                    unit
                }
                _ => String::from("degree"),
            };
            return Ok(Value::Quantity(inner.clone(), unit));
        }
        if self.is_percent() {
            return if currency.is_some() {
                refuse()
            } else {
                Ok(Value::Percent(value))
            };
        }
        let unit = match self.currency_behind() {
            Some(sign) => Some(sign.to_string()),
            None => self.unit()?,
        };
        match (currency, unit) {
            (Some(sign), Some(unit)) if unit != sign => refuse(),
            (Some(sign), _) => Ok(Value::Quantity(value, sign.to_string())),
            (None, Some(unit)) => Ok(Value::Quantity(value, unit)),
            (None, None) => Ok(Value::Expr(value)),
        }
    }

    /// A currency sign that ends an item: `75¢`, `5\$`.
    fn currency_behind(&mut self) -> Option<&'static str> {
        let Some(Kind::Mark(sign)) = self.peek() else {
            return None;
        };
        let name = currency(sign)?;
        let start = self.at;
        self.bump();
        if !self.ends_item() {
            self.at = start;
            return None;
        }
        Some(name)
    }

    /// `3 million`.
    fn multiplied(&mut self, mut value: Expr) -> Built<Expr> {
        while let Some(Kind::Word(word)) = self.peek()
            && let Some(factor) = multiplier(word)
            && value.exact().is_some()
        {
            self.bump();
            value = self.builder.product(value, number(factor))?;
        }
        Ok(value)
    }

    fn is_percent(&mut self) -> bool {
        if self.take(Kind::Mark('%')) || self.take_word(&["percent", "percentage", "pct"]) {
            return true;
        }
        let is_two =
            self.peek() == Some(Kind::Word("per")) && self.peek_at(1) == Some(Kind::Word("cent"));
        if is_two {
            self.skip(2);
        }
        is_two
    }

    fn unit(&mut self) -> Built<Option<String>> {
        if matches!(self.peek(), Some(Kind::Word(_))) {
            self.builder.budget.charge(WORD_STEPS)?;
        }
        let start = self.at;
        let Some(mut name) = self.single_unit()? else {
            self.at = start;
            return Ok(self.counted());
        };
        loop {
            let joint = match self.peek() {
                Some(Kind::Mark('/')) => '/',
                Some(Kind::Word("per" | "a" | "an")) => '/',
                Some(Kind::Command("cdot") | Kind::Mark('*')) => '*',
                _ => break,
            };
            self.bump();
            let Some(next) = self.single_unit()? else {
                return refuse();
            };
            name.push(joint);
            name.push_str(&next);
        }
        Ok(Some(name))
    }

    /// One unit with its power: `cm`, `square feet`, `m^2`, `sq. ft`, `cm squared`.
    fn single_unit(&mut self) -> Built<Option<String>> {
        let mut power = match self.peek() {
            Some(Kind::Word("square" | "sq")) => 2,
            Some(Kind::Word("cubic" | "cu")) => 3,
            _ => 1,
        };
        if power > 1 {
            self.bump();
            self.take(Kind::Mark('.'));
        }
        let Some(Kind::Word(word)) = self.peek() else {
            return Ok(None);
        };
        let is_text = self.token(0).is_some_and(|token| token.is_text);
        let is_apart = is_text || self.gap(0) == Gap::Blank || word.chars().count() > 1;
        let Some(name) = usual_name(word).filter(|_| is_apart) else {
            return Ok(None);
        };
        self.bump();
        if word.len() <= 4 && self.peek() == Some(Kind::Mark('.')) && self.peek_at(1).is_none() {
            self.bump();
        }
        match self.peek() {
            Some(Kind::Word("squared")) => power = self.unit_power(2),
            Some(Kind::Word("cubed")) => power = self.unit_power(3),
            Some(Kind::Mark('^')) => {
                self.bump();
                let exponent = self.exponent()?;
                power = match exponent.exact().and_then(crate::number::small) {
                    Some(power @ (-3..=4)) if power != 0 => power,
                    _ => return refuse(),
                };
            }
            _ => {}
        }
        let mut unit = name.to_string();
        if power != 1 {
            unit.push('^');
            unit.push_str(&power.to_string());
        }
        Ok(Some(unit))
    }

    fn unit_power(&mut self, power: i64) -> i64 {
        self.bump();
        power
    }

    /// Up to three words that name what is counted: `18 eggs`, `\text{ red marbles}`. Only where
    /// they end the item.
    fn counted(&mut self) -> Option<String> {
        let start = self.at;
        let mut name = String::new();
        let mut count = 0;
        while let Some(Kind::Word(word)) = self.peek() {
            let is_text = self.token(0).is_some_and(|token| token.is_text);
            let length = word.chars().count();
            let is_word = length >= 3 || (is_text && length == 2);
            let is_known = count == 0 && crate::parse::words::is_operand_word(word);
            if !is_word || is_known || changes_meaning(word) || count == 3 {
                break;
            }
            if !name.is_empty() {
                name.push(' ');
            }
            let folded = word.to_lowercase();
            name.push_str(folded.strip_suffix('s').unwrap_or(&folded));
            count += 1;
            self.bump();
        }
        let ends = matches!(
            self.peek(),
            None | Some(
                Kind::Mark(',' | ';' | ')' | ']' | '}')
                    | Kind::SetBrace('}')
                    | Kind::Word("and" | "or")
            )
        );
        if count == 0 || !ends {
            self.at = start;
            return None;
        }
        Some(name)
    }
}
