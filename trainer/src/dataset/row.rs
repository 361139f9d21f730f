//! One record of a file to one problem: which key holds what, and is the reference readable?

use rlvr_verifier::{Extraction, Gold, Policy, grade};
use serde_json::{Map, Value};

use super::config::Fields;
use super::error::{DatasetError, Place};
use super::split::prompt_id;
use crate::record::Problem;

/// A record of a file.
pub(crate) type Row = Map<String, Value>;

/// Usual names, the first that is present wins.
const PROBLEM_KEYS: [&str; 3] = ["problem", "question", "prompt"];
const ANSWER_KEYS: [&str; 3] = ["answer", "reference_answer", "final_answer"];
const SOLUTION_KEY: &str = "solution";

/// Reads a record by the field mapping, or by the usual names: GSM8K's `question` and `answer`
/// (worked steps, then `####`), MATH's `problem`, `solution` and `answer`, and their mixtures.
///
/// The reference answer is not yet checked: see [`check_reference`].
pub(crate) fn problem(
    row: &Row,
    fields: Option<&Fields>,
    place: &Place,
) -> Result<Problem, DatasetError> {
    let (problem, answer, solution) = match fields {
        Some(fields) => (
            required(row, &[&fields.problem], place)?,
            required(row, &[&fields.answer], place)?,
            fields.solution.as_deref().and_then(|key| text(row, key)),
        ),
        None => by_usual_names(row, place)?,
    };
    let (reference_answer, worked) = split_marker(&answer);
    Ok(Problem {
        id: prompt_id(&problem),
        solution: solution.or(worked),
        problem,
        reference_answer,
    })
}

fn by_usual_names(
    row: &Row,
    place: &Place,
) -> Result<(String, String, Option<String>), DatasetError> {
    let problem = required(row, &PROBLEM_KEYS, place)?;
    let solution = text(row, SOLUTION_KEY);
    let has_answer = ANSWER_KEYS.iter().any(|key| row.contains_key(*key));
    match solution {
        Some(solution) if !has_answer => {
            let answer = boxed(&solution).ok_or_else(|| DatasetError::NoAnswer {
                place: place.clone(),
            })?;
            Ok((problem, answer, Some(solution)))
        }
        _ => Ok((problem, required(row, &ANSWER_KEYS, place)?, solution)),
    }
}

/// The answer in the last box of a worked solution.
fn boxed(solution: &str) -> Option<String> {
    let policy = Policy {
        extraction: Extraction::Boxed,
        ..Policy::default()
    };
    grade("0", solution, &policy)
        .extracted
        .filter(|answer| !answer.is_empty())
}

/// GSM8K writes worked steps, a line `#### answer`, and calculator marks such as `<<2*3=6>>`,
/// which are no part of the solution.
fn split_marker(answer: &str) -> (String, Option<String>) {
    match answer.rsplit_once("####") {
        Some((worked, last)) => {
            let last = last.trim();
            let worked = without_marks(worked.trim_end());
            let is_bare = worked.trim().is_empty();
            let solution = (!is_bare).then(|| format!("{worked}\n#### {last}"));
            (last.to_string(), solution)
        }
        None => (answer.trim().to_string(), None),
    }
}

fn without_marks(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("<<") {
        let Some((_, behind)) = after.split_once(">>") else {
            break;
        };
        plain.push_str(before);
        rest = behind;
    }
    plain.push_str(rest);
    plain
}

/// The text or number under a key; none if it is missing, blank or of another kind.
fn text(row: &Row, key: &str) -> Option<String> {
    let text = match row.get(key)? {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    (!text.trim().is_empty()).then_some(text)
}

fn required(row: &Row, keys: &[&str], place: &Place) -> Result<String, DatasetError> {
    let Some(key) = keys.iter().find(|key| row.contains_key(**key)) else {
        let found: Vec<&str> = row.keys().map(String::as_str).collect();
        return Err(DatasetError::MissingField {
            place: place.clone(),
            wanted: format!("`{}`", keys.join("` or `")),
            found: found.join(", "),
        });
    };
    text(row, key).ok_or_else(|| DatasetError::BadField {
        place: place.clone(),
        key: (*key).to_string(),
    })
}

/// A reference answer must be readable by the verifier.
pub(crate) fn check_reference(problem: &Problem, place: &Place) -> Result<(), DatasetError> {
    match Gold::parse(&problem.reference_answer, &Policy::default()) {
        Ok(_) => Ok(()),
        Err(reason) => Err(DatasetError::Unreadable {
            place: place.clone(),
            reference_answer: problem.reference_answer.clone(),
            reason,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str, fields: Option<&Fields>) -> Result<Problem, DatasetError> {
        let row: Row = serde_json::from_str(json).unwrap();
        problem(&row, fields, &Place::Line("a.jsonl".into(), 3))
    }

    #[test]
    fn gsm8k_records() {
        let json = r#"{"question": "Q?", "answer": "2*3=<<2*3=6>>6.\nSo 6.\n#### 6"}"#;
        let problem = read(json, None).unwrap();
        assert_eq!(problem.problem, "Q?");
        assert_eq!(problem.reference_answer, "6");
        assert_eq!(problem.solution.as_deref(), Some("2*3=6.\nSo 6.\n#### 6"));
        assert_eq!(problem.id, prompt_id("Q?"));
    }

    #[test]
    fn math_records() {
        let json = r#"{"problem": "P", "solution": "so \\boxed{\\frac{1}{2}}.", "level": 3}"#;
        let problem = read(json, None).unwrap();
        assert_eq!(problem.reference_answer, r"\frac{1}{2}");
        assert_eq!(
            problem.solution.as_deref(),
            Some(r"so \boxed{\frac{1}{2}}.")
        );
        let json = r#"{"problem": "P", "solution": "so.", "answer": "x=5"}"#;
        assert_eq!(read(json, None).unwrap().reference_answer, "x=5");
    }

    #[test]
    fn mapped_records() {
        let fields = Fields {
            problem: "q".into(),
            answer: "a".into(),
            solution: Some("s".into()),
        };
        let problem = read(r#"{"q": "Q", "a": 42, "s": "because"}"#, Some(&fields)).unwrap();
        assert_eq!(problem.reference_answer, "42");
        assert_eq!(problem.solution.as_deref(), Some("because"));
    }

    #[test]
    fn faults_name_the_line_and_the_key() {
        for (json, wanted) in [
            (
                r#"{"text": "P", "answer": "1"}"#,
                "`problem` or `question` or `prompt` (keys here: text, answer)",
            ),
            (r#"{"problem": "P"}"#, "`answer`"),
            (r#"{"problem": "P", "solution": "no box"}"#, "\\boxed"),
            (r#"{"problem": " ", "answer": "1"}"#, "`problem` must be"),
            (r#"{"problem": "P", "answer": null}"#, "`answer` must be"),
            (r#"{"problem": "P", "answer": ["1"]}"#, "`answer` must be"),
        ] {
            let message = read(json, None).unwrap_err().to_string();
            assert!(message.starts_with("a.jsonl:3: "), "{message}");
            assert!(message.contains(wanted), "{message}");
        }
    }

    #[test]
    fn unreadable_references_are_refused() {
        let place = Place::Line("a.jsonl".into(), 3);
        for (answer, is_readable) in [("7", true), ("1/0", false), ("#### 3+", false)] {
            let json = format!(r#"{{"problem": "P", "answer": "{answer}"}}"#);
            let problem = read(&json, None).unwrap();
            assert_eq!(
                check_reference(&problem, &place).is_ok(),
                is_readable,
                "{answer}"
            );
        }
    }
}
