//! What the verdicts of a corpus cost: `worst FOLDER`.
//!
//! Fails if a verdict takes more steps than its budget. Times are printed and not asserted, because
//! a clock on a busy machine says little; what bounds them is the budget times the nanoseconds that
//! the most expensive step took, which is printed too.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use rlvr_verifier::{Policy, Verdict, equal, grade};

/// Runs of which the fastest counts: a busy machine is no fault of the verdict.
const NUM_RUNS: usize = 40;

/// Verdicts that are measured again with so many runs: the slowest and the most expensive steps.
const NUM_MEASURED: usize = 150;

/// Verdicts that are printed of each order.
const NUM_PRINTED: usize = 5;

/// Which verdict on an entry.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Its first line against the rest, as bare answers.
    Equal,
    /// The same, the other way round.
    Swapped,
    /// The whole entry as a completion, its first line as the reference answer.
    Grade,
}

struct Cost {
    kind: Kind,
    text: String,
    time: Duration,
    steps: u64,
}

impl Cost {
    fn per_step(&self) -> f64 {
        self.time.as_secs_f64() * 1e9 / self.steps as f64
    }
}

fn verdict(kind: Kind, text: &str) -> Verdict {
    let policy = Policy::default();
    let (a, b) = text.split_once('\n').unwrap_or((text, text));
    match kind {
        Kind::Equal => equal(a, b, &policy),
        Kind::Swapped => equal(b, a, &policy),
        Kind::Grade => grade(a, text, &policy),
    }
}

/// The fastest of several runs, and the steps.
fn measure(kind: Kind, text: &str, num_runs: usize) -> (Duration, u64) {
    let run = || {
        let start = Instant::now();
        let steps = verdict(kind, text).steps;
        (start.elapsed(), steps)
    };
    (0..num_runs).map(|_| run()).min().unwrap_or_default()
}

/// Measures the first costs of an order more closely.
fn refine(costs: &mut [Cost], order: impl Fn(&Cost) -> f64) {
    costs.sort_by(|a, b| order(b).total_cmp(&order(a)));
    for cost in costs.iter_mut().take(NUM_MEASURED) {
        (cost.time, cost.steps) = measure(cost.kind, &cost.text, NUM_RUNS);
    }
    costs.sort_by(|a, b| order(b).total_cmp(&order(a)));
}

fn print_first(name: &str, costs: &[Cost]) {
    println!("{name}");
    for cost in costs.iter().take(NUM_PRINTED) {
        println!(
            "{:9.3} ms {:8} steps {:6.2} ns each  {:?} {:?}",
            cost.time.as_secs_f64() * 1e3,
            cost.steps,
            cost.per_step(),
            cost.kind,
            cost.text.chars().take(80).collect::<String>()
        );
    }
}

fn main() -> ExitCode {
    let folder = std::env::args().nth(1).expect("the folder of the corpus");
    let mut costs = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the corpus") {
        let path = entry.expect("an entry").path();
        let Ok(text) = std::fs::read_to_string(&path) else {
            continue;
        };
        for kind in [Kind::Equal, Kind::Swapped, Kind::Grade] {
            let (time, steps) = measure(kind, &text, 3);
            let text = text.clone();
            costs.push(Cost { kind, text, time, steps });
        }
    }
    refine(&mut costs, Cost::per_step);
    print_first("most expensive steps:", &costs);
    let per_step = costs.first().map_or(0.0, Cost::per_step);
    refine(&mut costs, |cost| cost.time.as_secs_f64());
    print_first("slowest:", &costs);
    let slowest = costs.first().map_or(0.0, |cost| cost.time.as_secs_f64() * 1e3);
    costs.sort_by_key(|cost| std::cmp::Reverse(cost.steps));
    print_first("most steps:", &costs);

    let budget = Policy::default().limits.steps;
    let most = costs.first().map_or(0, |cost| cost.steps);
    println!(
        "{} verdicts: at most {slowest:.3} ms, {most} of {budget} steps, {per_step:.2} ns per step; \
         all steps would take {:.3} ms",
        costs.len(),
        per_step * budget as f64 / 1e6
    );
    if most > budget {
        println!("a verdict took more steps than its budget");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
