//! Units from a closed list. A unit on one side only is ignored; two must be the same.

use alloc::string::String;

use crate::lex::Token;
use crate::number::Reader;

/// Spellings, the usual name first.
const UNITS: &[&[&str]] = &[
    &["dollar", "dollars", "USD"],
    &["cent", "cents"],
    &["euro", "euros", "EUR"],
    &["pound", "pounds", "lb", "lbs"],
    &["rupee", "rupees"],
    &["yen"],
    &[
        "mm",
        "millimeter",
        "millimeters",
        "millimetre",
        "millimetres",
    ],
    &[
        "cm",
        "centimeter",
        "centimeters",
        "centimetre",
        "centimetres",
    ],
    &["m", "meter", "meters", "metre", "metres"],
    &["km", "kilometer", "kilometers", "kilometre", "kilometres"],
    &["inch", "inches", "in"],
    &["foot", "feet", "ft"],
    &["yard", "yards", "yd"],
    &["mile", "miles", "mi"],
    &["mg", "milligram", "milligrams"],
    &["g", "gram", "grams"],
    &["kg", "kilogram", "kilograms"],
    &["ounce", "ounces", "oz"],
    &["ton", "tons"],
    &["second", "seconds", "sec", "secs", "s"],
    &["minute", "minutes", "min", "mins"],
    &["hour", "hours", "hr", "hrs", "h"],
    &["day", "days"],
    &["week", "weeks"],
    &["month", "months"],
    &["year", "years"],
    &[
        "ml",
        "mL",
        "milliliter",
        "milliliters",
        "millilitre",
        "millilitres",
    ],
    &["liter", "liters", "litre", "litres", "L"],
    &["gallon", "gallons"],
    &["degree", "degrees"],
    &["radian", "radians", "rad"],
    &["mph"],
    &["unit", "units"],
];

fn usual_name(word: &str) -> Option<&'static str> {
    UNITS
        .iter()
        .find(|spellings| spellings.contains(&word))
        .and_then(|spellings| spellings.first().copied())
}

/// A currency sign before a number.
pub(crate) fn currency(reader: &mut Reader<'_, '_>) -> Option<&'static str> {
    let name = match reader.peek() {
        Some(Token::Symbol('$')) => "dollar",
        Some(Token::Symbol('€')) => "euro",
        Some(Token::Symbol('£')) => "pound",
        Some(Token::Symbol('¥')) => "yen",
        Some(Token::Symbol('₹')) => "rupee",
        _ => return None,
    };
    reader.bump();
    reader.skip_blanks();
    Some(name)
}

/// The unit that is next, if there is one; the reader stays where it was if there is none.
pub(crate) fn unit(reader: &mut Reader<'_, '_>) -> Option<String> {
    let before = reader.position();
    let is_apart = reader.skip_blanks();
    if degree_sign(reader) {
        return Some(String::from("degree"));
    }
    let Some(mut name) = single(reader, is_apart) else {
        reader.rewind(before);
        return None;
    };
    let after_first = reader.position();
    reader.skip_blanks();
    if matches!(reader.peek(), Some(Token::Symbol('/') | Token::Word("per"))) {
        reader.bump();
        reader.skip_blanks();
        if let Some(second) = single(reader, true) {
            name.push('/');
            name.push_str(&second);
            return Some(name);
        }
    }
    reader.rewind(after_first);
    Some(name)
}

/// One unit with its power: `cm`, `square feet`, `m^2`.
///
/// A one-letter unit must stand apart from the number, or it would be a factor: `5m`.
fn single(reader: &mut Reader<'_, '_>, is_apart: bool) -> Option<String> {
    let mut power = match reader.peek() {
        Some(Token::Word("square" | "sq")) => 2,
        Some(Token::Word("cubic" | "cu")) => 3,
        _ => 1,
    };
    if power > 1 {
        reader.bump();
        reader.skip_blanks();
    }
    let Some(Token::Word(word)) = reader.peek() else {
        return None;
    };
    let name = usual_name(word).filter(|_| is_apart || word.len() > 1)?;
    reader.bump();
    let after_name = reader.position();
    reader.skip_blanks();
    if power == 1 && reader.take(Token::Symbol('^')) {
        let is_braced = reader.take(Token::Symbol('{'));
        power = match reader.peek() {
            Some(Token::Digits("2")) => 2,
            Some(Token::Digits("3")) => 3,
            _ => return None,
        };
        reader.bump();
        if is_braced && !reader.take(Token::Symbol('}')) {
            return None;
        }
    } else {
        reader.rewind(after_name);
    }
    let mut unit = String::from(name);
    match power {
        2 => unit.push_str("^2"),
        3 => unit.push_str("^3"),
        _ => {}
    }
    Some(unit)
}

/// `°`, `^\circ` or `^{\circ}`.
fn degree_sign(reader: &mut Reader<'_, '_>) -> bool {
    if reader.take(Token::Symbol('°')) {
        return true;
    }
    let before = reader.position();
    if reader.take(Token::Symbol('^')) {
        if reader.take(Token::Command("circ")) {
            return true;
        }
        if reader.take(Token::Symbol('{')) {
            reader.skip_blanks();
            let is_circ = reader.take(Token::Command("circ"));
            reader.skip_blanks();
            if is_circ && reader.take(Token::Symbol('}')) {
                return true;
            }
        }
    }
    reader.rewind(before);
    false
}
