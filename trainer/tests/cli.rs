//! The commands as a user types them: results, messages and exit codes of the real binary.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn trainer(args: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    trainer_in(folder.path(), args)
}

fn trainer_in(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trainer"))
        .args(args)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn lines(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", words(output));
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The command is refused with exit code 2 and every one of these words.
fn refused(args: &[&str], expected: &[&str]) {
    let output = trainer(args);
    let found = words(&output);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {found}");
    for word in expected {
        assert!(found.contains(word), "{args:?}: {word:?} is not in {found}");
    }
}

#[test]
fn unknown_keys_and_impossible_values_are_named() {
    refused(
        &["--set", "rollout.group_sise=4"],
        &["rollout.group_sise", "rollout.group_size"],
    );
    refused(
        &["--set", "rollout.temperature=-1"],
        &["rollout.temperature", "-1"],
    );
    refused(
        &["--set", "update.learning_rate=fast"],
        &["update.learning_rate", "fast"],
    );
    refused(&["--recipe", "no-such-recipe"], &["no-such-recipe", "tiny"]);
    refused(&["--backend", "abacus"], &["abacus", "cpu"]);
}

#[test]
fn one_rollout_with_a_group_deviation_is_refused() {
    refused(
        &["--set", "rollout.group_size=1"],
        &["group_size = 1", "group_std"],
    );
}

#[test]
fn a_missing_backend_says_how_to_get_it() {
    refused(&["--backend", "cuda"], &["cuda", "cpu", "--features cuda"]);
}

#[test]
fn bad_data_names_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.jsonl");
    let spec = path.to_str().unwrap();
    std::fs::write(&path, "").unwrap();
    refused(&["--data", spec], &["data.jsonl"]);
    let good = r##"{"question": "1+1?", "answer": "two\n#### 2"}"##;
    std::fs::write(&path, format!("{good}\n{{\"question\": \n")).unwrap();
    refused(&["--data", spec], &["data.jsonl:2"]);
    refused(&["--data", "nowhere.jsonl"], &["nowhere.jsonl"]);
}

#[test]
fn a_folder_without_tokenizer_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("config.json"),
        include_str!("../../fixtures/tiny/config.json"),
    )
    .unwrap();
    refused(
        &["--model", folder.path().to_str().unwrap()],
        &["tokenizer.json"],
    );
    refused(&["--model", "/no/such/model"], &["/no/such/model"]);
}

#[test]
fn prompts_that_do_not_fit_are_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("long.jsonl");
    let long = "1".repeat(400);
    std::fs::write(
        &data,
        format!("{{\"problem\": \"{long}\", \"answer\": \"1\"}}\n"),
    )
    .unwrap();
    let output = trainer_in(
        folder.path(),
        &[
            "--data",
            data.to_str().unwrap(),
            "--set",
            "data.held_out_size=0",
        ],
    );
    assert_eq!(output.status.code(), Some(2), "{}", words(&output));
    assert!(
        words(&output).contains("prompt.max_prompt_tokens"),
        "{}",
        words(&output)
    );
    assert!(!folder.path().join("runs").exists());
}

#[test]
fn a_dry_run_prints_the_resolved_configuration_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let output = trainer_in(folder.path(), &["--dry-run", "--set", "run.steps=7"]);
    assert!(output.status.success(), "{}", words(&output));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.contains("steps = 7") && text.contains("predicted peak"),
        "{text}"
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    // What it prints is a recipe.
    let recipe = folder.path().join("again.toml");
    std::fs::write(&recipe, &text).unwrap();
    let again = trainer(&["--dry-run", "--recipe", recipe.to_str().unwrap()]);
    assert_eq!(String::from_utf8_lossy(&again.stdout), text);
}

#[test]
fn grade_follows_its_interface() {
    let right = trainer(&["grade", "--gold", "1/2", "--answer", "\\boxed{0.5}"]);
    assert_eq!(right.status.code(), Some(0));
    let verdict: Value = serde_json::from_slice(&right.stdout).unwrap();
    assert_eq!(
        (&verdict["id"], &verdict["correct"]),
        (&Value::Null, &Value::Bool(true))
    );
    assert_eq!(
        trainer(&["grade", "--gold", "1/2", "--answer", "3"])
            .status
            .code(),
        Some(1)
    );
    assert_eq!(trainer(&["grade", "--gold", "1/2"]).status.code(), Some(2));
    let folder = tempfile::tempdir().unwrap();
    let cases = folder.path().join("cases.jsonl");
    std::fs::write(
        &cases,
        "{\"gold\":\"7\",\"answer\":\"#### 7\"}\n\n{\"gold\":\"7\"}\n",
    )
    .unwrap();
    let output = trainer(&["grade", "--input", cases.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(words(&output).contains("line 3"), "{}", words(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 1);
}

#[test]
fn generate_and_score_agree() {
    let folder = tempfile::tempdir().unwrap();
    let prompts = folder.path().join("prompts.jsonl");
    std::fs::write(
        &prompts,
        "{\"prompt\":\"123+456=\\n\"}\n{\"prompt\":\"999+1=\\n\"}\n",
    )
    .unwrap();
    let generate = |extra: &[&str]| {
        let mut args = vec!["generate", "--model", "embedded", "--input"];
        args.push(prompts.to_str().unwrap());
        args.extend(["--max-new-tokens", "40"]);
        args.extend(extra);
        lines(&trainer(&args))
    };
    let sampled = generate(&["--n", "3"]);
    assert_eq!(
        sampled,
        generate(&["--n", "3"]),
        "the same seed gives the same completions"
    );
    assert_ne!(sampled, generate(&["--n", "3", "--seed", "5"]));

    let mut file = std::fs::File::create(folder.path().join("cases.jsonl")).unwrap();
    let mut expected = Vec::new();
    for line in &sampled {
        for (completion, logprobs) in line["completions"]
            .as_array()
            .unwrap()
            .iter()
            .zip(line["logprobs"].as_array().unwrap())
        {
            let case = serde_json::json!({"prompt": line["prompt"], "completion": completion});
            writeln!(file, "{case}").unwrap();
            expected.push(logprobs.as_array().unwrap().clone());
        }
    }
    let cases = folder.path().join("cases.jsonl");
    let scored = lines(&trainer(&[
        "score",
        "--model",
        "embedded",
        "--input",
        cases.to_str().unwrap(),
    ]));
    assert_eq!(scored.len(), 6);
    for (scored, expected) in scored.iter().zip(expected) {
        // The decoded text has no stop token, so it may be one shorter.
        for (found, expected) in scored["logprobs"].as_array().unwrap().iter().zip(expected) {
            let gap = found.as_f64().unwrap() - expected.as_f64().unwrap();
            assert!(gap.abs() < 1e-4, "{gap}");
        }
    }
}

#[test]
fn eval_prints_one_object_with_its_interval() {
    let args = [
        "eval",
        "--json",
        "--problems",
        "20",
        "--samples",
        "2",
        "--temperature",
        "1",
    ];
    let found = lines(&trainer(&args));
    let accuracy = &found[0]["accuracy"];
    let [value, low, high] = ["value", "low", "high"].map(|key| accuracy[key].as_f64().unwrap());
    assert!(low <= value && value <= high && low < high);
    assert_eq!(found[0]["num_prompts"], 20);
}
