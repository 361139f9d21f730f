//! From a completion to its answer text. Linear in the length; the first rule that applies
//! decides, and there is no falling back from one that applies and fails.

use alloc::string::String;

use crate::parse::read;
use crate::policy::{Extraction, Policy};
use crate::segment::{Segment, boxes, last_run, last_value, math};
use crate::verdict::{Reason, Source};

/// An answer text, before any clean-up, and the rule that found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) text: String,
    pub(crate) source: Source,
}

fn found(text: &str, source: Source) -> Found {
    Found {
        text: String::from(text.trim()),
        source,
    }
}

/// Finds the answer of a completion.
pub(crate) fn extract(completion: &str, policy: &Policy) -> Result<Found, (Reason, Source)> {
    let text = prepare(completion, policy);
    if text.trim().is_empty() {
        return Err((Reason::EmptyAnswer, Source::Nothing));
    }
    if let Some(result) = boxed(text) {
        return result;
    }
    if policy.extraction == Extraction::Boxed {
        return Err((Reason::NoAnswer, Source::Nothing));
    }
    if let Some(cut) = marker(text) {
        return Ok(found(search(cut, policy), Source::Marker));
    }
    if let Some(cut) = phrase(text) {
        return Ok(found(search(cut, policy), Source::Phrase));
    }
    if policy.extraction == Extraction::Marked {
        return Err((Reason::NoAnswer, Source::Nothing));
    }
    if let Some(joined) = join(text, &math(text)) {
        return Ok(Found {
            text: joined,
            source: Source::Math,
        });
    }
    if stands_alone(text, policy) {
        return Ok(found(text, Source::Whole));
    }
    match last_value(text) {
        Some(value) => Ok(found(value, Source::LastValue)),
        None => Err((Reason::NoAnswer, Source::Nothing)),
    }
}

/// Finds the answer of a reference: the same rules, and the whole text where they find nothing.
pub(crate) fn extract_reference(reference: &str, policy: &Policy) -> Result<Found, Reason> {
    let text = prepare(reference, policy);
    if let Some(result) = boxed(text) {
        return result.map_err(|(reason, _)| reason);
    }
    if let Some(cut) = marker(text).or_else(|| phrase(text)) {
        return Ok(found(search(cut, policy), Source::Marker));
    }
    match join(text, &math(text)) {
        Some(joined) => Ok(Found {
            text: joined,
            source: Source::Math,
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
    let text = text.get(start..).unwrap_or("");
    text.rsplit_once("</think>")
        .map_or(text, |(_, after)| after)
}

/// Rule 1.
fn boxed(text: &str) -> Option<Result<Found, (Reason, Source)>> {
    let boxes = boxes(text);
    if boxes.is_unterminated {
        return Some(Err((Reason::UnterminatedBox, Source::Box)));
    }
    let joined = join(text, &boxes.found)?;
    Some(Ok(Found {
        text: joined,
        source: Source::Box,
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
    text.as_bytes()
        .windows(word.len())
        .rposition(|window| window.eq_ignore_ascii_case(word))
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
fn search<'a>(cut: &'a str, policy: &Policy) -> &'a str {
    if let [.., last] = math(cut).as_slice() {
        let is_only = last_run(cut, &math(cut)).len() == 1;
        return if is_only { last.inner } else { cut };
    }
    if stands_alone(cut, policy) {
        return cut;
    }
    last_value(cut).unwrap_or(cut)
}

/// True if the text reads completely as one answer, be it one that contradicts itself.
fn stands_alone(text: &str, policy: &Policy) -> bool {
    match read(text, policy) {
        Ok(answer) => answer.stands_alone,
        Err(reason) => reason == Reason::InconsistentAnswer,
    }
}
