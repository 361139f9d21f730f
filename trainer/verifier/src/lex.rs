//! Answer text to tokens. Commands that change only the look of a formula disappear here.

use alloc::vec::Vec;

use crate::policy::Limits;
use crate::verdict::Reason;

/// One piece of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    /// A run of ASCII digits.
    Digits(&'a str),
    /// A run of letters.
    Word(&'a str),
    /// A LaTeX command, without its backslash and by its usual name.
    Command(&'a str),
    /// Any other character, minus signs unified.
    Symbol(char),
    /// `\{` and `\}`, which are no grouping.
    Escaped(char),
    /// Blanks.
    Blank,
    /// A thin space, `\,`: separates thousands.
    Thin,
    /// `{,}` or `,\!`: a comma inside a number.
    GroupComma,
    /// Where a font or text command began or ended: joins nothing across it.
    Edge,
}

impl Token<'_> {
    pub(crate) fn is_blank(self) -> bool {
        matches!(self, Token::Blank | Token::Thin | Token::Edge)
    }
}

/// Commands whose braces wrap text or a font.
const WRAPPERS: &[&str] = &[
    "text",
    "textbf",
    "textit",
    "textrm",
    "textnormal",
    "mathrm",
    "mathbf",
    "mathit",
    "mathsf",
    "mathtt",
    "operatorname",
    "mbox",
    "hbox",
    "boldsymbol",
    "emph",
    "underline",
];

/// Commands without a meaning for the value.
const DROPPED: &[&str] = &[
    "left",
    "right",
    "displaystyle",
    "textstyle",
    "big",
    "Big",
    "bigl",
    "bigr",
    "Bigl",
    "Bigr",
    "bf",
    "rm",
    "it",
    "limits",
    "nolimits",
];

/// Commands after which a doubled backslash is taken for a single one.
const REPAIRED: &[&str] = &[
    "frac", "dfrac", "tfrac", "text", "sqrt", "pi", "times", "cdot", "left", "right", "mathrm",
];

struct Lexer<'a> {
    rest: &'a str,
    tokens: Vec<Token<'a>>,
    /// One entry per open brace: true if it belongs to a wrapper and leaves no token.
    braces: Vec<bool>,
    nesting: usize,
}

/// Splits an answer into tokens.
///
/// Refuses unbalanced braces (a missing brace is not supplied) and nesting beyond the limit.
pub(crate) fn lex<'a>(text: &'a str, limits: &Limits) -> Result<Vec<Token<'a>>, Reason> {
    let mut lexer = Lexer {
        rest: text,
        tokens: Vec::new(),
        braces: Vec::new(),
        nesting: limits.nesting,
    };
    while let Some(first) = lexer.rest.chars().next() {
        lexer.one(first)?;
    }
    if lexer.braces.is_empty() {
        Ok(lexer.tokens)
    } else {
        Err(Reason::AnswerUnparsable)
    }
}

fn run(text: &str, keep: impl Fn(char) -> bool) -> (&str, &str) {
    let end = text.find(|c: char| !keep(c)).unwrap_or(text.len());
    text.split_at(end)
}

impl<'a> Lexer<'a> {
    fn one(&mut self, first: char) -> Result<(), Reason> {
        if first.is_ascii_digit() {
            let (digits, rest) = run(self.rest, |c| c.is_ascii_digit());
            return self.push(Token::Digits(digits), rest);
        }
        if first.is_alphabetic() && unicode(first).is_none() {
            let (word, rest) = run(self.rest, |c| c.is_alphabetic() && unicode(c).is_none());
            return self.push(Token::Word(word), rest);
        }
        if first.is_whitespace() || first == '~' {
            let (_, rest) = run(self.rest, |c| c.is_whitespace() || c == '~');
            return self.push(Token::Blank, rest);
        }
        if let Some(rest) = self.rest.strip_prefix("{,}") {
            return self.push(Token::GroupComma, rest);
        }
        let mut chars = self.rest.chars();
        chars.next();
        let rest = chars.as_str();
        match first {
            '\\' => self.command(rest),
            '{' => self.open(false, rest),
            '}' => self.close(rest),
            '²' | '³' => {
                self.tokens.push(Token::Symbol('^'));
                self.push(Token::Digits(if first == '²' { "2" } else { "3" }), rest)
            }
            _ => self.push(unicode(first).unwrap_or(Token::Symbol(first)), rest),
        }
    }

    fn push(&mut self, token: Token<'a>, rest: &'a str) -> Result<(), Reason> {
        self.tokens.push(token);
        self.rest = rest;
        Ok(())
    }

    fn open(&mut self, is_wrapper: bool, rest: &'a str) -> Result<(), Reason> {
        if self.braces.len() >= self.nesting {
            return Err(Reason::AnswerTooLarge);
        }
        self.braces.push(is_wrapper);
        let token = if is_wrapper {
            Token::Edge
        } else {
            Token::Symbol('{')
        };
        self.push(token, rest)
    }

    fn close(&mut self, rest: &'a str) -> Result<(), Reason> {
        match self.braces.pop() {
            Some(true) => self.push(Token::Edge, rest),
            Some(false) => self.push(Token::Symbol('}'), rest),
            None => Err(Reason::AnswerUnparsable),
        }
    }

    /// `rest` starts behind a backslash.
    fn command(&mut self, rest: &'a str) -> Result<(), Reason> {
        if let Some(single) = rest.strip_prefix('\\') {
            let (name, _) = run(single, |c| c.is_ascii_alphabetic());
            return if REPAIRED.contains(&name) {
                self.command(single)
            } else {
                self.push(Token::Command("\\"), single)
            };
        }
        let (name, after) = run(rest, |c| c.is_ascii_alphabetic());
        if name.is_empty() {
            return self.escaped(rest);
        }
        if WRAPPERS.contains(&name) {
            return match after.trim_start().strip_prefix('{') {
                Some(inner) => self.open(true, inner),
                None => self.push(Token::Edge, after),
            };
        }
        let token = match name {
            _ if DROPPED.contains(&name) => {
                self.rest = after;
                return Ok(());
            }
            "quad" | "qquad" | "space" => Token::Blank,
            "dfrac" | "tfrac" | "cfrac" => Token::Command("frac"),
            "leq" => Token::Command("le"),
            "geq" => Token::Command("ge"),
            "neq" => Token::Command("ne"),
            "dots" | "cdots" => Token::Command("ldots"),
            "lbrace" => Token::Escaped('{'),
            "rbrace" => Token::Escaped('}'),
            _ => Token::Command(name),
        };
        self.push(token, after)
    }

    /// A backslash before something that is no letter.
    fn escaped(&mut self, rest: &'a str) -> Result<(), Reason> {
        let mut chars = rest.chars();
        let Some(first) = chars.next() else {
            return Err(Reason::AnswerUnparsable);
        };
        let after = chars.as_str();
        match first {
            ',' | ';' | ':' | '>' => self.push(Token::Thin, after),
            '!' => {
                if let Some(last @ Token::Symbol(',')) = self.tokens.last_mut() {
                    *last = Token::GroupComma;
                }
                self.rest = after.trim_start();
                Ok(())
            }
            '{' | '}' => self.push(Token::Escaped(first), after),
            '%' | '$' | '#' | '&' | '_' => self.push(Token::Symbol(first), after),
            // Delimiters of inline and display mathematics inside an answer are only dressing.
            '(' | ')' | '[' | ']' => self.push(Token::Edge, after),
            _ if first.is_whitespace() => self.push(Token::Blank, after),
            _ => Err(Reason::AnswerUnparsable),
        }
    }
}

/// Unicode spellings of commands and signs.
fn unicode(c: char) -> Option<Token<'static>> {
    Some(match c {
        '−' | '‐' | '‑' | '‒' | '–' | '\u{fe63}' | '\u{ff0d}' => Token::Symbol('-'),
        '＋' => Token::Symbol('+'),
        '＝' => Token::Symbol('='),
        '％' => Token::Symbol('%'),
        '∕' | '⁄' => Token::Symbol('/'),
        '×' => Token::Command("times"),
        '÷' => Token::Command("div"),
        '·' | '⋅' => Token::Command("cdot"),
        '≤' => Token::Command("le"),
        '≥' => Token::Command("ge"),
        '≠' => Token::Command("ne"),
        '±' => Token::Command("pm"),
        '∞' => Token::Command("infty"),
        'π' => Token::Command("pi"),
        '√' => Token::Command("sqrt"),
        '∪' => Token::Command("cup"),
        '∩' => Token::Command("cap"),
        '∅' => Token::Command("emptyset"),
        '…' => Token::Command("ldots"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_disappear_and_meaning_stays() {
        let limits = Limits::default();
        let plain = lex(r"\frac{1}{2}", &limits).unwrap();
        assert_eq!(lex(r"\left\dfrac{1}{2}\right", &limits).unwrap(), plain);
        assert_eq!(lex(r"\\frac{1}{2}", &limits).unwrap(), plain);
        assert_eq!(lex("−3", &limits).unwrap(), lex("-3", &limits).unwrap());
        assert_eq!(
            lex(r"1,\! 234", &limits).unwrap(),
            lex("1{,}234", &limits).unwrap()
        );
        assert_ne!(
            lex(r"2\text{3}", &limits).unwrap(),
            lex("23", &limits).unwrap()
        );
    }

    #[test]
    fn braces_must_match() {
        let limits = Limits::default();
        for text in ["{", "}", "{}}", r"\text{a", r"a\"] {
            assert_eq!(lex(text, &limits), Err(Reason::AnswerUnparsable), "{text}");
        }
        assert_eq!(lex(&"{".repeat(65), &limits), Err(Reason::AnswerTooLarge));
        assert!(lex(r"\{1", &limits).is_ok());
    }
}
