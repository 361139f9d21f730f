//! Generalisation bounds in plain `f64`: the package that the trainer's report will draw on.
//!
//! No theorem is in it yet. What it will hold, and nothing else: one theorem a file, its
//! assumptions in words first; no tensors, no I/O.
#![no_std]
