//! Tuples, intervals, sets, matrices and operations on sets.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use crate::fold::{Built, number};
use crate::lex::{Gap, Kind};
use crate::parse::{Parser, refuse};
use crate::tree::{Expr, SetOp, Value};
use crate::verdict::Reason;

impl<'a> Parser<'a> {
    /// One side of a relation: operands joined by operations on sets.
    pub(super) fn side(&mut self) -> Built<Value> {
        let mut left = self.set_operand()?;
        let mut count = 0usize;
        loop {
            let operation = match self.peek() {
                Some(Kind::Command("cup") | Kind::Word("U" | "u"))
                    if !matches!(left, Value::Expr(_)) =>
                {
                    SetOp::Union
                }
                Some(Kind::Command("cup")) => SetOp::Union,
                Some(Kind::Command("cap")) => SetOp::Intersection,
                Some(Kind::Command("setminus")) => SetOp::Difference,
                Some(Kind::Mark('-')) if matches!(left, Value::NumberSet(_)) => SetOp::Difference,
                _ => return Ok(left),
            };
            self.bump();
            let right = self.set_operand()?;
            left = Value::SetOp(operation, Box::new(left), Box::new(right));
            count = count.saturating_add(1);
            if count > self.limits.nesting {
                return Err(Reason::AnswerTooLarge);
            }
        }
    }

    fn set_operand(&mut self) -> Built<Value> {
        match self.peek() {
            Some(Kind::NumberSet(letter)) => {
                self.bump();
                self.number_set(letter)
            }
            Some(Kind::Command("emptyset")) => {
                self.bump();
                Ok(Value::Set(Vec::new()))
            }
            Some(Kind::SetBrace('{')) => self.set(),
            Some(Kind::Mark('{')) if self.is_plain_set() => self.plain_set(),
            Some(Kind::Mark(open @ ('(' | '['))) if self.is_structure() => self.structure(open),
            // ]a, b[
            Some(Kind::Mark(']')) => self.outward(),
            Some(Kind::Command("langle")) | Some(Kind::Mark('<')) => self.angle(),
            Some(Kind::Begin(name)) => self.environment(name),
            Some(Kind::Mark('(' | '[')) if matches!(self.peek_at(1), Some(Kind::Begin(_))) => {
                self.bracketed_matrix()
            }
            _ => self.expression(),
        }
    }

    /// Brackets that do nothing but wrap an environment.
    fn bracketed_matrix(&mut self) -> Built<Value> {
        self.bump();
        let Some(Kind::Begin(name)) = self.peek() else {
            return refuse();
        };
        let value = self.bracketed(|parser| parser.environment(name))?;
        if !self.take(Kind::Mark(')')) {
            self.expect(Kind::Mark(']'))?;
        }
        Ok(value)
    }

    /// A formula with its unit, a ratio or a time.
    fn expression(&mut self) -> Built<Value> {
        if let Some(value) = self.based()? {
            return Ok(value);
        }
        let first = self.additive()?;
        let is_ratio = matches!(self.peek(), Some(Kind::Mark(':')))
            || (self.peek() == Some(Kind::Word("to")) && first.exact().is_some());
        if !is_ratio || self.currency.is_some() || self.bars > 0 {
            if self.currency.is_none()
                && let Some(time) = self.full_hour(&first)
            {
                return Ok(time);
            }
            return self.with_unit(first);
        }
        let mut terms = vec![first];
        while self.take(Kind::Mark(':')) || self.take_word(&["to"]) {
            terms.push(self.additive()?);
            if terms.len() > self.limits.members {
                return Err(Reason::AnswerTooLarge);
            }
        }
        Ok(self.time(&terms).unwrap_or(Value::Ratio(terms)))
    }

    /// Digits with a base: `1011_2`, `(1011)_2`, `2A_{16}`.
    fn based(&mut self) -> Built<Option<Value>> {
        let start = self.at;
        let is_bracketed = self.peek() == Some(Kind::Mark('('));
        if is_bracketed {
            self.bump();
        }
        let mut digits = String::new();
        let mut has_digit = false;
        while let Some(token) = self.token(0) {
            let text = match token.kind {
                Kind::Digits(text) => {
                    has_digit = true;
                    text
                }
                Kind::Word(text) if text.chars().all(|c| c.is_ascii_uppercase()) => text,
                _ => break,
            };
            if token.gap != Gap::None && !digits.is_empty() && !token.is_text {
                break;
            }
            digits.push_str(text);
            self.bump();
        }
        let is_closed = !is_bracketed || self.take(Kind::Mark(')'));
        if digits.is_empty() || !is_closed || self.peek() != Some(Kind::Mark('_')) {
            self.at = start;
            return Ok(None);
        }
        let base = self.base_number();
        let Some(base) = base.filter(|base| has_digit || *base > 10) else {
            self.at = start;
            return Ok(None);
        };
        let fits = digits
            .chars()
            .all(|c| c.to_digit(36).is_some_and(|digit| digit < base));
        if !fits || !(2..=36).contains(&base) {
            return refuse();
        }
        Ok(Some(Value::Based(digits, Some(base))))
    }

    fn base_number(&mut self) -> Option<u32> {
        self.bump();
        let base = match (self.peek()?, self.peek_at(1), self.peek_at(2)) {
            (Kind::Mark('{'), Some(Kind::Digits(base)), Some(Kind::Mark('}'))) => {
                self.skip(3);
                base.parse().ok()?
            }
            (Kind::Mark('{'), Some(Kind::Word(word)), Some(Kind::Mark('}'))) => {
                self.skip(3);
                match word {
                    "two" => 2,
                    "three" => 3,
                    "four" => 4,
                    "five" => 5,
                    "six" => 6,
                    "seven" => 7,
                    "eight" => 8,
                    "nine" => 9,
                    "ten" => 10,
                    _ => return None,
                }
            }
            (Kind::Digits(base), ..) => {
                self.bump();
                base.parse().ok()?
            }
            _ => return None,
        };
        Some(base)
    }

    /// ℝ, with a sign or a power that is part of its name.
    fn number_set(&mut self, letter: char) -> Built<Value> {
        let sign = match (
            self.peek(),
            self.peek_at(1),
            self.peek_at(2),
            self.peek_at(3),
        ) {
            (
                Some(Kind::Mark('^' | '_')),
                Some(Kind::Mark('{')),
                Some(Kind::Mark(sign @ ('+' | '-' | '*'))),
                Some(Kind::Mark('}')),
            ) => {
                self.skip(4);
                sign
            }
            (Some(Kind::Mark('^' | '_')), Some(Kind::Mark(sign @ ('+' | '-' | '*'))), ..) => {
                self.skip(2);
                sign
            }
            _ => return Ok(Value::NumberSet(letter)),
        };
        Ok(match (letter, sign) {
            ('R', '+') => half_line(true),
            ('R', '-') => half_line(false),
            ('Z', '+') => Value::NumberSet('N'),
            _ => return refuse(),
        })
    }

    /// True if the brackets here hold a list, or close differently from how they open.
    fn is_structure(&self) -> bool {
        let Some(partner) = self.partners.get(self.at).copied().flatten() else {
            return false;
        };
        let opens_round = self.peek() == Some(Kind::Mark('('));
        let closes_round = self
            .tokens
            .get(partner.at)
            .is_some_and(|token| token.kind == Kind::Mark(')'));
        partner.has_comma || opens_round != closes_round
    }

    fn structure(&mut self, open: char) -> Built<Value> {
        self.bump();
        let members = self.bracketed(|parser| parser.members(false))?;
        let close = match self.peek() {
            Some(Kind::Mark(close @ (')' | ']'))) => close,
            _ => return refuse(),
        };
        self.bump();
        if let [_] = members.as_slice() {
            return refuse();
        }
        Ok(Value::Group(open, members, close))
    }

    /// `]a, b[` and its kin.
    fn outward(&mut self) -> Built<Value> {
        self.bump();
        let members = self.bracketed(|parser| parser.members(false))?;
        let close = match self.peek() {
            Some(Kind::Mark('[')) => ')',
            Some(Kind::Mark(']')) => ']',
            _ => return refuse(),
        };
        self.bump();
        if members.len() != 2 {
            return refuse();
        }
        Ok(Value::Group('(', members, close))
    }

    fn angle(&mut self) -> Built<Value> {
        let is_command = self.peek() == Some(Kind::Command("langle"));
        self.bump();
        let members = self.bracketed(|parser| parser.members(false))?;
        let close = if is_command {
            Kind::Command("rangle")
        } else {
            Kind::Mark('>')
        };
        self.expect(close)?;
        Ok(Value::Group('<', members, '>'))
    }

    /// `\{…\}`: members, or a name with its condition.
    fn set(&mut self) -> Built<Value> {
        self.bump();
        let members = self.bracketed(|parser| {
            parser.bars = 1;
            parser.members(true)
        })?;
        if let (Some(Kind::Mark('|' | ':')), [element]) = (self.peek(), members.as_slice()) {
            self.bump();
            let condition = self.bracketed(Self::list)?;
            self.expect(Kind::SetBrace('}'))?;
            return Ok(set_builder(element.clone(), condition));
        }
        // `\{x : x > 0\}` was read as a ratio of x and a relation's left side.
        self.expect(Kind::SetBrace('}'))?;
        Ok(Value::Set(members))
    }

    /// True for `{1, 2}` with plain braces.
    fn is_plain_set(&self) -> bool {
        self.partners
            .get(self.at)
            .copied()
            .flatten()
            .is_some_and(|partner| partner.has_comma)
            && !matches!(self.peek_at(1), Some(Kind::GroupComma))
    }

    fn plain_set(&mut self) -> Built<Value> {
        self.bump();
        let members = self.bracketed(|parser| parser.members(false))?;
        self.expect(Kind::Mark('}'))?;
        Ok(Value::Set(members))
    }

    /// Matrices and case distinctions.
    fn environment(&mut self, name: &'a str) -> Built<Value> {
        let plain = name.trim_end_matches('*');
        let is_matrix = matches!(
            plain,
            "matrix"
                | "pmatrix"
                | "bmatrix"
                | "Bmatrix"
                | "smallmatrix"
                | "array"
                | "psmallmatrix"
                | "bsmallmatrix"
        );
        let is_other = matches!(
            plain,
            "cases"
                | "aligned"
                | "align"
                | "gathered"
                | "split"
                | "equation"
                | "vmatrix"
                | "Vmatrix"
                | "gather"
        );
        if !is_matrix && !is_other {
            return refuse();
        }
        self.bump();
        let mut rows = self.bracketed(Self::rows)?;
        if !self.take(Kind::End(name)) {
            return refuse();
        }
        if is_matrix {
            return Ok(Value::Matrix(rows));
        }
        match plain {
            "vmatrix" => Ok(Value::Quantified(
                String::from("det"),
                Box::new(Value::Matrix(rows)),
            )),
            "cases" => Ok(Value::Quantified(
                String::from("cases"),
                Box::new(Value::Matrix(rows)),
            )),
            _ => match (rows.pop(), rows.is_empty()) {
                (Some(mut row), true) if row.len() == 1 => row.pop().ok_or(Reason::InternalDefect),
                _ => refuse(),
            },
        }
    }

    fn rows(&mut self) -> Built<Vec<Vec<Value>>> {
        let mut rows: Vec<Vec<Value>> = Vec::new();
        let mut row: Vec<Value> = Vec::new();
        let mut count = 0usize;
        loop {
            match self.peek() {
                Some(Kind::End(_)) => {
                    if !row.is_empty() {
                        rows.push(row);
                    }
                    return if rows.is_empty() { refuse() } else { Ok(rows) };
                }
                Some(Kind::Row) => {
                    self.bump();
                    rows.push(core::mem::take(&mut row));
                }
                Some(Kind::Mark('&')) => self.bump(),
                Some(Kind::Mark(',')) if self.peek_at(1) == Some(Kind::Mark('&')) => self.bump(),
                None => return refuse(),
                Some(Kind::Word("otherwise")) => {
                    self.bump();
                    row.push(Value::Text(String::from("otherwise")));
                }
                _ => {
                    while self.take_word(&["if", "when", "for"]) {}
                    row.push(self.item()?);
                    count = count.saturating_add(1);
                    // A comma before the end of a row, as case distinctions have it.
                    if matches!(self.peek_at(1), Some(Kind::Row | Kind::End(_))) {
                        self.take(Kind::Mark(','));
                    }
                }
            }
            if count > self.limits.members || rows.len() > self.limits.members {
                return Err(Reason::AnswerTooLarge);
            }
        }
    }
}

fn half_line(is_positive: bool) -> Value {
    let zero = Value::Expr(number(0));
    let minus = Value::Expr(Expr::Product(vec![number(-1), Expr::Infinity]));
    if is_positive {
        Value::Group('(', vec![zero, Value::Expr(Expr::Infinity)], ')')
    } else {
        Value::Group('(', vec![minus, zero], ')')
    }
}

/// `\{x \mid x > 0\}` is the set of the condition if the element is its name.
fn set_builder(element: Value, condition: Value) -> Value {
    let name = match &element {
        Value::Expr(Expr::Name(name)) => Some(name.clone()),
        // `\{x \in \mathbb{R} \mid x > 0\}`
        Value::Chain(first, rest) => match (first.as_ref(), rest.as_slice()) {
            (
                Value::Expr(Expr::Name(name)),
                [(crate::tree::Relation::In, Value::NumberSet('R'))],
            ) => Some(name.clone()),
            _ => None,
        },
        _ => None,
    };
    match name {
        Some(name) if crate::region::constrains(&condition, &name) => condition,
        _ => Value::Conditional(Box::new(Value::Set(vec![element])), Box::new(condition)),
    }
}
