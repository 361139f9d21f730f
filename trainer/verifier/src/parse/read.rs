//! An answer text to its readings, the plain one first.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use crate::budget::Budget;
use crate::dress::undress;
use crate::lex::{Gap, Kind, Token, lex};
use crate::parse::display::unwrap;
use crate::parse::prose::words;
use crate::parse::{Comma, Parser};
use crate::policy::Policy;
use crate::scalar::Comparer;
use crate::settle::settle;
use crate::tree::{Expr, Value};
use crate::verdict::Reason;

/// Which way an ambiguous spelling was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sense {
    /// The plain reading of any spelling.
    Plain,
    /// Digits with a comma as a list: `1,234` as 1 and 234.
    CommaList,
    /// `1,5` as a decimal comma.
    CommaDecimal,
    /// A letter in brackets before a value: the value.
    AfterChoice,
    /// What is written behind `≈`.
    Approximation,
    /// A letter behind a number as a unit: `5 m`.
    LetterUnit,
    /// A letter joined to a number as a unit: `1.5m`. A product of a name otherwise, so it meets
    /// nothing but a quantity.
    JoinedUnit,
}

#[derive(Clone, Debug)]
pub(crate) struct Reading {
    pub(crate) sense: Sense,
    pub(crate) value: Value,
}

/// An answer that was read: its bare text and its readings.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) readings: Vec<Reading>,
}

impl Answer {
    /// Words of a text answer; none for mathematics.
    pub(crate) fn num_words(&self) -> usize {
        match self.readings.first().map(|reading| &reading.value) {
            Some(Value::Text(text)) => text.split(' ').count(),
            _ => 0,
        }
    }

    /// True for a formula, a bracket or an equation: no text and no list.
    pub(crate) fn is_one_formula(&self) -> bool {
        matches!(
            self.readings.first().map(|reading| &reading.value),
            Some(
                Value::Expr(_)
                    | Value::Quantity(..)
                    | Value::Percent(_)
                    | Value::Group(..)
                    | Value::Set(_)
                    | Value::SetOp(..)
                    | Value::Assign(..)
                    | Value::Chain(..)
                    | Value::Ratio(_)
                    | Value::Matrix(_)
            )
        )
    }
}

/// Steps of an answer for each of its bytes: it is undressed and cut into tokens.
const BYTE_STEPS: u64 = 8;

/// Steps of an answer for each of its tokens and readings.
const TOKEN_STEPS: u64 = 20;

/// Reads a bare answer.
///
/// # Errors
/// `AnswerTooLarge` also where the steps are spent.
pub(crate) fn read(text: &str, policy: &Policy, budget: &mut Budget) -> Result<Answer, Reason> {
    if text.len() > policy.limits.answer_bytes {
        return Err(Reason::AnswerTooLarge);
    }
    budget.charge_each(text.len(), BYTE_STEPS)?;
    let bare = undress(text, &policy.limits);
    if bare.is_empty() {
        return Err(Reason::EmptyAnswer);
    }
    let mut tokens = lex(bare, &policy.limits)?;
    // `= 5` and `≈ 5` begin with what stands before the answer.
    if tokens.len() > 1
        && tokens.first().is_some_and(|token| {
            matches!(
                token.kind,
                Kind::Mark('=') | Kind::Command("approx" | "therefore")
            )
        })
    {
        tokens.remove(0);
    }
    quads(&mut tokens);
    unwrap(&mut tokens);
    if tokens.is_empty() {
        return Err(Reason::EmptyAnswer);
    }
    charge_words(&tokens, budget)?;
    let readings = readings(&tokens, policy, budget)?;
    Ok(Answer {
        text: String::from(bare),
        readings,
    })
}

/// Words are looked up in lists before anything is parsed.
fn charge_words(tokens: &[Token<'_>], budget: &mut Budget) -> Result<(), Reason> {
    budget.charge_each(tokens.len(), TOKEN_STEPS)?;
    for token in tokens {
        if let Kind::Word(word) = token.kind {
            budget.charge(60)?;
            budget.charge_each(word.len(), 18)?;
        }
    }
    Ok(())
}

/// Wide spaces separate only where nothing else does.
fn quads(tokens: &mut Vec<Token<'_>>) {
    let is_border = |token: Option<&Token<'_>>| {
        token.is_none_or(|token| {
            token.is_text
                || matches!(
                    token.kind,
                    Kind::Mark(
                        ',' | ';'
                            | '&'
                            | '('
                            | ')'
                            | '['
                            | ']'
                            | '{'
                            | '}'
                            | '='
                            | '<'
                            | '>'
                            | ':'
                            | '|'
                            | '%'
                    ) | Kind::Word(_)
                        | Kind::Quad
                        | Kind::Row
                        | Kind::Begin(_)
                        | Kind::End(_)
                        | Kind::SetBrace(_)
                        | Kind::Command(
                            "land"
                                | "lor"
                                | "le"
                                | "ge"
                                | "ne"
                                | "in"
                                | "cup"
                                | "cap"
                                | "pmod"
                                | "forall"
                                | "implies"
                                | "iff"
                        )
                )
        })
    };
    let is_word = |token: Option<&Token<'_>>| {
        token.is_some_and(
            |t| matches!(t.kind, Kind::Word(w) if w.chars().count() == 1 && !t.is_text),
        )
    };
    let keep: Vec<bool> = (0..tokens.len())
        .map(|index| {
            let is_quad = tokens
                .get(index)
                .is_some_and(|token| token.kind == Kind::Quad);
            let before = index.checked_sub(1).and_then(|before| tokens.get(before));
            let after = tokens.get(index.saturating_add(1));
            let separates = (!is_border(before)
                || is_word(before)
                || matches!(before, Some(t) if matches!(t.kind, Kind::Mark(')' | ']' | '}'))))
                && (!is_border(after)
                    || is_word(after)
                    || matches!(after, Some(t) if matches!(t.kind, Kind::Mark('(' | '['))));
            !is_quad || separates
        })
        .collect();
    let mut index = 0usize;
    tokens.retain(|_| {
        let is_kept = keep.get(index).copied().unwrap_or(true);
        index = index.saturating_add(1);
        is_kept
    });
}

fn readings(
    tokens: &[Token<'_>],
    policy: &Policy,
    budget: &mut Budget,
) -> Result<Vec<Reading>, Reason> {
    let plain = |value: Value| Reading {
        sense: Sense::Plain,
        value,
    };
    if let Some(value) = choice(tokens) {
        let mut readings = vec![plain(value)];
        if let Some(rest) = tokens.get(3..).filter(|rest| !rest.is_empty())
            && let Some(value) = if_readable(parse(rest, Comma::Plain, policy, budget))?
        {
            readings.push(Reading {
                sense: Sense::AfterChoice,
                value,
            });
        }
        return Ok(readings);
    }
    if let Some(text) = words(tokens, policy) {
        return Ok(vec![plain(Value::Text(text?))]);
    }
    let mut approximation = None;
    let first = parse_with(tokens, Comma::Plain, policy, &mut approximation, budget);
    let mut readings = Vec::new();
    match first {
        Ok(value) => readings.push(plain(value)),
        Err(reason) if !has_plain_comma(tokens) => return Err(reason),
        Err(Reason::AnswerTooLarge) => return Err(Reason::AnswerTooLarge),
        Err(_) => {}
    }
    if let Some(value) = approximation {
        readings.push(Reading {
            sense: Sense::Approximation,
            value,
        });
    }
    if has_plain_comma(tokens) {
        for (comma, sense) in [
            (Comma::List, Sense::CommaList),
            (Comma::Decimal, Sense::CommaDecimal),
        ] {
            if let Some(value) = if_readable(parse(tokens, comma, policy, budget))?
                && readings.iter().all(|known| known.value != value)
            {
                readings.push(Reading { sense, value });
            }
        }
    }
    readings.extend(letter_unit(tokens, policy, budget)?);
    readings.truncate(policy.limits.readings);
    if readings.is_empty() {
        return Err(Reason::AnswerUnparsable);
    }
    Ok(readings)
}

/// None for what is no reading; what the limits end is an error, because a reading that is given up
/// must not change which of the others counts.
fn if_readable(value: Result<Value, Reason>) -> Result<Option<Value>, Reason> {
    match value {
        Ok(value) => Ok(Some(value)),
        Err(Reason::AnswerTooLarge) => Err(Reason::AnswerTooLarge),
        Err(_) => Ok(None),
    }
}

fn parse(
    tokens: &[Token<'_>],
    comma: Comma,
    policy: &Policy,
    budget: &mut Budget,
) -> Result<Value, Reason> {
    parse_with(tokens, comma, policy, &mut None, budget)
}

fn parse_with(
    tokens: &[Token<'_>],
    comma: Comma,
    policy: &Policy,
    approximation: &mut Option<Value>,
    budget: &mut Budget,
) -> Result<Value, Reason> {
    budget.charge(100)?;
    budget.charge_each(tokens.len(), TOKEN_STEPS)?;
    // Half of the steps, so that one reading leaves some for the next.
    let part = budget.half();
    let mut parser = Parser::new(tokens.to_vec(), comma, &policy.limits, part);
    let value = whole(&mut parser, policy, approximation);
    budget.refund(&parser.builder.budget);
    value
}

/// The value of all tokens.
fn whole(
    parser: &mut Parser<'_>,
    policy: &Policy,
    approximation: &mut Option<Value>,
) -> Result<Value, Reason> {
    let value = parser.list()?;
    if !parser.is_at_end() || parser.currency.is_some() {
        return Err(Reason::AnswerUnparsable);
    }
    if matches!(&value, Value::Text(text) if text == super::item::ELLIPSIS) {
        return Err(Reason::AnswerUnparsable);
    }
    // The common case needs no comparison.
    if matches!(
        value,
        Value::Expr(Expr::Number(_) | Expr::Decimal(_) | Expr::Name(_))
    ) {
        return Ok(value);
    }
    let part = parser.builder.budget.half();
    let mut comparer = Comparer::new(policy, part);
    let value = settle(value, &mut parser.builder, &mut comparer, approximation);
    let part = &comparer.evaluator.budget;
    parser.builder.budget.refund(part);
    // Without its steps the comparison of the members of a chain says nothing.
    if part.has_failed() {
        return Err(Reason::AnswerTooLarge);
    }
    value
}

/// Digits, a comma, digits, with no blank between and outside brackets.
fn has_plain_comma(tokens: &[Token<'_>]) -> bool {
    tokens.windows(3).any(|part| {
        matches!(part, [a, b, c]
            if matches!(a.kind, Kind::Digits(_))
                && b.kind == Kind::Mark(',')
                && b.gap == Gap::None
                && matches!(c.kind, Kind::Digits(_))
                && c.gap == Gap::None)
    })
}

/// `(B) …`, `B)`, `B.`, "option B": a letter that can only be a choice.
fn choice(tokens: &[Token<'_>]) -> Option<Value> {
    let letter = |kind: Option<Kind<'_>>| match kind {
        Some(Kind::Word(word)) => {
            let mut chars = word.chars();
            let first = chars.next().filter(|c| c.is_ascii_uppercase())?;
            chars.next().is_none().then_some(first)
        }
        _ => None,
    };
    let kind = |index: usize| tokens.get(index).map(|token| token.kind);
    let is_open = kind(0) == Some(Kind::Mark('('));
    if is_open && kind(2) == Some(Kind::Mark(')')) {
        let found = letter(kind(1))?;
        // `(A)(B)` and `(A) + 1` are no choices; `(A) 5` and `(A)` are.
        let is_free = tokens.len() == 3
            || tokens.get(3).is_some_and(|token| {
                token.gap == Gap::Blank
                    && !matches!(
                        token.kind,
                        Kind::Mark('+' | '-' | '=' | '(' | '*' | '/' | '^' | '<' | '>' | ',')
                    )
            });
        return is_free.then_some(Value::Choice(found));
    }
    if tokens.len() == 2 && matches!(kind(1), Some(Kind::Mark(')' | '.' | ':'))) {
        return letter(kind(0)).map(Value::Choice);
    }
    let is_named = matches!(kind(0), Some(Kind::Word(word)) if matches!(word.to_ascii_lowercase().as_str(), "option" | "choice" | "answer"));
    match tokens.len() {
        2 if is_named => letter(kind(1)).map(Value::Choice),
        4 if is_named && kind(1) == Some(Kind::Mark('(')) && kind(3) == Some(Kind::Mark(')')) => {
            letter(kind(2)).map(Value::Choice)
        }
        _ => None,
    }
}

/// `5 m`, `9.8 m/s^2`, `1.5m`: behind a number, letters that are units as a whole.
fn letter_unit(
    tokens: &[Token<'_>],
    policy: &Policy,
    budget: &mut Budget,
) -> Result<Option<Reading>, Reason> {
    let start = tokens.windows(2).position(|pair| {
        matches!(pair, [number, letter]
            if matches!(number.kind, Kind::Digits(_) | Kind::Mark('}' | ')'))
                && letter.gap != Gap::Thin
                && !letter.is_text
                && matches!(letter.kind, Kind::Word(word) if word.chars().count() == 1))
    });
    let Some(start) = start else {
        return Ok(None);
    };
    let mut upright = tokens.to_vec();
    for token in upright.iter_mut().skip(start.saturating_add(1)) {
        token.is_text = true;
    }
    let is_apart = tokens
        .get(start.saturating_add(1))
        .is_some_and(|token| token.gap == Gap::Blank);
    let sense = if is_apart {
        Sense::LetterUnit
    } else {
        Sense::JoinedUnit
    };
    Ok(
        match if_readable(parse(&upright, Comma::Plain, policy, budget))? {
            Some(value @ Value::Quantity(..)) => Some(Reading { sense, value }),
            _ => None,
        },
    )
}
