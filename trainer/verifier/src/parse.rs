//! Answer text to its readings. Consumes the whole text or refuses.

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use num_bigint::BigInt;
use num_rational::BigRational;

use crate::canon;
use crate::dress::undress;
use crate::lex::{Token, lex};
use crate::number::{Reader, Stop};
use crate::policy::{Limits, Percent, Policy};
use crate::unit;
use crate::value::{Answer, Reading, Sense, Value};
use crate::verdict::Reason;

/// Longest text of words that counts as an answer by itself.
const MAX_FREE_WORDS: usize = 4;

/// Reads one answer.
pub(crate) fn read(text: &str, policy: &Policy) -> Result<Answer, Reason> {
    if text.len() > policy.limits.answer_bytes {
        return Err(Reason::AnswerTooLarge);
    }
    let bare = undress(text, &policy.limits);
    if bare.is_empty() {
        return Err(Reason::EmptyAnswer);
    }
    let tokens = lex(bare, &policy.limits)?;
    if tokens.iter().all(|token| token.is_blank()) {
        return Err(Reason::EmptyAnswer);
    }
    let cleaned = canon::clean(&tokens);
    match number(&tokens, policy) {
        Ok(number) => Ok(of_number(number, cleaned, bare, policy)),
        Err(Stop::Undefined) => Err(Reason::AnswerUnparsable),
        Err(Stop::NotNumber) => {
            if let Some(answer) = assignment(&tokens, &cleaned, bare, policy)? {
                return Ok(answer);
            }
            of_text(cleaned?, &tokens)
        }
    }
}

/// A number with its dressing: sign, currency, percent sign, unit.
struct Written {
    value: BigRational,
    is_percent: bool,
    has_decimal_comma: bool,
    unit: Option<String>,
}

/// Reads all tokens as one number.
fn number(tokens: &[Token<'_>], policy: &Policy) -> Result<Written, Stop> {
    let mut reader = Reader::new(tokens, &policy.limits);
    reader.skip_blanks();
    let outer = reader.sign();
    let currency = unit::currency(&mut reader);
    let inner = if outer.is_none() { reader.sign() } else { None };
    let is_minus = outer.or(inner) == Some(true);
    let magnitude = reader.magnitude()?;
    let is_percent = percent(&mut reader);
    let unit = if is_percent || currency.is_some() {
        None
    } else {
        unit::unit(&mut reader)
    };
    reader.skip_blanks();
    if reader.peek().is_some() || (is_percent && currency.is_some()) {
        return Err(Stop::NotNumber);
    }
    Ok(Written {
        value: if is_minus {
            -magnitude.value
        } else {
            magnitude.value
        },
        is_percent,
        has_decimal_comma: magnitude.has_decimal_comma,
        unit: unit.or(currency.map(String::from)),
    })
}

fn percent(reader: &mut Reader<'_, '_>) -> bool {
    let before = reader.position();
    reader.skip_blanks();
    if reader.take(Token::Symbol('%')) || reader.take(Token::Word("percent")) {
        return true;
    }
    if reader.take(Token::Word("per")) {
        reader.skip_blanks();
        if reader.take(Token::Word("cent")) {
            return true;
        }
    }
    reader.rewind(before);
    false
}

fn of_number(
    number: Written,
    cleaned: Result<String, Reason>,
    bare: &str,
    policy: &Policy,
) -> Answer {
    let text = cleaned.unwrap_or_else(|_| bare.to_string());
    let reading = |value: BigRational, sense: Sense| Reading {
        value: Value::Number(value),
        sense,
        unit: number.unit.clone(),
        name: None,
    };
    let readings = if number.is_percent {
        let points = reading(number.value.clone(), Sense::PercentPoints);
        let fraction = reading(
            &number.value / BigRational::from_integer(BigInt::from(100u8)),
            Sense::PercentFraction,
        );
        match policy.percent {
            Percent::Either => vec![fraction, points],
            Percent::Exact => vec![fraction],
            Percent::Ignore => vec![points],
        }
    } else if number.has_decimal_comma {
        let list = Reading {
            value: Value::Text(text.clone()),
            sense: Sense::CommaList,
            unit: None,
            name: None,
        };
        vec![list, reading(number.value.clone(), Sense::CommaDecimal)]
    } else {
        vec![reading(number.value.clone(), Sense::Only)]
    };
    Answer {
        text,
        readings,
        stands_alone: true,
    }
}

/// `x = 5`: a name, then members that must agree. `None` if it is no assignment of a number.
fn assignment(
    tokens: &[Token<'_>],
    cleaned: &Result<String, Reason>,
    bare: &str,
    policy: &Policy,
) -> Result<Option<Answer>, Reason> {
    let mut members = tokens.split(|token| *token == Token::Symbol('='));
    let Some(name) = members.next().and_then(|first| name(first, &policy.limits)) else {
        return Ok(None);
    };
    let mut values: Vec<Written> = Vec::new();
    for member in members {
        match number(member, policy) {
            Ok(value) => values.push(value),
            Err(Stop::Undefined) => return Err(Reason::AnswerUnparsable),
            Err(Stop::NotNumber) => return Ok(None),
        }
    }
    let Some(last) = values.pop() else {
        return Ok(None);
    };
    if values.iter().any(|value| value.value != last.value) {
        return Err(Reason::InconsistentAnswer);
    }
    let mut answer = of_number(last, cleaned.clone(), bare, policy);
    for reading in &mut answer.readings {
        reading.name = Some(name.clone());
    }
    Ok(Some(answer))
}

/// A name: one letter or Greek command, with subscript or arguments.
fn name(tokens: &[Token<'_>], limits: &Limits) -> Option<String> {
    let solid: Vec<Token<'_>> = tokens.iter().copied().filter(|t| !t.is_blank()).collect();
    let is_name = match solid.first()? {
        Token::Word(word) => word.chars().count() == 1,
        Token::Command(name) => !matches!(*name, "frac" | "sqrt" | "pm" | "\\"),
        _ => false,
    };
    let tail = solid.get(1..)?;
    let is_tail = match tail.first() {
        None => true,
        Some(Token::Symbol('_')) => tail.len() <= 4,
        Some(Token::Symbol('(')) => tail.last() == Some(&Token::Symbol(')')),
        Some(_) => false,
    };
    if !is_name || !is_tail || solid.len() > limits.nesting {
        return None;
    }
    canon::clean(&solid).ok()
}

fn of_text(text: String, tokens: &[Token<'_>]) -> Result<Answer, Reason> {
    let num_words = canon::num_words(tokens);
    let has_digit = tokens.iter().any(|token| matches!(token, Token::Digits(_)));
    let has_name = tokens.iter().any(|token| match token {
        Token::Word(_) => true,
        Token::Command(command) => !matches!(*command, "times" | "cdot" | "div" | "frac"),
        _ => false,
    });
    let is_equation = tokens.contains(&Token::Symbol('='));
    // An equation of numbers, such as `3 + 4 = 7`, is a step on the way to its last member.
    let is_step = is_equation && !has_name;
    let is_prose = num_words > if has_digit { 0 } else { MAX_FREE_WORDS };
    Ok(Answer {
        readings: vec![Reading {
            value: Value::Text(text.clone()),
            sense: Sense::Only,
            unit: None,
            name: None,
        }],
        text,
        stands_alone: !is_prose && !is_step,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Option<(i64, i64)> {
        let answer = read(text, &Policy::default()).ok()?;
        let reading = answer.readings.last()?;
        match &reading.value {
            Value::Number(value) => Some((
                value.numer().try_into().ok()?,
                value.denom().try_into().ok()?,
            )),
            Value::Text(_) => None,
        }
    }

    #[test]
    fn numbers_in_every_notation() {
        for (text, numerator, denominator) in [
            ("7", 7, 1),
            ("-12", -12, 1),
            ("−3", -3, 1),
            ("+7", 7, 1),
            ("007", 7, 1),
            ("1,234,567", 1_234_567, 1),
            ("1{,}234", 1234, 1),
            (r"1\,234", 1234, 1),
            (r"11,\! 111,\! 100", 11_111_100, 1),
            ("1 234", 1234, 1),
            ("0.50", 1, 2),
            (".5", 1, 2),
            ("5.", 5, 1),
            ("3{,}14", 157, 50),
            ("3,14", 157, 50),
            ("1,234.5", 2469, 2),
            ("1.5e-3", 3, 2000),
            ("2E3", 2000, 1),
            (r"1.5\times 10^{-3}", 3, 2000),
            ("10^{-3}", 1, 1000),
            ("10^6", 1_000_000, 1),
            ("6/8", 3, 4),
            (r"\frac{1}{2}", 1, 2),
            (r"\dfrac{-1}{2}", -1, 2),
            (r"-\frac{1}{2}", -1, 2),
            (r"\frac12", 1, 2),
            (r"\frac1{72}", 1, 72),
            (r"\frac 59", 5, 9),
            (r"\frac{270}7", 270, 7),
            (r"1\frac{2}{3}", 5, 3),
            (r"-137 \frac{1}{2}", -275, 2),
            ("1 2/3", 5, 3),
            ("1 234/5", 239, 5),
            (r"0.\overline{3}", 1, 3),
            (r"0.1\overline{6}", 1, 6),
            ("0.(3)", 1, 3),
            (r"\$32,\!348", 32_348, 1),
            ("-$5", -5, 1),
            ("$-5", -5, 1),
            ("18 dollars", 18, 1),
            (r"864 \mbox{ inches}^2", 864, 1),
            (r"90^\circ", 90, 1),
            (r"\text{13}", 13, 1),
            ("(5)", 5, 1),
            ("{5}", 5, 1),
            ("x = 5", 5, 1),
            (r"x_1 = \frac{1}{2} = 0.5", 1, 2),
            ("60 km/h", 60, 1),
            ("50 percent", 50, 1),
            (r"50\%", 50, 1),
        ] {
            assert_eq!(value(text), Some((numerator, denominator)), "{text}");
        }
    }

    #[test]
    fn what_is_no_number_is_not_made_one() {
        for text in [
            r"4\sqrt(2)",
            "12 34",
            "1,2,3",
            "1,23,456",
            "5x",
            "5m",
            "3-4",
            "--5",
            "1/2/3",
            "2 3/4/5",
            r"2\text{3}",
            "1,234,56",
            "(1,234)",
            "5!",
            "x",
            "0.333...",
            "$5%",
            "52_8",
            r"1-\frac{1}{\mathrm{e}}",
            "5 apples",
            "2e",
            "1e99999",
            "(1,5)",
        ] {
            assert_eq!(value(text), None, "{text}");
        }
    }

    #[test]
    fn malformed_answers_are_refused() {
        for text in [
            "1/0",
            r"\frac{1}{0}",
            r"\frac{}{2}",
            r"\frac{1}",
            "3+",
            "*3",
            "(3",
            "3)",
            "{3",
            r"\frac",
            "x^",
            "=5",
            "x=",
        ] {
            assert_eq!(
                read(text, &Policy::default()),
                Err(Reason::AnswerUnparsable),
                "{text}"
            );
        }
        for text in ["", "  ", "$$ $$", r"\text{}"] {
            assert_eq!(
                read(text, &Policy::default()),
                Err(Reason::EmptyAnswer),
                "{text}"
            );
        }
        assert_eq!(
            read(&"1".repeat(5000), &Policy::default()),
            Err(Reason::AnswerTooLarge)
        );
        assert_eq!(
            read("x = 3 = 4", &Policy::default()),
            Err(Reason::InconsistentAnswer)
        );
    }
}
