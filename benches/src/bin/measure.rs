//! Times one stage on a model folder, for `benches/compare/run.py`:
//!
//! `measure decode|prefill|update|optimizer FOLDER THREADS REPEATS` prints the seconds of each
//! repetition as a JSON list, one warm-up left out.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use burn::module::Module;
use burn::tensor::Device;
use rlvr_backends::Precision;
use rlvr_backends::kernels::matmul;
use rlvr_benches::load::{UpdateLoad, gradients, requests, total};
use trainer::batch::{MicroBatch, Row};
use trainer::optimizer::{Optimizer, OptimizerSettings, Schedule, global_norm};
use trainer::policy::decoder::Decoder;
use trainer::policy::folder::ModelFolder;
use trainer::rollout::{Engine, RolloutConfig, RolloutStats};
use trainer::seed::Stage;
use trainer::state::load_decoder;

/// A stage and how often it runs.
struct Task {
    stage: String,
    folder: ModelFolder,
    device: Device,
    repeats: usize,
}

fn main() -> ExitCode {
    rlvr_backends::keep_freed_memory();
    match task().and_then(|task| seconds(&task)) {
        Ok(found) => {
            let found: Vec<String> = found.iter().map(|secs| format!("{secs:.4}")).collect();
            println!("[{}]", found.join(", "));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn task() -> Result<Task, String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [stage, folder, threads, repeats] = arguments.as_slice() else {
        return Err("usage: measure decode|prefill|update|optimizer FOLDER THREADS REPEATS".into());
    };
    let number = |text: &str| text.parse().map_err(|_| format!("{text} is no number"));
    rlvr_backends::set_threads(number(threads)?).map_err(|err| err.to_string())?;
    let device = rlvr_backends::device(rlvr_backends::BackendKind::Cpu);
    Ok(Task {
        stage: stage.clone(),
        folder: ModelFolder::open(Path::new(folder)).map_err(|err| err.to_string())?,
        device: device.map_err(|err| err.to_string())?,
        repeats: number(repeats)?,
    })
}

/// Seconds of each repetition.
fn seconds(task: &Task) -> Result<Vec<f64>, String> {
    let found = match task.stage.as_str() {
        // 32 rows from 240 to 271 tokens of context: 256 in the middle.
        "decode" => rollouts(task, [4, 8, 240], 32, |stats| {
            (stats.decode_secs + stats.sampling_secs) / stats.decode_steps.max(1) as f64
        })?,
        "prefill" => prefills(task)?,
        "update" => updates(task)?,
        "optimizer" => optimizer_steps(task)?,
        other => return Err(format!("no stage is called {other}")),
    };
    Ok(found.into_iter().skip(1).collect())
}

fn rollouts(
    task: &Task,
    [num_prompts, group, prompt_tokens]: [usize; 3],
    new_tokens: usize,
    read: impl Fn(&RolloutStats) -> f64,
) -> Result<Vec<f64>, String> {
    let decoder = load_decoder(&task.folder, &task.device).map_err(|err| err.to_string())?;
    let model = &task.folder.config;
    let config = RolloutConfig {
        max_slots: num_prompts * group,
        max_new_tokens: new_tokens,
        ..RolloutConfig::default()
    };
    let engine = Engine::new(model, config.clone(), Precision::F32);
    let requests = requests(model.vocab_size, num_prompts, group, prompt_tokens);
    let params = config.sampling(Vec::new());
    let text = |_: &[u32]| String::new();
    let roll_out = |step| {
        let output = engine.roll_out(&decoder, &text, &requests, &params, 0, Stage::Rollout, step);
        output
            .map(|output| read(&output.stats))
            .map_err(|err| err.to_string())
    };
    (0..=task.repeats as u64).map(roll_out).collect()
}

/// Eight prompts of 128 tokens, up to the logits of what follows them.
fn prefills(task: &Task) -> Result<Vec<f64>, String> {
    let decoder = load_decoder(&task.folder, &task.device).map_err(|err| err.to_string())?;
    let requests = requests(task.folder.config.vocab_size, 8, 1, 128);
    let prompts: Vec<&[u32]> = requests.iter().map(|it| &it.prompt_tokens[..]).collect();
    let run = |_| {
        let started = Instant::now();
        let hidden = decoder.prefill(&prompts, Precision::F32).last_hidden;
        let logits = matmul(hidden, decoder.head_weight().transpose(), Precision::F32);
        let logits = logits.try_into_vec_as::<f32>();
        let elapsed = started.elapsed().as_secs_f64();
        match logits {
            Ok(logits) if logits.iter().all(|logit| logit.is_finite()) => Ok(elapsed),
            Ok(_) => Err("a logit is not finite".into()),
            Err(error) => Err(error.to_string()),
        }
    };
    (0..=task.repeats).map(run).collect()
}

/// Forward and backward of 8 rows of 256 tokens that share nothing.
fn batch(task: &Task) -> MicroBatch {
    let load = UpdateLoad {
        vocab: task.folder.config.vocab_size,
        num_prompts: 8,
        group: 1,
        prompt_tokens: 1,
        completion_tokens: 255,
    };
    let rows = load.rows();
    let views: Vec<&Row> = rows.iter().collect();
    MicroBatch::new(&views, &task.device)
}

fn policy(task: &Task) -> Result<Decoder, String> {
    let device = task.device.clone().autodiff();
    load_decoder(&task.folder, &device).map_err(|err| err.to_string())
}

fn updates(task: &Task) -> Result<Vec<f64>, String> {
    let (policy, batch) = (policy(task)?, batch(task));
    let run = |_| {
        let started = Instant::now();
        let gradients = gradients(&policy, &batch);
        let elapsed = started.elapsed().as_secs_f64();
        match total(&policy, &gradients).is_finite() {
            true => Ok(elapsed),
            false => Err("a gradient is not finite".into()),
        }
    };
    (0..=task.repeats).map(run).collect()
}

fn optimizer_steps(task: &Task) -> Result<Vec<f64>, String> {
    let (mut policy, batch) = (policy(task)?, batch(task));
    let settings = OptimizerSettings {
        learning_rate: 1e-6,
        beta_1: 0.9,
        beta_2: 0.999,
        eps: 1e-8,
        weight_decay: 0.0,
        max_grad_norm: Some(1.0),
        warmup_steps: 0,
        schedule: Schedule::Constant,
        total_steps: 1,
    };
    let mut optimizer = Optimizer::new(&settings);
    let mut found = Vec::new();
    for _ in 0..=task.repeats {
        let gradients = gradients(&policy, &batch);
        let started = Instant::now();
        let norm = global_norm(&policy, &gradients).map_err(|error| format!("{error:?}"))?;
        policy = optimizer
            .step(settings.learning_rate, policy, gradients, norm)
            .0;
        found.push(started.elapsed().as_secs_f64());
    }
    match policy.num_params() {
        0 => Err("the model has no weights".into()),
        _ => Ok(found),
    }
}
