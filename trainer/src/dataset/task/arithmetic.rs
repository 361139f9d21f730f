//! Sums, differences and products of whole numbers, worked column by column.

use super::super::error::DatasetError;
use super::options::{Options, Range, draw_number};
use super::{Made, Style};
use crate::seed::Stream;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Add,
    Subtract { may_be_negative: bool },
    Multiply,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Arithmetic {
    operation: Operation,
    digits_a: Range,
    digits_b: Range,
    style: Style,
    has_steps: bool,
}

impl Arithmetic {
    pub(super) fn parse(options: &mut Options) -> Result<Self, DatasetError> {
        let operation = match options.name() {
            "addition" => Operation::Add,
            "subtraction" => Operation::Subtract {
                may_be_negative: options.flag("negative", false)?,
            },
            _ => Operation::Multiply,
        };
        // The largest results still fit into 64 bits.
        let most = if operation == Operation::Multiply {
            9
        } else {
            17
        };
        let level = options
            .range("level", 1..=9)?
            .unwrap_or(Range { low: 2, high: 2 });
        let digits = options.range("digits", 1..=most)?;
        let by_level = match operation {
            Operation::Multiply => (level.map(|l| l / 2 + 1), level.map(|l| l.div_ceil(2))),
            Operation::Add | Operation::Subtract { .. } => (level, level),
        };
        Ok(Self {
            operation,
            digits_a: options
                .range("digits_a", 1..=most)?
                .or(digits)
                .unwrap_or(by_level.0),
            digits_b: options
                .range("digits_b", 1..=most)?
                .or(digits)
                .unwrap_or(by_level.1),
            style: options.style()?,
            has_steps: options.flag("steps", true)?,
        })
    }

    pub(super) fn draw(&self, stream: &mut Stream) -> Made {
        let mut a = draw_number(self.digits_a.draw(stream), stream);
        let mut b = draw_number(self.digits_b.draw(stream), stream);
        if self.operation
            == (Operation::Subtract {
                may_be_negative: false,
            })
            && a < b
        {
            (a, b) = (b, a);
        }
        let (sign, answer, steps) = match self.operation {
            Operation::Add => ('+', a + b, add_columns(a, b)),
            Operation::Subtract { .. } => ('-', a - b, subtract_columns(a, b)),
            Operation::Multiply => ('*', a * b, partial_products(a, b)),
        };
        Made {
            problem: self.style.put(&format!("{a}{sign}{b}")),
            answer,
            steps: if self.has_steps { steps } else { String::new() },
        }
    }
}

/// Digits from the right.
fn columns(mut number: i64) -> Vec<i64> {
    let mut digits = vec![number % 10];
    while number >= 10 {
        number /= 10;
        digits.push(number % 10);
    }
    digits
}

/// `345+278`: `5+8=13,4+7+1=12,3+2+1=6`. One column needs no steps.
fn add_columns(a: i64, b: i64) -> String {
    let (a, b) = (columns(a), columns(b));
    let num_columns = a.len().max(b.len());
    if num_columns == 1 {
        return String::new();
    }
    let mut carry = 0;
    let mut steps = Vec::new();
    for index in 0..num_columns {
        let parts: Vec<i64> = [a.get(index), b.get(index), (carry > 0).then_some(&carry)]
            .into_iter()
            .flatten()
            .copied()
            .collect();
        let sum: i64 = parts.iter().sum();
        let written: Vec<String> = parts.iter().map(i64::to_string).collect();
        steps.push(format!("{}={sum}", written.join("+")));
        carry = sum / 10;
    }
    steps.join(",")
}

/// `345-278`: `15-8=7,13-7=6,2-2=0`; what was borrowed is already taken off. A negative result is
/// worked the other way round.
fn subtract_columns(a: i64, b: i64) -> String {
    let (large, small) = (columns(a.max(b)), columns(a.min(b)));
    if large.len() == 1 {
        return String::new();
    }
    let mut borrow = 0;
    let mut steps = Vec::new();
    for (index, digit) in large.iter().enumerate() {
        let below = small.get(index).copied().unwrap_or(0);
        let mut above = digit - borrow;
        borrow = i64::from(above < below);
        above += 10 * borrow;
        steps.push(format!("{above}-{below}={}", above - below));
    }
    steps.join(",")
}

/// `23*45`: `23*5=115,23*40=920,115+920=1035`. One digit on the right needs no steps.
fn partial_products(a: i64, b: i64) -> String {
    let mut place = 1;
    let mut products = Vec::new();
    for digit in columns(b) {
        if digit > 0 {
            products.push((digit * place, a * digit * place));
        }
        place *= 10;
    }
    if products.len() < 2 {
        return String::new();
    }
    let mut steps: Vec<String> = products
        .iter()
        .map(|(factor, product)| format!("{a}*{factor}={product}"))
        .collect();
    let mut sum = products[0].1;
    for (_, product) in &products[1..] {
        steps.push(format!("{sum}+{product}={}", sum + product));
        sum += product;
    }
    steps.join(",")
}

#[cfg(test)]
mod tests {
    use super::super::Task;
    use super::*;

    #[test]
    fn steps_are_worked_by_column() {
        assert_eq!(add_columns(345, 278), "5+8=13,4+7+1=12,3+2+1=6");
        assert_eq!(add_columns(99, 1), "9+1=10,9+1=10");
        assert_eq!(add_columns(4, 5), "");
        assert_eq!(subtract_columns(345, 278), "15-8=7,13-7=6,2-2=0");
        assert_eq!(subtract_columns(100, 1), "10-1=9,9-0=9,0-0=0");
        assert_eq!(partial_products(23, 45), "23*5=115,23*40=920,115+920=1035");
        assert_eq!(partial_products(23, 4), "");
        assert_eq!(
            partial_products(23, 101),
            "23*1=23,23*100=2300,23+2300=2323"
        );
    }

    /// Every equation in the steps holds, and the last digits spell the answer.
    #[test]
    fn every_step_is_true() {
        for spec in [
            "addition?digits=1-6",
            "subtraction?digits=1-6&negative=true",
            "multiplication?digits=1-4",
        ] {
            let task = Task::parse(spec).unwrap();
            for index in 0..500 {
                let made = task.make(3, index);
                for step in made.steps.split(',').filter(|step| !step.is_empty()) {
                    let (left, right) = step.split_once('=').unwrap();
                    assert_eq!(evaluate(left), right.parse::<i64>().unwrap(), "{made:?}");
                }
                let problem = made.problem.strip_suffix('=').unwrap();
                assert_eq!(evaluate(problem), made.answer, "{made:?}");
            }
        }
    }

    /// Sums, one difference or one product of plain numbers.
    fn evaluate(text: &str) -> i64 {
        if let Some((a, b)) = text.split_once('*') {
            return a.parse::<i64>().unwrap() * b.parse::<i64>().unwrap();
        }
        if let Some((a, b)) = text.split_once('-') {
            return a.parse::<i64>().unwrap() - b.parse::<i64>().unwrap();
        }
        text.split('+')
            .map(|part| part.parse::<i64>().unwrap())
            .sum()
    }

    #[test]
    fn sizes_are_as_asked() {
        let task = Task::parse("multiplication?digits_a=3&digits_b=1&style=question").unwrap();
        let task_by_level = Task::parse("multiplication?level=4").unwrap();
        for index in 0..200 {
            let made = task.make(0, index);
            let text = made.problem.strip_prefix("What is ").unwrap();
            let (a, b) = text.strip_suffix('?').unwrap().split_once(" * ").unwrap();
            assert_eq!((a.len(), b.len()), (3, 1));
            let made = task_by_level.make(0, index);
            let (a, b) = made
                .problem
                .strip_suffix('=')
                .unwrap()
                .split_once('*')
                .unwrap();
            assert_eq!((a.len(), b.len()), (3, 2));
        }
        let task = Task::parse("subtraction?digits=3").unwrap();
        assert!((0..200).all(|index| task.make(0, index).answer >= 0));
    }

    #[test]
    fn one_digit_sums_cover_both_ends() {
        let task = Task::parse("addition?digits=1&style=question").unwrap();
        let problems: std::collections::BTreeSet<String> =
            (0..2000).map(|index| task.make(0, index).problem).collect();
        assert_eq!(problems.len(), 100);
        assert!(problems.contains("What is 0 + 0?") && problems.contains("What is 9 + 9?"));
    }
}
