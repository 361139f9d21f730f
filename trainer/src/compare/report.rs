//! A comparison as tables, and the tables as Markdown.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::arms::Arm;
use super::comparison::{Comparison, LEVEL_BELOW, comparisons};
use super::outcome::{Curve, Outcome};
use super::runs::{Job, JobState};
use super::statistics::{Estimate, MIN_SEEDS, estimate};

/// Accuracy against a cost, one curve per seed.
pub type SeedCurves = Vec<Vec<(f64, f64)>>;

/// The arms that every other is compared with.
const REFERENCES: [&str; 3] = ["dynamic_sampling", "greso", "random_gate"];

/// A table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// Heading.
    pub title: String,
    /// What to know before reading it.
    pub note: String,
    /// Names of the columns.
    pub header: Vec<String>,
    /// Rows, as wide as the header.
    pub rows: Vec<Vec<String>>,
}

/// Outcomes of finished runs, by arm and seed.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The arms, in the order in which they were asked for.
    pub arms: Vec<String>,
    /// Outcomes by arm, then by seed.
    pub outcomes: BTreeMap<String, BTreeMap<u64, Outcome>>,
    /// Runs that are not finished, with the reason.
    pub missing: Vec<(String, u64, String)>,
    /// What was run.
    pub title: String,
}

impl Report {
    /// A report of nothing yet.
    pub fn new(title: String, arms: &[Arm]) -> Self {
        Self {
            arms: arms.iter().map(|it| it.name.into()).collect(),
            title,
            ..Self::default()
        }
    }

    /// Adds a run.
    pub fn add(&mut self, job: &Job, outcome: Outcome) {
        let by_seed = self.outcomes.entry(job.arm.name.into()).or_default();
        by_seed.insert(job.seed, outcome);
    }

    /// Adds a run that is not finished.
    pub fn miss(&mut self, job: &Job, state: &JobState) {
        let reason = match state {
            JobState::Failed(words) => format!("failed: {words}"),
            JobState::Open | JobState::Complete => "not finished".into(),
        };
        self.missing.push((job.arm.name.into(), job.seed, reason));
    }

    fn of(&self, arm: &str) -> Vec<&Outcome> {
        let by_seed = self.outcomes.get(arm);
        by_seed.into_iter().flat_map(BTreeMap::values).collect()
    }

    /// Runs of two arms with the same seed, and the accuracy at which their costs are compared.
    fn pairs(&self, arm: &str, against: &str) -> (Vec<(&Outcome, &Outcome)>, Vec<f64>) {
        let of = |arm: &str, seed: &u64| self.outcomes.get(arm)?.get(seed);
        let pair = |seed: &u64| {
            let (left, right) = (of(arm, seed)?, of(against, seed)?);
            let reference = of(REFERENCES[0], seed).unwrap_or(right);
            Some(((left, right), reference.last().accuracy - LEVEL_BELOW))
        };
        let seeds = self.outcomes.get(arm).into_iter().flat_map(BTreeMap::keys);
        seeds.filter_map(pair).unzip()
    }

    /// Every arm against every reference.
    pub fn comparisons(&self) -> Vec<Comparison> {
        let present = |name: &&&str| self.outcomes.contains_key(**name);
        let mut all = Vec::new();
        for against in REFERENCES.iter().filter(present) {
            for arm in self.arms.iter().filter(|arm| arm.as_str() != *against) {
                let (pairs, levels) = self.pairs(arm, against);
                if !pairs.is_empty() {
                    all.extend(comparisons(arm, against, &pairs, &levels));
                }
            }
        }
        all
    }

    /// True if some arm has too few seeds for intervals.
    pub fn is_exploratory(&self) -> bool {
        let too_few = |arm: &String| self.of(arm).len() < MIN_SEEDS;
        self.arms.iter().any(too_few)
    }

    /// All tables.
    pub fn tables(&self) -> Vec<Table> {
        let mut tables = vec![self.arms_table(), self.cost_table()];
        let comparisons = self.comparisons();
        tables.extend(
            REFERENCES
                .iter()
                .filter_map(|it| verdicts(it, &comparisons)),
        );
        tables.push(self.runs_table());
        if !self.missing.is_empty() {
            tables.push(self.missing_table());
        }
        tables
    }

    /// Mean over the seeds of an arm, with its interval.
    fn mean(&self, arm: &str, value: &dyn Fn(&Outcome) -> f64, digits: usize) -> String {
        let values: Vec<f64> = self.of(arm).iter().map(|it| value(it)).collect();
        shown(estimate(&values), digits)
    }

    fn arms_table(&self) -> Table {
        let row = |arm: &String| {
            let mean = |value: &dyn Fn(&Outcome) -> f64, digits| self.mean(arm, value, digits);
            vec![
                arm.clone(),
                self.of(arm).len().to_string(),
                mean(&|it| it.last().accuracy, 3),
                mean(&|it| it.best_test_accuracy, 3),
                mean(&|it| it.mixed_frac, 3),
                mean(&|it| it.epochs, 1),
            ]
        };
        Table {
            title: "Accuracy by arm".into(),
            note: "Mean over seeds with its 95 % t-interval. Best: the evaluation that is best on \
                   one half of the held-out problems, reported on the other half."
                .into(),
            header: words(&[
                "arm",
                "seeds",
                "final accuracy",
                "test accuracy at best",
                "mixed share of groups",
                "epochs",
            ]),
            rows: self.arms.iter().map(row).collect(),
        }
    }

    fn cost_table(&self) -> Table {
        let row = |arm: &String| {
            let mean = |value: &dyn Fn(&Outcome) -> f64, digits| self.mean(arm, value, digits);
            vec![
                arm.clone(),
                mean(&|it| it.last().completions, 0),
                mean(&|it| it.last().tokens, 0),
                mean(&|it| it.scored_tokens, 0),
                mean(&|it| it.last().secs, 1),
                mean(&|it| it.gate_secs, 2),
                mean(&|it| it.num_short_steps as f64, 1),
            ]
        };
        Table {
            title: "Cost by arm".into(),
            note: "Of whole runs of equally many steps. Completions and tokens are counted before \
                   any filter; seconds are those of training steps, audits and evaluations apart, \
                   and depend on what else the machine did."
                .into(),
            header: words(&[
                "arm",
                "completions",
                "generated tokens",
                "scored prompt tokens",
                "seconds",
                "of them in the gate",
                "short steps",
            ]),
            rows: self.arms.iter().map(row).collect(),
        }
    }

    fn runs_table(&self) -> Table {
        let mut rows = Vec::new();
        for arm in &self.arms {
            for (seed, outcome) in self.outcomes.get(arm).into_iter().flatten() {
                let last = outcome.last();
                let warnings = outcome.warnings.iter();
                let warnings: Vec<String> = warnings
                    .map(|(name, steps)| format!("{name} in {steps} steps"))
                    .collect();
                rows.push(vec![
                    arm.clone(),
                    seed.to_string(),
                    format!("{:.3} ({:.3} to {:.3})", last.accuracy, last.low, last.high),
                    format!(
                        "{:.3} at step {}",
                        outcome.best_test_accuracy, outcome.best_step
                    ),
                    format!("{:.0}", last.completions),
                    format!("{:.0}", last.tokens),
                    format!("{:.1}", last.secs),
                    warnings.join(", "),
                ]);
            }
        }
        Table {
            title: "Runs".into(),
            note: "Final accuracy with its 95 % interval, clustered by problem.".into(),
            header: words(&[
                "arm",
                "seed",
                "final accuracy",
                "test accuracy at best",
                "completions",
                "generated tokens",
                "seconds",
                "warnings",
            ]),
            rows,
        }
    }

    fn missing_table(&self) -> Table {
        let row = |(arm, seed, reason): &(String, u64, String)| {
            vec![arm.clone(), seed.to_string(), reason.clone()]
        };
        Table {
            title: "Runs that are missing".into(),
            note: "They are in no table above.".into(),
            header: words(&["arm", "seed", "reason"]),
            rows: self.missing.iter().map(row).collect(),
        }
    }

    /// Remarks above the tables.
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if self.is_exploratory() {
            remarks.push(format!(
                "Exploratory: some arm has fewer than {MIN_SEEDS} seeds, for which no interval is \
                 given."
            ));
        }
        remarks
    }

    /// The report as Markdown.
    pub fn to_markdown(&self) -> String {
        let mut text = format!("# {}\n", self.title);
        for remark in self.remarks() {
            let _ = write!(text, "\n**{remark}**\n");
        }
        for table in self.tables() {
            let _ = write!(text, "\n## {}\n\n{}\n\n", table.title, table.note);
            let line = |cells: &[String]| {
                let cells: Vec<String> = cells.iter().map(|it| it.replace('|', "\\|")).collect();
                format!("| {} |\n", cells.join(" | "))
            };
            text += &line(&table.header);
            text += &line(&vec!["---".to_string(); table.header.len()]);
            for row in &table.rows {
                text += &line(row);
            }
        }
        text
    }

    /// Accuracy against a cost: per arm, the curves of its seeds.
    pub fn curves(&self, curve: Curve) -> Vec<(String, SeedCurves)> {
        let curves = |arm: &String| {
            let runs = self.of(arm).into_iter().map(|it| it.curve(curve)).collect();
            (arm.clone(), runs)
        };
        self.arms.iter().map(curves).collect()
    }
}

fn verdicts(against: &str, comparisons: &[Comparison]) -> Option<Table> {
    let row = |it: &Comparison| {
        let kind = if it.is_ratio { "ratio" } else { "difference" };
        let digits = if it.is_ratio { 2 } else { 3 };
        vec![
            it.arm.clone(),
            it.quantity.clone(),
            kind.into(),
            shown(it.estimate, digits),
            it.estimate.map_or(0, |it| it.count).to_string(),
            it.verdict.to_string(),
        ]
    };
    let rows: Vec<Vec<String>> = comparisons
        .iter()
        .filter(|it| it.against == against)
        .map(row)
        .collect();
    (!rows.is_empty()).then(|| Table {
        title: format!("Against {against}"),
        note: format!(
            "Paired by seed. A difference is the arm's value minus that of {against}; a ratio is \
             the arm's cost by that of {against}, averaged by its logarithm, and below 1 is \
             cheaper. The reference accuracy is the final accuracy of {} with the same seed minus \
             {LEVEL_BELOW}. The intervals are not widened for the number of comparisons: of twenty, \
             one is expected to be distinguished by chance.",
            REFERENCES[0]
        ),
        header: words(&["arm", "quantity", "as", "95 % interval", "seeds", "verdict"]),
        rows,
    })
}

fn words(names: &[&str]) -> Vec<String> {
    names.iter().map(|it| (*it).to_string()).collect()
}

/// A mean with its interval.
fn shown(found: Option<Estimate>, digits: usize) -> String {
    match found {
        None => "none".into(),
        Some(Estimate {
            mean,
            interval: None,
            ..
        }) => format!("{mean:.digits$}"),
        Some(Estimate {
            mean,
            interval: Some((low, high)),
            ..
        }) => format!("{mean:.digits$} ({low:.digits$} to {high:.digits$})"),
    }
}
