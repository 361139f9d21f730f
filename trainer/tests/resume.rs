//! A run that is killed and resumed is the run that was not: same metrics in every deterministic
//! field, same weights, byte for byte. On the CPU in f32.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sha2::{Digest, Sha256};

const STEPS: u64 = 6;

fn trainer(out: &Path, extra: &[&str]) -> Command {
    let mut command = loud_trainer(out, extra);
    command.arg("--quiet").stdout(Stdio::null());
    command
}

fn loud_trainer(out: &Path, extra: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trainer"));
    command.args(extra).args(["--threads", "2"]);
    for set in [
        "run.steps=6",
        "selection.prompts_per_step=4",
        "rollout.group_size=4",
        "eval.problems=10",
        "eval.every=2",
        "checkpoint.every=2",
        "update.minibatches=2",
        "update.schedule=linear",
        "data.num_problems=200",
        "log.completions_per_step=none",
        "report.prompts=5",
        "report.samples=2",
        "report.at_eval=true",
    ] {
        command.args(["--set", set]);
    }
    command
        .current_dir(out.parent().unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn complete(out: &Path, extra: &[&str]) -> String {
    let output = trainer(out, extra).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{words}");
    words
}

fn fresh(out: &Path) {
    complete(out, &["--out", out.to_str().unwrap()]);
}

/// The lines of a log without what depends on the machine.
fn deterministic(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let cut = |line: &str| line.split(",\"timing\":").next().unwrap().to_string();
    text.lines().map(cut).collect()
}

fn weights(out: &Path) -> Vec<u8> {
    let path = format!("checkpoints/step-{STEPS:06}/model/model.safetensors");
    std::fs::read(out.join(path)).unwrap()
}

fn assert_same_run(left: &Path, right: &Path) {
    for log in [
        "metrics.jsonl",
        "completions.jsonl",
        "eval.jsonl",
        "fresh.jsonl",
    ] {
        let (left, right) = (
            deterministic(&left.join(log)),
            deterministic(&right.join(log)),
        );
        assert_eq!(left.len(), right.len(), "{log}");
        for (left, right) in left.iter().zip(&right) {
            assert_eq!(left, right, "{log}");
        }
    }
    assert_eq!(weights(left), weights(right));
}

/// Kills the process (SIGKILL) as soon as `metrics.jsonl` has this many lines.
fn kill_at(out: &Path, mut child: Child, num_lines: usize) {
    loop {
        if num_lines_of(&out.join("metrics.jsonl")) >= num_lines {
            child.kill().unwrap();
            child.wait().unwrap();
            return;
        }
        assert!(
            child.try_wait().unwrap().is_none(),
            "the run ended before it was killed"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let straight = folder.path().join("straight");
    fresh(&straight);
    (folder, straight)
}

#[test]
fn a_killed_run_resumes_to_the_same_bytes() {
    let (folder, straight) = folder();
    let repeated = folder.path().join("repeated");
    fresh(&repeated);
    assert_same_run(&straight, &repeated);

    // Before the first checkpoint, between two, and right after one.
    for num_lines in [2, 4, 5] {
        let killed = folder.path().join(format!("killed-{num_lines}"));
        let child = trainer(&killed, &["--out", killed.to_str().unwrap()])
            .spawn()
            .unwrap();
        kill_at(&killed, child, num_lines);
        complete(&killed, &["--resume", killed.to_str().unwrap()]);
        assert_same_run(&straight, &killed);
    }
}

/// Sends SIGINT, as Ctrl-C does, as soon as `metrics.jsonl` has this many lines.
#[cfg(unix)]
fn interrupt_at(out: &Path, child: &Child, num_lines: usize) {
    while num_lines_of(&out.join("metrics.jsonl")) < num_lines {
        std::thread::sleep(Duration::from_millis(2));
    }
    let sent = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
}

fn num_lines_of(path: &Path) -> usize {
    std::fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

#[cfg(unix)]
#[test]
fn ctrl_c_finishes_the_step_saves_and_says_how_to_go_on() {
    let (folder, straight) = folder();
    let stopped = folder.path().join("stopped");
    let name = stopped.to_str().unwrap();
    let child = loud_trainer(&stopped, &["--out", name]).spawn().unwrap();
    // The line of step 0 and that of step 1, so the signal comes in step 2.
    interrupt_at(&stopped, &child, 2);
    let output = child.wait_with_output().unwrap();
    let words = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{words}");
    assert!(words.contains(&format!("--resume {name}")), "{words}");
    let num_lines = num_lines_of(&stopped.join("metrics.jsonl"));
    assert!(
        (3..=STEPS as usize).contains(&num_lines),
        "{num_lines} lines"
    );
    complete(&stopped, &["--resume", name]);
    assert_same_run(&straight, &stopped);
}

#[test]
fn numbers_that_stay_non_finite_stop_the_run_and_save_nothing_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("broken");
    // An entropy coefficient beyond f32 makes every loss infinite, and the weights stay as they are.
    let output = trainer(&out, &["--out", out.to_str().unwrap()])
        .args(["--set", "loss.entropy_coef=1e300"])
        .args(["--set", "update.max_consecutive_skips=2"])
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{words}");
    for word in ["not finite in 3 steps", "grad_norm", "update.learning_rate"] {
        assert!(words.contains(word), "{word:?} is not in {words}");
    }
    let metrics = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    let last = metrics.lines().last().unwrap();
    assert!(last.contains("\"step\":3"), "{last}");
    let saved = out.join("checkpoints/step-000003/model/model.safetensors");
    let (saved, embedded) = (std::fs::read(saved).unwrap(), embedded_weights());
    assert!(tensors(&saved).iter().all(|value| value.is_finite()));
    assert_eq!(tensors(&saved).len(), tensors(&embedded).len());
}

fn embedded_weights() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/tiny/model.safetensors");
    std::fs::read(path).unwrap()
}

/// Every number of a safetensors file in f32.
fn tensors(bytes: &[u8]) -> Vec<f32> {
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let numbers = bytes[8 + header..].chunks_exact(4);
    numbers
        .map(|four| f32::from_le_bytes(four.try_into().unwrap()))
        .collect()
}

#[test]
fn a_damaged_newest_checkpoint_is_passed_over_and_named() {
    let (_folder, straight) = folder();
    let reference = weights(&straight);
    let newest = straight.join("checkpoints/step-000006/model/model.safetensors");
    let mut bytes = reference.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&newest, bytes).unwrap();
    let words = complete(&straight, &["--resume", straight.to_str().unwrap()]);
    assert!(
        words.contains("step-000006") && words.contains("passed over"),
        "{words}"
    );
    assert_eq!(weights(&straight), reference);
}

/// Keys that came after the first runs.
const LATER_KEYS: [&str; 4] = [
    "backend.correct_sampler",
    "backend.precision",
    "rollout.sampling",
    "rollout.steps_per_read",
];

/// Makes of a run one of a version that did not know these keys.
fn forget(out: &Path, keys: &[&str]) {
    let path = out.join("config.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut config: toml::Table = text.parse().unwrap();
    for key in keys {
        let (section, key) = key.split_once('.').unwrap();
        let removed = config[section].as_table_mut().unwrap().remove(key);
        assert!(removed.is_some(), "{key} is not in {text}");
    }
    std::fs::write(&path, config.to_string()).unwrap();
    for checkpoint in std::fs::read_dir(out.join("checkpoints")).unwrap() {
        let folder = checkpoint.unwrap().path();
        let path = folder.join("manifest.json");
        let manifest = std::fs::read(&path).unwrap();
        let mut manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        let values = manifest["config"]["values"].as_object_mut().unwrap();
        for key in keys {
            assert!(values.remove(*key).is_some(), "{key} is not in {path:?}");
        }
        let manifest = serde_json::to_vec_pretty(&manifest).unwrap();
        let digest = Sha256::digest(&manifest);
        let sum: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        std::fs::write(&path, manifest).unwrap();
        let sum = format!("{sum}  manifest.json\n");
        std::fs::write(folder.join("manifest.sha256"), sum).unwrap();
    }
}

#[test]
fn a_run_of_an_earlier_version_resumes_to_the_same_bytes() {
    let (folder, straight) = folder();
    let earlier = folder.path().join("earlier");
    let name = earlier.to_str().unwrap();
    complete(&earlier, &["--out", name]);
    std::fs::remove_dir_all(earlier.join("checkpoints/step-000006")).unwrap();
    forget(&earlier, &LATER_KEYS);
    let words = complete(&earlier, &["--resume", name]);
    let settings = "backend.precision=\"f32\", rollout.sampling=\"host\", rollout.steps_per_read=1";
    assert!(words.contains("of an earlier version"), "{words}");
    assert!(words.contains(settings), "{words}");
    assert!(!words.contains("no whole checkpoint"), "{words}");
    assert_same_run(&straight, &earlier);
    // From here on it has every key.
    let words = complete(&earlier, &["--resume", name]);
    assert!(!words.contains("of an earlier version"), "{words}");
}

#[test]
fn another_configuration_is_refused_by_key() {
    let (_folder, straight) = folder();
    let output = trainer(&straight, &["--resume", straight.to_str().unwrap()])
        .args(["--set", "rollout.group_size=2"])
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(words.contains("rollout.group_size"), "{words}");
}

/// Sizes that a device chose, here given by hand, are those of the run, whatever the next device is.
#[test]
fn a_resumed_run_keeps_sizes_that_its_recipe_leaves_to_the_device() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let place = out.to_str().unwrap();
    let tokens = "update.max_tokens_per_microbatch";
    complete(&out, &["--out", place, "--set", &format!("{tokens}=700")]);
    let recipe = ["--resume", place, "--recipe", "tiny"];
    complete(&out, &recipe);
    complete(
        &out,
        &[&recipe[..], &["--set", &format!("{tokens}=auto")]].concat(),
    );
    let text = std::fs::read_to_string(out.join("config.toml")).unwrap();
    assert!(text.contains("max_tokens_per_microbatch = 700"), "{text}");
    assert!(text.contains("kv_budget_bytes = 1073741824"), "{text}");
    let other = ["--resume", place, "--set", &format!("{tokens}=800")];
    let refused = trainer(&out, &other).output().unwrap();
    let words = String::from_utf8_lossy(&refused.stderr);
    assert!(words.contains("was 700, is 800"), "{words}");
}
