//! The command `trainer grade`: JSON in, verdicts out.
//!
//! It opens no device and reads no model. Verdicts are written as the cases are read.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};

use rlvr_verifier::{Policy, Verdict, grade};
use serde::Serialize;
use serde_json::Value;
use thiserror::Error;

use crate::cli::GradeArgs;

/// How grading ended, as an exit code. An error is exit code 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GradeExit {
    /// Every case of a file has a verdict, or the one case is correct.
    Done,
    /// The one case is wrong.
    Wrong,
    /// The reference answer of the one case cannot be read.
    Unreadable,
}

impl GradeExit {
    /// The exit code of the process.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Wrong => 1,
            Self::Unreadable => 2,
        }
    }
}

/// Why not every case got a verdict. The exit code is 2.
#[derive(Debug, Error)]
pub enum GradeError {
    /// Neither a file nor a case is given, or both are.
    #[error("grade: give either --input FILE, or --gold G with --answer A")]
    Usage,
    /// The cases cannot be read.
    #[error("read cases from {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line is no case.
    #[error(
        "read line {line} of {path}: {reason}; each line is an object with the texts `gold` and `answer`, and perhaps an `id`"
    )]
    Line {
        /// The file.
        path: String,
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The verdicts cannot be written.
    #[error("write verdicts: {0}")]
    Write(#[from] std::io::Error),
}

/// One line of the output.
#[derive(Serialize)]
struct Line<'a> {
    id: &'a Value,
    correct: Option<bool>,
    reason: &'static str,
    extracted: Option<&'a str>,
}

/// One line of the input.
struct Case {
    id: Option<Value>,
    gold: String,
    answer: String,
}

/// Grades what the arguments name and writes one JSON object per case.
///
/// # Errors
/// See [`GradeError`]; the verdicts of the lines before a bad line are written all the same.
pub fn run(
    args: &GradeArgs,
    policy: &Policy,
    out: &mut dyn Write,
) -> Result<GradeExit, GradeError> {
    match (&args.input, &args.gold, &args.answer) {
        (Some(path), None, None) if path.as_os_str() == "-" => {
            grade_lines(std::io::stdin().lock(), "standard input", policy, out)
        }
        (Some(path), None, None) => {
            let name = path.display().to_string();
            let file = File::open(path).map_err(|source| GradeError::Read {
                path: name.clone(),
                source,
            })?;
            grade_lines(BufReader::new(file), &name, policy, out)
        }
        (None, Some(gold), Some(answer)) => {
            let verdict = grade(gold, answer, policy);
            write_line(out, &Value::Null, &verdict)?;
            out.flush()?;
            Ok(match verdict.correct {
                Some(true) => GradeExit::Done,
                Some(false) => GradeExit::Wrong,
                None => GradeExit::Unreadable,
            })
        }
        _ => Err(GradeError::Usage),
    }
}

/// Grades cases line by line. Blank lines are skipped but counted.
fn grade_lines(
    mut cases: impl BufRead,
    path: &str,
    policy: &Policy,
    out: &mut dyn Write,
) -> Result<GradeExit, GradeError> {
    let mut text = Vec::new();
    for line in 1.. {
        text.clear();
        let num_bytes = cases
            .read_until(b'\n', &mut text)
            .map_err(|source| GradeError::Read {
                path: path.to_string(),
                source,
            })?;
        if num_bytes == 0 {
            break;
        }
        if text.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        match read_case(&text) {
            Ok(case) => {
                let verdict = grade(&case.gold, &case.answer, policy);
                let id = case.id.unwrap_or_else(|| Value::from(line));
                write_line(out, &id, &verdict)?;
            }
            Err(reason) => {
                out.flush()?;
                return Err(GradeError::Line {
                    path: path.to_string(),
                    line,
                    reason,
                });
            }
        }
    }
    out.flush()?;
    Ok(GradeExit::Done)
}

fn read_case(text: &[u8]) -> Result<Case, String> {
    let value: Value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let Value::Object(mut keys) = value else {
        return Err(String::from("no JSON object"));
    };
    let id = match keys.remove("id") {
        None => None,
        Some(id @ (Value::String(_) | Value::Number(_))) => Some(id),
        Some(_) => return Err(String::from("`id` is neither text nor number")),
    };
    let mut text = |key: &str| match keys.remove(key) {
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(format!("`{key}` is no text")),
        None => Err(format!("`{key}` is missing")),
    };
    Ok(Case {
        id,
        gold: text("gold")?,
        answer: text("answer")?,
    })
}

fn write_line(out: &mut dyn Write, id: &Value, verdict: &Verdict) -> Result<(), GradeError> {
    let line = Line {
        id,
        correct: verdict.correct,
        reason: verdict.reason.code(),
        extracted: verdict.extracted.as_deref(),
    };
    let text = serde_json::to_string(&line).map_err(std::io::Error::from)?;
    writeln!(out, "{text}")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Words {
        #[command(flatten)]
        args: GradeArgs,
    }

    fn parse(words: &[&str]) -> Result<GradeArgs, clap::Error> {
        Words::try_parse_from([&["grade"], words].concat()).map(|words| words.args)
    }

    fn lines(input: &[u8]) -> (Result<GradeExit, GradeError>, String) {
        let mut out = Vec::new();
        let result = grade_lines(input, "cases.jsonl", &Policy::default(), &mut out);
        (result, String::from_utf8(out).unwrap())
    }

    #[test]
    fn cases_keep_their_order_and_ids() {
        let input =
            br##"{"gold": "1/2", "answer": "so \\boxed{\\frac{1}{2}}", "id": "a1", "why": "x"}

{"gold": "so\n#### 5", "answer": "6"}
{"gold": "1/0", "answer": "6", "id": 7}
{"gold": "5", "answer": "I do not know.", "id": 1.5}
"##;
        let (result, out) = lines(input);
        assert_eq!(result.unwrap(), GradeExit::Done);
        let expected = [
            r#"{"id":"a1","correct":true,"reason":"equal_number","extracted":"\\frac{1}{2}"}"#,
            r#"{"id":3,"correct":false,"reason":"different_number","extracted":"6"}"#,
            r#"{"id":7,"correct":null,"reason":"gold_unparsable","extracted":null}"#,
            r#"{"id":1.5,"correct":false,"reason":"different_kind","extracted":"I do not know."}"#,
        ];
        assert_eq!(out.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_bad_line_is_named_and_what_came_before_is_kept() {
        for (bad, wanted) in [
            (&b"{\"gold\": \"1\""[..], "EOF"),
            (b"[1]", "no JSON object"),
            (b"{\"gold\": \"1\"}", "`answer` is missing"),
            (b"{\"gold\": 1, \"answer\": \"1\"}", "`gold` is no text"),
            (
                b"{\"gold\": \"1\", \"answer\": \"1\", \"id\": null}",
                "`id`",
            ),
            (b"{\"gold\": \"\xFF\", \"answer\": \"1\"}", "unicode"),
        ] {
            let good = b"{\"gold\": \"1\", \"answer\": \"1\"}\n";
            let (result, out) = lines(&[good, &b"\n"[..], bad, b"\n", good].concat());
            let message = result.unwrap_err().to_string();
            assert!(
                message.starts_with("read line 3 of cases.jsonl: "),
                "{message}"
            );
            assert!(message.contains(wanted), "{message}");
            assert_eq!(out.lines().count(), 1);
        }
    }

    #[test]
    fn one_case_has_three_exit_codes() {
        for (gold, answer, code) in [("5", "5.0", 0), ("-5", "-6", 1), ("1/0", "5", 2)] {
            let args = parse(&["--gold", gold, "--answer", answer]).unwrap();
            let mut out = Vec::new();
            let exit = run(&args, &Policy::default(), &mut out).unwrap();
            assert_eq!(exit.code(), code);
            assert!(out.starts_with(b"{\"id\":null,\"correct\":"));
        }
    }

    #[test]
    fn words_that_do_not_go_together_are_refused() {
        for words in [
            &[][..],
            &["--gold", "5"],
            &["--answer", "5"],
            &["--input", "a.jsonl", "--gold", "5", "--answer", "5"],
            &["--input", "a.jsonl", "--answer", "5"],
        ] {
            assert!(parse(words).is_err(), "{words:?}");
        }
        let args = parse(&["--input", "no/such.jsonl"]).unwrap();
        let error = run(&args, &Policy::default(), &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("no/such.jsonl"), "{error}");
        let none = GradeArgs {
            input: None,
            gold: None,
            answer: None,
            sets: Vec::new(),
        };
        assert!(run(&none, &Policy::default(), &mut Vec::new()).is_err());
    }
}
