//! Prompt selection through the program: a run that is stopped and resumed selects what the run in
//! one piece does, and what cannot be selected is refused in words.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod binary;

use std::path::Path;
use std::process::Output;

use serde_json::Value;

use binary::{trainer_in, words};

/// A small run of an arm; sums of three digits, of which the tiny model gets some right.
fn train(dir: &Path, method: &str, args: &[&str], sets: &[&str]) -> Output {
    let method = format!("selection.method={method}");
    let mut all = vec!["train", "--quiet", "--threads", "1"];
    all.extend(args);
    for set in [
        method.as_str(),
        "selection.prompts_per_step=3",
        "selection.rounds.top_up_min=2",
        "selection.rounds.raw_batch=2",
        "selection.rounds.candidate_target=3",
        "selection.audit.every=3",
        "selection.audit.groups=2",
        "selection.audit.utility_every=4",
        "rollout.group_size=8",
        "rollout.num_workers=1",
        "rollout.max_new_tokens=48",
        "data.num_problems=40",
        "eval.problems=10",
        "eval.every=5",
        "eval.at_start=false",
        "update.learning_rate=1e-5",
        "update.schedule=constant",
        "update.warmup_steps=0",
        // Small enough that ten fresh steps of AdamW leave enough sums right.
        "update.learning_rate=1e-5",
    ]
    .iter()
    .chain(sets)
    {
        all.extend(["--set", set]);
    }
    trainer_in(dir, &all)
}

fn complete(output: Output) {
    assert!(output.status.success(), "{}", words(&output));
}

/// The lines of a log without what depends on the machine.
fn deterministic(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let cut = |line: &str| line.split(",\"timing\":").next().unwrap().to_string();
    text.lines().map(cut).collect()
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|it| serde_json::from_str(it).unwrap())
        .collect()
}

#[test]
fn five_steps_and_five_more_are_ten() {
    for method in ["hive", "greso_code", "mopps", "dynamic_sampling"] {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        let (straight, halves) = (dir.join("straight"), dir.join("halves"));
        let out = |path: &Path| path.to_str().unwrap().to_string();
        complete(train(
            dir,
            method,
            &["--steps", "10", "--out", &out(&straight)],
            &[],
        ));
        complete(train(
            dir,
            method,
            &["--steps", "5", "--out", &out(&halves)],
            &[],
        ));
        complete(train(
            dir,
            method,
            &["--steps", "10", "--resume", &out(&halves)],
            &[],
        ));
        for log in [
            "selection.jsonl",
            "groups.jsonl",
            "metrics.jsonl",
            "completions.jsonl",
        ] {
            let (left, right) = (straight.join(log), halves.join(log));
            assert_eq!(
                deterministic(&left),
                deterministic(&right),
                "{method} {log}"
            );
        }
        let state =
            |run: &Path| std::fs::read(run.join("checkpoints/step-000010/selection.json")).unwrap();
        assert_eq!(state(&straight), state(&halves), "{method}");
        let found = lines(&straight.join("selection.jsonl"));
        assert_eq!(found.len(), 10, "{method}");
        let most_rounds = found
            .iter()
            .map(|it| it["counts"]["num_rounds"].as_u64().unwrap());
        assert!(most_rounds.max().unwrap() > 1, "{method}: no top-up");
        assert!(
            found[9]["epoch"].as_u64().unwrap() >= 1,
            "{method}: no epoch was crossed"
        );
        let digest = |line: &Value| line["state_digest"].as_str().unwrap().to_string();
        assert_ne!(digest(&found[0]), digest(&found[1]), "{method}");
    }
}

#[test]
fn a_gated_run_leaves_its_diagnostics() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let out = run.to_str().unwrap();
    complete(train(
        folder.path(),
        "hive",
        &["--steps", "8", "--out", out],
        &[],
    ));
    let found = lines(&run.join("selection.jsonl"));
    let total = |key: &str| -> u64 {
        found
            .iter()
            .map(|line| line["counts"][key].as_u64().unwrap())
            .sum()
    };
    assert_eq!(total("num_scored_prompts"), total("num_stage1_kept"));
    // Nothing that was scored and kept is run again.
    assert!(
        found
            .iter()
            .all(|line| line["counts"]["kv_reuse_frac"] == 1.0)
    );
    assert_eq!(total("prefill_tokens"), total("scored_tokens"));
    assert_eq!(total("num_groups_trained"), 8 * 3);
    assert_eq!(
        found[7]["totals"]["num_completions"],
        total("num_completions")
    );
    assert!(found[2]["audit"]["audit_num_groups"].as_u64().unwrap() > 0);
    assert!(found[7]["edge_window"]["num_audited"].as_u64().unwrap() > 0);
    let groups = lines(&run.join("groups.jsonl"));
    let audited = groups.iter().filter(|it| it["source"] == "audit");
    assert!(audited.clone().count() > 0);
    assert!(audited.clone().all(|it| it["is_trained"] == false));
    assert!(
        groups
            .iter()
            .all(|it| it["prompt_entropy"].as_f64().unwrap() > 0.0)
    );
    let measured = groups.iter().filter(|it| !it["utility"].is_null());
    let steps: std::collections::BTreeSet<u64> =
        measured.map(|it| it["step"].as_u64().unwrap()).collect();
    assert_eq!(steps.into_iter().collect::<Vec<_>>(), [1, 4, 8]);
    let map: Value =
        serde_json::from_slice(&std::fs::read(run.join("edge_map.json")).unwrap()).unwrap();
    assert_eq!(map["phases"].as_array().unwrap().len(), 3);
    assert!(
        std::fs::read_to_string(run.join("edge_map.svg"))
            .unwrap()
            .starts_with("<svg")
    );
}

/// Exit code and words of a run that is refused or fails.
fn refused(dir: &Path, method: &str, sets: &[&str]) -> (i32, String) {
    let output = train(dir, method, &["--steps", "2", "--out", "out"], sets);
    let words = words(&output);
    (output.status.code().unwrap(), words)
}

#[test]
fn what_cannot_be_selected_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let band = "selection.method.preset={kind=\"v2-deployed\", off=0.6, keep=0.5}";
    let cases: [(&str, &[&str], &str); 5] = [
        (
            "hive",
            &["selection.prompts_per_step=41"],
            "the 40 training prompts",
        ),
        ("hive", &[band], "off + keep at most 1"),
        (
            "hive",
            &["rollout.group_size=1", "advantage.scale.kind=none"],
            "at least 2 unless",
        ),
        (
            "greso",
            &["selection.method.stage1.lambda=-0.1"],
            "from 0 to 1",
        ),
        ("greso_code", &["rollout.group_size=10"], "at most 9"),
    ];
    for (method, sets, expected) in cases {
        let (code, words) = refused(dir, method, sets);
        assert_eq!(code, 2, "{sets:?}: {words}");
        assert!(words.contains(expected), "{sets:?}: {words}");
        assert!(!dir.join("out").exists(), "{sets:?}");
    }
}

#[test]
fn a_step_that_stays_short_saves_its_state_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let sets = [
        "data.train=task:multiplication?digits=4",
        "selection.rounds.max_rounds=2",
    ];
    let (code, words) = refused(folder.path(), "hive", &sets);
    assert_eq!(code, 1, "{words}");
    for word in [
        "3 mixed groups for step 1",
        "0 in 2 rounds",
        "1.000 all wrong",
        "p_hard 0.50",
    ] {
        assert!(words.contains(word), "{words}");
    }
    let saved = folder
        .path()
        .join("out/checkpoints/step-000000/selection.json");
    assert!(saved.is_file());
}

#[test]
fn a_state_of_other_data_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let write = |first: u32| {
        let problem = |n: u32| {
            let (a, b) = (101 + n, 203 + n % 90);
            format!("{{\"problem\":\"{a}+{b}=\",\"answer\":\"{}\"}}\n", a + b)
        };
        let text: String = (first..first + 60).map(problem).collect();
        std::fs::write(dir.join("problems.jsonl"), text).unwrap();
    };
    let sets = [
        "data.train=problems.jsonl",
        "selection.rounds.max_rounds=20",
    ];
    write(0);
    complete(train(dir, "hive", &["--steps", "1", "--out", "out"], &sets));
    write(1);
    let output = train(dir, "hive", &["--steps", "2", "--resume", "out"], &sets);
    let words = words(&output);
    assert_eq!(output.status.code(), Some(2), "{words}");
    assert!(words.contains("belongs to another data set"), "{words}");
}

#[test]
fn a_comparison_is_resumable_and_lists_what_failed() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let compare = |arms: &str, extra: &[&str]| {
        let mut args = vec![
            "compare", "--recipe", "tiny", "--out", "out", "--arms", arms,
        ];
        args.extend(["--seeds", "2", "--jobs", "2", "--threads", "1"]);
        for set in [
            "run.steps=2",
            "selection.prompts_per_step=3",
            "rollout.group_size=4",
            "rollout.num_workers=1",
            "rollout.max_new_tokens=40",
            "data.num_problems=40",
            "data.held_out_size=20",
            "eval.problems=20",
            "eval.every=1",
        ] {
            args.extend(["--set", set]);
        }
        args.extend(extra);
        let output = trainer_in(dir, &args);
        let words = words(&output);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code().unwrap(), text, words)
    };
    let (code, text, words) = compare("dynamic_sampling,hive", &[]);
    assert_eq!(code, 0, "{words}");
    assert_eq!(words.matches("complete").count(), 4, "{words}");
    assert!(text.contains("Exploratory") && text.contains("## Against dynamic_sampling"));
    assert!(
        text.contains("| hive | 17 |") && text.contains("| hive | 18 |"),
        "{text}"
    );
    let page = std::fs::read_to_string(dir.join("out/report.html")).unwrap();
    assert_eq!(page.matches("<svg").count(), 3);
    let metrics = dir.join("out/runs/hive/seed-17/metrics.jsonl");
    let before = std::fs::metadata(&metrics).unwrap().modified().unwrap();
    // Nothing is run twice, and an arm can be added.
    let (code, text, words) = compare("dynamic_sampling,hive,uniform", &[]);
    assert_eq!(code, 0, "{words}");
    assert!(text.contains("| uniform | 18 |"), "{text}");
    let after = std::fs::metadata(&metrics).unwrap().modified().unwrap();
    assert_eq!(before, after);
    // Another configuration in the same place is refused.
    let (code, _, words) = compare("hive", &["--set", "update.learning_rate=1e-3"]);
    assert_eq!(code, 2, "{words}");
    assert!(words.contains("update.learning_rate"), "{words}");
    // A run that fails is listed, and the others count.
    let short = ["--set", "selection.rounds.max_rounds=1", "--out"];
    let other = ["other", "--set", "selection.prompts_per_step=12"];
    let mut args = vec![
        "compare",
        "--recipe",
        "tiny",
        "--arms",
        "uniform,dynamic_sampling",
    ];
    args.extend(["--seeds", "1", "--threads", "1"]);
    for set in [
        "run.steps=1",
        "data.num_problems=40",
        "data.held_out_size=10",
        "rollout.group_size=2",
        "rollout.max_new_tokens=40",
        "selection.rounds.candidate_target=12",
        "selection.rounds.top_up_min=1",
    ] {
        args.extend(["--set", set]);
    }
    args.extend(short);
    args.extend(other);
    let output = trainer_in(dir, &args);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", binary::words(&output));
    assert!(text.contains("## Runs that are missing"), "{text}");
    assert!(
        text.contains("failed: error: failed to find 12 mixed groups"),
        "{text}"
    );
}
