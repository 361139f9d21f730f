//! Answers that are texts: words, names of people and days, dates.

use alloc::string::String;

use crate::lex::{Kind, Token};
use crate::parse::words::is_operand_word;
use crate::policy::Policy;
use crate::verdict::Reason;

/// Longest text of words that counts as an answer and not as prose.
const MAX_WORDS: usize = 12;

/// A text, if the answer consists of words; an error if it is prose.
pub(super) fn words(tokens: &[Token<'_>], policy: &Policy) -> Option<Result<String, Reason>> {
    let mut count = 0usize;
    let mut num_long = 0usize;
    let has_month = tokens
        .iter()
        .any(|token| matches!(token.kind, Kind::Word(word) if is_month(word)));
    for token in tokens {
        match token.kind {
            Kind::Word(word) => {
                count = count.saturating_add(1);
                let is_long = word.chars().count() > 1;
                num_long = num_long.saturating_add(usize::from(is_long));
            }
            Kind::Digits(_) if has_month => {}
            Kind::Mark('-' | '\'' | '.' | ',' | '?' | '!' | '"' | '“' | '”' | ':' | '/') => {}
            _ => return None,
        }
    }
    let first = match tokens {
        [only] => match only.kind {
            Kind::Word(word) => {
                let is_formula = is_operand_word(word) || !is_text_word(word, only.is_text);
                if is_formula {
                    return None;
                }
                word
            }
            _ => return None,
        },
        [first, ..] => match first.kind {
            Kind::Word(word) => word,
            _ => return None,
        },
        [] => return None,
    };
    let has_formula_word = tokens.iter().any(
        |token| matches!(token.kind, Kind::Word(word) if word.len() > 1 && is_operand_word(word)),
    );
    // `a-b` and `x, y` are formulas; so is what holds a function.
    if num_long == 0 || (has_formula_word && num_long < 3) || is_list_of_names(tokens) {
        return None;
    }
    let _ = first;
    if count > MAX_WORDS {
        return Some(Err(Reason::AnswerUnparsable));
    }
    Some(Ok(levelled(tokens, policy)))
}

/// Words of a formula: single letters and short products, with marks between.
fn is_list_of_names(tokens: &[Token<'_>]) -> bool {
    tokens.iter().all(|token| match token.kind {
        Kind::Word(word) => !is_text_word(word, token.is_text) || matches!(word, "and" | "or"),
        _ => true,
    })
}

/// True for a word of a language: upright, or too long to be a product of names.
fn is_text_word(word: &str, is_text: bool) -> bool {
    let length = word.chars().count();
    let is_upper = word.chars().all(char::is_uppercase);
    if length == 1 {
        return false;
    }
    if is_upper && length <= 3 {
        return false;
    }
    (is_text && length > 1) || !crate::parse::words::is_product_of_names(word)
}

/// Dates are texts with numbers in them.
fn is_month(word: &str) -> bool {
    const MONTHS: &[&str] = &[
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    MONTHS.contains(&word)
}

fn levelled(tokens: &[Token<'_>], policy: &Policy) -> String {
    use crate::policy::TextCase;
    let mut text = String::new();
    for token in tokens {
        let (Kind::Word(word) | Kind::Digits(word)) = token.kind else {
            continue;
        };
        let folded = match policy.text_case {
            TextCase::Fold => word.to_lowercase(),
            TextCase::Exact => String::from(word),
        };
        if tokens.len() > 1 && matches!(folded.as_str(), "a" | "an" | "the") {
            continue;
        }
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(&folded);
    }
    text
}
