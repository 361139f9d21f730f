//! From two texts to a verdict.

use alloc::string::String;

use crate::compare::compare;
use crate::extract::{extract, extract_reference};
use crate::parse::{Answer, read};
use crate::policy::Policy;
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
        let answer = match found.answer {
            Some(answer) => Ok(answer),
            None => read(&found.text, &self.policy),
        };
        let reason = match answer {
            Ok(answer) => compare(&self.answer, &answer, &self.policy),
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

/// Compares two bare answers; nothing is extracted. Symmetric under the default policy, and
/// reflexive for what can be read.
pub fn equal(a: &str, b: &str, policy: &Policy) -> Verdict {
    let left = match read(a, policy) {
        Ok(answer) => answer,
        Err(reason) => return Verdict::new(reason.of_gold(), None, Source::Nothing),
    };
    let reason = match read(b, policy) {
        Ok(right) => compare(&left, &right, policy),
        Err(reason) => reason,
    };
    Verdict::new(reason, Some(String::from(b)), Source::Whole)
}
