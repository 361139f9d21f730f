//! One file per command.

pub mod calibrate;
pub mod compare;
pub mod doctor;
pub mod eval;
pub mod generate;
pub mod grade;
mod lines;
pub mod score;
pub mod train;
