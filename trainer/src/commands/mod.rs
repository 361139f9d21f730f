//! One file per command.

pub mod bench;
pub mod bounds;
pub mod calibrate;
pub mod certify;
pub mod compare;
pub mod doctor;
pub mod eval;
pub mod generate;
pub mod grade;
mod lines;
pub mod plan;
pub mod report;
pub mod reward_model;
pub mod score;
pub mod train;
