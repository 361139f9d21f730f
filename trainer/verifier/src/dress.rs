//! Removes what wraps an answer without being part of it.

use crate::policy::Limits;

/// Delimiters that wrap a whole answer, opening and closing.
const PAIRS: &[(&str, &str)] = &[
    ("**", "**"),
    ("__", "__"),
    ("*", "*"),
    ("_", "_"),
    ("```", "```"),
    ("`", "`"),
    ("\"", "\""),
    ("'", "'"),
    ("“", "”"),
    ("‘", "’"),
    ("$$", "$$"),
    ("$", "$"),
    ("\\(", "\\)"),
    ("\\[", "\\]"),
];

/// Commands whose braces may wrap the whole answer.
const WRAPPERS: &[&str] = &["\\boxed", "\\fbox"];

/// The answer without blanks, delimiters in pairs and one full stop at its borders.
pub(crate) fn undress<'a>(text: &'a str, limits: &Limits) -> &'a str {
    let mut text = text.trim();
    let mut has_full_stop = false;
    for _ in 0..limits.nesting {
        let mut next = unwrap_once(text).unwrap_or(text);
        if !has_full_stop && let Some(shorter) = full_stop(next) {
            has_full_stop = true;
            next = shorter;
        }
        if next.len() == text.len() {
            break;
        }
        text = next.trim();
    }
    text
}

/// One full stop at the end, unless it is part of an ellipsis.
fn full_stop(text: &str) -> Option<&str> {
    let shorter = text.strip_suffix('.')?;
    (!shorter.ends_with('.')).then_some(shorter)
}

fn unwrap_once(text: &str) -> Option<&str> {
    for (open, close) in PAIRS {
        if let Some(inner) = text
            .strip_prefix(open)
            .and_then(|rest| rest.strip_suffix(close))
            && !inner.is_empty()
            && !inner.contains(close)
        {
            return Some(inner);
        }
    }
    WRAPPERS
        .iter()
        .find_map(|command| braced(text.strip_prefix(command)?.trim_start()))
}

/// What is inside the braces, if they open at the start and close at the end.
fn braced(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('{')?.strip_suffix('}')?;
    let mut depth = 0usize;
    let mut is_escaped = false;
    for c in inner.chars() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '{' => depth = depth.saturating_add(1),
            '}' => depth = depth.checked_sub(1)?,
            _ => {}
        }
    }
    (depth == 0).then_some(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dressing_goes_in_pairs() {
        let limits = Limits::default();
        for (text, bare) in [
            ("**73**", "73"),
            ("**$73$.**", "73"),
            ("$5", "$5"),
            ("$5$ and $6$", "$5$ and $6$"),
            ("**5", "**5"),
            (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
            (r"\boxed{1}+\boxed{2}", r"\boxed{1}+\boxed{2}"),
            (" 5. ", "5"),
            ("5..", "5.."),
            ("“7”.", "7"),
            ("**", "**"),
        ] {
            assert_eq!(undress(text, &limits), bare, "{text}");
        }
    }
}
