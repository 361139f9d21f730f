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

pub mod accuracy;
pub mod adapter;
pub mod advantage;
pub mod batch;
pub mod bench;
pub mod checkpoint;
pub mod cli;
mod collect;
pub mod commands;
pub mod compare;
pub mod config;
pub mod control;
pub mod dataset;
pub mod eval;
pub mod failure;
pub mod grade;
pub mod gradient;
pub mod groups;
pub mod interrupt;
pub mod loss;
pub mod memory;
pub mod metrics;
pub mod optimizer;
pub mod policy;
pub mod progress;
pub mod prompts;
pub mod record;
pub mod report;
pub mod reward;
pub mod reward_model;
pub mod rollout;
pub mod room;
pub mod run;
pub mod run_dir;
pub mod run_log;
pub mod seed;
pub mod selection;
pub mod self_test;
pub mod session;
pub mod sft;
pub mod state;
pub mod summary;
pub mod supervised;
pub mod update;

/// The device of unit tests: the portable CPU backend, without gradients.
#[cfg(test)]
pub(crate) fn test_device() -> burn::tensor::Device {
    burn::tensor::Device::default()
}
