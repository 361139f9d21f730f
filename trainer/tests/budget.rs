//! `memory.budget`: the same step in less memory, and a refusal that says what is needed.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn trainer(out: &Path, extra: &[String]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trainer"));
    command
        .args(["--quiet", "--threads", "2", "--out"])
        .arg(out);
    let sets = [
        "run.steps=1",
        "selection.prompts_per_step=16",
        "rollout.max_slots=16",
        "rollout.prefill_tokens=64",
        "data.num_problems=200",
        "eval.at_start=false",
        "eval.at_end=false",
        "eval.every=none",
        "report.prompts=0",
    ];
    for set in sets
        .into_iter()
        .map(String::from)
        .chain(extra.iter().cloned())
    {
        command.args(["--set", &set]);
    }
    command.output().unwrap()
}

fn step(out: &Path, extra: &[String]) -> Value {
    let output = trainer(out, extra);
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words}");
    let text = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

/// A whole number of the resolved configuration.
fn key(out: &Path, name: &str) -> String {
    let text = std::fs::read_to_string(out.join("config.toml")).unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_once(" = ").unwrap().1.to_string()
}

#[test]
fn a_step_in_half_the_room_is_the_same_step() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, cut) = (folder.path().join("whole"), folder.path().join("cut"));
    let plain = step(&whole, &[]);
    let predicted = plain["predicted_peak_bytes"].as_u64().unwrap();
    let budget = predicted - (20 << 20);
    let fitted = step(&cut, &[format!("memory.budget=\"{budget}B\"")]);
    assert!(fitted["predicted_peak_bytes"].as_u64().unwrap() <= budget);
    let tokens = "max_tokens_per_microbatch";
    let [before, after] = [&whole, &cut].map(|out| key(out, tokens).parse::<u64>().unwrap());
    assert!(after < before, "micro-batches of {before} and {after}");
    let read = |out: &Path| std::fs::read(out.join("completions.jsonl")).unwrap();
    assert!(read(&whole) == read(&cut), "the completions differ");
    for name in ["grad_norm", "policy_loss", "entropy_mean"] {
        let [a, b] = [&plain, &fitted].map(|step| step[name].as_f64().unwrap());
        // Sums in another order, in f32.
        assert!(
            (a - b).abs() <= 1e-4 * a.abs() + 1e-6,
            "{name}: {a} and {b}"
        );
    }
}

#[test]
fn a_budget_that_is_too_small_says_what_is_needed() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let output = trainer(&out, &[String::from("memory.budget=\"70MiB\"")]);
    assert_eq!(output.status.code(), Some(2));
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(
        words.contains("memory.budget") && words.contains("needs"),
        "{words}"
    );
    assert!(!out.exists());
}
