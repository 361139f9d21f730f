//! The cases of `fixtures/verifier`, one test per file: each line has a reference answer, an
//! answer, the verdict that is right and the reason why the case is there.

use rlvr_verifier::{Policy, Reason, equal, grade};
use serde_json::Value;

/// A line of a case file.
struct Case {
    id: String,
    gold: String,
    answer: String,
    expect: Option<bool>,
    reason: Option<String>,
}

fn cases(name: &str) -> Vec<Case> {
    let path = format!(
        "{}/../../fixtures/verifier/{name}.jsonl",
        env!("CARGO_MANIFEST_DIR")
    );
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    text.lines().map(case).collect()
}

fn case(line: &str) -> Case {
    let value: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
    let text = |key: &str| value.get(key).and_then(Value::as_str).map(String::from);
    let required = |key: &str| text(key).unwrap_or_else(|| panic!("{line}: no {key}"));
    assert!(required("why").len() > 5, "{line}: no reason");
    Case {
        id: required("id"),
        gold: required("gold"),
        answer: required("answer"),
        expect: value.get("expect").expect("an expectation").as_bool(),
        reason: text("reason"),
    }
}

/// Grades a file, and compares its bare answers in both directions.
fn check(name: &str, minimum: usize) {
    let cases = cases(name);
    assert!(cases.len() >= minimum, "{name}: {} cases", cases.len());
    let policy = Policy::default();
    let mut wrong = Vec::new();
    for case in &cases {
        let verdict = grade(&case.gold, &case.answer, &policy);
        let code = verdict.reason.code();
        let is_expected_reason = case.reason.as_deref().is_none_or(|reason| reason == code);
        if verdict.correct != case.expect || !is_expected_reason {
            wrong.push(format!(
                "{}: {:?} {code}, expected {:?} {:?}: {} / {} (read: {:?})",
                case.id,
                verdict.correct,
                case.expect,
                case.reason,
                case.gold,
                case.answer,
                verdict.extracted
            ));
        }
        let forward = equal(&case.gold, &case.answer, &policy);
        let backward = equal(&case.answer, &case.gold, &policy);
        let is_readable = forward.correct.is_some() && backward.correct.is_some();
        if is_readable && (forward.correct, forward.reason) != (backward.correct, backward.reason) {
            wrong.push(format!(
                "{}: {} one way, {} the other: {} / {}",
                case.id, forward.reason, backward.reason, case.gold, case.answer
            ));
        }
        for reason in [verdict.reason, forward.reason, backward.reason] {
            assert_ne!(reason, Reason::InternalDefect, "{}", case.id);
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {name}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

macro_rules! files {
    ($($name:ident at least $minimum:expr;)*) => {
        $(#[test] fn $name() { check(stringify!($name), $minimum); })*

        /// Every case file, for what holds over all of them.
        const FILES: &[&str] = &[$(stringify!($name)),*];
    };
}

files! {
    extraction at least 70;
    numbers at least 60;
    fractions at least 60;
    constants at least 60;
    algebra at least 50;
    structures at least 60;
    relations at least 50;
    text at least 40;
    near_misses at least 100;
    malformed at least 100;
    known at least 60;
}

#[test]
fn enough_cases_expect_a_wrong_answer() {
    let all: Vec<Case> = FILES.iter().flat_map(|name| cases(name)).collect();
    let num_false = all.iter().filter(|case| case.expect == Some(false)).count();
    println!("{} cases, {num_false} of them wrong answers", all.len());
    assert!(all.len() >= 600);
    assert!(
        num_false * 10 >= all.len() * 4,
        "{num_false} of {}",
        all.len()
    );
}

/// What a budget that ends early may say; it may also call equal what is proved with more steps.
fn gives_up(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Undecided | Reason::AnswerTooLarge | Reason::GoldTooLarge | Reason::EqualPoints
    )
}

#[test]
fn a_small_budget_gives_up_and_never_errs() {
    let full = Policy::default();
    let mut num_given_up = 0;
    for case in FILES.iter().flat_map(|name| cases(name)) {
        let long = grade(&case.gold, &case.answer, &full);
        for steps in [500, 1_500, 3_000, 6_000, 12_000, 25_000, 60_000, 250_000] {
            let mut few = full;
            few.limits.steps = steps;
            let short = grade(&case.gold, &case.answer, &few);
            assert!(
                short.steps <= steps,
                "{}: {} steps of {steps}",
                case.id,
                short.steps
            );
            if gives_up(short.reason) {
                num_given_up += 1;
                continue;
            }
            assert_eq!(
                short.correct, long.correct,
                "{}: {} after {steps} steps, then {}",
                case.id, short.reason, long.reason
            );
        }
    }
    assert!(num_given_up > 1000, "{num_given_up}");
}
