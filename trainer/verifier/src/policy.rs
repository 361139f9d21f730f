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

/// What several boxes with nothing between them mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SeveralBoxes {
    /// One list.
    #[default]
    Joined,
    /// Only the last one counts.
    Last,
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

/// What a degree sign on a whole answer means. Inside functions it always converts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Degrees {
    /// 60° equals 60.
    #[default]
    Drop,
    /// 60° also equals π/3.
    Convert,
}

/// What a unit on one side only means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Units {
    /// It is ignored; two units must be the same.
    #[default]
    Lenient,
    /// It is a difference.
    Strict,
}

/// When a written decimal stands for an exact number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecimalMatch {
    /// If the number rounds to it and it shows enough digits.
    Rounded {
        /// Significant digits that a decimal has to show.
        min_digits: u32,
    },
    /// Never: a decimal is its exact value.
    Exact,
    /// The digits that the reference answer writes decide, however few. Not symmetric.
    GoldDigits,
}

impl Default for DecimalMatch {
    fn default() -> Self {
        Self::Rounded { min_digits: 6 }
    }
}

/// Whether the order of a list without brackets counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BareList {
    /// It does not.
    #[default]
    Unordered,
    /// It does.
    Ordered,
}

/// Whether an inequality and the interval of its solutions are the same answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IntervalRelation {
    /// They are.
    #[default]
    Equal,
    /// They are not.
    Distinct,
    /// Only an inequality as reference answer accepts an interval. Not symmetric.
    GoldRelation,
}

/// What `x = 5` means against `5`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Assignment {
    /// Its value.
    #[default]
    Value,
    /// Nothing: the name is required on both sides.
    Keep,
}

/// What digits with a base mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Base {
    /// The same digits; the bases must agree where both are written.
    #[default]
    Digits,
    /// The value.
    Value,
}

/// The numbers that variables stand for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Domain {
    /// Real numbers.
    #[default]
    Real,
    /// Positive numbers.
    Positive,
}

/// Whether the case of a text counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TextCase {
    /// It does not.
    #[default]
    Fold,
    /// It does.
    Exact,
}

/// Bounds on the work and the memory of one verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Only this many bytes at the end of a completion are searched. If a quarter of the steps does
    /// not suffice for them, at four for each byte, the completion is refused as too large.
    pub completion_bytes: usize,
    /// An extracted answer longer than this is refused.
    pub answer_bytes: usize,
    /// An answer of more tokens is refused.
    pub tokens: usize,
    /// Deepest nesting of braces, brackets and signs.
    pub nesting: usize,
    /// Most ways in which one answer is read; the plain one comes first.
    pub readings: usize,
    /// Most members of a list, a set or a matrix.
    pub members: usize,
    /// Largest integer in bits; a larger one stays an unevaluated power or factorial.
    pub integer_bits: usize,
    /// Most terms of a canonical polynomial.
    pub terms: usize,
    /// Largest precision of an interval evaluation, in bits.
    pub precision: usize,
    /// Steps of one verdict: machine-word operations of the number layer and visited nodes.
    pub steps: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // About 30,000 tokens. The search takes a few nanoseconds for each byte: what a verdict
            // may take of time bounds it.
            completion_bytes: 1 << 17,
            answer_bytes: 4096,
            tokens: 1024,
            nesting: 64,
            readings: 4,
            members: 256,
            integer_bits: 32_768,
            terms: 2048,
            // The last step before two constants count as equal. 512 bits of agreement leave a
            // chance of 2^-500 for numbers that are not built to deceive, and cost a tenth of the
            // time of 2048.
            precision: 512,
            // A step takes at most 4.5 ns on one core, as the fuzzing tools measure: no verdict takes
            // more than 10 ms.
            steps: 2_200_000,
        }
    }
}

/// How answers are found and what counts as equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Rules that may find an answer in a completion. A reference answer is searched by all.
    pub extraction: Extraction,
    /// Several boxes with nothing between them.
    pub several_boxes: SeveralBoxes,
    /// Only this many characters at the end of a completion are searched.
    pub tail_chars: Option<usize>,
    /// The meaning of a percent sign.
    pub percent: Percent,
    /// The meaning of a degree sign on a whole answer.
    pub degrees: Degrees,
    /// The meaning of a unit on one side only.
    pub units: Units,
    /// When a written decimal stands for an exact number.
    pub decimal_match: DecimalMatch,
    /// Whether the order of a list without brackets counts.
    pub bare_list: BareList,
    /// Whether an inequality equals its interval.
    pub interval_relation: IntervalRelation,
    /// Whether a name on one side only is ignored.
    pub assignment: Assignment,
    /// What digits with a base mean.
    pub base: Base,
    /// The numbers that variables stand for.
    pub domain: Domain,
    /// Whether the case of a text counts.
    pub text_case: TextCase,
    /// Bounds on work and memory.
    pub limits: Limits,
}

impl Policy {
    /// False where a switch asks for a rule in which the reference answer is not treated like the
    /// other.
    pub(crate) fn is_symmetric(&self) -> bool {
        self.decimal_match != DecimalMatch::GoldDigits
            && self.interval_relation != IntervalRelation::GoldRelation
    }
}
