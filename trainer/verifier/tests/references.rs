//! Every reference answer of GSM8K can be read, is correct against itself in other notations and
//! wrong against its neighbours; the share of MATH's that can be read.
//!
//! The data is no part of the project. `RLVR_GSM8K_DIR` names the folder with `train.jsonl` and
//! `test.jsonl`, `RLVR_MATH_FILE` a JSON array or lines of objects with the key `answer`; without
//! them the tests say that they are skipped.

use rlvr_verifier::{Gold, Policy};
use serde_json::Value;

/// What a reference answer, an integer, is written like in completions.
fn notations(value: i64, written: &str) -> Vec<String> {
    let mut digits = String::new();
    let plain = value.unsigned_abs().to_string();
    for (index, digit) in plain.chars().enumerate() {
        if index > 0 && (plain.len() - index).is_multiple_of(3) {
            digits.push(',');
        }
        digits.push(digit);
    }
    let sign = if value < 0 { "-" } else { "" };
    vec![
        format!("#### {written}"),
        format!("So it is \\boxed{{{value}}}."),
        format!("\\boxed{{{sign}{}}}", digits.replace(',', "{,}")),
        format!("The answer is {sign}{digits}."),
        format!("**Answer:** ${value}$"),
        format!("\\boxed{{{sign}\\${digits}}}"),
        format!("\\boxed{{{value}.00}}"),
        format!("\\boxed{{\\frac{{{}}}{{4}}}}", 4 * value),
        format!("\\boxed{{x = {value}}}"),
        format!("\\boxed{{{value}\\text{{ dollars}}}}"),
        format!("\\[{sign}{}\\]", digits.replace(',', "{,}")),
        format!("\\boxed{{\\text{{{value}}}}}"),
        format!("we count and get {value}."),
    ]
}

/// Values that are near and wrong.
fn neighbours(value: i64) -> Vec<i64> {
    let mut near = vec![value + 1, value - 1, value * 10, value * 10 + 1, value + 10];
    if value != 0 {
        near.push(-value);
    }
    if value.abs() >= 10 {
        near.push(value / 10);
    }
    near.retain(|other| *other != value);
    near
}

fn check(written: &str, policy: &Policy) {
    let gold = Gold::parse(written, policy).unwrap_or_else(|reason| panic!("{written}: {reason}"));
    let value: i64 = written.replace(',', "").parse().expect("an integer");
    let all = notations(value, written);
    assert!(all.len() >= 10);
    for completion in all {
        let verdict = gold.grade(&completion);
        assert_eq!(
            verdict.correct,
            Some(true),
            "{written} / {completion}: {}",
            verdict.reason
        );
    }
    for near in neighbours(value) {
        for completion in notations(near, &near.to_string()) {
            let verdict = gold.grade(&completion);
            assert_eq!(
                verdict.correct,
                Some(false),
                "{written} / {completion}: {}",
                verdict.reason
            );
        }
    }
}

#[test]
fn gsm8k_references_are_read_and_told_apart() {
    let Some(folder) = std::env::var_os("RLVR_GSM8K_DIR") else {
        println!("skipped: RLVR_GSM8K_DIR is not set");
        return;
    };
    let policy = Policy::default();
    let mut num_read = 0;
    for name in ["train.jsonl", "test.jsonl"] {
        let path = std::path::Path::new(&folder).join(name);
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        for line in text.lines() {
            let row: Value = serde_json::from_str(line).expect("an object");
            let answer = row["answer"].as_str().expect("an answer");
            let (_, reference) = answer.rsplit_once("####").expect("the marker");
            check(reference.trim(), &policy);
            num_read += 1;
        }
    }
    println!("{num_read} references read");
    assert_eq!(num_read, 8792);
}

#[test]
fn math_references_are_read() {
    let Some(path) = std::env::var_os("RLVR_MATH_FILE") else {
        println!("skipped: RLVR_MATH_FILE is not set");
        return;
    };
    let text = std::fs::read_to_string(&path).expect("the file of RLVR_MATH_FILE");
    let rows: Vec<Value> = serde_json::from_str(&text).unwrap_or_else(|_| {
        text.lines()
            .map(|line| serde_json::from_str(line).expect("an object"))
            .collect()
    });
    let policy = Policy::default();
    let mut unread = Vec::new();
    for row in &rows {
        let answer = row["answer"].as_str().expect("an answer");
        match Gold::parse(answer, &policy) {
            Ok(gold) => {
                let verdict = gold.grade(&format!("so $\\boxed{{{answer}}}$."));
                assert_eq!(verdict.correct, Some(true), "{answer}: {}", verdict.reason);
            }
            Err(reason) => unread.push(format!("{answer} ({reason})")),
        }
    }
    println!(
        "{} of {} references read; not: {}",
        rows.len() - unread.len(),
        rows.len(),
        unread.join(", ")
    );
    assert!(
        unread.len() * 100 <= rows.len(),
        "more than 1 % cannot be read"
    );
}
