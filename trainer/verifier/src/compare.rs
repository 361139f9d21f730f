//! The verdict: read both sides, compare exactly.

use alloc::string::String;

use crate::extract::{extract, extract_reference};
use crate::parse::read;
use crate::policy::Policy;
use crate::value::{Answer, Reading, Value};
use crate::verdict::{Reason, Source, Verdict};

/// A reference answer that was read: parsed once per prompt, reused for its whole group.
#[derive(Clone, Debug)]
pub struct Gold {
    answer: Answer,
    policy: Policy,
}

impl Gold {
    /// Reads a reference answer: bare, or inside text, a box, dollar signs or after `####`.
    ///
    /// # Errors
    /// A `Gold…` reason if it is blank, too large, contradicts itself or cannot be read.
    pub fn parse(reference_answer: &str, policy: &Policy) -> Result<Self, Reason> {
        let found = extract_reference(reference_answer, policy).map_err(Reason::of_gold)?;
        let answer = read(&found.text, policy).map_err(Reason::of_gold)?;
        Ok(Self {
            answer,
            policy: *policy,
        })
    }

    /// Judges one completion.
    pub fn grade(&self, completion: &str) -> Verdict {
        let found = match extract(completion, &self.policy) {
            Ok(found) => found,
            Err((reason, source)) => return Verdict::new(reason, Some(String::new()), source),
        };
        let reason = match read(&found.text, &self.policy) {
            Ok(answer) => compare(&self.answer, &answer),
            Err(reason) => reason,
        };
        Verdict::new(reason, Some(found.text), found.source)
    }
}

/// Reads a reference answer and judges one completion. Total: every pair gets a verdict.
pub fn grade(reference_answer: &str, completion: &str, policy: &Policy) -> Verdict {
    match Gold::parse(reference_answer, policy) {
        Ok(gold) => gold.grade(completion),
        Err(reason) => Verdict::new(reason, None, Source::Nothing),
    }
}

/// Compares two bare answers; nothing is extracted.
///
/// Exact numbers: integers of any size, thousands separators, decimals, repeating decimals,
/// scientific notation, fractions, mixed numbers, percent, currency and units, assignments such
/// as `x = 5`. Everything else well formed is compared as normalised text. Symmetric; reflexive
/// for what can be read.
pub fn equal(a: &str, b: &str, policy: &Policy) -> Verdict {
    let a = match read(a, policy) {
        Ok(answer) => answer,
        Err(reason) => return Verdict::new(reason.of_gold(), None, Source::Nothing),
    };
    let reason = match read(b, policy) {
        Ok(answer) => compare(&a, &answer),
        Err(reason) => reason,
    };
    Verdict::new(reason, Some(String::from(b)), Source::Whole)
}

fn compare(a: &Answer, b: &Answer) -> Reason {
    if a.text == b.text {
        return Reason::EqualText;
    }
    let mut first_difference = None;
    for left in &a.readings {
        for right in &b.readings {
            if !left.sense.may_meet(right.sense) {
                continue;
            }
            let reason = compare_readings(left, right);
            if reason.correct() == Some(true) {
                return reason;
            }
            // What differs in less than the value says more than what differs in kind.
            let is_telling = first_difference.is_none()
                || (first_difference == Some(Reason::DifferentKind)
                    && reason != Reason::DifferentText);
            if is_telling {
                first_difference = Some(reason);
            }
        }
    }
    first_difference.unwrap_or(Reason::DifferentKind)
}

fn compare_readings(a: &Reading, b: &Reading) -> Reason {
    match (&a.value, &b.value) {
        (Value::Number(x), Value::Number(y)) if x != y => Reason::DifferentNumber,
        (Value::Number(_), Value::Number(_)) if differ(&a.unit, &b.unit) => Reason::DifferentUnit,
        (Value::Number(_), Value::Number(_)) if differ(&a.name, &b.name) => Reason::DifferentPart,
        (Value::Number(_), Value::Number(_)) => Reason::EqualNumber,
        (Value::Text(x), Value::Text(y)) if x == y => Reason::EqualText,
        (Value::Text(_), Value::Text(_)) => Reason::DifferentText,
        (Value::Number(_), Value::Text(_)) | (Value::Text(_), Value::Number(_)) => {
            Reason::DifferentKind
        }
    }
}

/// True if both are written and differ.
fn differ(a: &Option<String>, b: &Option<String>) -> bool {
    matches!((a, b), (Some(a), Some(b)) if a != b)
}
