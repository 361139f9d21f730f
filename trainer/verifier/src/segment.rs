//! Pieces of a completion that may be an answer: boxes, math segments, the last free number.

use alloc::vec::Vec;

/// A box or a math segment: where it begins and ends with its delimiters, and what is inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment<'a> {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) inner: &'a str,
}

/// The boxes of a text in the order in which they open.
pub(crate) struct Boxes<'a> {
    pub(crate) found: Vec<Segment<'a>>,
    /// True if the last box, or one around it, never closes.
    pub(crate) is_unterminated: bool,
}

/// Finds every `\boxed` and `\fbox`, braces counted, `\{` and `\}` not counted.
pub(crate) fn boxes(text: &str) -> Boxes<'_> {
    let mut found: Vec<Option<Segment<'_>>> = Vec::new();
    // One entry per open brace: the index of the box that it opened.
    let mut braces: Vec<Option<(usize, usize, usize)>> = Vec::new();
    let mut at = 0;
    while let Some(offset) = tail(text, at).find(['{', '}', '\\']) {
        at = at.saturating_add(offset);
        let next = at.saturating_add(1);
        match tail(text, at).chars().next().unwrap_or(' ') {
            '{' => braces.push(None),
            '}' => {
                if let Some(Some((index, start, inner))) = braces.pop()
                    && let Some(slot) = found.get_mut(index)
                {
                    *slot = Some(Segment {
                        start,
                        end: next,
                        inner: text.get(inner..at).unwrap_or(""),
                    });
                }
            }
            '\\' => {
                if let Some(after) = box_command(text, at) {
                    let content = after.saturating_add(blank_len(tail(text, after)));
                    if tail(text, content).starts_with('{') {
                        let inner = content.saturating_add(1);
                        braces.push(Some((found.len(), at, inner)));
                        found.push(None);
                        at = inner;
                    } else {
                        let end = content.saturating_add(token_len(tail(text, content)));
                        let inner = text.get(content..end).unwrap_or("");
                        found.push((end > content).then_some(Segment {
                            start: at,
                            end,
                            inner,
                        }));
                        at = end;
                    }
                    continue;
                }
                at = next.saturating_add(escaped_len(tail(text, next)));
                continue;
            }
            _ => {}
        }
        at = next;
    }
    let is_unterminated = matches!(found.last(), Some(None)) || braces.iter().any(Option::is_some);
    Boxes {
        is_unterminated: is_unterminated && !found.is_empty(),
        found: found.into_iter().flatten().collect(),
    }
}

fn tail(text: &str, at: usize) -> &str {
    text.get(at..).unwrap_or("")
}

fn blank_len(text: &str) -> usize {
    text.len().saturating_sub(text.trim_start().len())
}

/// Length of the character behind a backslash if it is an escaped mark and no command. A doubled
/// backslash before a box is taken for a single one.
fn escaped_len(text: &str) -> usize {
    if text.starts_with('\\') && box_command(text, 0).is_some() {
        return 0;
    }
    match text.chars().next() {
        Some(c) if !c.is_ascii_alphabetic() => c.len_utf8(),
        _ => 0,
    }
}

/// The position behind `\boxed` or `\fbox`, if one is at `at`.
fn box_command(text: &str, at: usize) -> Option<usize> {
    let rest = tail(text, at);
    let after = rest
        .strip_prefix("\\boxed")
        .or_else(|| rest.strip_prefix("\\fbox"))?;
    let is_whole = !after.starts_with(|c: char| c.is_ascii_alphabetic());
    is_whole.then(|| text.len().saturating_sub(after.len()))
}

/// Length of the number or token that a box without braces holds.
fn token_len(text: &str) -> usize {
    if let Some(value) = value_len(text, true) {
        return value;
    }
    let mut chars = text.chars();
    match chars.next() {
        Some('\\') => {
            let name = chars
                .as_str()
                .find(|c: char| !c.is_ascii_alphabetic())
                .unwrap_or(chars.as_str().len());
            name.saturating_add(1).min(text.len())
        }
        Some(c) => c.len_utf8(),
        None => 0,
    }
}

/// The math segments of a text: `$$…$$`, `$…$`, `\(…\)`, `\[…\]`, display environments.
///
/// A `$` opens only if a non-blank follows, closes only if a non-blank precedes and no digit
/// follows; any other `$` is currency.
pub(crate) fn math(text: &str) -> Vec<Segment<'_>> {
    let mut found = Vec::new();
    let mut at = 0;
    // Delimiters known to close nowhere behind `at`: keeps the search linear.
    let (mut has_round, mut has_square, mut has_display) = (true, true, true);
    let mut has_environment = [true; ENVIRONMENTS.len()];
    while let Some(offset) = tail(text, at).find(['\\', '$']) {
        let start = at.saturating_add(offset);
        let rest = tail(text, start);
        let segment = if rest.starts_with("\\(") && has_round {
            let segment = between(text, start, 2, "\\)");
            has_round = segment.is_some();
            segment
        } else if rest.starts_with("\\[") && has_square {
            let segment = between(text, start, 2, "\\]");
            has_square = segment.is_some();
            segment
        } else if rest.starts_with("$$") && has_display {
            let segment = between(text, start, 2, "$$");
            has_display = segment.is_some();
            segment
        } else if rest.starts_with('$') {
            dollars(text, start)
        } else if rest.starts_with("\\begin{") {
            environment(text, start, &mut has_environment)
        } else {
            None
        };
        let is_pair = rest.starts_with("$$") || rest.starts_with('\\');
        at = match segment {
            Some(segment) => {
                found.push(segment);
                segment.end
            }
            None => {
                let mut chars = rest.chars();
                chars.next();
                let second = chars.next().filter(|_| is_pair).map_or(0, char::len_utf8);
                start.saturating_add(1).saturating_add(second)
            }
        };
    }
    found
}

/// Environments that display a formula; with a star they do not number it.
const ENVIRONMENTS: [&str; 7] = [
    "equation",
    "align",
    "gather",
    "multline",
    "flalign",
    "eqnarray",
    "displaymath",
];

/// A display environment that begins at `start`. What is inside keeps its delimiters, because rows
/// mean something only there.
fn environment<'a>(text: &'a str, start: usize, may_close: &mut [bool]) -> Option<Segment<'a>> {
    let name = tail(text, start).strip_prefix("\\begin{")?;
    let (known, star) = ENVIRONMENTS
        .iter()
        .zip(may_close)
        .find_map(|(known, may_close)| {
            let rest = name.strip_prefix(known)?;
            let star = if rest.starts_with('*') { "*" } else { "" };
            let is_whole = rest.strip_prefix(star)?.starts_with('}');
            (is_whole && *may_close).then_some(((known, may_close), star))
        })?;
    let (known, may_close) = known;
    let close = alloc::format!("\\end{{{known}{star}}}");
    let Some(inner_end) = tail(text, start).find(&close) else {
        *may_close = false;
        return None;
    };
    let end = start.saturating_add(inner_end).saturating_add(close.len());
    Some(Segment {
        start,
        end,
        inner: text.get(start..end)?,
    })
}

fn between<'a>(text: &'a str, start: usize, open: usize, close: &str) -> Option<Segment<'a>> {
    let inner_start = start.saturating_add(open);
    let inner_end = inner_start.saturating_add(tail(text, inner_start).find(close)?);
    Some(Segment {
        start,
        end: inner_end.saturating_add(close.len()),
        inner: text.get(inner_start..inner_end)?,
    })
}

/// `$…$` whose opening mark is at `start`.
fn dollars(text: &str, start: usize) -> Option<Segment<'_>> {
    let inner_start = start.saturating_add(1);
    let mut from = inner_start;
    loop {
        let end = from.saturating_add(tail(text, from).find('$')?);
        let inner = text.get(inner_start..end)?;
        if inner.ends_with('\\') {
            from = end.saturating_add(1);
            continue;
        }
        let after = end.saturating_add(1);
        let opens = inner.starts_with(|c: char| !c.is_whitespace());
        let closes = inner.ends_with(|c: char| !c.is_whitespace())
            && !tail(text, after).starts_with(|c: char| c.is_ascii_digit());
        return (opens && closes).then_some(Segment {
            start,
            end: after,
            inner,
        });
    }
}

/// The run of segments at the end with nothing between them but separators: one list.
pub(crate) fn last_run<'s, 'a>(text: &str, segments: &'s [Segment<'a>]) -> &'s [Segment<'a>] {
    let mut first = segments.len().saturating_sub(1);
    while let (Some(previous), Some(current)) = (
        first.checked_sub(1).and_then(|index| segments.get(index)),
        segments.get(first),
    ) {
        let is_apart = previous.end <= current.start;
        let gap = text.get(previous.end..current.start).unwrap_or("x");
        if !is_apart || !is_separator(gap) {
            break;
        }
        first = first.saturating_sub(1);
    }
    segments.get(first..).unwrap_or(&[])
}

/// Blanks, delimiters, `,`, `;`, "and", "or".
fn is_separator(gap: &str) -> bool {
    gap.split(|c: char| c.is_whitespace() || matches!(c, ',' | ';' | '$'))
        .all(|word| {
            matches!(
                word,
                "" | "and" | "or" | "\\(" | "\\)" | "\\[" | "\\]" | "\\text{and}" | "\\text{or}"
            )
        })
}

/// The last number standing free: not part of a name, a power or a longer expression.
pub(crate) fn last_value(text: &str) -> Option<&str> {
    let mut last = None;
    let mut at = 0;
    let mut previous = ' ';
    while let Some(first) = tail(text, at).chars().next() {
        let rest = tail(text, at);
        if !may_start_value(first, rest) {
            previous = first;
            at = at.saturating_add(first.len_utf8());
            continue;
        }
        let is_free = !(previous.is_alphanumeric() || matches!(previous, '_' | '^' | '.' | '}'));
        match value_len(rest, is_free) {
            Some(length) => {
                let end = at.saturating_add(length);
                if is_free && previous != '/' && ends_free(tail(text, end)) {
                    last = text.get(at..end);
                }
                previous = '0';
                at = end;
            }
            None => {
                previous = first;
                at = at.saturating_add(first.len_utf8());
            }
        }
    }
    last
}

/// A quick look at what a number can begin with: most of a text is none.
fn may_start_value(first: char, rest: &str) -> bool {
    match first {
        '0'..='9' | '.' | '-' | '+' | '−' | '$' | '€' | '£' => true,
        '\\' => matches!(rest.as_bytes().get(1), Some(b'$' | b'f' | b'd' | b't')),
        _ => false,
    }
}

/// True if what follows a number does not continue it.
fn ends_free(rest: &str) -> bool {
    let mut chars = rest.chars();
    match chars.next() {
        None => true,
        Some('.' | ',') => !chars.next().is_some_and(|c| c.is_ascii_digit()),
        Some('\\') => !chars.as_str().starts_with("sqrt") && !chars.as_str().starts_with("pi"),
        Some(c) => !(c.is_alphanumeric() || matches!(c, '_' | '^' | '/' | '!')),
    }
}

/// Length of the written number at the start: sign and currency where they may stand, digits with
/// separators, a fraction, a percent sign.
fn value_len(text: &str, may_have_sign: bool) -> Option<usize> {
    let mut rest = text;
    if may_have_sign {
        rest = rest.strip_prefix(['-', '+', '−']).unwrap_or(rest);
        rest = rest
            .strip_prefix("\\$")
            .or_else(|| rest.strip_prefix(['$', '€', '£']))
            .unwrap_or(rest);
        rest = rest.strip_prefix(['-', '−']).unwrap_or(rest);
    }
    rest = match fraction_command(rest) {
        Some(after) => after,
        None => {
            let after = digits(rest)?;
            mixed_or_quotient(after)
        }
    };
    let after_percent = rest
        .strip_prefix("\\%")
        .or_else(|| rest.strip_prefix('%'))
        .unwrap_or(rest);
    Some(text.len().saturating_sub(after_percent.len()))
}

/// `\frac{…}{…}` whose parts hold nothing but a number.
fn fraction_command(text: &str) -> Option<&str> {
    let mut rest = ["\\frac", "\\dfrac", "\\tfrac"]
        .iter()
        .find_map(|command| text.strip_prefix(command))?;
    for _ in 0..2 {
        rest = rest.trim_start().strip_prefix('{')?.trim_start();
        rest = rest.strip_prefix('-').unwrap_or(rest);
        rest = digits(rest)?.trim_start().strip_prefix('}')?;
    }
    Some(rest)
}

/// What follows digits with inner points and separators.
fn digits(text: &str) -> Option<&str> {
    let mut rest = text.strip_prefix('.').unwrap_or(text);
    if !rest.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        let continued = ["{,}", ",\\!", "\\,", ",", "."]
            .iter()
            .filter_map(|separator| rest.strip_prefix(separator))
            .find(|after| after.starts_with(|c: char| c.is_ascii_digit()));
        match continued {
            Some(after) => rest = after,
            None => return Some(rest),
        }
    }
}

/// What follows `/b`, ` a/b` or `\frac{a}{b}` behind an integer, or the same if none is there.
fn mixed_or_quotient(text: &str) -> &str {
    if let Some(after) = text.strip_prefix('/').and_then(digits) {
        return after;
    }
    let apart = text.strip_prefix(' ').unwrap_or(text);
    if let Some(after) = fraction_command(apart) {
        return after;
    }
    let quotient = text
        .strip_prefix(' ')
        .and_then(digits)
        .and_then(|rest| rest.strip_prefix('/'))
        .and_then(digits);
    quotient.unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    fn inners<'a>(segments: &[Segment<'a>]) -> Vec<&'a str> {
        segments.iter().map(|segment| segment.inner).collect()
    }

    #[test]
    fn dollar_signs_are_math_or_currency() {
        for (text, expected) in [
            ("so $x$ and $y$.", vec!["x", "y"]),
            ("costs $18 and then $20 more", vec![]),
            ("costs $5. Then $3$.", vec!["3"]),
            (r"\(a\) \[b\] $$c$$", vec!["a", "b", "c"]),
            (r"\(a", vec![]),
            (
                r"so \begin{align*}x&=1\end{align*}.",
                vec![r"\begin{align*}x&=1\end{align*}"],
            ),
            (
                r"\begin{align}x\end{align*} \begin{cases}x\end{cases}",
                vec![],
            ),
            (r"$\$5$", vec![r"\$5"]),
            ("$18-$20", vec![]),
            ("$ 5$", vec![]),
        ] {
            assert_eq!(inners(&math(text)), expected, "{text}");
        }
    }

    #[test]
    fn boxes_are_counted_by_their_braces() {
        let found = boxes(r"\boxed{\frac{1}{2}} then \fbox{ \} } and \boxed 7.");
        assert_eq!(inners(&found.found), vec![r"\frac{1}{2}", r" \} ", "7"]);
        assert!(!found.is_unterminated);
        for text in [
            r"\boxed{5} \boxed{7",
            r"\boxed{1+\boxed{2}",
            r"\boxed",
            r"\boxed ",
        ] {
            assert!(boxes(text).is_unterminated, "{text}");
        }
        assert_eq!(
            inners(&boxes(r"\boxed{\boxed{5}}").found),
            vec![r"\boxed{5}", "5"]
        );
        assert!(boxes(r"\boxedx{5} {").found.is_empty());
        assert_eq!(inners(&boxes(r"\\boxed{5}").found), vec!["5"]);
    }

    #[test]
    fn the_last_free_number() {
        for (text, expected) in [
            ("3 + 4 = 7.", Some("7")),
            ("it costs $1,250 in all", Some("$1,250")),
            ("5-3", Some("3")),
            ("x = -3", Some("-3")),
            ("x2 and A4", None),
            ("about 3.5%.", Some("3.5%")),
            (r"thus \frac{1}{2} of it", Some(r"\frac{1}{2}")),
            ("on 1/2/2024", None),
            ("2^10", None),
            ("1 2/3 cups", Some("1 2/3")),
            ("none", None),
        ] {
            assert_eq!(last_value(text), expected, "{text}");
        }
    }
}
