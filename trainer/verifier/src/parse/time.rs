//! Times of the day: `2:30 pm`, `6 P.M.`.

use alloc::string::String;

use crate::lex::Kind;
use crate::parse::Parser;
use crate::tree::{Expr, Value};

impl<'a> Parser<'a> {
    /// An hour and a minute, before "am" or "pm".
    pub(super) fn time(&mut self, terms: &[Expr]) -> Option<Value> {
        let [hour, minute] = terms else {
            return None;
        };
        self.time_of(below(hour, 24)?, below(minute, 60)?)
    }

    /// A full hour from 1 to 12, before "am" or "pm".
    pub(super) fn full_hour(&mut self, hour: &Expr) -> Option<Value> {
        self.time_of(below(hour, 13).filter(|hour| *hour > 0)?, 0)
    }

    fn time_of(&mut self, hour: u8, minute: u8) -> Option<Value> {
        let half = match self.peek()? {
            Kind::Word("am" | "AM" | "Am") => "am",
            Kind::Word("pm" | "PM" | "Pm") => "pm",
            Kind::Word("a" | "A") if self.is_dotted() => "am",
            Kind::Word("p" | "P") if self.is_dotted() => "pm",
            _ => return None,
        };
        if self.is_dotted() {
            self.skip(3);
            self.take(Kind::Mark('.'));
        } else {
            self.bump();
        }
        Some(Value::Time(hour, minute, String::from(half)))
    }

    /// True if `.m` follows the word here.
    pub(super) fn is_dotted(&self) -> bool {
        self.peek_at(1) == Some(Kind::Mark('.'))
            && matches!(self.peek_at(2), Some(Kind::Word("m" | "M")))
    }
}

fn below(value: &Expr, limit: i64) -> Option<u8> {
    let value = value.exact().and_then(crate::number::small)?;
    u8::try_from(value).ok().filter(|_| value < limit)
}
