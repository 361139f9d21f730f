//! From a completion to its answer text. Linear in the length; the first rule that applies
//! decides, and there is no falling back from one that applies and fails.

use alloc::string::String;

use crate::budget::{Budget, Exhausted};
use crate::parse::{Answer, read};
use crate::policy::{Extraction, Policy, SeveralBoxes};
use crate::segment::{Segment, boxes, last_run, last_value, math};
use crate::verdict::{Reason, Source};

/// An answer text, before any clean-up, and the rule that found it.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) text: String,
    pub(crate) source: Source,
    /// The answer, where finding it meant reading it.
    pub(crate) answer: Option<Answer>,
}

fn found(text: &str, source: Source) -> Found {
    Found {
        text: String::from(text.trim()),
        source,
        answer: None,
    }
}

/// Finds the answer of a completion.
pub(crate) fn extract(
    completion: &str,
    policy: &Policy,
    budget: &mut Budget,
) -> Result<Found, (Reason, Source)> {
    let text = prepare(completion, policy);
    if text.trim().is_empty() {
        return Err((Reason::EmptyAnswer, Source::Nothing));
    }
    if let Some(result) = boxed(text, policy) {
        return result;
    }
    if policy.extraction == Extraction::Boxed {
        return Err((Reason::NoAnswer, Source::Nothing));
    }
    if let Some(cut) = marker(text) {
        return within(search(cut, policy, budget), Source::Marker);
    }
    if let Some(cut) = phrase(text) {
        return within(search(cut, policy, budget), Source::Phrase);
    }
    if policy.extraction == Extraction::Marked {
        return Err((Reason::NoAnswer, Source::Nothing));
    }
    if let Some(joined) = join(text, &math(text)) {
        return Ok(Found {
            text: joined,
            source: Source::Math,
            answer: None,
        });
    }
    let too_large = |_| (Reason::AnswerTooLarge, Source::Nothing);
    if let Some(answer) = alone(text, policy, budget).map_err(too_large)? {
        return Ok(Found {
            answer,
            ..found(text, Source::Whole)
        });
    }
    match last_free(text, policy, budget).map_err(too_large)? {
        Some(value) => Ok(found(value, Source::LastValue)),
        None => Err((Reason::NoAnswer, Source::Nothing)),
    }
}

/// What a search found, unless it took all steps.
fn within(result: Result<&str, Exhausted>, source: Source) -> Result<Found, (Reason, Source)> {
    match result {
        Ok(text) => Ok(found(text, source)),
        Err(Exhausted) => Err((Reason::AnswerTooLarge, source)),
    }
}

/// Finds the answer of a reference: the same rules, and the whole text where they find nothing.
pub(crate) fn extract_reference(
    reference: &str,
    policy: &Policy,
    budget: &mut Budget,
) -> Result<Found, Reason> {
    let text = prepare(reference, policy);
    if let Some(result) = boxed(text, policy) {
        return result.map_err(|(reason, _)| reason);
    }
    if let Some(cut) = marker(text).or_else(|| phrase(text)) {
        return Ok(found(search(cut, policy, budget)?, Source::Marker));
    }
    match join(text, &math(text)) {
        Some(joined) => Ok(Found {
            text: joined,
            source: Source::Math,
            answer: None,
        }),
        None => Ok(found(text, Source::Whole)),
    }
}

/// The part of the text that is searched: behind the last closing reasoning tag, and no more than
/// the limit.
fn prepare<'a>(text: &'a str, policy: &Policy) -> &'a str {
    let excess = text.len().saturating_sub(policy.limits.completion_bytes);
    let start = (excess..text.len())
        .find(|&at| text.is_char_boundary(at))
        .unwrap_or(excess);
    let mut text = text.get(start..).unwrap_or("");
    if let Some(count) = policy.tail_chars {
        let from = match count.checked_sub(1) {
            Some(last) => text.char_indices().rev().nth(last).map_or(0, |(at, _)| at),
            None => text.len(),
        };
        text = text.get(from..).unwrap_or("");
    }
    text.rsplit_once("</think>")
        .map_or(text, |(_, after)| after)
}

/// Rule 1.
fn boxed(text: &str, policy: &Policy) -> Option<Result<Found, (Reason, Source)>> {
    let boxes = boxes(text);
    if boxes.is_unterminated {
        return Some(Err((Reason::UnterminatedBox, Source::Box)));
    }
    let found = match policy.several_boxes {
        SeveralBoxes::Joined => boxes.found.as_slice(),
        SeveralBoxes::Last => {
            let last = boxes.found.len().saturating_sub(1);
            boxes.found.get(last..).unwrap_or(&[])
        }
    };
    let joined = join(text, found)?;
    Some(Ok(Found {
        text: joined,
        source: Source::Box,
        answer: None,
    }))
}

/// The last segment, or the run of segments at the end as one list.
fn join(text: &str, segments: &[Segment<'_>]) -> Option<String> {
    segments.last()?;
    let mut joined = String::new();
    for segment in last_run(text, segments) {
        if !joined.is_empty() {
            joined.push_str(", ");
        }
        joined.push_str(segment.inner.trim());
    }
    Some(joined)
}

/// Rule 2: behind the last `####`, to the end of the line.
fn marker(text: &str) -> Option<&str> {
    let (_, after) = text.rsplit_once("####")?;
    Some(after.lines().next().unwrap_or("").trim())
}

/// Rule 3: behind the last "the answer is" and its kin, to the end of the sentence or line.
fn phrase(text: &str) -> Option<&str> {
    let mut end = text.len();
    while let Some(at) = last_answer(text.get(..end)?) {
        let after = text.get(at.saturating_add("answer".len())..)?;
        if let Some(cut) = behind_phrase(text.get(..at)?, after) {
            return Some(bare_bold(sentence(cut)));
        }
        end = at;
    }
    None
}

/// The last "answer", in any case.
fn last_answer(text: &str) -> Option<usize> {
    let word = b"answer";
    text.as_bytes().windows(word.len()).rposition(|window| {
        matches!(window, [.., b'r' | b'R']) && window.eq_ignore_ascii_case(word)
    })
}

fn strip_word<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let head = text.get(..word.len())?;
    let rest = text.get(word.len()..)?;
    let is_whole = !rest.starts_with(char::is_alphanumeric);
    (head.eq_ignore_ascii_case(word) && is_whole).then_some(rest)
}

fn ends_with_word(text: &str, word: &str) -> bool {
    let Some(start) = text.len().checked_sub(word.len()) else {
        return false;
    };
    let is_word = text
        .get(start..)
        .is_some_and(|tail| tail.eq_ignore_ascii_case(word));
    let before = text.get(..start).unwrap_or("");
    is_word && !before.ends_with(char::is_alphanumeric)
}

/// What stands behind the phrase around "answer", if it is one.
fn behind_phrase<'a>(before: &str, after: &'a str) -> Option<&'a str> {
    if let Some(rest) = after.strip_prefix(':') {
        return Some(rest);
    }
    let rest = strip_word(after.trim_start_matches([' ', '\t']), "is")?;
    let before = before.trim_end();
    let is_phrase = ends_with_word(before, "the") || ends_with_word(before, "final");
    is_phrase.then(|| rest.trim_start().strip_prefix(':').unwrap_or(rest))
}

/// Up to the end of the line or of the sentence; a full stop inside a number ends none.
fn sentence(text: &str) -> &str {
    let line = text.trim_start().lines().next().unwrap_or("");
    let end = line.match_indices('.').find(|(at, _)| {
        let after = line.get(at.saturating_add(1)..).unwrap_or("");
        after.starts_with(|c: char| c.is_whitespace() || matches!(c, '*' | '_' | '"' | '”' | '`'))
    });
    let cut = end.and_then(|(at, _)| line.get(..at)).unwrap_or(line);
    cut.trim()
}

/// Removes a bold mark at a border whose partner was cut off.
fn bare_bold(text: &str) -> &str {
    if text.matches("**").count() != 1 {
        return text;
    }
    let bare = text.strip_prefix("**").or_else(|| text.strip_suffix("**"));
    bare.unwrap_or(text).trim()
}

/// Rules 4, 5 and 6 on what a marker or a phrase cut out; all of it where they find nothing.
///
/// # Errors
/// Where the steps end before it is known what the text holds.
fn search<'a>(cut: &'a str, policy: &Policy, budget: &mut Budget) -> Result<&'a str, Exhausted> {
    if let [.., last] = math(cut).as_slice() {
        let is_only = last_run(cut, &math(cut)).len() == 1;
        return Ok(if is_only { last.inner } else { cut });
    }
    if alone(cut, policy, budget)?.is_some() {
        return Ok(cut);
    }
    Ok(last_free(cut, policy, budget)?.unwrap_or(cut))
}

/// A longer text of words is prose and not an answer.
const MAX_WORDS: usize = 5;

/// The answer that the text is as a whole, be it one that contradicts itself.
#[allow(clippy::option_option)]
fn alone(
    text: &str,
    policy: &Policy,
    budget: &mut Budget,
) -> Result<Option<Option<Answer>>, Exhausted> {
    if text.len() > policy.limits.answer_bytes {
        return Ok(None);
    }
    let answer = attempt(text, policy, budget)?;
    Ok(match answer {
        Ok(answer) if answer.num_words() > MAX_WORDS => None,
        Ok(answer) => Some(Some(answer)),
        Err(Reason::InconsistentAnswer) => Some(None),
        Err(_) => None,
    })
}

/// Reads a text that may be no answer, with half of the steps: the rest is for what is.
fn attempt(
    text: &str,
    policy: &Policy,
    budget: &mut Budget,
) -> Result<Result<Answer, Reason>, Exhausted> {
    let mut part = budget.half();
    let answer = read(text, policy, &mut part);
    budget.take_back(&part);
    if part.has_failed() {
        return Err(Exhausted);
    }
    Ok(answer)
}

/// A longer tail of a sentence is no expression.
const MAX_TAIL: usize = 256;

/// Words at the end of a sentence that are tried as one expression.
const MAX_TRIES: usize = 12;

/// Rule 6: the expression that ends the last sentence with a value in it, or the last number.
fn last_free<'a>(
    text: &'a str,
    policy: &Policy,
    budget: &mut Budget,
) -> Result<Option<&'a str>, Exhausted> {
    let value = last_value(text);
    let mut policy = *policy;
    policy.limits.answer_bytes = policy.limits.answer_bytes.min(MAX_TAIL);
    let line = text.trim_end().lines().next_back().unwrap_or("");
    let end = line.trim_end_matches(['.', '!', '*', ' ']);
    // Blanks before which an expression may start, the last ones first.
    let blanks: alloc::vec::Vec<usize> = end
        .rmatch_indices(' ')
        .map(|(at, _)| at)
        .take(MAX_TRIES)
        .collect();
    for at in blanks.into_iter().rev() {
        let tail = end.get(at..).unwrap_or("").trim();
        let starts = tail.starts_with(|c: char| !c.is_alphabetic() || c.is_uppercase())
            || tail.chars().nth(1).is_none_or(|c| !c.is_alphabetic());
        let is_value =
            tail.contains(|c: char| c.is_ascii_digit() || c == '\\' || c == '=' || c == '^');
        if !(starts && is_value) {
            continue;
        }
        let answer = attempt(tail, &policy, budget)?;
        if answer.is_ok_and(|answer| answer.is_one_formula()) {
            return Ok(Some(tail));
        }
    }
    Ok(value)
}
