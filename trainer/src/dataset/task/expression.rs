//! Expressions of several operators, worked one operator at a time.

use super::super::error::DatasetError;
use super::options::{Options, Range, draw_number};
use super::{Made, Style};
use crate::seed::Stream;

/// Products stay below this, so that a worked line stays short.
const LARGEST_PRODUCT: i64 = 9_999;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Expression {
    depth: Range,
    digits: Range,
    style: Style,
    has_steps: bool,
}

#[derive(Clone, Debug)]
enum Node {
    Number(i64),
    Operator(char, Box<Node>, Box<Node>),
}

impl Expression {
    pub(super) fn parse(options: &mut Options) -> Result<Self, DatasetError> {
        let level = options
            .range("level", 1..=9)?
            .unwrap_or(Range { low: 1, high: 1 });
        Ok(Self {
            depth: options
                .range("depth", 1..=12)?
                .unwrap_or(level.map(|l| l + 1)),
            digits: options
                .range("digits", 1..=3)?
                .unwrap_or(Range { low: 1, high: 1 }),
            style: options.style()?,
            has_steps: options.flag("steps", true)?,
        })
    }

    pub(super) fn draw(&self, stream: &mut Stream) -> Made {
        let depth = self.depth.draw(stream);
        let (mut node, answer) = self.grow(depth, stream);
        let problem = node.text();
        let mut steps = Vec::new();
        while node.reduce() {
            steps.push(node.text());
        }
        let steps = if self.has_steps && depth > 1 {
            steps.join("=")
        } else {
            String::new()
        };
        Made {
            problem: self.style.put(&problem),
            answer,
            steps,
        }
    }

    /// A tree with so many operators, and its value.
    fn grow(&self, num_operators: u32, stream: &mut Stream) -> (Node, i64) {
        if num_operators == 0 {
            let value = draw_number(self.digits.draw(stream), stream);
            return (Node::Number(value), value);
        }
        let num_left = stream.below(u64::from(num_operators)) as u32;
        let (left, a) = self.grow(num_left, stream);
        let (right, b) = self.grow(num_operators - 1 - num_left, stream);
        let is_small = a
            .checked_mul(b)
            .is_some_and(|product| product.abs() <= LARGEST_PRODUCT);
        let (operator, value) = match stream.below(3) {
            0 if is_small => ('*', a * b),
            1 => ('-', a - b),
            _ => ('+', a + b),
        };
        (
            Node::Operator(operator, Box::new(left), Box::new(right)),
            value,
        )
    }
}

fn apply(operator: char, a: i64, b: i64) -> i64 {
    match operator {
        '*' => a * b,
        '-' => a - b,
        _ => a + b,
    }
}

impl Node {
    /// Replaces the leftmost operator between two numbers by its value; false if none is left.
    fn reduce(&mut self) -> bool {
        let Self::Operator(operator, left, right) = self else {
            return false;
        };
        if let (Self::Number(a), Self::Number(b)) = (&**left, &**right) {
            *self = Self::Number(apply(*operator, *a, *b));
            return true;
        }
        left.reduce() || right.reduce()
    }

    fn text(&self) -> String {
        match self {
            Self::Number(value) => value.to_string(),
            Self::Operator(operator, left, right) => {
                let left = left.operand(*operator == '*', false);
                let right = right.operand(*operator == '*', true);
                format!("{left}{operator}{right}")
            }
        }
    }

    /// The text as an operand, in parentheses where they are needed or where the order of two
    /// equal operators would be in doubt.
    fn operand(&self, is_of_product: bool, is_right: bool) -> String {
        let needs_parentheses = match self {
            Self::Number(value) => *value < 0 && (is_right || is_of_product),
            Self::Operator('*', ..) => is_right && is_of_product,
            Self::Operator(..) => is_right || is_of_product,
        };
        if needs_parentheses {
            format!("({})", self.text())
        } else {
            self.text()
        }
    }
}

impl Style {
    #[cfg(test)]
    fn strip(self, problem: &str) -> String {
        match self {
            Self::Plain => problem.trim_end_matches('=').to_string(),
            Self::Question => problem
                .trim_start_matches("What is ")
                .trim_end_matches('?')
                .replace(' ', ""),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Task, space_minus};
    use super::*;

    /// A second, independent evaluation: precedence climbing over the text.
    fn evaluate(text: &[u8], at: &mut usize, lowest: u8) -> i64 {
        let mut value = match text[*at] {
            b'(' => {
                *at += 1;
                let inner = evaluate(text, at, 0);
                assert_eq!(text[*at], b')');
                *at += 1;
                inner
            }
            b'-' => {
                *at += 1;
                -evaluate(text, at, 2)
            }
            _ => {
                let mut number = 0;
                while *at < text.len() && text[*at].is_ascii_digit() {
                    number = number * 10 + i64::from(text[*at] - b'0');
                    *at += 1;
                }
                number
            }
        };
        while *at < text.len() && text[*at] != b')' {
            let operator = text[*at];
            let strength = if operator == b'*' { 2 } else { 1 };
            if strength <= lowest {
                break;
            }
            *at += 1;
            let right = evaluate(text, at, strength);
            value = apply(operator as char, value, right);
        }
        value
    }

    fn value(text: &str) -> i64 {
        let mut at = 0;
        let value = evaluate(text.as_bytes(), &mut at, 0);
        assert_eq!(at, text.len(), "{text}");
        value
    }

    #[test]
    fn every_line_has_the_same_value() {
        for (spec, style) in [
            ("expression?depth=2-6&digits=1-2", Style::Plain),
            ("expression?level=3&style=question", Style::Question),
        ] {
            let task = Task::parse(spec).unwrap();
            for index in 0..500 {
                let made = task.make(1, index);
                assert_eq!(value(&style.strip(&made.problem)), made.answer, "{made:?}");
                let lines: Vec<&str> = made.steps.split('=').collect();
                assert!(
                    lines.iter().all(|line| value(line) == made.answer),
                    "{made:?}"
                );
                assert_eq!(lines.last(), Some(&made.answer.to_string().as_str()));
            }
        }
    }

    #[test]
    fn parentheses_show_the_order_of_the_steps() {
        let number = |value| Box::new(Node::Number(value));
        let product = || Node::Operator('*', number(3), number(-4));
        let sum = || Node::Operator('+', number(-3), number(4));
        for (left, operator, right, text) in [
            (number(2), '*', Box::new(product()), "2*(3*(-4))"),
            (Box::new(product()), '*', number(2), "3*(-4)*2"),
            (Box::new(sum()), '*', number(2), "(-3+4)*2"),
            (number(2), '-', Box::new(sum()), "2-(-3+4)"),
            (Box::new(sum()), '-', number(-2), "-3+4-(-2)"),
        ] {
            assert_eq!(Node::Operator(operator, left, right).text(), text);
        }
    }

    #[test]
    fn questions_are_spaced() {
        assert_eq!(space_minus("(-2)-3-(-4)"), "(-2) - 3 - (-4)");
        assert_eq!(Style::Question.put("(3+4)*2-5"), "What is (3 + 4) * 2 - 5?");
    }
}
