//! The switches and the bounds of a verdict.

/// Which extraction rules may find an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Extraction {
    /// Every rule: box, marker, phrase, math segment, whole text, last value.
    #[default]
    Any,
    /// Box, marker and phrase only.
    Marked,
    /// Box only.
    Boxed,
}

/// What a percent sign means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Percent {
    /// A sign on one side only may mean p or p/100; on both sides like is compared with like.
    #[default]
    Either,
    /// Always p/100.
    Exact,
    /// Always p.
    Ignore,
}

/// Bounds on the work and the memory of one verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Only this many bytes at the end of a completion are searched.
    pub completion_bytes: usize,
    /// An extracted answer longer than this is refused.
    pub answer_bytes: usize,
    /// Deepest nesting of braces and parentheses.
    pub nesting: usize,
    /// Largest size of a written power of ten: `1e4000` is a number, `1e400000` is refused.
    pub exponent: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            completion_bytes: 1 << 20,
            answer_bytes: 4096,
            nesting: 64,
            exponent: 9000,
        }
    }
}

/// How answers are found and what counts as equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Rules that may find an answer in a completion. A reference answer is searched by all.
    pub extraction: Extraction,
    /// The meaning of a percent sign.
    pub percent: Percent,
    /// Bounds on work and memory.
    pub limits: Limits,
}
