//! Matrix products in bf16: near f32, not f32, the same in rollout and update, and a whole run.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod binary;
mod gradients;

use burn::module::Module;
use rlvr_backends::Precision;
use serde_json::Value;
use trainer::batch::Row;
use trainer::cli::resolve;
use trainer::config::RecipeText;
use trainer::gradient::ScoringSettings;
use trainer::groups::requests;
use trainer::policy::decoder::Decoder;
use trainer::seed::Stage;
use trainer::session::Session;
use trainer::state::load_decoder;

use binary::{trainer_in, words};
use gradients::{Likeness, gaps, pass};

/// The embedded model, products in this precision.
fn session(precision: Precision, sets: &[&str]) -> Session {
    let recipe = RecipeText::find("tiny").unwrap();
    let mut all = vec![
        "data.num_problems=100".into(),
        format!("backend.precision={precision}"),
    ];
    all.extend(sets.iter().map(|set| (*set).to_string()));
    let config = resolve(&recipe, &all, Vec::new()).unwrap();
    Session::open(config).unwrap()
}

fn policy(session: &Session) -> Decoder {
    load_decoder(&session.model.folder, &session.training_device()).unwrap()
}

/// Completions of eight prompts as the update sees them.
fn sampled(session: &Session) -> Vec<Row> {
    let prompts = &session.data.train[..8];
    let policy = policy(session).valid();
    let text = |_: &[u32]| String::new();
    let output = session.engine.roll_out(
        &policy,
        &text,
        &requests(prompts, 4),
        &session.sampling(),
        3,
        Stage::Rollout,
        0,
    );
    let groups = output.unwrap().completions.into_iter().zip(prompts);
    let row = |(completion, prompt): (trainer::record::Completion, &trainer::record::Prompt)| Row {
        prompt_id: prompt.id,
        rollout_index: completion.index,
        tokens: [prompt.prompt_tokens.as_slice(), &completion.tokens].concat(),
        num_prompt_tokens: prompt.prompt_tokens.len(),
        advantage: if completion.index % 2 == 0 { 1.0 } else { -1.0 },
        sampler_logprobs: completion.sampler_logprobs,
        old_logprobs: None,
    };
    let rows = groups.flat_map(|(group, prompt)| group.into_iter().map(move |it| (it, prompt)));
    rows.map(row).collect()
}

#[test]
fn log_probs_and_gradients_in_bf16_are_near_those_in_f32_and_not_the_same() {
    let session = session(Precision::F32, &[]);
    let (policy, rows) = (policy(&session), sampled(&session));
    let [f32, bf16] = [Precision::F32, Precision::Bf16].map(|precision| {
        let scoring = ScoringSettings {
            precision,
            ..session.scoring()
        };
        pass(&policy, &rows, 0.1, &scoring)
    });
    for (name, bf16, f32) in [
        ("log-probs", &bf16.logprobs, &f32.logprobs),
        ("entropies", &bf16.entropies, &f32.entropies),
    ] {
        let (mean, most) = gaps(bf16, f32);
        println!("{name}: mean gap {mean:.2e}, largest {most:.2e}");
        assert!(mean < 0.01 && most < 0.3, "{name}: {mean} and {most} nats");
        assert!(mean > 1e-4, "{name}: {mean} nats: bf16 changes nothing");
    }
    // Why sizes differ, and by how much exactly, is `precision_golden`'s matter.
    for ((name, found), (_, exact)) in bf16.gradients.iter().zip(&f32.gradients) {
        let Likeness { size, cosine } = Likeness::of(found, exact);
        println!("{name}: cosine {cosine:.6}, size {size:.4}");
        assert!(cosine > 0.99, "{name}: cosine {cosine}");
        assert!((size - 1.0).abs() < 0.1, "{name}: size {size}");
        assert!(cosine < 1.0 - 1e-9, "{name}: bf16 changes nothing");
    }
}

#[test]
fn the_sampler_and_the_update_agree_in_either_precision_at_any_temperature() {
    let cases = [
        (Precision::F32, vec![]),
        (Precision::F32, vec!["rollout.temperature=0.7"]),
        (Precision::Bf16, vec![]),
        (Precision::Bf16, vec!["rollout.copy_weights=false"]),
        (Precision::Bf16, vec!["rollout.temperature=0.7"]),
        (Precision::Bf16, vec!["rollout.temperature=1.25"]),
        (
            Precision::Bf16,
            vec!["rollout.temperature=1.25", "rollout.sampling=device"],
        ),
    ];
    for (precision, sets) in cases {
        let session = session(precision, &sets);
        let rows = sampled(&session);
        let sampler: Vec<f32> = rows
            .iter()
            .flat_map(|row| row.sampler_logprobs.clone())
            .collect();
        let gap_to = |precision| {
            let scoring = ScoringSettings {
                precision,
                ..session.scoring()
            };
            let found = pass(&policy(&session), &rows, 0.1, &scoring);
            gaps(&sampler, &found.logprobs)
        };
        let (mean, most) = gap_to(precision);
        let (other, _) = gap_to(Precision::F32);
        println!("{precision} {sets:?}: mean gap {mean:.1e}, largest {most:.1e}, f32 {other:.1e}");
        match precision {
            Precision::F32 | Precision::F32Split => assert!(most < 1e-4, "{most} nats"),
            Precision::Bf16 => {
                // Both sides round the same products, the head's before the temperature divides.
                assert!(mean < 1e-4 && most < 0.1, "{mean} and {most} nats");
                // Far nearer than the same weights in f32.
                assert!(10.0 * mean < other, "{mean} and {other} nats");
            }
        }
    }
}

#[test]
fn copies_of_the_weights_change_no_bit() {
    let of = |copy: &str| {
        let rows = sampled(&session(Precision::Bf16, &[copy]));
        rows.into_iter()
            .map(|row| (row.tokens, row.sampler_logprobs))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        of("rollout.copy_weights=true"),
        of("rollout.copy_weights=false")
    );
}

#[test]
fn a_dry_run_shows_the_precision_and_what_follows_from_it() {
    let folder = tempfile::tempdir().unwrap();
    let dry_run = |set: &str| {
        let output = trainer_in(folder.path(), &["--dry-run", "--set", set]);
        assert!(output.status.success(), "{}", words(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let corrected = "[loss.importance.bound]\ncap = 2.0\nkind = \"truncate\"";
    for set in ["backend.precision=auto", "backend.precision=f32"] {
        let text = dry_run(set);
        assert!(text.contains("precision = \"f32\""), "{text}");
        assert!(text.contains("# matrix products in f32;"), "{text}");
        assert!(!text.contains(corrected), "{text}");
    }
    let text = dry_run("backend.precision=bf16");
    assert!(text.contains("precision = \"bf16\""), "{text}");
    assert!(text.contains("# matrix products in bf16;"), "{text}");
    assert!(text.contains(corrected), "{text}");
    let own = "loss.importance={bound={kind=\"mask\",high=5.0}}";
    let sets = ["--dry-run", "--set", "backend.precision=bf16", "--set", own];
    let output = trainer_in(folder.path(), &sets);
    let masked = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(masked.contains("kind = \"mask\""), "{}", words(&output));
    assert!(!masked.contains(corrected), "{masked}");
    // What was printed is a recipe of the same run.
    let recipe = folder.path().join("again.toml");
    std::fs::write(&recipe, &text).unwrap();
    let recipe = recipe.to_str().unwrap();
    let output = trainer_in(folder.path(), &["--dry-run", "--recipe", recipe]);
    let again = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(
        again.lines().collect::<Vec<_>>(),
        text.lines().collect::<Vec<_>>()
    );

    let args = ["--dry-run", "--set", "backend.precision=half"];
    let output = trainer_in(folder.path(), &args);
    assert_eq!(output.status.code(), Some(2));
    let found = words(&output);
    assert!(found.contains("backend.precision"), "{found}");
    assert!(found.contains("auto, f32, bf16"), "{found}");
}

/// Two small steps; what they logged and their configuration.
fn two_steps(sets: &[&str]) -> (Vec<Value>, String) {
    let folder = tempfile::tempdir().unwrap();
    let mut args = vec!["--quiet", "--steps", "2", "--out", "run"];
    let small = [
        "data.num_problems=100",
        "eval.problems=10",
        "eval.at_start=false",
        "selection.prompts_per_step=8",
        "rollout.group_size=4",
    ];
    for set in small.iter().chain(sets) {
        args.extend(["--set", set]);
    }
    let output = trainer_in(folder.path(), &args);
    assert!(output.status.success(), "{}", words(&output));
    let read = |name: &str| std::fs::read_to_string(folder.path().join("run").join(name)).unwrap();
    let metrics = read("metrics.jsonl");
    let metrics = metrics
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    (metrics.collect(), read("config.toml"))
}

#[test]
fn a_run_in_bf16_logs_its_gap_and_corrects_it() {
    let number = |step: &Value, key: &str| step[key].as_f64().unwrap();
    let (steps, config) = two_steps(&["backend.precision=bf16"]);
    assert_eq!(steps.len(), 2);
    assert!(config.contains("precision = \"bf16\""), "{config}");
    assert!(config.contains("kind = \"truncate\""), "{config}");
    for step in &steps {
        let gap = number(step, "sampler_gap_mean");
        // Both sides round the same products, so where they sum in one order they hardly differ.
        assert!(gap > 0.0 && gap < 0.005, "a gap of {gap} nats");
        let weight = number(step, "sampler_weight_mean");
        assert!((weight - 1.0).abs() < 0.01, "{weight}");
        assert!(number(step, "grad_norm").is_finite());
        assert!(number(step, "loss").is_finite());
    }
    let off = ["backend.precision=bf16", "backend.correct_sampler=false"];
    let (steps, config) = two_steps(&off);
    assert!(!config.contains("kind = \"truncate\""), "{config}");
    assert!(
        steps
            .iter()
            .all(|step| step["sampler_weight_mean"].is_null())
    );
    let (steps, _) = two_steps(&["backend.precision=f32"]);
    assert!(
        steps
            .iter()
            .all(|step| step["sampler_weight_mean"].is_null())
    );
    assert!(number(&steps[0], "sampler_gap_mean") < 1e-5);
}
