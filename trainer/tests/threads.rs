//! The number of threads changes no number: metrics, completions and checkpoint of a short run are
//! the same bytes with 1, 2 and 4 threads. On the CPU in f32.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::path::Path;
use std::process::Command;

fn run(out: &Path, threads: &str) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trainer"));
    command
        .args(["--quiet", "--threads", threads, "--out"])
        .arg(out);
    for set in [
        "run.steps=3",
        "selection.prompts_per_step=6",
        "rollout.max_new_tokens=24",
        "update.learning_rate=1e-3",
        "update.max_tokens_per_microbatch=400",
        "data.num_problems=200",
        "eval.problems=16",
        "report.prompts=0",
    ] {
        command.args(["--set", set]);
    }
    let output = command.output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words}");
}

/// Metrics without times, completions, and every file of the checkpoint but the manifest, which
/// names the others.
fn results(out: &Path) -> Vec<(&'static str, Vec<u8>)> {
    let metrics = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    let cut = |line: &str| line.split(",\"timing\":").next().unwrap().to_string();
    let metrics: Vec<String> = metrics.lines().map(cut).collect();
    assert_eq!(metrics.len(), 4);
    let mut found = vec![("metrics.jsonl", metrics.join("\n").into_bytes())];
    for file in [
        "completions.jsonl",
        "checkpoints/step-000003/model/model.safetensors",
        "checkpoints/step-000003/state.json",
        "checkpoints/step-000003/selection.json",
    ] {
        found.push((file, std::fs::read(out.join(file)).unwrap()));
    }
    found
}

#[test]
fn one_two_and_four_threads_give_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let out = |threads: &str| folder.path().join(threads);
    for threads in ["1", "2", "4"] {
        run(&out(threads), threads);
    }
    for threads in ["2", "4"] {
        for (one, other) in results(&out("1")).into_iter().zip(results(&out(threads))) {
            assert!(one == other, "{} differs with {threads} threads", one.0);
        }
    }
}
