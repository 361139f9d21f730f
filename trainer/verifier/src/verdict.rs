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
    /// A number against a text.
    DifferentKind,
    /// Two different numbers.
    DifferentNumber,
    /// Two different texts.
    DifferentText,
    /// The same number of another unit.
    DifferentUnit,
    /// The same number for another name, as `x = 3` against `y = 3`.
    DifferentPart,
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
            Self::NoAnswer => "no_answer",
            Self::EmptyAnswer => "empty_answer",
            Self::UnterminatedBox => "unterminated_box",
            Self::AnswerUnparsable => "answer_unparsable",
            Self::AnswerTooLarge => "answer_too_large",
            Self::InconsistentAnswer => "inconsistent_answer",
            Self::DifferentKind => "different_kind",
            Self::DifferentNumber => "different_number",
            Self::DifferentText => "different_text",
            Self::DifferentUnit => "different_unit",
            Self::DifferentPart => "different_part",
            Self::GoldEmpty => "gold_empty",
            Self::GoldUnparsable => "gold_unparsable",
            Self::GoldTooLarge => "gold_too_large",
            Self::GoldInconsistent => "gold_inconsistent",
        }
    }

    /// The verdict that the reason stands for; `None` if the reference answer is at fault.
    pub fn correct(self) -> Option<bool> {
        match self {
            Self::EqualText | Self::EqualNumber => Some(true),
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
            | Self::DifferentText
            | Self::DifferentUnit
            | Self::DifferentPart => Some(false),
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
}

impl Verdict {
    pub(crate) fn new(reason: Reason, extracted: Option<String>, source: Source) -> Self {
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
        }
    }
}
