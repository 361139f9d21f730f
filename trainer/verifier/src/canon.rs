//! The cleaned text of an answer: one spelling for what differs in looks alone.

use alloc::string::String;
use alloc::vec::Vec;

use crate::lex::Token;
use crate::verdict::Reason;

/// Words without weight in a text answer.
const ARTICLES: &[&str] = &["a", "an", "the"];

/// Longest text of words that counts as an answer and not as prose.
const MAX_WORDS: usize = 12;

/// The cleaned text, or the reason why it is no answer.
///
/// Words are levelled in case, articles, hyphens and blanks; mathematics loses blanks and gains
/// the braces that were left out. Malformed mathematics is refused: dangling operators,
/// parentheses without partner, a fraction without parts.
pub(crate) fn clean(tokens: &[Token<'_>]) -> Result<String, Reason> {
    let body: Vec<Token<'_>> = tokens.to_vec();
    if num_words(&body) > MAX_WORDS {
        return Err(Reason::AnswerUnparsable);
    }
    if is_words(&body) {
        return Ok(words(&body));
    }
    check_operators(&body)?;
    check_parentheses(&body)?;
    let mut writer = Writer {
        tokens: body,
        at: 0,
        text: String::new(),
    };
    writer.all()?;
    Ok(choice(&writer.text).map_or(writer.text.clone(), String::from))
}

/// Words of two letters and more.
pub(crate) fn num_words(tokens: &[Token<'_>]) -> usize {
    tokens
        .iter()
        .filter(|token| matches!(token, Token::Word(word) if word.chars().nth(1).is_some()))
        .count()
}

/// True if the answer consists of words, at least one of two letters.
fn is_words(tokens: &[Token<'_>]) -> bool {
    num_words(tokens) > 0
        && tokens.iter().all(|token| {
            token.is_blank() || matches!(token, Token::Word(_) | Token::Symbol('-' | '\'' | '’'))
        })
}

fn words(tokens: &[Token<'_>]) -> String {
    let words: Vec<&str> = tokens
        .iter()
        .filter_map(|token| match token {
            Token::Word(word) => Some(*word),
            _ => None,
        })
        .collect();
    let mut text = String::new();
    for word in &words {
        let folded = fold(word);
        if words.len() > 1 && ARTICLES.contains(&folded.as_str()) {
            continue;
        }
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(&folded);
    }
    text
}

/// Lower case for ordinary words; short runs of capitals stay, they are products of names.
fn fold(word: &str) -> String {
    let is_capitals = word.chars().all(char::is_uppercase);
    if is_capitals && word.chars().count() < 4 {
        String::from(word)
    } else {
        word.to_lowercase()
    }
}

/// `(A)` is choice A.
fn choice(text: &str) -> Option<&str> {
    let letter = text.strip_prefix('(')?.strip_suffix(')')?;
    let mut chars = letter.chars();
    let is_letter = chars.next().is_some_and(|c| c.is_ascii_uppercase());
    (is_letter && chars.next().is_none()).then_some(letter)
}

fn is_operator(token: Token<'_>) -> bool {
    matches!(
        token,
        Token::Symbol('+' | '-' | '*' | '/' | '^' | '_' | '=' | '<' | '>')
            | Token::Command(
                "times" | "cdot" | "div" | "le" | "ge" | "ne" | "pm" | "frac" | "sqrt" | "overline"
            )
    )
}

fn is_opening(token: Option<Token<'_>>) -> bool {
    matches!(
        token,
        None | Some(Token::Symbol('(' | '[' | '{') | Token::Escaped('{'))
    )
}

fn is_closing(token: Option<Token<'_>>) -> bool {
    matches!(
        token,
        None | Some(Token::Symbol(')' | ']' | '}') | Token::Escaped('}'))
    )
}

/// An operator needs something on its right, and all but signs and roots on their left.
fn check_operators(tokens: &[Token<'_>]) -> Result<(), Reason> {
    let solid: Vec<Token<'_>> = tokens.iter().copied().filter(|t| !t.is_blank()).collect();
    let mut before = None;
    for (index, &token) in solid.iter().enumerate() {
        let after = solid.get(index.saturating_add(1)).copied();
        let is_exponent = matches!(before, Some(Token::Symbol('^' | '_')))
            || (is_opening(before) && is_closing(after));
        let needs_left = matches!(
            token,
            Token::Symbol('*' | '/' | '^' | '_' | '=' | ',')
                | Token::Command("times" | "cdot" | "div")
        );
        let is_dangling = is_operator(token) && is_closing(after) && !is_exponent;
        if is_dangling || (needs_left && is_opening(before)) {
            return Err(Reason::AnswerUnparsable);
        }
        before = Some(token);
    }
    Ok(())
}

/// Parentheses and brackets in any mixture, because intervals mix them.
fn check_parentheses(tokens: &[Token<'_>]) -> Result<(), Reason> {
    let mut open = 0usize;
    for token in tokens {
        open = match token {
            Token::Symbol('(' | '[') | Token::Escaped('{') => open.saturating_add(1),
            Token::Symbol(')' | ']') | Token::Escaped('}') => {
                open.checked_sub(1).ok_or(Reason::AnswerUnparsable)?
            }
            _ => open,
        };
    }
    if open == 0 {
        Ok(())
    } else {
        Err(Reason::AnswerUnparsable)
    }
}

struct Writer<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
    text: String,
}

impl<'a> Writer<'a> {
    fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.at).copied()
    }

    fn bump(&mut self) {
        self.at = self.at.saturating_add(1);
    }

    fn all(&mut self) -> Result<(), Reason> {
        while let Some(token) = self.peek() {
            self.bump();
            self.write(token);
            match token {
                Token::Command("frac") => {
                    self.argument(true)?;
                    self.argument(true)?;
                }
                Token::Command("sqrt") | Token::Symbol('^' | '_') => self.argument(false)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Supplies braces around an argument of one character.
    ///
    /// A braced argument of `\frac` is written through to its closing brace, so that the next
    /// argument is found; other braced arguments are left to the main loop.
    fn argument(&mut self, is_fraction_part: bool) -> Result<(), Reason> {
        while self.peek().is_some_and(Token::is_blank) {
            self.bump();
        }
        let (first, rest) = match self.peek() {
            Some(Token::Symbol('{')) if is_fraction_part => return self.group(),
            Some(Token::Digits(run)) if is_fraction_part || run.len() == 1 => {
                let (first, rest) = run.split_at_checked(1).unwrap_or((run, ""));
                (
                    first,
                    Some(Token::Digits(rest)).filter(|_| !rest.is_empty()),
                )
            }
            Some(Token::Word(run)) if is_fraction_part || run.chars().count() == 1 => {
                let end = run.chars().next().map_or(0, char::len_utf8);
                let (first, rest) = run.split_at_checked(end).unwrap_or((run, ""));
                (first, Some(Token::Word(rest)).filter(|_| !rest.is_empty()))
            }
            Some(token @ Token::Command(_)) if is_fraction_part => {
                self.bump();
                self.text.push('{');
                self.write(token);
                self.text.push('}');
                return Ok(());
            }
            _ if is_fraction_part => return Err(Reason::AnswerUnparsable),
            _ => return Ok(()),
        };
        self.text.push('{');
        self.text.push_str(first);
        self.text.push('}');
        match rest {
            Some(rest) => {
                if let Some(token) = self.tokens.get_mut(self.at) {
                    *token = rest;
                }
            }
            None => self.bump(),
        }
        Ok(())
    }

    /// A braced group, written with everything in it; empty ones are refused.
    fn group(&mut self) -> Result<(), Reason> {
        let start = self.at.saturating_add(1);
        let mut depth = 0usize;
        let mut end = start;
        for (index, token) in self.tokens.iter().enumerate().skip(self.at) {
            match token {
                Token::Symbol('{') => depth = depth.saturating_add(1),
                Token::Symbol('}') => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 {
                end = index;
                break;
            }
        }
        let inner: Vec<Token<'a>> = self.tokens.get(start..end).unwrap_or(&[]).to_vec();
        if inner.iter().all(|token| token.is_blank()) {
            return Err(Reason::AnswerUnparsable);
        }
        let mut writer = Writer {
            tokens: inner,
            at: 0,
            text: String::new(),
        };
        writer.all()?;
        self.text.push('{');
        self.text.push_str(&writer.text);
        self.text.push('}');
        self.at = end.saturating_add(1);
        Ok(())
    }

    fn write(&mut self, token: Token<'_>) {
        match token {
            Token::Digits(run) | Token::Word(run) => self.text.push_str(run),
            Token::Command(name) => {
                self.text.push('\\');
                self.text.push_str(name);
                if matches!(self.peek(), Some(Token::Word(_)))
                    || (self.peek().is_some_and(Token::is_blank)
                        && name.chars().all(|c| c.is_ascii_alphabetic()))
                {
                    self.text.push(' ');
                }
            }
            Token::Symbol(c) => self.text.push(c),
            Token::Escaped(c) => {
                self.text.push('\\');
                self.text.push(c);
            }
            Token::GroupComma => self.text.push_str("{,}"),
            Token::Blank | Token::Thin | Token::Edge => self.blank(),
        }
    }

    /// A blank counts only between digits, where it keeps two numbers apart.
    fn blank(&mut self) {
        let is_after_digit = self.text.ends_with(|c: char| c.is_ascii_digit());
        if is_after_digit && matches!(self.peek(), Some(Token::Digits(_))) {
            self.text.push(' ');
        }
    }
}
