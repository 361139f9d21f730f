//! Procedural tasks: infinite, seeded, with worked solutions.
//!
//! Problem k of a task is a function of (seed, task, k) and of nothing else. The worked solutions
//! are compact, a few characters per step, so that a tiny model can learn them.
//!
//! | task | options | level L stands for |
//! | --- | --- | --- |
//! | `addition`, `subtraction` | `digits`, `digits_a`, `digits_b` | `digits=L` |
//! | `multiplication` | the same | alternately one digit more on the left and on the right |
//! | `expression` | `depth` (operators), `digits` | `depth=L+1` |
//! | `words` | `depth` (events), `digits` | `depth=L` |
//! | `mix` | a weight for each task above | every task at that level |
//!
//! All take `level`, `style` (`plain` or `question`), `steps` (`true` or `false`) and `weight`
//! (the share in a mixture); sizes may be ranges such as `digits=1-3`. `subtraction` also takes
//! `negative=true`.

mod arithmetic;
mod expression;
mod options;
mod words;

use arithmetic::Arithmetic;
use expression::Expression;
use options::Options;
use words::Words;

use super::error::DatasetError;
use super::split::prompt_id;
use crate::record::PromptId;
use crate::seed::{Stage, Stream, stream};

/// The tasks that can be named, apart from `mix`.
const NAMES: [&str; 5] = [
    "addition",
    "subtraction",
    "multiplication",
    "expression",
    "words",
];

/// A procedural task, or a mixture of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    text: String,
    weight: f64,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Arithmetic(Arithmetic),
    Expression(Expression),
    Words(Words),
    Mix(Vec<Task>),
}

/// A problem as a task makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// The problem text.
    pub problem: String,
    /// The exact answer.
    pub answer: i64,
    /// The worked steps, without the answer line; blank if there is nothing to work out.
    pub steps: String,
}

/// How a problem is put.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Style {
    /// `12+34=`
    #[default]
    Plain,
    /// `What is 12 + 34?`
    Question,
}

impl Style {
    /// Puts an expression written without blanks.
    fn put(self, expression: &str) -> String {
        match self {
            Self::Plain => format!("{expression}="),
            Self::Question => {
                let spaced = expression.replace('+', " + ").replace('*', " * ");
                format!("What is {}?", space_minus(&spaced))
            }
        }
    }
}

/// Blanks around each minus that stands between two operands.
fn space_minus(expression: &str) -> String {
    let mut spaced = String::new();
    for c in expression.chars() {
        if c == '-' && spaced.ends_with(|last: char| last.is_ascii_digit() || last == ')') {
            spaced.push_str(" - ");
        } else {
            spaced.push(c);
        }
    }
    spaced
}

impl Task {
    /// Reads `NAME?key=value&…`.
    ///
    /// # Errors
    /// [`DatasetError::Spec`] that names the unknown word and the nearest known one.
    pub fn parse(text: &str) -> Result<Self, DatasetError> {
        let mut options = Options::parse(text)?;
        let weight = options.weight("weight")?.unwrap_or(1.0);
        let kind = match options.name() {
            "addition" | "subtraction" | "multiplication" => {
                Kind::Arithmetic(Arithmetic::parse(&mut options)?)
            }
            "expression" => Kind::Expression(Expression::parse(&mut options)?),
            "words" => Kind::Words(Words::parse(&mut options)?),
            "mix" => Kind::Mix(parse_mix(&mut options)?),
            other => return Err(options.unknown_task(other)),
        };
        options.finish()?;
        Ok(Self {
            text: text.to_string(),
            weight,
            kind,
        })
    }

    /// Several tasks as one.
    pub(crate) fn mixture(tasks: Vec<Self>) -> Self {
        let texts: Vec<&str> = tasks.iter().map(|task| task.text.as_str()).collect();
        Self {
            text: texts.join(","),
            weight: 1.0,
            kind: Kind::Mix(tasks),
        }
    }

    /// The spec, without `task:`.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Problem `index` of the task under a seed.
    pub fn make(&self, seed: u64, index: u64) -> Made {
        let task: PromptId = prompt_id(&self.text);
        let mut stream = stream(seed, Stage::Dataset, index, task, 0);
        self.draw(&mut stream)
    }

    fn draw(&self, stream: &mut Stream) -> Made {
        match &self.kind {
            Kind::Arithmetic(task) => task.draw(stream),
            Kind::Expression(task) => task.draw(stream),
            Kind::Words(task) => task.draw(stream),
            Kind::Mix(tasks) => pick(tasks, stream).draw(stream),
        }
    }
}

fn pick<'a>(tasks: &'a [Task], stream: &mut Stream) -> &'a Task {
    let total: f64 = tasks.iter().map(|task| task.weight).sum();
    let mut left = stream.uniform() * total;
    for task in tasks {
        if left < task.weight {
            return task;
        }
        left -= task.weight;
    }
    // Rounding may leave a crumb: it belongs to the last task. A mixture is never empty.
    &tasks[tasks.len() - 1]
}

/// `mix?addition=2&words=1&level=2`: weights of tasks; all tasks alike if none is named.
fn parse_mix(options: &mut Options) -> Result<Vec<Task>, DatasetError> {
    let mut weights = Vec::new();
    for name in NAMES {
        weights.push((name, options.weight(name)?));
    }
    let shared = ["level", "style", "steps"]
        .iter()
        .filter_map(|key| options.take(key).map(|value| format!("{key}={value}")))
        .collect::<Vec<_>>();
    let is_named = weights.iter().any(|(_, weight)| weight.is_some());
    weights
        .into_iter()
        .filter_map(|(name, weight)| Some((name, weight.or((!is_named).then_some(1.0))?)))
        .map(|(name, weight)| {
            let mut words = vec![format!("weight={weight}")];
            words.extend(shared.iter().cloned());
            Task::parse(&format!("{name}?{}", words.join("&")))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_a_function_of_seed_task_and_index() {
        let task = Task::parse("mix?level=2").unwrap();
        assert_eq!(task.make(1, 7), task.make(1, 7));
        assert_ne!(task.make(1, 7), task.make(2, 7));
        assert_ne!(task.make(1, 7), task.make(1, 8));
        let other = Task::parse("mix?level=3").unwrap();
        assert_ne!(task.make(1, 7), other.make(1, 7));
    }

    #[test]
    fn a_mixture_keeps_its_weights() {
        let task = Task::parse("mix?addition=3&multiplication=1&level=2").unwrap();
        let num_sums = (0..4000)
            .filter(|&index| task.make(0, index).problem.contains('+'))
            .count();
        assert!((2870..3130).contains(&num_sums), "{num_sums}");
        let joined = Task::mixture(vec![
            Task::parse("addition?weight=3").unwrap(),
            Task::parse("words").unwrap(),
        ]);
        let num_sums = (0..4000)
            .filter(|&index| joined.make(0, index).problem.contains('+'))
            .count();
        assert!((2870..3130).contains(&num_sums), "{num_sums}");
    }

    #[test]
    fn unknown_words_name_the_nearest_known_one() {
        for (text, nearest) in [
            ("adition", "addition"),
            ("addition?digit=3", "digits"),
            ("words?dept=3", "depth"),
            ("mix?word=1", "words"),
        ] {
            let message = Task::parse(text).unwrap_err().to_string();
            assert!(message.contains(&format!("`{nearest}`")), "{message}");
        }
        for text in [
            "addition?digits=0",
            "addition?digits=18",
            "addition?digits=3-2",
            "addition?digits=x",
            "addition?digits",
            "addition?steps=yes",
            "addition?style=loud",
            "addition?weight=0",
            "addition?digits=1&digits=2",
            "expression?depth=0",
            "addition?level=0",
            "mix?addition=-1",
            "addition?negative=true",
            "mix?addition=nan",
        ] {
            assert!(Task::parse(text).is_err(), "{text}");
        }
    }
}
