//! Criterion benches of the trainer's hot paths: `cargo bench -p rlvr-benches`.
//!
//! One file per path beside this folder; each names its shapes, its dtype and its device.

pub mod history;
