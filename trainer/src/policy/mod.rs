//! The policy: a decoder with real weights.

pub mod attention;
pub mod cache;
pub mod config;
pub mod decode;
pub mod decoder;
pub mod rope;
