//! `trainer report`, `bounds`, `plan` and `certify`: the real binary.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod binary;

use std::path::Path;
use std::process::Output;

use rlvr_bounds::hoeffding_direct;
use serde_json::{Value, json};

use binary::{trainer_in, words};

fn trainer(args: &[&str]) -> Output {
    trainer_in(Path::new("."), args)
}

#[test]
fn bounds_reads_statistics_and_names_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("stats.json");
    let path = file.to_str().unwrap();
    let held_out: Vec<[u8; 2]> = (0..60).map(|i| [i % 2, u8::from(i % 3 == 0)]).collect();
    std::fs::write(
        &file,
        json!({"held_out": {"rewards": held_out}}).to_string(),
    )
    .unwrap();
    let output = trainer(&["bounds", "--input", path]);
    assert!(output.status.success(), "{}", words(&output));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let s2 = &found["rows"].as_array().unwrap()[1];
    assert_eq!(
        (&s2["id"], &s2["is_certified"]),
        (&json!("S2"), &json!(true))
    );
    let expected = hoeffding_direct(60, 0.05, 1.0).unwrap();
    assert!((s2["predicted"].as_f64().unwrap() - expected).abs() < 1e-12);
    let output = trainer(&["bounds", "--input", path, "--table"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("Hoeffding, direct"));
    for (text, expected) in [
        (
            r#"{"delta": 1, "held_out": {"rewards": [1, 0]}}"#,
            "delta = 1",
        ),
        (
            r#"{"held_out": {"rewards": [1, NaN]}}"#,
            "held_out.rewards[1][0]: it is NaN",
        ),
        (
            r#"{"held_out": {"rewards": [[1, 0]]}}"#,
            "1 prompts; an interval needs at least 2",
        ),
        ("{", "stats.json"),
    ] {
        std::fs::write(&file, text).unwrap();
        let output = trainer(&["bounds", "--input", path]);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(
            words(&output).contains(expected),
            "{text}: {}",
            words(&output)
        );
    }
    assert_eq!(
        trainer(&["bounds", "--input", "/no/such"]).status.code(),
        Some(2)
    );
}

#[test]
fn bounds_reads_the_validation_of_verl_and_makes_a_chosen_policy_pay() {
    let folder = tempfile::tempdir().unwrap();
    let line =
        |prompt: usize| json!({"input": prompt.to_string(), "output": "", "score": prompt % 2});
    let lines: Vec<String> = (0..300).map(|prompt| line(prompt).to_string()).collect();
    std::fs::write(folder.path().join("7.jsonl"), lines.join("\n")).unwrap();
    let dir = folder.path().to_str().unwrap();
    let rows = |more: &[&str]| {
        let output = trainer(&[&["bounds", "--from-verl", dir], more].concat());
        assert!(output.status.success(), "{}", words(&output));
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        found["rows"].as_array().unwrap().clone()
    };
    let width = |rows: &[Value], id: &str| {
        let row = rows.iter().find(|row| row["id"] == id);
        row.and_then(|row| row["predicted"].as_f64())
    };
    let (fixed, chosen) = (rows(&[]), rows(&["--candidates", "64"]));
    let expected = hoeffding_direct(300, 0.05, 1.0).unwrap();
    assert!((width(&fixed, "S2").unwrap() - expected).abs() < 1e-12);
    assert_eq!(width(&chosen, "S2"), None);
    // ln 64 more in the logarithm.
    let expected = ((64_f64.ln() + 40_f64.ln()) / 600.0).sqrt();
    assert!((width(&chosen, "P3a").unwrap() - expected).abs() < 1e-12);
    let both = trainer(&["bounds", "--from-verl", dir, "--input", "stats.json"]);
    assert_eq!(both.status.code(), Some(2));
}

#[test]
fn plan_prints_the_best_choice_or_what_is_missing() {
    let known = ["--variance-prompts", "0.1", "--variance-rollouts", "0.15"];
    let mut args = vec![
        "plan",
        "--budget-secs",
        "11000",
        "--prefill",
        "8",
        "--decode",
        "1",
    ];
    args.extend(known);
    args.push("--json");
    let output = trainer(&args);
    assert!(output.status.success(), "{}", words(&output));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&found["best"]["k"], &found["best"]["n"]),
        (&json!(3), &json!(1000))
    );
    let mut args = vec!["plan", "--budget-completions", "500"];
    args.extend(known);
    let text = String::from_utf8_lossy(&trainer(&args).stdout).into_owned();
    assert!(text.contains("n = 500 prompts, K = 1"), "{text}");
    for (args, expected) in [
        (vec!["plan", "--budget-secs", "10"], "--variance-prompts"),
        (vec!["plan"], "--budget-secs"),
        (
            vec!["plan", "--budget-secs", "1", "--run", "/no/such"],
            "/no/such",
        ),
    ] {
        let output = trainer(&args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(
            words(&output).contains(expected),
            "{args:?}: {}",
            words(&output)
        );
    }
}

#[test]
fn the_rule_for_the_clip_moves_tau_and_needs_its_inputs() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let auto = [
        "control.kl_clip=auto",
        "loss.kl.coef=0.05",
        "loss.kl.clip.tau=9.5",
        "loss.kl.clip.level=sequence",
        "report.prompts=40",
        "report.at_eval=true",
        "update.learning_rate=1e-4",
        "update.warmup_steps=0",
        "selection.prompts_per_step=16",
        "data.held_out_size=50",
    ];
    let output = short_run(&out, &auto);
    assert!(output.status.success(), "{}", words(&output));
    let metrics = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    let last: Value = serde_json::from_str(metrics.lines().last().unwrap()).unwrap();
    let tau = last["kl_clip_tau"].as_f64().unwrap();
    assert!(tau > 0.0 && tau != 9.5, "{tau}");
    assert!(last["fresh_kl_clip_frac"].as_f64().unwrap() > 0.0);
    assert!(last["fresh_kl_clip_bias_low"].as_f64() < last["fresh_kl_clip_bias_high"].as_f64());
    let state = std::fs::read_to_string(out.join("checkpoints/step-000002/state.json")).unwrap();
    let state: Value = serde_json::from_str(&state).unwrap();
    assert_eq!(state["controllers"]["kl_clip_tau"].as_f64(), Some(tau));
    let report: Value =
        serde_json::from_str(&std::fs::read_to_string(out.join("report.json")).unwrap()).unwrap();
    let clip = report["rows"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["id"] == "C1")
        .unwrap();
    assert_eq!(clip["inputs"]["tau"].as_f64(), Some(tau));

    for (set, expected) in [
        ("loss.kl.clip.level=token", "level = \"sequence\""),
        ("report.at_eval=false", "report.at_eval = true"),
        ("report.reference=false", "report.reference = true"),
        ("report.prompts=1", "report.prompts"),
    ] {
        let mut sets = auto.to_vec();
        sets.push(set);
        let output = short_run(&folder.path().join("refused"), &sets);
        assert_eq!(output.status.code(), Some(2), "{set}");
        assert!(
            words(&output).contains(expected),
            "{set}: {}",
            words(&output)
        );
    }
}

fn short_run(out: &Path, sets: &[&str]) -> Output {
    let mut args = vec!["--out", out.to_str().unwrap(), "--threads", "2"];
    let common = [
        "run.steps=2",
        "selection.prompts_per_step=4",
        "rollout.group_size=4",
        "eval.problems=10",
        "eval.every=1",
        "data.num_problems=200",
        "log.completions_per_step=none",
    ];
    for set in common.iter().chain(sets) {
        args.extend(["--set", set]);
    }
    trainer(&args)
}

#[test]
fn a_run_ends_with_its_report() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let sets = [
        "report.prompts=6",
        "report.samples=3",
        "report.at_eval=true",
    ];
    let output = short_run(&out, &sets);
    assert!(output.status.success(), "{}", words(&output));
    let fresh = std::fs::read_to_string(out.join("fresh.jsonl")).unwrap();
    let lines: Vec<Value> = fresh
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    // Six held-out prompts an evaluation; the four trained on after step 1, six of the eight after
    // step 2.
    assert_eq!(lines.len(), 6 + (6 + 4) + (6 + 6));
    let completions = std::fs::read_to_string(out.join("completions.jsonl")).unwrap();
    for line in &lines {
        let numbers = |key: &str| -> Vec<f64> {
            let values = line[key].as_array().unwrap().iter();
            values.map(|value| value.as_f64().unwrap()).collect()
        };
        let (policy, sampler) = (numbers("policy_logprobs"), numbers("sampler_logprobs"));
        assert_eq!(policy.len(), 3);
        for (policy, sampler) in policy.iter().zip(&sampler) {
            assert!((policy - sampler).abs() < 1e-3, "{policy} {sampler}");
        }
        assert_eq!(numbers("ref_logprobs").len(), 3);
        let is_trained = completions.contains(&format!("\"prompt_id\":{},", line["prompt_id"]));
        assert_eq!(is_trained, line["set"] == "train");
    }
    let html = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert!(html.contains("<svg") && html.contains("step 2: sampling"));
    let run = out.to_str().unwrap();
    let output = trainer(&[
        "report",
        "--run",
        run,
        "--json",
        "--nats",
        "9",
        "--candidates",
        "3",
    ]);
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&found["step"], &found["held_out"]["n"]),
        (&json!(2), &json!(6))
    );
    assert_eq!(
        found["history"].as_array().unwrap().len(),
        3,
        "steps 0, 1 and 2"
    );
    predictions_are_logged(&out, &found);
    let output = trainer(&["plan", "--run", run, "--budget-tokens", "100000"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.contains("<- best") && text.contains("tokens"),
        "{text}{}",
        words(&output)
    );
}

/// The line of an evaluation has the numbers that the picture shows at its step.
fn predictions_are_logged(run: &Path, report: &Value) {
    let metrics = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    for (line, point) in metrics.lines().zip(report["history"].as_array().unwrap()) {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["step"], point["step"]);
        assert!(line["predicted_sampling"].as_f64().unwrap() > 0.0);
        for (logged, shown) in [
            ("predicted_sampling", &point["sampling"]),
            ("predicted_reward_shift", &point["reward_shift"]),
            ("predicted_clip", &point["clip"]),
            ("measured_error", &point["error"]["value"]),
            ("measured_error_low", &point["error"]["low"]),
            ("measured_error_high", &point["error"]["high"]),
        ] {
            assert_eq!(&line[logged], shown, "{logged}");
        }
    }
}

#[test]
fn the_memory_estimate_counts_the_model_of_the_start() {
    let estimate = |part: &str, sets: &[&str]| {
        let mut args = vec!["--dry-run"];
        args.extend(sets.iter().flat_map(|set| ["--set", set]));
        let output = trainer(&args);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = text
            .lines()
            .find(|it| it.starts_with(&format!("# {part} ")));
        let line = line.unwrap_or_else(|| panic!("{text}{}", words(&output)));
        let words: Vec<&str> = line.split_whitespace().collect();
        words[words.len() - 2].parse::<u64>().unwrap()
    };
    let start = "model of the start (KL, reward)";
    assert_eq!(estimate(start, &[]), 0);
    // 0.9 M weights of four bytes, up to the rounding of a sum; the report holds them while it
    // rolls out, a KL term throughout.
    let report = estimate("rollouts", &[]) - estimate("rollouts", &["report.reference=false"]);
    assert!((3..=4).contains(&report), "{report} MiB");
    let with_kl = ["loss.kl={coef=0.1,estimator=\"k3\"}"];
    assert_eq!(estimate(start, &with_kl), 4);
    let without = estimate("rollouts", &["report.reference=false"]);
    assert_eq!(estimate("rollouts", &with_kl), without);
}

#[test]
fn a_run_without_fresh_rollouts_reports_on_its_evaluation() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let sets = [
        "report.prompts=0",
        "report.samples=1",
        "report.reference=false",
        "report.delta=0.1",
    ];
    let output = short_run(&out, &sets);
    assert!(output.status.success(), "{}", words(&output));
    assert_eq!(
        std::fs::read_to_string(out.join("fresh.jsonl")).unwrap(),
        ""
    );
    let output = trainer(&["report", "--run", out.to_str().unwrap()]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("there are no fresh rollouts"), "{text}");
    assert!(text.contains("10 x 1") && text.contains("0.1"), "{text}");
    // Its evaluations are logged as the picture shows them; greedy ones have no measured error.
    let report = std::fs::read_to_string(out.join("report.json")).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    let metrics = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    let points = report["history"].as_array().unwrap();
    assert_eq!(points.len(), 3);
    for (line, point) in metrics.lines().zip(points) {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["step"], point["step"]);
        assert_eq!(line["predicted_sampling"], point["sampling"]);
        assert!(line["measured_error"].is_null() && point["error"].is_null());
    }
}

#[test]
fn a_few_bits_are_certified_on_their_own_training_prompts() {
    let args = [
        "certify",
        "--prompts",
        "60",
        "--bits",
        "2",
        "--threads",
        "2",
        "--json",
        "--set",
        "data.held_out_size=100",
        "--set",
        "data.num_problems=1000",
    ];
    let output = trainer(&args);
    assert!(output.status.success(), "{}", words(&output));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let number = |key: &str| found[key].as_f64().unwrap();
    assert_eq!(number("num_bits"), 18.0);
    assert!(number("train_reward_after") >= number("train_reward_before"));
    let train = found["train"]["reward"]["value"].as_f64().unwrap();
    assert_eq!(
        train,
        number("train_reward_after"),
        "its rollouts are those of the search"
    );
    assert_eq!(
        (&found["train"]["n"], &found["held_out"]["n"]),
        (&json!(60), &json!(40))
    );
    let rows = found["rows"].as_array().unwrap();
    let p3a = rows.iter().find(|row| row["id"] == "P3a").unwrap();
    let nats = 18.0 * std::f64::consts::LN_2;
    let expected = ((nats + 40_f64.ln()) / 120.0).sqrt();
    assert!((p3a["predicted"].as_f64().unwrap() - expected).abs() < 1e-12);
    assert_eq!(p3a["is_certified"], true);
    let id = "P3a kl one-sided";
    let below = rows.iter().find(|row| row["id"] == id).unwrap();
    let floor = train - below["predicted"].as_f64().unwrap();
    assert!((number("certified_floor") - floor).abs() < 1e-12);
    assert!(floor < train && floor >= 0.0);
    let output = trainer(&[
        "certify",
        "--prompts",
        "600",
        "--set",
        "data.held_out_size=100",
    ]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        words(&output).contains("data.held_out_size"),
        "{}",
        words(&output)
    );
}
