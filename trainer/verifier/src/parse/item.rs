//! One member of a list: a value, a chain of relations, an assignment, with its condition.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use crate::fold::Built;
use crate::lex::{Gap, Kind};
use crate::parse::words::{greek, is_condition, is_operand_word, is_product_of_names};
use crate::parse::{Parser, refuse};
use crate::tree::{Expr, Function, Relation, Value};

/// What stands for members that are left out.
pub(super) const ELLIPSIS: &str = "…";

impl<'a> Parser<'a> {
    pub(super) fn item(&mut self) -> Built<Value> {
        self.nested(Self::item_inner)
    }

    fn item_inner(&mut self) -> Built<Value> {
        self.builder.budget.charge(100)?;
        if self.ellipsis() {
            return Ok(Value::Text(String::from(ELLIPSIS)));
        }
        if let Some(prefix) = self.quantifier() {
            let inner = self.item()?;
            return Ok(Value::Quantified(prefix, Box::new(inner)));
        }
        let value = self.chain()?;
        self.conditions(value)
    }

    fn quantifier(&mut self) -> Option<String> {
        let prefix = match self.peek()? {
            Kind::Command(name @ ("forall" | "exists" | "nexists" | "neg" | "therefore")) => name,
            _ => return None,
        };
        self.bump();
        // "Therefore" says nothing about the value.
        (prefix != "therefore").then(|| prefix.to_string())
    }

    /// `\pmod{7}`, `(mod 7)`, "if …", "where …": part of the answer.
    fn conditions(&mut self, mut value: Value) -> Built<Value> {
        loop {
            if let Some(modulus) = self.modulus()? {
                let modulus = Value::Expr(Expr::Apply(
                    Function::Named("modulus".to_string()),
                    vec![modulus],
                ));
                value = Value::Conditional(Box::new(value), Box::new(modulus));
                continue;
            }
            match self.peek() {
                Some(Kind::Word(word)) if is_condition(word) => {
                    while self.take_word(&[
                        "if", "for", "where", "when", "with", "whenever", "such", "that", "given",
                        "provided", "all", "any", "every", "some", "each", "and",
                    ]) {}
                    self.take_command("forall");
                    self.take_command("exists");
                    let condition = match self.attempt(Self::chain)? {
                        Some(condition) if self.ends_item() => condition,
                        _ => Value::Text(self.rest_of_item()?),
                    };
                    value = Value::Conditional(Box::new(value), Box::new(condition));
                }
                Some(Kind::Command("forall")) | Some(Kind::Mark('|'))
                    if self.bars == 0 && self.brackets == 0 =>
                {
                    self.bump();
                    let condition = self.chain()?;
                    value = Value::Conditional(Box::new(value), Box::new(condition));
                }
                _ => return Ok(value),
            }
        }
    }

    pub(super) fn ends_item(&self) -> bool {
        matches!(
            self.peek(),
            None | Some(
                Kind::Mark(',' | ';' | ')' | ']' | '}')
                    | Kind::SetBrace('}')
                    | Kind::Row
                    | Kind::End(_)
                    | Kind::Quad
                    | Kind::Word("and" | "or")
            )
        )
    }

    /// The words of a condition that is no formula.
    fn rest_of_item(&mut self) -> Built<String> {
        let mut text = String::new();
        while !matches!(
            self.peek(),
            None | Some(Kind::Mark(')' | ']' | '}') | Kind::SetBrace(_) | Kind::Row | Kind::End(_))
        ) {
            let part = match self.peek() {
                Some(Kind::Word(text) | Kind::Digits(text) | Kind::Command(text)) => {
                    text.to_string()
                }
                Some(Kind::NumberSet(letter) | Kind::Mark(letter)) => letter.to_string(),
                _ => return refuse(),
            };
            self.bump();
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(&part);
        }
        if text.is_empty() { refuse() } else { Ok(text) }
    }

    fn modulus(&mut self) -> Built<Option<Expr>> {
        if self.take_command("pmod") {
            return Ok(Some(self.nested(Self::argument)?));
        }
        let is_bracketed = self.peek() == Some(Kind::Mark('('))
            && matches!(
                self.peek_at(1),
                Some(Kind::Word("mod") | Kind::Command("bmod"))
            );
        if is_bracketed {
            self.skip(2);
            let modulus = self.bracketed(Self::additive)?;
            self.expect(Kind::Mark(')'))?;
            return Ok(Some(modulus));
        }
        Ok(None)
    }

    /// Sides joined by relations.
    fn chain(&mut self) -> Built<Value> {
        let start = self.at;
        if let Some(name) = self.head() {
            let value = self.chain()?;
            return Ok(match value {
                // `f(x) = y = 3` binds the first name.
                Value::Assign(_, inner) => Value::Assign(name, inner),
                Value::Chain(first, rest)
                    if rest
                        .iter()
                        .all(|(relation, _)| *relation == Relation::Equal) =>
                {
                    Value::Assign(name, Box::new(Value::Chain(first, rest)))
                }
                Value::Chain(first, rest) => {
                    // `x = 5 > 3` is no assignment.
                    let mut all = vec![(Relation::Equal, *first)];
                    all.extend(rest);
                    Value::Chain(Box::new(Value::Expr(Expr::Name(name))), all)
                }
                value => Value::Assign(name, Box::new(value)),
            });
        }
        let first = self.side()?;
        let mut rest: Vec<(Relation, Value)> = Vec::new();
        while let Some(relation) = self.relation()? {
            rest.push((relation, self.side()?));
            if rest.len() > self.limits.members {
                return refuse();
            }
        }
        if rest.is_empty() {
            return Ok(first);
        }
        // `5 = x` binds x.
        if let [(Relation::Equal, Value::Expr(Expr::Name(name)))] = rest.as_slice()
            && !matches!(&first, Value::Expr(Expr::Name(_)))
        {
            return Ok(Value::Assign(name.clone(), Box::new(first)));
        }
        if let [(Relation::Equal, value)] = rest.as_slice()
            && is_label(&first)
        {
            let label = self.source(start);
            return Ok(Value::Assign(label, Box::new(value.clone())));
        }
        Ok(Value::Chain(Box::new(first), rest))
    }

    /// The text from a token to the relation behind it, as the name of what is bound.
    fn source(&self, start: usize) -> String {
        let mut text = String::new();
        for token in self.tokens.iter().skip(start) {
            match token.kind {
                Kind::Mark('=') => break,
                Kind::Word(part) | Kind::Digits(part) | Kind::Command(part) => text.push_str(part),
                Kind::Mark(c) => text.push(c),
                _ => {}
            }
        }
        text
    }

    /// The name on the left of an equals sign: `x`, `x_1`, `f(x)`, `(x, y)`, `\text{Area}`.
    fn head(&mut self) -> Option<String> {
        let start = self.at;
        let name = self.head_name();
        let is_head = name.is_some() && self.take(Kind::Mark('='));
        if !is_head {
            self.at = start;
        }
        name.filter(|_| is_head)
    }

    fn head_name(&mut self) -> Option<String> {
        let mut name = String::new();
        match self.peek()? {
            Kind::Word(word) => {
                let is_text = self.token(0).is_some_and(|token| token.is_text);
                let is_letters =
                    word.chars().nth(1).is_some() && !is_text && is_product_of_names(word);
                if is_letters || (is_operand_word(word) && greek(word).is_none()) {
                    return None;
                }
                name.push_str(word);
                self.bump();
                // Several words: "total cost".
                while let Some(Kind::Word(next)) = self.peek() {
                    if word.chars().count() == 1 && self.gap(0) == Gap::None {
                        return None;
                    }
                    name.push(' ');
                    name.push_str(next);
                    self.bump();
                }
            }
            Kind::Command(command) if crate::lex_tables::LETTERS.contains(&command) => {
                name.push_str(command);
                self.bump();
            }
            Kind::Mark('(') => {
                self.bump();
                return self.head_arguments().filter(|names| names.contains(','));
            }
            _ => return None,
        }
        while self.take(Kind::Mark('\'')) {
            name.push('\'');
        }
        if self.take(Kind::Mark('_')) {
            name.push('_');
            self.subscript(&mut name).ok()?;
        }
        let is_inverse = [
            Kind::Mark('^'),
            Kind::Mark('{'),
            Kind::Mark('-'),
            Kind::Digits("1"),
            Kind::Mark('}'),
        ]
        .iter()
        .enumerate()
        .all(|(ahead, kind)| self.peek_at(ahead) == Some(*kind));
        if is_inverse {
            name.push_str("^-1");
            self.skip(5);
        }
        if self.peek() == Some(Kind::Mark('(')) {
            self.bump();
            // The names of arguments are no part of the function's name, values are.
            let arguments = self.head_arguments()?;
            name.push('(');
            name.push_str(&arguments);
            name.push(')');
        }
        Some(name)
    }

    /// `x, y)` behind an opening bracket.
    fn head_arguments(&mut self) -> Option<String> {
        let mut names = String::new();
        loop {
            match self.peek()? {
                Kind::Word(text) | Kind::Digits(text) | Kind::Command(text) => names.push_str(text),
                Kind::Mark(')') => {
                    self.bump();
                    return Some(names).filter(|names| !names.is_empty());
                }
                Kind::Mark(c @ (',' | '_' | '{' | '}' | '\'')) => names.push(c),
                _ => return None,
            }
            self.bump();
        }
    }

    fn relation(&mut self) -> Built<Option<Relation>> {
        let (relation, length) = match self.peek() {
            Some(Kind::Mark('=')) => (
                Relation::Equal,
                if self.peek_at(1) == Some(Kind::Mark('=')) {
                    2
                } else {
                    1
                },
            ),
            Some(Kind::Mark('<')) if self.peek_at(1) == Some(Kind::Mark('=')) => {
                (Relation::LessEqual, 2)
            }
            Some(Kind::Mark('>')) if self.peek_at(1) == Some(Kind::Mark('=')) => {
                (Relation::GreaterEqual, 2)
            }
            Some(Kind::Mark('!')) if self.peek_at(1) == Some(Kind::Mark('=')) => {
                (Relation::NotEqual, 2)
            }
            Some(Kind::Mark('<')) => (Relation::Less, 1),
            Some(Kind::Mark('>')) => (Relation::Greater, 1),
            Some(Kind::Command("le")) => (Relation::LessEqual, 1),
            Some(Kind::Command("ge")) => (Relation::GreaterEqual, 1),
            Some(Kind::Command("ne")) => (Relation::NotEqual, 1),
            Some(Kind::Command("not")) => match self.peek_at(1) {
                Some(Kind::Mark('=')) => (Relation::NotEqual, 2),
                Some(Kind::Command("in")) => (Relation::NotIn, 2),
                _ => return refuse(),
            },
            Some(Kind::Command("in")) => (Relation::In, 1),
            Some(Kind::Command("notin")) => (Relation::NotIn, 1),
            Some(Kind::Command("approx")) => (Relation::Approximately, 1),
            Some(Kind::Command("equiv")) => (Relation::Congruent, 1),
            Some(Kind::Command("subset")) => (Relation::Other(1), 1),
            Some(Kind::Command("subseteq")) => (Relation::Other(2), 1),
            Some(Kind::Command("to")) => (Relation::Other(3), 1),
            Some(Kind::Command("implies")) => (Relation::Other(4), 1),
            Some(Kind::Command("iff")) => (Relation::Other(5), 1),
            Some(Kind::Command("sim")) => (Relation::Other(6), 1),
            Some(Kind::Command("cong")) => (Relation::Other(7), 1),
            Some(Kind::Command("parallel")) => (Relation::Other(8), 1),
            Some(Kind::Command("perp")) => (Relation::Other(9), 1),
            _ => return Ok(None),
        };
        self.skip(length);
        Ok(Some(relation))
    }
}

/// True for what names a quantity without being a letter: `AB`, `|AB|`, `\angle ABC`, `f(2)`.
fn is_label(value: &Value) -> bool {
    let Value::Expr(expr) = value else {
        return false;
    };
    match expr {
        Expr::Apply(Function::Named(_), _) => true,
        Expr::Apply(Function::Abs, inner) => inner.iter().all(is_upper_product),
        Expr::Product(factors) => {
            is_upper_product(expr)
                || is_derivative(factors)
                || matches!(
                    factors.as_slice(),
                    [Expr::Name(_), Expr::Apply(Function::Named(_), _)]
                )
        }
        _ => false,
    }
}

/// `dy/dx`.
fn is_derivative(factors: &[Expr]) -> bool {
    let is_differential = |expr: &Expr| matches!(expr, Expr::Name(name) if crate::parse::words::differential(name).is_some());
    match factors {
        [top, Expr::Power(bottom, _)] => is_differential(top) && is_differential(bottom),
        _ => false,
    }
}

fn is_upper_product(expr: &Expr) -> bool {
    let is_upper =
        |expr: &Expr| matches!(expr, Expr::Name(name) if name.starts_with(char::is_uppercase));
    match expr {
        Expr::Product(factors) => factors.iter().all(is_upper),
        _ => is_upper(expr),
    }
}
