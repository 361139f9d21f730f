//! Small word problems: someone has things, and events change how many.

use super::super::error::DatasetError;
use super::Made;
use super::options::{Options, Range, draw_number};
use crate::seed::Stream;

const NAMES: &[&str] = &[
    "Ada", "Ben", "Chen", "Dora", "Emil", "Farah", "Gina", "Hugo", "Ines", "Jon", "Kira", "Luis",
];
const THINGS: &[&str] = &[
    "apples", "books", "coins", "eggs", "marbles", "pens", "shells", "stamps", "stones", "cards",
];

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Words {
    depth: Range,
    digits: Range,
    has_steps: bool,
}

impl Words {
    pub(super) fn parse(options: &mut Options) -> Result<Self, DatasetError> {
        let level = options
            .range("level", 1..=9)?
            .unwrap_or(Range { low: 1, high: 1 });
        // There is one style; the key is accepted so that a mixture can set it for all.
        options.style()?;
        Ok(Self {
            depth: options.range("depth", 1..=9)?.unwrap_or(level),
            digits: options
                .range("digits", 1..=4)?
                .unwrap_or(Range { low: 1, high: 2 }),
            has_steps: options.flag("steps", true)?,
        })
    }

    pub(super) fn draw(&self, stream: &mut Stream) -> Made {
        let name = NAMES[stream.below(NAMES.len() as u64) as usize];
        let things = THINGS[stream.below(THINGS.len() as u64) as usize];
        let mut count = draw_number(self.digits.draw(stream), stream);
        let mut problem = format!("{name} has {count} {things}.");
        let mut steps = Vec::new();
        for _ in 0..self.depth.draw(stream) {
            problem.push(' ');
            problem.push_str(&self.event(name, things, &mut count, &mut steps, stream));
        }
        problem.push_str(&format!(" How many {things} does {name} have now?"));
        Made {
            problem,
            answer: count,
            steps: if self.has_steps {
                steps.join(",")
            } else {
                String::new()
            },
        }
    }

    fn event(
        &self,
        name: &str,
        things: &str,
        count: &mut i64,
        steps: &mut Vec<String>,
        stream: &mut Stream,
    ) -> String {
        let before = *count;
        match stream.below(4) {
            0 if before > 0 => {
                let given = 1 + stream.below(before as u64) as i64;
                *count -= given;
                steps.push(format!("{before}-{given}={count}"));
                format!("{name} gives {given} of them away.")
            }
            1 => {
                let boxes = 2 + stream.below(8) as i64;
                let each = 2 + stream.below(8) as i64;
                let bought = boxes * each;
                *count += bought;
                steps.push(format!("{boxes}*{each}={bought}"));
                steps.push(format!("{before}+{bought}={count}"));
                format!("{name} buys {boxes} boxes with {each} {things} each.")
            }
            2 if before > 0 && before < 1000 => {
                *count *= 2;
                steps.push(format!("{before}*2={count}"));
                format!("A friend brings as many {things} as {name} has.")
            }
            _ => {
                let found = draw_number(self.digits.draw(stream), stream).max(1);
                *count += found;
                steps.push(format!("{before}+{found}={count}"));
                format!("{name} finds {found} more.")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Task;

    #[test]
    fn steps_lead_from_the_first_number_to_the_answer() {
        let task = Task::parse("words?depth=1-5").unwrap();
        for index in 0..500 {
            let made = task.make(2, index);
            assert!(made.answer >= 0, "{made:?}");
            for step in made.steps.split(',') {
                let (left, right) = step.split_once('=').unwrap();
                let at = left.find(['+', '-', '*']).unwrap();
                let (a, b): (i64, i64) =
                    (left[..at].parse().unwrap(), left[at + 1..].parse().unwrap());
                let value = match &left[at..=at] {
                    "+" => a + b,
                    "-" => a - b,
                    _ => a * b,
                };
                assert_eq!(value.to_string(), right, "{made:?}");
            }
            assert!(
                made.steps.ends_with(&format!("={}", made.answer)),
                "{made:?}"
            );
        }
    }
}
