//! The policy: a decoder with real weights.

pub mod config;
