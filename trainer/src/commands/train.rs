//! `trainer` and `trainer train`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::module::Module;

use crate::checkpoint::{CheckpointStore, Retention, Search};
use crate::cli::TrainArgs;
use crate::config::{ConfigIdentity, DEFAULT_RECIPE, Layers, RecipeText, RunConfig};
use crate::control::Controllers;
use crate::eval::EvalReport;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::memory::{RunMemory, run_memory};
use crate::progress::Progress;
use crate::run::{Run, RunSummary};
use crate::run_dir::RunDir;
use crate::run_log::RunLog;
use crate::session::Session;
use crate::state::{TrainState, load_decoder, model_of};

/// Trains, or with `--dry-run` says what would be trained.
///
/// # Errors
/// If the configuration, an input or the run itself fails.
pub fn run(args: &TrainArgs) -> Result<(), Failure> {
    let resumed = resumed_dir(args)?;
    let (config, name) = resolve(args, resumed.as_deref())?;
    let session = Session::open(config)?;
    let memory = predicted_memory(&session)?;
    if args.dry_run {
        return dry_run(&session, &memory);
    }
    let started = Instant::now();
    let identity = ConfigIdentity::of(&session.config)?;
    let dir = match &resumed {
        Some(path) => RunDir::resume(path)?,
        None => {
            let out = session.config.run.out.as_ref().map(Path::new);
            RunDir::create(out, session.config.run.name.as_deref().unwrap_or(&name))?
        }
    };
    dir.write_config(&session.config.to_toml()?)?;
    let progress = Progress::new(session.config.run.steps, args.quiet);
    if !args.quiet {
        announce(&session, &memory, dir.path());
    }
    let store = CheckpointStore::new(&dir.checkpoints(), retention(&session.config))?;
    let (state, log) = start(&session, &dir, &store, &identity, resumed.is_some(), progress)?;
    let mut run = Run {
        reference: reference(&session)?,
        session: &session,
        log,
        store,
        identity,
        interrupt: Interrupt::on_ctrl_c(),
        predicted_peak_bytes: memory.total_bytes(),
        started,
    };
    let mut state = Some(state);
    let summary = run.train(&mut state)?;
    if !args.quiet {
        conclude(&summary, dir.path(), &run.store)?;
    }
    Ok(())
}

/// The run that `--resume` means.
fn resumed_dir(args: &TrainArgs) -> Result<Option<PathBuf>, Failure> {
    Ok(match &args.resume {
        None => None,
        Some(Some(path)) => Some(path.clone()),
        Some(None) => Some(match &args.out {
            Some(out) => out.into(),
            None => RunDir::newest()?,
        }),
    })
}

/// The configuration and the name of its recipe. A resumed run's own configuration is its recipe.
fn resolve(args: &TrainArgs, resumed: Option<&Path>) -> Result<(RunConfig, String), Failure> {
    let recipe = match (resumed, &args.config.recipe) {
        (Some(dir), None) => RecipeText::read(&dir.join("config.toml"))?,
        (_, named) => RecipeText::find(named.as_deref().unwrap_or(DEFAULT_RECIPE))?,
    };
    let mut layers = Layers::new(&recipe)?;
    for typed in &args.config.sets {
        layers.set(typed)?;
    }
    for value in args.named_values("run.steps") {
        layers.put(value.key, value.value, &value.typed);
    }
    Ok((layers.resolve()?, recipe.name))
}

fn retention(config: &RunConfig) -> Retention {
    Retention { keep_last: config.checkpoint.keep_last, keep_best: config.checkpoint.keep_best }
}

fn needs_reference(config: &RunConfig) -> bool {
    config.loss.kl.is_some() || config.advantage.kl_in_reward.is_some()
}

/// A frozen copy of the model that the run started from, if a KL term needs it.
fn reference(session: &Session) -> Result<Option<crate::policy::decoder::Decoder>, Failure> {
    if !needs_reference(&session.config) {
        return Ok(None);
    }
    let decoder = load_decoder(&session.model.folder, &session.device).map_err(Failure::run)?;
    Ok(Some(decoder.valid()))
}

fn predicted_memory(session: &Session) -> Result<RunMemory, Failure> {
    let data = &session.data;
    let prompts = data.train.iter().chain(&data.held_out);
    let longest = prompts.map(|prompt| prompt.prompt_tokens.len()).max().unwrap_or(0);
    let model = &session.model.folder.config;
    run_memory(model, &session.config, longest, needs_reference(&session.config))
        .map_err(Failure::usage)
}

/// The state to go on from and the files to go on with.
fn start(
    session: &Session,
    dir: &RunDir,
    store: &CheckpointStore,
    identity: &ConfigIdentity,
    is_resumed: bool,
    progress: Progress,
) -> Result<(TrainState, RunLog), Failure> {
    let settings = session.optimizer_settings();
    let device = session.training_device();
    let max_completions = session.config.log.completions_per_step;
    let observer = progress.into_observer();
    if is_resumed {
        let Search { found, rejected } = store.latest_valid()?;
        for damaged in &rejected {
            eprintln!("warning: {} is passed over: {}", damaged.path.display(), damaged.damage);
        }
        if let Some(checkpoint) = found {
            checkpoint.check_config(identity)?;
            let state = TrainState::load(&checkpoint.path, &settings, &device).map_err(Failure::run)?;
            let (log, kept) = RunLog::resume(dir, state.counters.step, max_completions, observer)?;
            if kept.num_dropped > 0 {
                eprintln!("steps after {} are done again", state.counters.step);
            }
            return Ok((state, log));
        }
        eprintln!("there is no whole checkpoint yet: the run starts again from its first step");
    }
    let policy = load_decoder(&session.model.folder, &device).map_err(Failure::usage)?;
    let controllers = Controllers::new(&session.config.control, &session.loss()?)
        .map_err(|err| Failure::usage(format!("control: {err}")))?;
    let log = if is_resumed {
        RunLog::restart(dir, max_completions, observer)?
    } else {
        RunLog::create(dir, max_completions, observer)?
    };
    Ok((TrainState::fresh(policy, &settings, controllers), log))
}

fn announce(session: &Session, memory: &RunMemory, dir: &Path) {
    let (config, data) = (&session.config, &session.data);
    let model = &session.model.folder.config;
    eprintln!(
        "model {} ({:.1} M weights), {} training and {} held-out problems, backend {}, about {} MiB",
        config.model.path,
        crate::rollout::memory::num_weights(model) as f64 / 1e6,
        data.train.len(),
        data.held_out.len().min(config.eval.problems),
        config.backend.kind,
        memory.total_bytes() >> 20,
    );
    if data.num_too_long + data.num_held_out_too_long > 0 {
        eprintln!(
            "left out for their length: {} training and {} held-out problems",
            data.num_too_long, data.num_held_out_too_long
        );
    }
    eprintln!("run directory {}", dir.display());
}

/// Validates, prints the resolved configuration and the memory estimate.
fn dry_run(session: &Session, memory: &RunMemory) -> Result<(), Failure> {
    println!("{}", session.config.to_toml()?);
    println!("# data: {}", session.data.report);
    let line = |name: &str, bytes: u64| println!("# {name:<42} {:>8} MiB", bytes.div_ceil(1 << 20));
    line("weights, gradients, optimizer", memory.training_bytes);
    line("reference policy", memory.reference_bytes);
    line("rollouts", memory.rollout_bytes);
    println!(
        "#   {} completions at once, {} tokens each, cache {} MiB",
        memory.rollout.num_slots,
        memory.rollout.slot_tokens,
        memory.rollout.kv_bytes.div_ceil(1 << 20)
    );
    line("activations and logits of the update", memory.update_bytes);
    line("predicted peak (larger of the last two)", memory.total_bytes());
    Ok(())
}

fn conclude(summary: &RunSummary, dir: &Path, store: &CheckpointStore) -> Result<(), Failure> {
    let dir = dir.display();
    if summary.is_interrupted {
        println!("stopped after step {} and saved; go on with: trainer --resume {dir}", summary.step);
        return Ok(());
    }
    let show = |name: &str, report: &EvalReport| {
        let accuracy = report.accuracy;
        println!(
            "held-out accuracy {name}: {:.3}  (95 % interval {:.3} to {:.3}, {} problems)",
            accuracy.value, accuracy.low, accuracy.high, report.num_prompts
        );
    };
    if let Some(report) = &summary.first_eval {
        show("before", report);
    }
    if let Some(report) = &summary.last_eval {
        show("after ", report);
    }
    println!("run directory: {dir}  (config.toml, metrics.jsonl, completions.jsonl, eval.jsonl)");
    if let Some(checkpoint) = store.latest_valid()?.found {
        let model = model_of(&checkpoint.path);
        println!("trained model: {}", model.display());
        println!("next: trainer eval --model {} --samples 8", model.display());
    }
    Ok(())
}
