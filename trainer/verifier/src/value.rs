//! What an answer can mean.

use alloc::string::String;
use alloc::vec::Vec;

use num_rational::BigRational;

/// One meaning of one spelling.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reading {
    pub(crate) value: Value,
    pub(crate) sense: Sense,
    /// The unit's usual name, if one is written.
    pub(crate) unit: Option<String>,
    /// The name on the left of an assignment.
    pub(crate) name: Option<String>,
}

/// The value of a reading.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    /// An exact number.
    Number(BigRational),
    /// Anything else: the cleaned text.
    Text(String),
}

/// Which way an ambiguous spelling was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sense {
    /// The spelling has one meaning.
    Only,
    /// `p%` as p/100.
    PercentFraction,
    /// `p%` as p.
    PercentPoints,
    /// `1,5` as a list.
    CommaList,
    /// `1,5` as a decimal comma.
    CommaDecimal,
}

impl Sense {
    /// False where both sides carry the same ambiguity and read it differently: `50%` is not
    /// `5000%`.
    pub(crate) fn may_meet(self, other: Self) -> bool {
        use Sense::{CommaDecimal, CommaList, PercentFraction, PercentPoints};
        !matches!(
            (self, other),
            (PercentFraction, PercentPoints)
                | (PercentPoints, PercentFraction)
                | (CommaList, CommaDecimal)
                | (CommaDecimal, CommaList)
        )
    }
}

/// An answer that was read: its cleaned text and its readings, the plain one first.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) readings: Vec<Reading>,
    /// False for what reads as an answer only where an answer is expected, such as prose.
    pub(crate) stands_alone: bool,
}
