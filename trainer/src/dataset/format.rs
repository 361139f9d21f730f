//! How an answer is written at the end of a completion.

use serde::{Deserialize, Serialize};

/// The form in which a completion is asked to give its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerFormat {
    /// `#### 7` on its own line.
    #[default]
    Marker,
    /// `\boxed{7}`.
    Box,
    /// Nothing but the answer.
    Bare,
}

impl AnswerFormat {
    /// The answer in this form.
    pub fn write(self, answer: &str) -> String {
        match self {
            Self::Marker => format!("#### {answer}"),
            Self::Box => format!("\\boxed{{{answer}}}"),
            Self::Bare => answer.to_string(),
        }
    }

    /// Worked steps followed by the answer. A bare answer has no room for steps.
    pub fn write_worked(self, steps: &str, answer: &str) -> String {
        let answer = self.write(answer);
        if steps.is_empty() || self == Self::Bare {
            answer
        } else {
            format!("{steps}\n{answer}")
        }
    }

    /// True if the trimmed text is a number in its shortest notation and nothing else: no leading
    /// or trailing zeros, no separators, no plus sign, fractions reduced.
    pub fn is_bare_number(text: &str) -> bool {
        let unsigned = text.strip_prefix('-').unwrap_or(text);
        if let Some((numerator, denominator)) = unsigned.split_once('/') {
            let parts = [numerator, denominator].map(|part| {
                is_shortest_integer(part)
                    .then(|| part.parse::<u128>().ok())
                    .flatten()
            });
            return matches!(parts, [Some(p), Some(q)] if p > 0 && q > 1 && gcd(p, q) == 1);
        }
        match unsigned.split_once('.') {
            None => is_shortest_integer(unsigned) && text != "-0",
            Some((whole, decimals)) => {
                is_shortest_integer(whole)
                    && decimals.bytes().all(|byte| byte.is_ascii_digit())
                    && !decimals.is_empty()
                    && !decimals.ends_with('0')
            }
        }
    }
}

fn is_shortest_integer(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && (text == "0" || !text.starts_with('0'))
}

fn gcd(a: u128, b: u128) -> u128 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_number_is_in_its_shortest_notation() {
        for text in [
            "7",
            "0",
            "-12",
            "0.5",
            "-3.25",
            "1/2",
            "-7/3",
            "1234567890123456789012",
        ] {
            assert!(AnswerFormat::is_bare_number(text), "{text}");
        }
        for text in [
            "", "-", "07", "-0", "7.", ".5", "7.0", "14/2", "2/1", "1/0", "0/3", "+7", "1,000",
            " 7", "7 ", "seven", "7.5.1", "--7", "1/-2", "7%", "٧",
        ] {
            assert!(!AnswerFormat::is_bare_number(text), "{text}");
        }
    }

    #[test]
    fn answers_are_written_where_the_verifier_finds_them() {
        assert_eq!(
            AnswerFormat::Marker.write_worked("1+1=2", "2"),
            "1+1=2\n#### 2"
        );
        assert_eq!(AnswerFormat::Box.write_worked("", "2"), "\\boxed{2}");
        assert_eq!(AnswerFormat::Bare.write_worked("1+1=2", "2"), "2");
    }
}
