//! Tokens to readings. The parser consumes the whole answer or refuses it.

mod display;
mod expr;
mod function;
mod item;
mod list;
mod numeral;
mod primary;
mod prose;
mod quantity;
mod read;
mod structure;
mod time;
mod words;

pub(crate) use read::{Answer, Reading, Sense, read};

use alloc::vec::Vec;

use crate::budget::Budget;
use crate::fold::{Builder, Built};
use crate::lex::{Gap, Kind, Token};
use crate::policy::Limits;
use crate::verdict::Reason;

/// Steps of looking up a word in the lists of units and functions.
pub(crate) const WORD_STEPS: u64 = 150;

/// Steps for each letter of a word: a name of a function may begin at each.
pub(crate) const LETTER_STEPS: u64 = 40;

/// How a comma between digits is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comma {
    /// Thousands where the groups fit, a list elsewhere.
    Plain,
    /// Always a list.
    List,
    /// A decimal comma where it cannot separate thousands.
    Decimal,
}

/// The partner of a bracket, and whether a comma stands between them at their own level.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Partner {
    pub(crate) at: usize,
    pub(crate) has_comma: bool,
}

pub(crate) struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    partners: Vec<Option<Partner>>,
    at: usize,
    depth: usize,
    comma: Comma,
    /// Brackets and braces around the current place.
    brackets: usize,
    /// Bars of an absolute value, or of a set, that wait for their end.
    bars: usize,
    /// A currency sign that was met and not yet used.
    currency: Option<&'static str>,
    /// True if `e` or `i` is a name here.
    binds_e: bool,
    binds_i: bool,
    limits: Limits,
    builder: Builder,
}

fn refuse<T>() -> Built<T> {
    Err(Reason::AnswerUnparsable)
}

impl<'a> Parser<'a> {
    pub(crate) fn new(
        tokens: Vec<Token<'a>>,
        comma: Comma,
        limits: &Limits,
        budget: Budget,
    ) -> Self {
        Self {
            partners: partners(&tokens),
            binds_e: binds(&tokens, "e"),
            binds_i: binds(&tokens, "i"),
            tokens,
            at: 0,
            depth: 0,
            comma,
            brackets: 0,
            bars: 0,
            currency: None,
            limits: *limits,
            builder: Builder {
                integer_bits: limits.integer_bits,
                budget,
            },
        }
    }

    fn token(&self, ahead: usize) -> Option<Token<'a>> {
        self.tokens.get(self.at.saturating_add(ahead)).copied()
    }

    fn peek(&self) -> Option<Kind<'a>> {
        self.token(0).map(|token| token.kind)
    }

    fn peek_at(&self, ahead: usize) -> Option<Kind<'a>> {
        self.token(ahead).map(|token| token.kind)
    }

    fn bump(&mut self) {
        self.at = self.at.saturating_add(1);
    }

    fn skip(&mut self, count: usize) {
        self.at = self.at.saturating_add(count);
    }

    fn take(&mut self, kind: Kind<'_>) -> bool {
        let is_next = self.peek() == Some(kind);
        if is_next {
            self.bump();
        }
        is_next
    }

    fn take_command(&mut self, name: &str) -> bool {
        self.take(Kind::Command(name))
    }

    fn take_word(&mut self, words: &[&str]) -> bool {
        let is_next = matches!(self.peek(), Some(Kind::Word(word)) if words.contains(&word));
        if is_next {
            self.bump();
        }
        is_next
    }

    fn expect(&mut self, kind: Kind<'_>) -> Built<()> {
        if self.take(kind) { Ok(()) } else { refuse() }
    }

    fn is_at_end(&self) -> bool {
        self.at >= self.tokens.len()
    }

    fn gap(&self, ahead: usize) -> Gap {
        self.token(ahead).map_or(Gap::None, |token| token.gap)
    }

    /// Runs a rule one level deeper.
    fn nested<T>(&mut self, rule: impl FnOnce(&mut Self) -> Built<T>) -> Built<T> {
        if self.depth >= self.limits.nesting {
            return Err(Reason::AnswerTooLarge);
        }
        self.builder.budget.charge(30)?;
        self.depth = self.depth.saturating_add(1);
        let result = rule(self);
        self.depth = self.depth.saturating_sub(1);
        result
    }

    /// Runs a rule between brackets: commas separate there, and outer bars do not end anything.
    fn bracketed<T>(&mut self, rule: impl FnOnce(&mut Self) -> Built<T>) -> Built<T> {
        let bars = core::mem::replace(&mut self.bars, 0);
        self.brackets = self.brackets.saturating_add(1);
        let result = self.nested(rule);
        self.brackets = self.brackets.saturating_sub(1);
        self.bars = bars;
        result
    }

    /// Runs a rule and goes back to where it began if it fails for want of a match.
    fn attempt<T>(&mut self, rule: impl FnOnce(&mut Self) -> Built<T>) -> Built<Option<T>> {
        let (at, depth, brackets, bars) = (self.at, self.depth, self.brackets, self.bars);
        let currency = self.currency;
        match rule(self) {
            Ok(value) => Ok(Some(value)),
            Err(Reason::AnswerTooLarge) => Err(Reason::AnswerTooLarge),
            Err(_) => {
                self.at = at;
                self.depth = depth;
                self.brackets = brackets;
                self.bars = bars;
                self.currency = currency;
                Ok(None)
            }
        }
    }
}

/// True if the letter is bound: it stands on the left of an equals sign, alone.
fn binds(tokens: &[Token<'_>], letter: &str) -> bool {
    tokens.windows(2).enumerate().any(|(index, pair)| {
        let is_bound = matches!(pair, [first, second]
            if first.kind == Kind::Word(letter) && second.kind == Kind::Mark('='));
        let before = index.checked_sub(1).and_then(|before| tokens.get(before));
        let is_alone = before.is_none_or(|token| {
            matches!(
                token.kind,
                Kind::Mark(',' | ';' | '{') | Kind::Word("and" | "or") | Kind::Quad
            )
        });
        is_bound && is_alone
    })
}

/// Pairs brackets by nesting. Round and square ones may close each other, braces close braces.
fn partners(tokens: &[Token<'_>]) -> Vec<Option<Partner>> {
    let mut result: Vec<Option<Partner>> = tokens.iter().map(|_| None).collect();
    let mut open: Vec<(usize, char, bool)> = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        let (opens, closes) = match token.kind {
            Kind::Mark('(' | '[') => (Some('('), None),
            Kind::Mark(')' | ']') => (None, Some('(')),
            Kind::Mark('{') => (Some('{'), None),
            Kind::Mark('}') => (None, Some('{')),
            Kind::SetBrace('{') => (Some('s'), None),
            Kind::SetBrace('}') => (None, Some('s')),
            Kind::Command("langle") => (Some('<'), None),
            Kind::Command("rangle") => (None, Some('<')),
            _ => (None, None),
        };
        if let Some(kind) = opens {
            open.push((index, kind, false));
        } else if let Some(kind) = closes {
            if open.last().is_some_and(|(_, top, _)| *top == kind)
                && let Some((start, _, has_comma)) = open.pop()
            {
                if let Some(slot) = result.get_mut(start) {
                    *slot = Some(Partner {
                        at: index,
                        has_comma,
                    });
                }
                if let Some(slot) = result.get_mut(index) {
                    *slot = Some(Partner {
                        at: start,
                        has_comma,
                    });
                }
            }
        } else if matches!(token.kind, Kind::Mark(',' | ';') | Kind::GroupComma)
            && let Some(top) = open.last_mut()
        {
            top.2 = true;
        }
    }
    result
}
