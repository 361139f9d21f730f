//! The commands as a user types them: results, messages and exit codes of the real binary.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod binary;

use std::io::Write;
use std::process::Output;

use serde_json::Value;

use binary::{trainer_in, words};

fn trainer(args: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    trainer_in(folder.path(), args)
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
    refused(
        &["--data", spec],
        &["error: failed to load the data: ", "data.jsonl:2"],
    );
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
    refused(
        &["--model", "/no/such/model"],
        &["error: failed to open model `/no/such/model`: "],
    );
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
    // What is automatic has become a number.
    assert!(
        text.contains("max_tokens_per_microbatch = 8192")
            && !text.contains("kv_budget_bytes = \"auto"),
        "{text}"
    );
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

/// Two small steps of a recipe; the lines of its `metrics.jsonl`.
fn two_steps(command: &[&str], sets: &[&str]) -> (tempfile::TempDir, Vec<Value>) {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let mut args = command.to_vec();
    args.extend(["--quiet", "--steps", "2", "--out", out.to_str().unwrap()]);
    let small = [
        "data.num_problems=100",
        "eval.problems=10",
        "eval.at_start=false",
    ];
    for set in small.iter().chain(sets) {
        args.extend(["--set", set]);
    }
    let output = trainer(&args);
    assert!(output.status.success(), "{}", words(&output));
    let metrics = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    let metrics = metrics.lines();
    let metrics = metrics.map(|line| serde_json::from_str(line).unwrap());
    (folder, metrics.collect())
}

#[test]
fn the_kl_recipes_steer_their_coefficients_and_stay_finite() {
    let small = [
        "selection.prompts_per_step=4",
        "rollout.group_size=4",
        "rollout.max_slots=16",
    ];
    let (_folder, steps) = two_steps(&["--recipe", "tiny-kl"], &small);
    let number = |step: usize, key: &str| steps[step][key].as_f64().unwrap();
    // In step 1 the policy still is the reference; by step 2 it has moved.
    assert!(number(0, "kl_policy_ref").abs() < 1e-6);
    assert!(number(1, "kl_policy_ref") > 1e-6);
    // Below its target of 0.01 nats: the controller lowers the weight.
    assert!(number(1, "kl_coef") < number(0, "kl_coef"));

    let (_folder, steps) = two_steps(&["--recipe", "tiny-reinforce"], &small);
    let drift = steps[1]["kl_policy_ref_k3"].as_f64().unwrap();
    assert!(drift > 0.0 && drift.is_finite());
}

#[test]
fn sft_learns_worked_solutions_from_fresh_weights() {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/tiny");
    let command = ["sft", "--recipe", "tiny-sft", "--model", model];
    let sets = ["sft.batch_size=8", "sft.warmup_steps=0"];
    let (folder, steps) = two_steps(&command, &sets);
    let loss = |step: usize| steps[step]["loss"].as_f64().unwrap();
    // Fresh weights know nothing: ln 99 nats per character.
    assert!((loss(0) - 99_f64.ln()).abs() < 0.3, "{}", loss(0));
    assert!(loss(1) < loss(0) - 0.1);
    let saved = folder.path().join("run/checkpoints/step-000002/model");
    let saved = saved.to_str().unwrap();
    let found = lines(&trainer(&[
        "eval",
        "--model",
        saved,
        "--json",
        "--problems",
        "4",
    ]));
    assert_eq!(found[0]["num_prompts"], 4);
}

#[test]
fn doctor_says_what_the_binary_can_do() {
    let report = trainer(&["doctor"]);
    assert!(report.status.success(), "{}", words(&report));
    let text = String::from_utf8_lossy(&report.stdout).into_owned();
    assert!(text.contains("cpu"), "{text}");
    let recipes = trainer(&["doctor", "--recipes"]);
    let text = String::from_utf8_lossy(&recipes.stdout).into_owned();
    for name in ["tiny", "tiny-kl", "smollm2-add1", "gsm8k"] {
        assert!(text.contains(name), "{name} is not in {text}");
    }
    let metrics = trainer(&["doctor", "--metrics"]);
    let text = String::from_utf8_lossy(&metrics.stdout).into_owned();
    for key in ["reward_mean", "kl_policy_ref_k3", "sampler_gap_max"] {
        assert!(text.contains(key), "{key} is not in {text}");
    }
}

#[test]
fn a_bench_times_every_stage_beside_its_floor() {
    let small = [
        "bench",
        "--shape",
        "tiny",
        "--completions",
        "4,8",
        "--group",
        "4",
    ];
    let tokens = [
        "--prompt-tokens",
        "6",
        "--new-tokens",
        "5",
        "--update-completions",
        "8",
    ];
    let args = [&small[..], &tokens, &["--json", "--threads", "1"]].concat();
    let found = lines(&trainer(&args));
    let stages: Vec<&str> = found[1..]
        .iter()
        .map(|it| it["stage"].as_str().unwrap())
        .collect();
    let rollouts = ["prefill", "decode", "prefill", "decode"];
    assert_eq!(stages, [&rollouts[..], &["update", "optimizer"]].concat());
    assert_eq!(found[0]["precision"], "f32");
    assert!(found[0]["peaks"]["bytes_per_sec"].as_f64().unwrap() > 1e8);
    assert_eq!(found[4]["num_units"], 8 * 4);
    assert_eq!(found[5]["num_units"], 8 * 5);
    for row in &found[1..] {
        let share = row["roofline_share"].as_f64().unwrap();
        assert!(share > 0.0 && share < 2.0, "{row}");
    }
    let output = trainer(&[
        "bench",
        "--shape",
        "tiny",
        "--stages",
        "update,optimizer",
        "--no-peaks",
    ]);
    let table = String::from_utf8_lossy(&output.stdout);
    for word in ["0.8 M weights", "update, 2 x 8", "optimizer", "  -"] {
        assert!(table.contains(word), "{word}: {table}");
    }
    assert!(!table.contains("decode,"), "{table}");
    refused(
        &["bench", "--shape", "huge"],
        &["huge", "smollm2-135m", "--model"],
    );
    refused(
        &["bench", "--completions", "12"],
        &["12", "groups of 8", "--group"],
    );
    // A load that is not run need not fit.
    let only = [
        "bench",
        "--shape",
        "tiny",
        "--stages",
        "rollout",
        "--no-peaks",
    ];
    let output = trainer(&[&only[..], &["--group", "32"]].concat());
    assert!(output.status.success(), "{}", words(&output));
    refused(&["bench", "--set", "rollout.top_q=1"], &["rollout.top_q"]);
}
