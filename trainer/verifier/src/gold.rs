//! From two texts to a verdict.

use alloc::string::String;

use crate::budget::Budget;
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
    /// Steps that reading it took.
    steps: u64,
}

impl Gold {
    /// Reads a reference answer: bare, or inside text, a box, dollar signs or after `####`.
    ///
    /// # Errors
    /// A `Gold…` reason if it is blank, too large, contradicts itself or cannot be read.
    pub fn parse(reference_answer: &str, policy: &Policy) -> Result<Self, Reason> {
        Self::parse_within(reference_answer, policy, &mut side(policy))
    }

    fn parse_within(text: &str, policy: &Policy, budget: &mut Budget) -> Result<Self, Reason> {
        let mut reading = searched(text, policy, budget).map_err(Reason::of_gold)?;
        let answer = extract_reference(text, policy, &mut reading)
            .and_then(|found| read(&found.text, policy, &mut reading))
            .map_err(Reason::of_gold);
        budget.refund(&reading);
        Ok(Self {
            answer: answer?,
            policy: *policy,
            steps: budget.used(),
        })
    }

    /// Judges one completion.
    pub fn grade(&self, completion: &str) -> Verdict {
        let policy = &self.policy;
        let mut budget = side(policy);
        let mut reading = match searched(completion, policy, &mut budget) {
            Ok(reading) => reading,
            Err(reason) => return Verdict::new(reason, None, Source::Nothing, self.steps),
        };
        let found = extract(completion, policy, &mut reading).map(|mut found| {
            let answer = match found.answer.take() {
                Some(answer) => Ok(answer),
                None => read(&found.text, policy, &mut reading),
            };
            (found, answer)
        });
        budget.refund(&reading);
        let steps = self.steps.saturating_add(budget.used());
        match found {
            Ok((found, answer)) => {
                let (reason, steps) = judge(&self.answer, answer, policy, steps);
                Verdict::new(reason, Some(found.text), found.source, steps)
            }
            Err((reason, source)) => Verdict::new(reason, Some(String::new()), source, steps),
        }
    }
}

/// Reads a reference answer and judges one completion. Total: every pair gets a verdict.
pub fn grade(reference_answer: &str, completion: &str, policy: &Policy) -> Verdict {
    let mut budget = side(policy);
    match Gold::parse_within(reference_answer, policy, &mut budget) {
        Ok(gold) => gold.grade(completion),
        Err(reason) => Verdict::new(reason, None, Source::Nothing, budget.used()),
    }
}

/// Steps of a side besides those below: texts are copied and given back.
const SIDE_STEPS: u64 = 200;

/// Steps of searching a byte for the answer.
const SEARCH_STEPS: u64 = 4;

/// The steps of one of the two sides: a quarter of all for finding the answer, a quarter for
/// reading it. Comparing has what both sides leave.
fn side(policy: &Policy) -> Budget {
    Budget::new(policy.limits.steps / 2)
}

/// Takes the steps of the search of a text, and gives those for reading what it finds.
fn searched(text: &str, policy: &Policy, budget: &mut Budget) -> Result<Budget, Reason> {
    let quarter = policy.limits.steps / 4;
    let reading = budget.part(quarter);
    let length = text.len().min(policy.limits.completion_bytes);
    budget.charge(SIDE_STEPS)?;
    budget.charge_each(length, SEARCH_STEPS)?;
    Ok(reading)
}

/// Compares with the steps that reading both sides has left: the reason, and all steps together.
fn judge(
    gold: &Answer,
    answer: Result<Answer, Reason>,
    policy: &Policy,
    steps: u64,
) -> (Reason, u64) {
    let mut budget = Budget::new(policy.limits.steps.saturating_sub(steps));
    let reason = match answer {
        Ok(answer) => compare(gold, &answer, policy, &mut budget),
        Err(reason) => reason,
    };
    (reason, steps.saturating_add(budget.used()))
}

/// Compares two bare answers; nothing is extracted. Symmetric under the default policy, and
/// reflexive for what can be read.
pub fn equal(a: &str, b: &str, policy: &Policy) -> Verdict {
    let bare = || {
        let mut budget = Budget::new(policy.limits.steps / 4);
        // Without these, reading fails.
        let _ = budget.charge(SIDE_STEPS);
        budget
    };
    let mut budget = bare();
    let left = match read(a, policy, &mut budget) {
        Ok(answer) => answer,
        Err(reason) => {
            return Verdict::new(reason.of_gold(), None, Source::Nothing, budget.used());
        }
    };
    let mut other = bare();
    let right = read(b, policy, &mut other);
    let steps = budget.used().saturating_add(other.used());
    let (reason, steps) = judge(&left, right, policy, steps);
    // A text that was too large to be read is not handed back.
    let extracted = (b.len() <= policy.limits.answer_bytes).then(|| String::from(b));
    Verdict::new(reason, extracted, Source::Whole, steps)
}
