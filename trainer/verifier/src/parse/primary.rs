//! The operands of a formula: numbers, names, groups, fractions, roots, bars.

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use crate::fold::{Built, number};
use crate::lex::{Gap, Kind};
use crate::lex_tables::LETTERS;
use crate::parse::words::{differential, function, greek, is_operand_word, is_product_of_names};
use crate::parse::{LETTER_STEPS, Parser, WORD_STEPS, refuse};
use crate::tree::{Expr, Function};
use crate::unit::currency;

/// Letters that are functions when a bracket follows.
const FUNCTION_LETTERS: &[&str] = &["f", "g", "h", "F", "G", "H"];

/// Commands that put a mark over a name, and make it another name.
const ACCENTS: &[&str] = &[
    "overline",
    "bar",
    "vec",
    "hat",
    "widehat",
    "tilde",
    "widetilde",
    "overrightarrow",
    "overleftrightarrow",
    "dot",
    "ddot",
    "overset",
    "underset",
    "stackrel",
    "overarc",
    "wideparen",
];

impl<'a> Parser<'a> {
    pub(super) fn primary(&mut self) -> Built<Expr> {
        self.builder.budget.charge(60)?;
        if self.is_at_number() {
            return self.numeral();
        }
        match self.peek() {
            Some(Kind::Mark('{')) => self.group(),
            Some(Kind::Mark('(')) => self.bracket(')'),
            Some(Kind::Mark('[')) => self.bracket(']'),
            Some(Kind::Mark('|')) => self.bars_of(Kind::Mark('|'), Function::Abs),
            Some(Kind::Mark(sign @ ('$' | '€' | '£' | '¥' | '₹'))) => self.priced(sign),
            Some(Kind::Word(word)) => self.word(word),
            Some(Kind::Command(name)) => self.command(name),
            _ => refuse(),
        }
    }

    /// A group in brackets without a comma.
    fn bracket(&mut self, close: char) -> Built<Expr> {
        self.bump();
        let value = self.bracketed(Self::additive)?;
        self.expect(Kind::Mark(close))?;
        Ok(value)
    }

    /// `|x|`: the second bar ends what the first began.
    fn bars_of(&mut self, close: Kind<'static>, function: Function) -> Built<Expr> {
        self.bump();
        let outer = core::mem::replace(&mut self.bars, 1);
        let value = self.nested(Self::additive);
        self.bars = outer;
        let value = value?;
        self.expect(close)?;
        self.builder.apply(function, vec![value])
    }

    /// A currency sign before a number.
    fn priced(&mut self, sign: char) -> Built<Expr> {
        let Some(name) = currency(sign) else {
            return refuse();
        };
        self.bump();
        if self.currency.is_some_and(|known| known != name) {
            return refuse();
        }
        self.currency = Some(name);
        let is_negative = self.take(Kind::Mark('-'));
        if !self.is_at_number() && !matches!(self.peek(), Some(Kind::Command("frac"))) {
            return refuse();
        }
        let value = self.primary()?;
        if is_negative {
            self.builder.negative(value)
        } else {
            Ok(value)
        }
    }

    /// True if a word without an operator before it is a factor.
    pub(super) fn word_is_factor(&self, word: &str) -> bool {
        let is_text = self.token(0).is_some_and(|token| token.is_text);
        if matches!(word, "a" | "p" | "A" | "P") && self.is_dotted() {
            return false;
        }
        if is_operand_word(word) {
            return true;
        }
        if is_text {
            let is_name = word.chars().count() == 1
                || (word.bytes().all(|b| b.is_ascii_uppercase()) && is_product_of_names(word));
            return is_name && !self.is_unit_here();
        }
        (is_product_of_names(word) || splits(word)) && !self.is_unit_here()
    }

    pub(super) fn command_is_factor(&self, name: &str) -> bool {
        function(name).is_some()
            || LETTERS.contains(&name)
            || ACCENTS.contains(&name)
            || matches!(
                name,
                "frac"
                    | "sqrt"
                    | "cbrt"
                    | "pi"
                    | "exp"
                    | "lg"
                    | "binom"
                    | "lfloor"
                    | "lceil"
                    | "infty"
                    | "sum"
                    | "prod"
                    | "int"
                    | "lim"
            )
    }

    fn word(&mut self, word: &'a str) -> Built<Expr> {
        // Words are looked up in lists.
        self.builder.budget.charge(WORD_STEPS)?;
        self.builder.budget.charge_each(word.len(), LETTER_STEPS)?;
        let is_text = self.token(0).is_some_and(|token| token.is_text);
        let single = word.chars().nth(1).is_none();
        if !single && is_operand_word(word) {
            self.bump();
            return self.operand_word(word);
        }
        if single || (is_text && is_product_of_names(word)) {
            if !single {
                return self.split(word);
            }
            return self.letter(word);
        }
        if is_product_of_names(word) || splits(word) {
            return self.split(word);
        }
        refuse()
    }

    fn operand_word(&mut self, word: &str) -> Built<Expr> {
        if let Some(function) = function(word) {
            return self.call(function);
        }
        match word {
            "lg" => self.common_log(),
            "exp" => self.exponential(),
            "sqrt" | "cbrt" => self.root_of(word),
            "pi" | "Pi" | "PI" => Ok(Expr::Pi),
            "infty" | "infinity" | "Infinity" | "inf" | "oo" => Ok(Expr::Infinity),
            _ => match greek(word).or_else(|| differential(word)) {
                Some(name) => self.name(String::from(name)),
                None => refuse(),
            },
        }
    }

    /// Splits letters that stand together: the first name is read, the rest stays.
    fn split(&mut self, word: &'a str) -> Built<Expr> {
        let first =
            longest_operand(word).unwrap_or_else(|| word.chars().next().map_or(0, char::len_utf8));
        let (head, rest) = word.split_at_checked(first).unwrap_or((word, ""));
        let Some(token) = self.tokens.get_mut(self.at) else {
            return refuse();
        };
        if rest.is_empty() {
            return if longest_operand(head).is_some() {
                self.bump();
                self.operand_word(head)
            } else {
                self.letter(head)
            };
        }
        token.kind = Kind::Word(rest);
        token.gap = Gap::None;
        if longest_operand(head).is_some() && head.len() > 1 {
            return self.operand_word(head);
        }
        Ok(self.single(head))
    }

    fn single(&self, letter: &str) -> Expr {
        match letter {
            "e" if !self.binds_e => Expr::Euler,
            "i" if !self.binds_i => Expr::Imaginary,
            _ => Expr::Name(letter.to_string()),
        }
    }

    fn has_comma_here(&self) -> bool {
        self.partners
            .get(self.at)
            .copied()
            .flatten()
            .is_some_and(|partner| partner.has_comma)
    }

    /// One letter, with subscript and primes, or applied to arguments.
    fn letter(&mut self, letter: &str) -> Built<Expr> {
        self.bump();
        let is_plain = !matches!(self.peek(), Some(Kind::Mark('_' | '\'')));
        let takes_list = self.peek() == Some(Kind::Mark('(')) && self.has_comma_here();
        if takes_list {
            let arguments = self.arguments()?;
            return Ok(Expr::Apply(Function::Named(letter.to_string()), arguments));
        }
        if is_plain && !FUNCTION_LETTERS.contains(&letter) {
            return Ok(self.single(letter));
        }
        self.name(letter.to_string())
    }

    /// What stands behind a name: subscript, primes, arguments of a function.
    pub(super) fn name(&mut self, mut name: String) -> Built<Expr> {
        loop {
            let is_raised = self.peek() == Some(Kind::Mark('^'));
            if self.take(Kind::Mark('\'')) || (is_raised && self.is_prime_group()) {
                name.push('\'');
            } else if self.peek() == Some(Kind::Mark('_')) {
                self.bump();
                name.push('_');
                self.subscript(&mut name)?;
            } else {
                break;
            }
        }
        let is_function = name.chars().next().is_some_and(|c| {
            let mut text = [0u8; 4];
            FUNCTION_LETTERS.contains(&&*c.encode_utf8(&mut text))
        });
        if is_function && self.peek() == Some(Kind::Mark('(')) {
            let arguments = self.arguments()?;
            return Ok(Expr::Apply(Function::Named(name), arguments));
        }
        Ok(Expr::Name(name))
    }

    /// `^{\prime}` or `^\prime`.
    fn is_prime_group(&mut self) -> bool {
        if self.peek_at(1) == Some(Kind::Mark('\'')) {
            self.skip(2);
            return true;
        }
        let is_braced = self.peek_at(1) == Some(Kind::Mark('{'))
            && self.peek_at(2) == Some(Kind::Mark('\''))
            && self.peek_at(3) == Some(Kind::Mark('}'));
        if is_braced {
            self.skip(4);
        }
        is_braced
    }

    /// The text of a subscript: a group, a run of digits or one letter.
    pub(super) fn subscript(&mut self, name: &mut String) -> Built<()> {
        if !self.take(Kind::Mark('{')) {
            match self.peek() {
                Some(Kind::Digits(digits)) => name.push_str(digits),
                Some(Kind::Word(word)) => name.push_str(word),
                Some(Kind::Command(command)) => name.push_str(command),
                _ => return refuse(),
            }
            self.bump();
            return Ok(());
        }
        let mut depth = 1usize;
        let mut is_empty = true;
        while let Some(kind) = self.peek() {
            self.bump();
            match kind {
                Kind::Mark('{') => depth = depth.saturating_add(1),
                Kind::Mark('}') => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        return if is_empty { refuse() } else { Ok(()) };
                    }
                }
                Kind::Digits(text) | Kind::Word(text) | Kind::Command(text) => name.push_str(text),
                Kind::Mark(c) => name.push(c),
                _ => return refuse(),
            }
            is_empty = false;
        }
        refuse()
    }

    /// `(a, b, …)` behind a function.
    pub(super) fn arguments(&mut self) -> Built<Vec<Expr>> {
        self.expect(Kind::Mark('('))?;
        let arguments = self.bracketed(|parser| {
            let mut arguments = vec![parser.additive()?];
            while parser.take(Kind::Mark(',')) || parser.take(Kind::Mark(';')) {
                arguments.push(parser.additive()?);
            }
            Ok(arguments)
        })?;
        self.expect(Kind::Mark(')'))?;
        Ok(arguments)
    }

    fn command(&mut self, name: &'a str) -> Built<Expr> {
        self.bump();
        if let Some(function) = function(name) {
            return self.call(function);
        }
        match name {
            "frac" => {
                let top = self.nested(Self::argument)?;
                let bottom = self.nested(Self::argument)?;
                self.builder.quotient(top, bottom)
            }
            "binom" => {
                let n = self.nested(Self::argument)?;
                let k = self.nested(Self::argument)?;
                self.builder.apply(Function::Binomial, vec![n, k])
            }
            "sqrt" | "cbrt" => self.root_of(name),
            "pi" => Ok(Expr::Pi),
            "infty" => Ok(Expr::Infinity),
            "exp" => self.exponential(),
            "lg" => self.common_log(),
            "lfloor" => self.between("rfloor", Function::Floor),
            "lceil" => self.between("rceil", Function::Ceil),
            "Vert" => {
                self.at = self.at.saturating_sub(1);
                self.bars_of(Kind::Command("Vert"), Function::Named(String::from("norm")))
            }
            "sum" | "prod" => self.big_operator(name),
            "int" | "iint" | "iiint" | "oint" | "lim" => self.opaque(name),
            _ if LETTERS.contains(&name) => self.name(name.to_string()),
            _ if ACCENTS.contains(&name) => self.accented(name),
            "angle" | "triangle" | "measuredangle" => {
                let inner = self.nested(Self::term)?;
                Ok(Expr::Apply(Function::Named(name.to_string()), vec![inner]))
            }
            _ => refuse(),
        }
    }

    fn between(&mut self, close: &str, function: Function) -> Built<Expr> {
        let value = self.bracketed(Self::additive)?;
        self.expect(Kind::Command(close))?;
        self.builder.apply(function, vec![value])
    }

    fn accented(&mut self, name: &str) -> Built<Expr> {
        let inner = self.nested(Self::argument)?;
        Ok(Expr::Apply(Function::Named(name.to_string()), vec![inner]))
    }

    /// `\sqrt[3]{x}`, `\sqrt3`, `\sqrt(2)`, `sqrt(2)`.
    fn root_of(&mut self, name: &str) -> Built<Expr> {
        let mut index = number(if name == "cbrt" { 3 } else { 2 });
        if name == "sqrt" && self.peek() == Some(Kind::Mark('[')) {
            index = self.bracket(']')?;
        }
        let radicand = match self.peek() {
            Some(Kind::Mark('{')) => self.group()?,
            Some(Kind::Mark('(')) => self.bracket(')')?,
            _ => self.nested(Self::primary)?,
        };
        self.builder.root(radicand, index)
    }
}

/// Length of the longest operand of more than one letter at the start of a word.
fn longest_operand(word: &str) -> Option<usize> {
    (2..=word.len().min(8))
        .rev()
        .find(|end| word.get(..*end).is_some_and(is_operand_word))
}

/// True if a word is made of operands of more than one letter and few single names: `xsin`.
fn splits(word: &str) -> bool {
    let mut rest = word;
    let mut num_single = 0usize;
    let mut num_operands = 0usize;
    while let Some(first) = rest.chars().next() {
        let length = match longest_operand(rest) {
            Some(length) => {
                num_operands = num_operands.saturating_add(1);
                length
            }
            None => {
                num_single = num_single.saturating_add(1);
                first.len_utf8()
            }
        };
        rest = rest.get(length..).unwrap_or("");
    }
    num_operands > 0 && num_single <= 1
}
