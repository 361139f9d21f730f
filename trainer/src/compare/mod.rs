//! Arms of prompt selection against each other: the same seeds, data, initial weights, optimizer,
//! evaluation problems and number of steps, one run per arm and seed.
//!
//! ```text
//! arms x seeds ──> runs (child processes, resumable) ──> outcomes ──> comparisons ──> report
//! ```
//!
//! Every comparison is paired by seed and ends in a verdict that may be "not distinguished".

mod arms;
mod chart;
mod comparison;
mod outcome;
mod page;
mod report;
mod runs;
mod statistics;

pub use arms::{ARMS, Arm, arms};
pub use comparison::{Comparison, Verdict, comparisons};
pub use outcome::{Curve, CurvePoint, Outcome, OutcomeError, Problem, read_outcome};
pub use report::{Report, SeedCurves, Table};
pub use runs::{Job, JobState, Runs, RunsError};
pub use statistics::{Estimate, estimate, interpolate, ratio_estimate, reach};
