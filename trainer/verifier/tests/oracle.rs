//! Our verdicts against the recorded ones of math-verify: every difference is listed, with its
//! argument, in DISAGREEMENTS.md, and nothing is listed that is no difference.

use std::collections::BTreeSet;

use rlvr_verifier::{Policy, grade};
use serde_json::Value;

fn read(path: &str) -> String {
    let path = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The identities inside the fenced lists.
fn listed(text: &str) -> BTreeSet<String> {
    let mut is_inside = false;
    let mut ids = BTreeSet::new();
    for line in text.lines() {
        if line.starts_with("```") {
            is_inside = !is_inside;
        } else if is_inside {
            assert!(ids.insert(line.to_string()), "{line} is listed twice");
        }
    }
    ids
}

#[test]
fn every_disagreement_is_argued() {
    let policy = Policy::default();
    let (mut different, mut wrong) = (BTreeSet::new(), Vec::new());
    let (mut num_pairs, mut num_known) = (0, 0);
    for line in read("../../fixtures/verifier/oracle.jsonl").lines() {
        let row: Value = serde_json::from_str(line).expect("an object");
        let text = |key: &str| row[key].as_str().expect("a text").to_string();
        let (gold, answer) = (text("gold"), text("answer"));
        let ours = grade(&gold, &answer, &policy).correct;
        let expected = row["expect"].as_bool();
        if ours != expected {
            wrong.push(format!(
                "{}: {ours:?}, expected {expected:?}: {gold} / {answer}",
                row["id"]
            ));
        }
        let is_theirs = row["theirs"] == Value::Bool(true);
        if is_theirs != (ours == Some(true)) {
            different.insert(text("id"));
        }
        num_pairs += 1;
        num_known += usize::from(expected.is_some());
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    let listed = listed(&read("DISAGREEMENTS.md"));
    let unlisted: Vec<_> = different.difference(&listed).collect();
    let gone: Vec<_> = listed.difference(&different).collect();
    println!(
        "{num_pairs} pairs, {num_known} with a verdict, {} differences",
        different.len()
    );
    assert!(num_pairs >= 5_900);
    assert!(unlisted.is_empty(), "not in DISAGREEMENTS.md: {unlisted:?}");
    assert!(gone.is_empty(), "no longer a difference: {gone:?}");
}
