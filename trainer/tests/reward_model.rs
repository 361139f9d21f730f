//! The learned reward: its arithmetic against independent numbers, its file, and real runs on it.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod binary;

use std::path::Path;
use std::process::Output;

use burn::module::Module;
use burn::tensor::{Int, Tensor, TensorData};
use rlvr_fixtures::{reward_model_golden, tiny_model};
use serde_json::Value;
use trainer::batch::Row;
use trainer::policy::folder::ModelFolder;
use trainer::record::PromptId;
use trainer::reward_model::bradley_terry::{Pairs, fit, loss_and_gradient};
use trainer::reward_model::calibration::{Platt, calibration_error};
use trainer::reward_model::features::features;
use trainer::reward_model::file::{Description, RewardModelFile, keep_copy};
use trainer::reward_model::pair_slope;
use trainer::seed::{Stage, stream};
use trainer::state::load_decoder;

use binary::{trainer_in, words};

fn close(found: f64, expected: f64, tolerance: f64) {
    let gap = (found - expected).abs();
    assert!(gap < tolerance, "{found} is not {expected}");
}

fn golden_pairs() -> Pairs {
    let golden = reward_model_golden();
    let mut pairs = Pairs::new(golden.width);
    for (won, lost) in golden.won.iter().zip(&golden.lost) {
        pairs.push(won, lost);
    }
    pairs
}

#[test]
fn loss_gradient_and_optimum_agree_with_the_reference() {
    let (golden, pairs) = (reward_model_golden(), golden_pairs());
    let (loss, gradient) = loss_and_gradient(&pairs, &golden.weights, golden.penalty);
    close(loss, golden.loss, 1e-14);
    for (found, expected) in gradient.iter().zip(&golden.gradient) {
        close(*found, *expected, 1e-14);
    }
    let step = 1e-5;
    for (index, expected) in gradient.iter().enumerate() {
        let at = |by: f64| {
            let mut weights = golden.weights.clone();
            weights[index] += by;
            loss_and_gradient(&pairs, &weights, golden.penalty).0
        };
        close((at(step) - at(-step)) / (2.0 * step), *expected, 1e-9);
    }
    let found = fit(&pairs, golden.penalty).unwrap();
    for (found, expected) in found.iter().zip(&golden.optimum) {
        close(*found, *expected, 1e-7);
    }
}

#[test]
fn calibration_agrees_with_the_reference() {
    let golden = reward_model_golden();
    let found = Platt::fit(&golden.scores, &golden.labels);
    close(found.slope, golden.slope, 1e-8);
    close(found.offset, golden.offset, 1e-8);
    let error = calibration_error(&golden.rewards, &golden.labels, 7);
    close(error, golden.calibration_error_7, 1e-13);
    // Separable labels have a finite fit, and equal scores give the share that is right.
    let split = Platt::fit(&[-1.0, -2.0, 1.0, 2.0], &[false, false, true, true]);
    assert!(split.slope > 0.0 && split.slope.is_finite());
    let flat = Platt::fit(
        &[3.0; 8],
        &[true, true, false, true, true, false, true, true],
    );
    close(flat.value(3.0), (6.0 * 7.0 / 8.0 + 2.0 * 0.25) / 8.0, 1e-6);
}

/// Pairs whose winner is drawn by the model itself, with a known direction.
fn planted(direction: &[f64], count: usize) -> Pairs {
    let mut random = stream(3, Stage::Bootstrap, 0, PromptId(0), 0);
    let mut pairs = Pairs::new(direction.len());
    for _ in 0..count {
        let mut draw =
            || -> Vec<f32> { direction.iter().map(|_| random.normal() as f32).collect() };
        let (a, b) = (draw(), draw());
        let margin: f64 = direction
            .iter()
            .zip(a.iter().zip(&b))
            .map(|(w, (&a, &b))| w * (f64::from(a) - f64::from(b)))
            .sum();
        if random.uniform() < 1.0 / (1.0 + (-margin).exp()) {
            pairs.push(&a, &b);
        } else {
            pairs.push(&b, &a);
        }
    }
    pairs
}

#[test]
fn a_head_recovers_a_planted_direction() {
    let direction = [1.5, -1.0, 0.0, 0.5, -0.25, 0.0, 0.75, 0.0];
    let pairs = planted(&direction, 4000);
    let found = fit(&pairs, 1e-4).unwrap();
    for (found, expected) in found.iter().zip(&direction) {
        // Four standard errors of a logistic fit to 4000 pairs.
        close(*found, *expected, 0.15);
    }
    let ranked = |weights: &[f64]| pairs.ranked_right(weights).iter().sum::<f64>() / 4000.0;
    assert!(ranked(&found) > 0.8 && ranked(&found) >= ranked(&direction) - 0.005);
    let reversed: Vec<f64> = found.iter().map(|it| -it).collect();
    close(ranked(&reversed), 1.0 - ranked(&found), 1e-12);
    assert_eq!(pairs.first(10).len(), 10);
    assert_eq!(pairs.ranked_right(&[0.0; 8])[0], 0.5, "a tie");
}

fn tiny_folder(dir: &Path) -> ModelFolder {
    for (name, bytes) in tiny_model() {
        std::fs::write(dir.join(name), bytes).unwrap();
    }
    ModelFolder::open(dir).unwrap()
}

#[test]
fn features_are_mean_products_of_hidden_states_and_sampled_tokens() {
    let dir = tempfile::tempdir().unwrap();
    let folder = tiny_folder(dir.path());
    let device = burn::tensor::Device::default();
    let base = load_decoder(&folder, &device).unwrap().valid();
    let row = |prompt: u64, tokens: &[u32], num_prompt_tokens: usize| Row {
        prompt_id: PromptId(prompt),
        rollout_index: 0,
        tokens: tokens.to_vec(),
        num_prompt_tokens,
        advantage: 0.0,
        sampler_logprobs: vec![0.0; tokens.len() - num_prompt_tokens],
        old_logprobs: None,
    };
    let rows = [
        row(1, &[5, 9, 12, 7, 30, 41, 1], 3),
        row(1, &[5, 9, 12, 8, 1], 3),
        row(2, &[14, 22, 3, 3, 19, 60, 2, 1], 2),
        row(1, &[5, 9, 12, 8, 1], 3),
    ];
    let found = features(&base, &rows, 12, &device).unwrap();
    assert_eq!(found[1], found[3], "the same tokens get the same bits");
    let width = folder.config.hidden_size;
    let head: Vec<f32> = base.head_weight().into_data().try_to_vec().unwrap();
    for (row, found) in rows.iter().zip(&found) {
        let tokens: Vec<i64> = row.tokens.iter().map(|&it| i64::from(it)).collect();
        let shape = [1, tokens.len()];
        let tokens: Tensor<2, Int> = Tensor::from_data(TensorData::new(tokens, shape), &device);
        let hidden: Vec<f32> = base.hidden(tokens).into_data().try_to_vec().unwrap();
        let completion = row.completion_tokens();
        for (place, &found) in found.iter().enumerate() {
            let products = completion.iter().enumerate().map(|(index, &token)| {
                let before = row.num_prompt_tokens + index - 1;
                f64::from(hidden[before * width + place])
                    * f64::from(head[token as usize * width + place])
            });
            let expected = products.sum::<f64>() / completion.len() as f64;
            close(f64::from(found), expected, 1e-5);
        }
    }
}

fn trainer(args: &[&str]) -> Output {
    trainer_in(Path::new("."), args)
}

/// Keys of a small reward model; temperature and data are those of the runs on it.
const SMALL: [&str; 16] = [
    "--recipe",
    "tiny-learned",
    "--threads",
    "1",
    "--set",
    "data.num_problems=400",
    "--set",
    "data.held_out_size=20",
    "--set",
    "reward_model.prompts=60",
    "--set",
    "reward_model.calibration_prompts=40",
    "--set",
    "reward_model.error_prompts=60",
    "--set",
    "rollout.max_new_tokens=48",
];

fn make(out: &Path, more: &[&str]) -> Output {
    let mut args = vec!["reward-model", "--out", out.to_str().unwrap()];
    args.extend(SMALL);
    args.extend(more);
    trainer(&args)
}

/// A run of a few small steps against the reward model in `reward`.
fn run(reward: &Path, more: &[&str]) -> Output {
    let path = format!(
        "reward.components=[{{kind=\"model\",weight=2.0,path={:?}}}]",
        reward.to_str().unwrap()
    );
    let mut args = vec!["train", "--quiet", "--set", path.as_str()];
    args.extend(SMALL);
    for key in [
        "selection.prompts_per_step=4",
        "rollout.group_size=4",
        "update.warmup_steps=1",
        "eval.problems=10",
        "eval.every=2",
        "report.prompts=10",
        "report.samples=2",
        "checkpoint.every=2",
    ] {
        args.extend(["--set", key]);
    }
    args.extend(more);
    trainer(&args)
}

fn records(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|it| serde_json::from_str(it).unwrap())
        .collect()
}

#[test]
fn a_run_on_a_learned_reward_logs_the_truth_and_resumes_exactly() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let reward = at("reward");
    let made = make(&reward, &["--json"]);
    assert!(made.status.success(), "{}", words(&made));
    let printed: Value = serde_json::from_slice(&made.stdout).unwrap();
    let path = reward.join("reward_model.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let description: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(printed, description);
    let again = make(&reward, &[]);
    assert_eq!(again.status.code(), Some(2));
    assert!(words(&again).contains("there is one already"));
    saved_and_loaded(&reward, &at("saved"));

    let straight = at("straight");
    let dir = straight.to_str().unwrap();
    let done = run(&reward, &["--steps", "4", "--out", dir]);
    assert!(done.status.success(), "{}", words(&done));
    truth_is_logged(&straight);

    // Two steps, then resumed to four: the same weights.
    let resumed = at("resumed");
    let dir = resumed.to_str().unwrap();
    assert!(
        run(&reward, &["--steps", "2", "--out", dir])
            .status
            .success()
    );
    let done = run(&reward, &["--steps", "4", "--resume", dir]);
    assert!(done.status.success(), "{}", words(&done));
    let weights = |run: &Path| {
        std::fs::read(run.join("checkpoints/step-000004/model/model.safetensors")).unwrap()
    };
    assert_eq!(weights(&straight), weights(&resumed));

    // The weights that a run ends with are not those that the head reads.
    let model = straight.join("checkpoints/step-000004/model");
    let other = ["--model", model.to_str().unwrap(), "--dry-run"];
    let refused = run(&reward, &other);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        words(&refused).contains("hidden states of `embedded`"),
        "{}",
        words(&refused)
    );
    let refused = run(&reward, &["--set", "rollout.temperature=0.7", "--dry-run"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        words(&refused).contains("rollout.temperature was 1.0, is 0.7"),
        "{}",
        words(&refused)
    );
    let refused = run(&at("nowhere"), &["--dry-run"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        words(&refused).contains("trainer reward-model --out"),
        "{}",
        words(&refused)
    );

    // Prompts that measure the truth have made no reward.
    let fresh = records(&straight.join("fresh.jsonl"));
    let held_out = fresh.iter().find(|line| line["set"] == "held_out").unwrap();
    let mut shared = description;
    let ids = shared["prompt_ids"].as_array_mut().unwrap();
    ids.push(held_out["prompt_id"].clone());
    std::fs::write(&path, shared.to_string()).unwrap();
    let refused = run(&reward, &["--dry-run"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        words(&refused).contains("1 of its prompts are held out in this run"),
        "{}",
        words(&refused)
    );

    // A resumed run does not go on with another reward.
    std::fs::write(&path, text.replacen("\"slope\": ", "\"slope\": 1", 1)).unwrap();
    let refused = run(&reward, &["--steps", "5", "--resume", dir]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        words(&refused).contains("the run began with"),
        "{}",
        words(&refused)
    );
}

fn truth_is_logged(dir: &Path) {
    let lines = records(&dir.join("metrics.jsonl"));
    assert_eq!(lines.len(), 5);
    for line in &lines[1..] {
        let number = |key: &str| line[key].as_f64().unwrap();
        let (reward, truth) = (number("learned_reward_mean"), number("correct_frac"));
        close(number("reward_mean"), 2.0 * reward, 1e-12);
        close(
            line["reward_component_mean"]["model"].as_f64().unwrap(),
            2.0 * reward,
            1e-12,
        );
        close(number("learned_reward_error_mean"), reward - truth, 1e-12);
        assert!(number("learned_reward_error_abs") >= number("learned_reward_error_mean").abs());
        assert!(reward > 0.0 && reward < 1.0);
    }
    for line in [&lines[0], &lines[2], &lines[4]] {
        assert!(line["predicted_reward_shift"].as_f64().unwrap() > 0.0);
        assert!(line["fresh_held_out_accuracy"].is_f64() && line["fresh_learned_reward"].is_f64());
    }
    let report = trainer(&["report", "--run", dir.to_str().unwrap()]);
    let text = String::from_utf8_lossy(&report.stdout).into_owned();
    assert!(
        text.contains("learned reward and truth") && text.contains("by number of pairs"),
        "{text}"
    );
    let json: Value =
        serde_json::from_str(&std::fs::read_to_string(dir.join("report.json")).unwrap()).unwrap();
    let checkpoints = json["learned"]["checkpoints"].as_array().unwrap();
    let steps: Vec<u64> = checkpoints
        .iter()
        .map(|it| it["step"].as_u64().unwrap())
        .collect();
    assert_eq!(steps, [0, 2, 4]);
    assert!(
        checkpoints[0]["kl"]["value"].as_f64().unwrap().abs() < 1e-4,
        "the start itself"
    );
    for at in checkpoints {
        let heads = at["heads"].as_array().unwrap();
        assert_eq!(heads.len(), 4);
        for head in heads {
            let number = |key: &str| head[key].as_f64().unwrap();
            let error = head["error"]["value"].as_f64().unwrap();
            let truth = at["truth"]["value"].as_f64().unwrap();
            close(
                head["reward"]["value"].as_f64().unwrap() - truth,
                error,
                1e-12,
            );
            let absolute = head["absolute_error"]["value"].as_f64().unwrap();
            assert!(absolute >= error.abs() - 1e-12);
            assert!(number("graded") >= absolute && number("clipped_chi_square") <= 1.0);
        }
    }
    let page = std::fs::read_to_string(dir.join("report.html")).unwrap();
    assert!(page.contains("Learned reward and truth") && page.contains("<polyline"));
    assert!(page.matches("<svg").count() == 2, "both pictures");
}

fn saved_and_loaded(reward: &Path, copy: &Path) {
    let model = RewardModelFile::load(reward).unwrap();
    assert_eq!(model.weights.len(), 4);
    let pairs: Vec<usize> = model
        .description
        .heads
        .iter()
        .map(|it| it.num_pairs)
        .collect();
    assert!(pairs.is_sorted() && pairs[0] >= 1, "{pairs:?}");
    let head = model.description.heads.last().unwrap();
    assert!(head.pair_accuracy.value > 0.5, "{:?}", head.pair_accuracy);
    assert_eq!(head.errors.len(), 60);
    model.save(copy).unwrap();
    assert_eq!(RewardModelFile::load(copy).unwrap(), model);
    keep_copy(reward, copy).unwrap();
    let weights = copy.join("head.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &bytes[..bytes.len() - 4]).unwrap();
    let error = RewardModelFile::load(copy).unwrap_err().to_string();
    assert!(error.contains("truncated"), "{error}");
    assert!(keep_copy(reward, copy).is_err());
    let text = std::fs::read_to_string(copy.join("reward_model.json")).unwrap();
    let other = text.replacen("\"format\": 1", "\"format\": 2", 1);
    std::fs::write(copy.join("reward_model.json"), other).unwrap();
    let error = Description::load(copy).unwrap_err().to_string();
    assert!(error.contains("format 2"), "{error}");
}

#[test]
fn what_cannot_make_a_reward_model_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("reward");
    for (more, expected) in [
        // Nearly greedy: the completions of a problem are all the same.
        (
            "rollout.temperature=0.0001",
            "a pair needs a right and a wrong completion",
        ),
        (
            "reward_model.prompts=4000",
            "reward_model.prompts + calibration_prompts",
        ),
        ("reward_model.held_out_frac=1", "reward_model.held_out_frac"),
        ("reward_model.max_pairs=3", "8 or more"),
        ("reward_model.penalty=0", "reward_model.penalty"),
    ] {
        let output = make(&out, &["--set", more]);
        assert_eq!(output.status.code(), Some(2), "{more}");
        let found = words(&output)
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        assert!(found.contains(expected), "{more}: {found}");
        assert!(!out.join("reward_model.json").exists());
    }
}

#[test]
fn the_slope_of_the_error_over_pairs_is_found() {
    let head = |num_pairs: usize, l2: f64| trainer::reward_model::file::Head {
        num_pairs,
        calibration: Platt {
            slope: 1.0,
            offset: 0.0,
        },
        pair_accuracy: trainer::accuracy::clustered_share(&[1.0]),
        num_held_out_pairs: 1,
        calibration_error: 0.0,
        errors: vec![l2.sqrt(), -l2.sqrt()],
    };
    // L2 = 0.04 + 9 / m.
    let heads = [100, 200, 400, 800].map(|m| head(m, 0.04 + 9.0 / m as f64));
    close(pair_slope(&heads).unwrap(), 3.0, 1e-9);
    let rising = [100, 200].map(|m| head(m, m as f64 / 1000.0));
    assert_eq!(pair_slope(&rising), None);
}
