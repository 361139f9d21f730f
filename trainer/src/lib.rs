//! The trainer: GRPO for mathematical reasoning, from a model folder and a set of problems to a
//! better model and a report.
//!
//! ```text
//! dataset -> selection -> rollout -> reward -> advantage -> loss -> update -> metrics/report
//!    ^           |                                                    |          |
//!    |           +---- PromptStats (what selection learned) <---------|----------+
//!    +------------------------------------------- policy weights <----+
//! ```
//!
//! Within a step data moves left to right, never back. Every stage is a function or a small
//! struct from record to record; the records are in [`record`], the loop is in `run`.

pub mod config;
pub mod dataset;
pub mod grade;
pub mod policy;
pub mod record;
pub mod reward;
pub mod rollout;
pub mod seed;
