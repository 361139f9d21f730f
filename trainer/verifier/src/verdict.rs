//! What a verdict says.

use alloc::string::String;
use core::fmt;

/// Why a verdict is what it is. The codes are stable: renaming one is a breaking change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The cleaned texts are the same.
    EqualText,
    /// The same exact number.
    EqualNumber,
    /// A written decimal and a number that rounds to it.
    EqualRounded,
    /// The same canonical form.
    EqualForm,
    /// The same rational function by cross multiplication.
    EqualRatio,
    /// No difference at full precision, or at any of the fixed points: not a proof.
    EqualPoints,
    /// The same structure, part by part.
    EqualStructure,
    /// Nothing in the completion looks like an answer.
    NoAnswer,
    /// The place for the answer is blank.
    EmptyAnswer,
    /// The last box is not closed.
    UnterminatedBox,
    /// The answer cannot be read.
    AnswerUnparsable,
    /// The answer exceeds a bound.
    AnswerTooLarge,
    /// The answer contradicts itself, as `x = 3 = 4` does.
    InconsistentAnswer,
    /// Kinds that cannot match, such as a number and a text.
    DifferentKind,
    /// Two different numbers.
    DifferentNumber,
    /// Two different polynomials or rational functions.
    DifferentForm,
    /// Two different values: proved by disjoint intervals.
    DifferentValue,
    /// Structures of different size.
    DifferentSize,
    /// Structures that differ in a part.
    DifferentPart,
    /// Two different texts.
    DifferentText,
    /// The same number of another unit.
    DifferentUnit,
    /// Neither proved equal nor different within the bounds; counts as not equal.
    Undecided,
    /// The verifier contradicts itself: a defect of its own.
    InternalDefect,
    /// The reference answer is blank.
    GoldEmpty,
    /// The reference answer cannot be read.
    GoldUnparsable,
    /// The reference answer exceeds a bound.
    GoldTooLarge,
    /// The reference answer contradicts itself.
    GoldInconsistent,
}

impl Reason {
    /// The code, a stable string.
    pub fn code(self) -> &'static str {
        match self {
            Self::EqualText => "equal_text",
            Self::EqualNumber => "equal_number",
            Self::EqualRounded => "equal_rounded",
            Self::EqualForm => "equal_form",
            Self::EqualRatio => "equal_ratio",
            Self::EqualPoints => "equal_points",
            Self::EqualStructure => "equal_structure",
            Self::NoAnswer => "no_answer",
            Self::EmptyAnswer => "empty_answer",
            Self::UnterminatedBox => "unterminated_box",
            Self::AnswerUnparsable => "answer_unparsable",
            Self::AnswerTooLarge => "answer_too_large",
            Self::InconsistentAnswer => "inconsistent_answer",
            Self::DifferentKind => "different_kind",
            Self::DifferentNumber => "different_number",
            Self::DifferentForm => "different_form",
            Self::DifferentValue => "different_value",
            Self::DifferentSize => "different_size",
            Self::DifferentText => "different_text",
            Self::DifferentUnit => "different_unit",
            Self::DifferentPart => "different_part",
            Self::Undecided => "undecided",
            Self::InternalDefect => "internal_defect",
            Self::GoldEmpty => "gold_empty",
            Self::GoldUnparsable => "gold_unparsable",
            Self::GoldTooLarge => "gold_too_large",
            Self::GoldInconsistent => "gold_inconsistent",
        }
    }

    /// The verdict that the reason stands for; `None` if the reference answer is at fault.
    pub fn correct(self) -> Option<bool> {
        match self {
            Self::EqualText
            | Self::EqualNumber
            | Self::EqualRounded
            | Self::EqualForm
            | Self::EqualRatio
            | Self::EqualPoints
            | Self::EqualStructure => Some(true),
            Self::GoldEmpty
            | Self::GoldUnparsable
            | Self::GoldTooLarge
            | Self::GoldInconsistent => None,
            Self::NoAnswer
            | Self::EmptyAnswer
            | Self::UnterminatedBox
            | Self::AnswerUnparsable
            | Self::AnswerTooLarge
            | Self::InconsistentAnswer
            | Self::DifferentKind
            | Self::DifferentNumber
            | Self::DifferentForm
            | Self::DifferentValue
            | Self::DifferentSize
            | Self::DifferentText
            | Self::DifferentUnit
            | Self::DifferentPart
            | Self::Undecided
            | Self::InternalDefect => Some(false),
        }
    }

    /// The same fault, found in the reference answer.
    pub(crate) fn of_gold(self) -> Self {
        match self {
            Self::EmptyAnswer | Self::NoAnswer => Self::GoldEmpty,
            Self::AnswerTooLarge => Self::GoldTooLarge,
            Self::InconsistentAnswer => Self::GoldInconsistent,
            _ => Self::GoldUnparsable,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

#[cfg(feature = "std")]
impl core::error::Error for Reason {}

/// The extraction rule that found the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// `\boxed` or `\fbox`.
    Box,
    /// After `####`.
    Marker,
    /// After "the answer is" and its kin.
    Phrase,
    /// The last math segment, such as `$…$`.
    Math,
    /// The whole text is one answer.
    Whole,
    /// The last number standing free.
    LastValue,
    /// No rule applied.
    Nothing,
}

/// The judgement on one completion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the completion gives the reference answer; `None` only if the reference answer
    /// cannot be read.
    pub correct: Option<bool>,
    /// Why.
    pub reason: Reason,
    /// The answer text as found, before any clean-up.
    pub extracted: Option<String>,
    /// Where it was found.
    pub source: Source,
    /// The work that it took, in the unit of [`Limits::steps`](crate::Limits::steps), and never
    /// more than that.
    pub steps: u64,
}

impl Verdict {
    pub(crate) fn new(
        reason: Reason,
        extracted: Option<String>,
        source: Source,
        steps: u64,
    ) -> Self {
        let keeps_text = reason.correct().is_some()
            && !matches!(
                reason,
                Reason::NoAnswer | Reason::UnterminatedBox | Reason::AnswerTooLarge
            );
        Self {
            correct: reason.correct(),
            reason,
            extracted: extracted.filter(|_| keeps_text),
            source,
            steps,
        }
    }
}
