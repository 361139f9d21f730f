//! What theory predicts beside what was measured.
//!
//! ```text
//! fresh rollouts of the final policy -> fresh.jsonl -+
//! metrics.jsonl, eval.jsonl, config.toml ------------+-> Statistics -> Report -> table, JSON, HTML
//! stats.json of another trainer ----------------------+
//! ```
//!
//! Everything but [`fresh`] is arithmetic on records: no device, no model.

mod advice;
mod clip_rows;
pub mod fresh;
pub mod fresh_statistics;
pub mod history;
pub mod html;
pub mod learned;
mod learned_chart;
pub mod live;
pub mod numbers;
mod picture;
pub mod plan;
pub mod predict;
pub mod read_statistics;
pub mod row;
pub mod run_costs;
pub mod run_files;
mod shift_rows;
pub mod statistics;
pub mod table;
pub mod verl;
