//! Does a completion give the reference answer, and why?
//!
//! The verdict is the reward of a reinforcement-learning run, so a wrong verdict is a wrong
//! gradient. Five ideas carry the design:
//!
//! - **Read all or refuse**: the reader consumes the whole answer or fails; it drops no tail.
//! - **Exact until asked**: numbers are exact rationals; there is no absolute tolerance.
//! - **The last answer counts, whole or not at all**: a cut-off final box is no answer.
//! - **No answer never equals no answer.**
//! - **Bounded by counted work**, not by a clock: same strings and policy, same verdict.
//!
//! A completion goes through `extract` (where is the answer?), `parse` (what can it mean? one to
//! four readings), and `compare`: exact numbers, written decimals with a rounding rule, canonical
//! forms, cross multiplication, ball arithmetic for constants, fixed points for expressions with
//! variables, structures part by part. It is not a solver, not a checker of steps and not a
//! computer algebra system, and it does not know the prompt.
//!
//! ```
//! use rlvr_verifier::{Policy, Reason, grade};
//!
//! let verdict = grade("#### 1,250", r"So it is $\boxed{1250}$.", &Policy::default());
//! assert_eq!(verdict.correct, Some(true));
//! assert_eq!(verdict.reason, Reason::EqualNumber);
//! ```

#![no_std]
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::string_slice,
        clippy::expect_used,
        clippy::panic
    )
)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod ball;
mod budget;
mod canon;
mod canon_power;
mod compare;
mod dress;
mod elementary;
mod extract;
mod fold;
mod gold;
mod lex;
mod lex_tables;
mod members;
mod number;
mod parse;
mod points;
mod policy;
mod quantity;
mod real_function;
mod region;
mod relation;
mod scalar;
mod segment;
mod series;
mod settle;
mod solve;
mod tree;
mod unit;
mod verdict;

pub use gold::{Gold, equal, grade};
pub use policy::{
    Assignment, BareList, Base, DecimalMatch, Degrees, Domain, Extraction, IntervalRelation,
    Limits, Percent, Policy, SeveralBoxes, TextCase, Units,
};
pub use verdict::{Reason, Source, Verdict};
