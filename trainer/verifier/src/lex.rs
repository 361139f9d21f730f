//! Answer text to tokens. Commands that change only the look of a formula disappear here.

use alloc::vec::Vec;

use crate::lex_tables::{DROPPED, REPAIRED, WRAPPERS, rename, unicode};
use crate::policy::Limits;
use crate::verdict::Reason;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind<'a> {
    /// A run of ASCII digits.
    Digits(&'a str),
    /// A run of letters.
    Word(&'a str),
    /// A LaTeX command, without its backslash and by its usual name.
    Command(&'a str),
    /// Any other character, minus signs unified.
    Mark(char),
    /// A brace of a set, `\{` or `\}`.
    SetBrace(char),
    /// `{,}` or `,\!`: a comma inside a number.
    GroupComma,
    /// A wide space, which may separate.
    Quad,
    /// ℝ, ℤ and their kin.
    NumberSet(char),
    /// `\begin{…}` or `\end{…}`.
    Begin(&'a str),
    /// See `Begin`.
    End(&'a str),
    /// A row ends: `\\`.
    Row,
}

/// The space before a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gap {
    None,
    /// `\,` and its kin.
    Thin,
    Blank,
}

/// One piece of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    pub(crate) kind: Kind<'a>,
    pub(crate) gap: Gap,
    /// True inside `\text{…}` and other upright fonts.
    pub(crate) is_text: bool,
}

struct Lexer<'a> {
    rest: &'a str,
    tokens: Vec<Token<'a>>,
    gap: Gap,
    /// One entry per open brace: true if it belongs to a wrapper and leaves no token.
    braces: Vec<bool>,
    num_text: usize,
    limits: Limits,
}

/// Splits an answer into tokens.
///
/// Refuses unbalanced braces (a missing brace is not supplied) and what exceeds the limits.
pub(crate) fn lex<'a>(text: &'a str, limits: &Limits) -> Result<Vec<Token<'a>>, Reason> {
    if text.len() > limits.answer_bytes {
        return Err(Reason::AnswerTooLarge);
    }
    let mut lexer = Lexer {
        rest: text,
        tokens: Vec::with_capacity(text.len().min(64)),
        gap: Gap::None,
        braces: Vec::new(),
        num_text: 0,
        limits: *limits,
    };
    while let Some(first) = lexer.rest.chars().next() {
        lexer.one(first)?;
        if lexer.tokens.len() > limits.tokens {
            return Err(Reason::AnswerTooLarge);
        }
    }
    if lexer.braces.is_empty() {
        Ok(lexer.tokens)
    } else {
        Err(Reason::AnswerUnparsable)
    }
}

fn run(text: &str, keep: impl Fn(char) -> bool) -> (&str, &str) {
    let end = text.find(|c: char| !keep(c)).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

/// Letters of words; letters that stand for a command are none.
fn is_letter(c: char) -> bool {
    c.is_ascii_alphabetic() || (!c.is_ascii() && c.is_alphabetic() && unicode(c).is_none())
}

fn is_blank(c: char) -> bool {
    c.is_whitespace() || matches!(c, '~' | '\u{200b}' | '\u{feff}' | '\u{2061}' | '\u{2062}')
}

impl<'a> Lexer<'a> {
    fn push(&mut self, kind: Kind<'a>, rest: &'a str) {
        self.tokens.push(Token {
            kind,
            gap: self.gap,
            is_text: self.num_text > 0,
        });
        self.gap = Gap::None;
        self.rest = rest;
    }

    fn space(&mut self, gap: Gap, rest: &'a str) {
        if self.gap != Gap::Blank {
            self.gap = gap;
        }
        self.rest = rest;
    }

    fn one(&mut self, first: char) -> Result<(), Reason> {
        if first.is_ascii_digit() {
            let (digits, rest) = run(self.rest, |c| c.is_ascii_digit());
            self.push(Kind::Digits(digits), rest);
            return Ok(());
        }
        if is_letter(first) {
            let (word, rest) = run(self.rest, is_letter);
            self.push(Kind::Word(word), rest);
            return Ok(());
        }
        if is_blank(first) {
            let (_, rest) = run(self.rest, is_blank);
            self.space(Gap::Blank, rest);
            return Ok(());
        }
        if let Some(rest) = self.rest.strip_prefix("{,}") {
            self.push(Kind::GroupComma, rest);
            return Ok(());
        }
        let mut chars = self.rest.chars();
        chars.next();
        let rest = chars.as_str();
        match first {
            '\\' => self.command(rest),
            '{' => self.open(false, rest),
            '}' => self.close(rest),
            '$' if self.num_text > 0 || self.is_inner_dollar() => {
                self.space(Gap::Blank, rest);
                Ok(())
            }
            '(' if rest.starts_with(['½', '⅓']) => {
                self.push(Kind::Mark('('), rest);
                Ok(())
            }
            _ => {
                self.mark(first, rest);
                Ok(())
            }
        }
    }

    /// A dollar sign that is no currency: nothing, or no number, behind it.
    fn is_inner_dollar(&self) -> bool {
        let after = self.rest.get(1..).unwrap_or("").trim_start();
        !after.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '−'))
    }

    /// A single character, or the tokens that its Unicode form stands for.
    fn mark(&mut self, first: char, rest: &'a str) {
        let is_raised = |c: char| raised(c).is_some();
        if is_raised(first) || lowered(first).is_some() {
            let is_up = is_raised(first);
            self.push(Kind::Mark(if is_up { '^' } else { '_' }), rest);
            self.push(Kind::Mark('{'), rest);
            let mut chars = rest.chars();
            let mut next = Some(first);
            let mut behind = rest;
            while let Some(kind) = next.and_then(|c| if is_up { raised(c) } else { lowered(c) }) {
                self.push_joined(kind, behind);
                behind = chars.as_str();
                next = chars.next();
            }
            // `behind` starts with the first character that is not raised.
            self.push(Kind::Mark('}'), behind);
            self.rest = behind;
            return;
        }
        if let Some((top, bottom)) = vulgar(first) {
            self.push(Kind::Command("frac"), rest);
            for part in [top, bottom] {
                self.push(Kind::Mark('{'), rest);
                self.push(Kind::Digits(part), rest);
                self.push(Kind::Mark('}'), rest);
            }
            return;
        }
        self.push(unicode(first).unwrap_or(Kind::Mark(first)), rest);
    }

    /// Raised digits that follow each other are one number.
    fn push_joined(&mut self, kind: Kind<'static>, rest: &'a str) {
        if let (Kind::Digits(next), Some(last)) = (kind, self.tokens.last_mut())
            && let Kind::Digits(before) = last.kind
            && let Some(joined) = joined_digits(before, next)
        {
            last.kind = Kind::Digits(joined);
            self.rest = rest;
            return;
        }
        self.push(kind, rest);
    }

    fn open(&mut self, is_wrapper: bool, rest: &'a str) -> Result<(), Reason> {
        if self.braces.len() >= self.limits.nesting {
            return Err(Reason::AnswerTooLarge);
        }
        self.braces.push(is_wrapper);
        if is_wrapper {
            self.num_text = self.num_text.saturating_add(1);
            self.space(Gap::Blank, rest);
        } else {
            self.push(Kind::Mark('{'), rest);
        }
        Ok(())
    }

    fn close(&mut self, rest: &'a str) -> Result<(), Reason> {
        match self.braces.pop() {
            Some(true) => {
                self.num_text = self.num_text.saturating_sub(1);
                self.space(Gap::Blank, rest);
                Ok(())
            }
            Some(false) => {
                self.push(Kind::Mark('}'), rest);
                Ok(())
            }
            None => Err(Reason::AnswerUnparsable),
        }
    }

    /// `rest` starts behind a backslash.
    fn command(&mut self, rest: &'a str) -> Result<(), Reason> {
        if let Some(single) = rest.strip_prefix('\\') {
            let (name, _) = run(single, |c| c.is_ascii_alphabetic());
            if REPAIRED.contains(&name) {
                return self.command(single);
            }
            self.push(Kind::Row, single);
            return Ok(());
        }
        let (name, after) = run(rest, |c| c.is_ascii_alphabetic());
        if name.is_empty() {
            return self.escaped(rest);
        }
        if WRAPPERS.contains(&name) {
            match after.trim_start().strip_prefix('{') {
                Some(inner) => return self.open(true, inner),
                None => self.space(Gap::Blank, after),
            }
            return Ok(());
        }
        if DROPPED.contains(&name) {
            self.rest = after;
            if matches!(name, "left" | "right" | "middle") {
                self.delimiter(after);
            }
            return Ok(());
        }
        self.named(name, after)
    }

    /// What stands behind `\\left` or `\\right`: a full stop is no delimiter, `<` is a bracket.
    fn delimiter(&mut self, after: &'a str) {
        let after = after.trim_start();
        if let Some(rest) = after.strip_prefix('.') {
            self.rest = rest;
        } else if let Some(rest) = after.strip_prefix('<') {
            self.push(Kind::Command("langle"), rest);
        } else if let Some(rest) = after.strip_prefix('>') {
            self.push(Kind::Command("rangle"), rest);
        }
    }

    fn named(&mut self, name: &'a str, after: &'a str) -> Result<(), Reason> {
        match name {
            "begin" | "end" => self.environment(name, after)?,
            "mathbb" | "mathcal" | "mathscr" | "mathfrak" => {
                let (letter, rest) = braced_letter(after).ok_or(Reason::AnswerUnparsable)?;
                let kind = match letter {
                    'R' | 'Z' | 'N' | 'Q' | 'C' if name == "mathbb" => Kind::NumberSet(letter),
                    _ => Kind::Command(calligraphic(letter).ok_or(Reason::AnswerUnparsable)?),
                };
                self.push(kind, rest);
            }
            "quad" | "qquad" => {
                self.push(Kind::Quad, after);
                self.gap = Gap::Blank;
            }
            "space" | "hspace" | "nobreakspace" => self.space(Gap::Blank, after),
            "thinspace" => self.space(Gap::Thin, after),
            "lbrace" => self.push(Kind::SetBrace('{'), after),
            "rbrace" => self.push(Kind::SetBrace('}'), after),
            "lbrack" => self.push(Kind::Mark('['), after),
            "rbrack" => self.push(Kind::Mark(']'), after),
            "newline" | "cr" => self.push(Kind::Row, after),
            _ => self.push(rename(name), after),
        }
        Ok(())
    }

    fn environment(&mut self, which: &str, after: &'a str) -> Result<(), Reason> {
        let inner = after
            .trim_start()
            .strip_prefix('{')
            .ok_or(Reason::AnswerUnparsable)?;
        let (name, rest) = inner.split_once('}').ok_or(Reason::AnswerUnparsable)?;
        if which == "begin" {
            // The columns of an array.
            let rest = match name {
                "array" => skip_columns(rest),
                _ => rest,
            };
            self.push(Kind::Begin(name), rest);
        } else {
            self.push(Kind::End(name), rest);
        }
        Ok(())
    }

    /// A backslash before something that is no letter.
    fn escaped(&mut self, rest: &'a str) -> Result<(), Reason> {
        let mut chars = rest.chars();
        let Some(first) = chars.next() else {
            return Err(Reason::AnswerUnparsable);
        };
        let after = chars.as_str();
        match first {
            ',' | ';' | ':' | '>' => self.space(Gap::Thin, after),
            '!' => {
                if let Some(last) = self.tokens.last_mut()
                    && last.kind == Kind::Mark(',')
                {
                    last.kind = Kind::GroupComma;
                }
                self.rest = after;
                if self.braces.is_empty() {
                    self.rest = after.trim_start();
                }
            }
            '{' | '}' => self.push(Kind::SetBrace(first), after),
            '|' => self.push(Kind::Command("Vert"), after),
            '%' | '$' | '#' | '&' | '_' => self.push(Kind::Mark(first), after),
            // Delimiters of inline and display mathematics inside an answer are only dressing.
            '(' | ')' | '[' | ']' => self.space(Gap::Blank, after),
            _ if first.is_whitespace() => self.space(Gap::Blank, after),
            _ => return Err(Reason::AnswerUnparsable),
        }
        Ok(())
    }
}

/// `{R}`, or ` R`.
fn braced_letter(text: &str) -> Option<(char, &str)> {
    let text = text.trim_start();
    match text.strip_prefix('{') {
        Some(inner) => {
            let mut chars = inner.trim_start().chars();
            let letter = chars.next()?;
            Some((letter, chars.as_str().trim_start().strip_prefix('}')?))
        }
        None => {
            let mut chars = text.chars();
            Some((chars.next()?, chars.as_str()))
        }
    }
}

/// A letter in a script font is a name of its own.
fn calligraphic(letter: char) -> Option<&'static str> {
    const NAMES: &[&str] = &[
        "scrA", "scrB", "scrC", "scrD", "scrE", "scrF", "scrG", "scrH", "scrI", "scrJ", "scrK",
        "scrL", "scrM", "scrN", "scrO", "scrP", "scrQ", "scrR", "scrS", "scrT", "scrU", "scrV",
        "scrW", "scrX", "scrY", "scrZ",
    ];
    let index = u32::from(letter).checked_sub(u32::from('A'))?;
    NAMES.get(usize::try_from(index).ok()?).copied()
}

fn skip_columns(text: &str) -> &str {
    let Some(inner) = text.trim_start().strip_prefix('{') else {
        return text;
    };
    inner.split_once('}').map_or(text, |(_, rest)| rest)
}

fn raised(c: char) -> Option<Kind<'static>> {
    Some(match c {
        '⁰' => Kind::Digits("0"),
        '¹' => Kind::Digits("1"),
        '²' => Kind::Digits("2"),
        '³' => Kind::Digits("3"),
        '⁴' => Kind::Digits("4"),
        '⁵' => Kind::Digits("5"),
        '⁶' => Kind::Digits("6"),
        '⁷' => Kind::Digits("7"),
        '⁸' => Kind::Digits("8"),
        '⁹' => Kind::Digits("9"),
        '⁻' => Kind::Mark('-'),
        '⁺' => Kind::Mark('+'),
        'ⁿ' => Kind::Word("n"),
        'ˣ' => Kind::Word("x"),
        _ => return None,
    })
}

fn lowered(c: char) -> Option<Kind<'static>> {
    const DIGITS: &[&str] = &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
    let index = u32::from(c).checked_sub(u32::from('₀'))?;
    DIGITS
        .get(usize::try_from(index).ok()?)
        .map(|digit| Kind::Digits(digit))
}

fn vulgar(c: char) -> Option<(&'static str, &'static str)> {
    Some(match c {
        '½' => ("1", "2"),
        '⅓' => ("1", "3"),
        '⅔' => ("2", "3"),
        '¼' => ("1", "4"),
        '¾' => ("3", "4"),
        '⅕' => ("1", "5"),
        '⅖' => ("2", "5"),
        '⅗' => ("3", "5"),
        '⅘' => ("4", "5"),
        '⅙' => ("1", "6"),
        '⅚' => ("5", "6"),
        '⅛' => ("1", "8"),
        '⅜' => ("3", "8"),
        '⅝' => ("5", "8"),
        '⅞' => ("7", "8"),
        _ => return None,
    })
}

/// Two-digit numbers written with raised or lowered digits.
fn joined_digits(before: &str, next: &str) -> Option<&'static str> {
    const NUMBERS: &str = "\
        00010203040506070809101112131415161718192021222324252627282930313233343536373839\
        40414243444546474849505152535455565758596061626364656667686970717273747576777879\
        8081828384858687888990919293949596979899";
    if before.len() != 1 {
        return None;
    }
    let value = before
        .parse::<usize>()
        .ok()?
        .saturating_mul(10)
        .saturating_add(next.parse().ok()?);
    let start = value.saturating_mul(2);
    NUMBERS.get(start..start.saturating_add(2))
}
