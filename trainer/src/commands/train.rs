//! `trainer`, `trainer train` and `trainer sft`: one run, two objectives.

use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::module::Module;

use crate::checkpoint::{CheckpointStore, Retention, Search};
use crate::cli::{TrainArgs, resolve};
use crate::config::{
    ConfigIdentity, DEFAULT_RECIPE, RecipeText, RunConfig, settings_of_earlier, sizes_of_run,
};
use crate::control::Controllers;
use crate::eval::EvalReport;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::memory::RunMemory;
use crate::policy::decoder::Decoder;
use crate::progress::{Progress, ProgressMode};
use crate::reward_model::file::keep_copy;
use crate::run::{Objective, Run, RunSummary};
use crate::run_dir::RunDir;
use crate::run_log::RunLog;
use crate::selection::{Plan, SelectionState};
use crate::session::Session;
use crate::state::{TrainState, load_decoder, model_of};

/// Which objective a run has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// GRPO.
    Reinforce,
    /// Supervised warm start.
    Supervised,
}

impl Kind {
    /// The key that `--steps` means.
    fn steps_key(self) -> &'static str {
        match self {
            Self::Reinforce => "run.steps",
            Self::Supervised => "sft.steps",
        }
    }
}

/// Trains, or with `--dry-run` says what would be trained.
///
/// # Errors
/// If the configuration, an input or the run itself fails.
pub fn run(args: &TrainArgs, kind: Kind) -> Result<(), Failure> {
    let resumed = resumed_dir(args)?;
    let (config, name) = configuration(args, kind, resumed.as_deref())?;
    let mut session = Session::open(config)?;
    if kind == Kind::Reinforce {
        session.open_reward_model()?;
        let selection = &session.config.selection;
        let checked = selection.validate_num_prompts(session.data.train.len());
        checked.map_err(Failure::usage)?;
    }
    let memory = session.fit_memory()?;
    if args.dry_run {
        return dry_run(&session, &memory);
    }
    let dir = match &resumed {
        Some(path) => RunDir::resume(path)?,
        None => {
            let out = session.config.run.out.as_ref().map(Path::new);
            RunDir::create(out, session.config.run.name.as_deref().unwrap_or(&name))?
        }
    };
    if !args.quiet {
        announce(&session, &memory, dir.path());
    }
    let (mut run, state) = start(&session, kind, &dir, resumed.is_some(), args.quiet)?;
    run.predicted_peak_bytes = memory.total_bytes();
    let summary = run.train(state)?;
    run.log.progress.finish();
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

/// The configuration and the name of its recipe. A resumed run's own configuration is its recipe; what
/// it lacks because it is of an earlier version is said, and sizes that its device has decided stay.
fn configuration(
    args: &TrainArgs,
    kind: Kind,
    resumed: Option<&Path>,
) -> Result<(RunConfig, String), Failure> {
    let run = resumed.map(|dir| RecipeText::read(&dir.join("config.toml")));
    let run = run.transpose()?;
    let recipe = match (&run, &args.config.recipe) {
        (Some(run), None) => run.clone(),
        (_, named) => RecipeText::find(named.as_deref().unwrap_or(DEFAULT_RECIPE))?,
    };
    let earlier = match &run {
        Some(run) => settings_of_earlier(run)?,
        None => Vec::new(),
    };
    if !earlier.is_empty() {
        let settings = earlier.join(", ");
        eprintln!("the run is of an earlier version and goes on with {settings}");
    }
    let mut sets = [earlier, args.config.sets.clone()].concat();
    let mut config = resolve(&recipe, &sets, args.named_values(kind.steps_key()))?;
    if let Some(run) = &run {
        sets.extend(sizes_of_run(run, &config.automatic)?);
        config = resolve(&recipe, &sets, args.named_values(kind.steps_key()))?;
    }
    Ok((config, recipe.name))
}

fn retention(config: &RunConfig) -> Retention {
    Retention {
        keep_last: config.checkpoint.keep_last,
        keep_best: config.checkpoint.keep_best,
    }
}

/// A frozen copy of the model that the run started from, if a KL term needs it.
fn reference(session: &Session) -> Result<Option<Decoder>, Failure> {
    if !session.config.needs_reference() {
        return Ok(None);
    }
    if let Some(learned) = &session.reward_model {
        // The same weights: the reward model reads the model that the run starts from.
        return Ok(Some(learned.base.clone()));
    }
    let decoder = load_decoder(&session.model.folder, &session.device).map_err(Failure::run)?;
    Ok(Some(decoder.valid()))
}

/// The run with its files and the state it goes on from.
fn start<'a>(
    session: &'a Session,
    kind: Kind,
    dir: &RunDir,
    is_resumed: bool,
    is_quiet: bool,
) -> Result<(Run<'a>, TrainState), Failure> {
    let store = CheckpointStore::new(&dir.checkpoints(), retention(&session.config))?;
    let identity = ConfigIdentity::of(&session.config)?;
    let optimizer = match kind {
        Kind::Reinforce => session.optimizer_settings(),
        Kind::Supervised => session.supervised_settings(),
    };
    let loss = session.loss()?;
    let controllers = Controllers::new(&session.config.control, &loss)
        .map_err(|err| Failure::usage(err).while_doing("use the section control"))?;
    let checkpoint = if is_resumed {
        newest(&store, &identity)?
    } else {
        None
    };
    let device = session.training_device();
    let plan = Plan::new(&session.config);
    let prompts = &session.data.train;
    let state = match &checkpoint {
        Some(path) => TrainState::load(path, &optimizer, &device).map_err(Failure::run)?,
        None => TrainState::fresh(
            first_policy(session, kind)?,
            &optimizer,
            controllers,
            SelectionState::fresh(prompts, plan.exploration()),
        ),
    };
    let checked = state.selection.check_data(prompts);
    checked.map_err(Failure::usage)?;
    let learned = session.config.reward.learned();
    if let (Some((path, _)), true) = (learned, session.reward_model.is_some()) {
        keep_copy(path, &dir.reward_model()).map_err(Failure::usage)?;
    }
    // Only now, when nothing can be refused any more, the run directory is written to.
    dir.write_config(&session.config.to_toml()?)?;
    let progress = Progress::new(
        ProgressMode::detect(is_quiet),
        state.counters.step,
        optimizer.total_steps,
    );
    let max_completions = session.config.log.completions_per_step;
    let log = match (&checkpoint, is_resumed) {
        (Some(_), _) => RunLog::resume(dir, state.counters.step, max_completions, progress)?,
        (None, true) => RunLog::restart(dir, max_completions, progress)?,
        (None, false) => RunLog::create(dir, max_completions, progress)?,
    };
    let objective = match kind {
        Kind::Reinforce => Objective::Reinforce(loss),
        Kind::Supervised => Objective::Supervised,
    };
    let run = Run {
        reference: reference(session)?,
        interrupt: Interrupt::on_ctrl_c(),
        predicted_peak_bytes: 0,
        started: Instant::now(),
        session,
        objective,
        optimizer,
        plan,
        log,
        store,
        identity,
    };
    Ok((run, state))
}

/// The newest whole checkpoint; damaged newer ones are named and passed over.
fn newest(store: &CheckpointStore, identity: &ConfigIdentity) -> Result<Option<PathBuf>, Failure> {
    let Search { found, rejected } = store.latest_valid()?;
    for damaged in &rejected {
        eprintln!(
            "warning: {} is passed over: {}",
            damaged.path.display(),
            damaged.damage
        );
    }
    let Some(checkpoint) = found else {
        eprintln!("there is no whole checkpoint yet: the run starts again from its first step");
        return Ok(None);
    };
    checkpoint.check_config(identity)?;
    Ok(Some(checkpoint.path))
}

/// The weights of before the first step.
fn first_policy(session: &Session, kind: Kind) -> Result<Decoder, Failure> {
    let (folder, device) = (&session.model.folder, session.training_device());
    if kind == Kind::Supervised && session.config.model.from_scratch {
        return Ok(Decoder::init(
            &folder.config,
            session.config.run.seed,
            &device,
        ));
    }
    load_decoder(folder, &device).map_err(Failure::usage)
}

fn announce(session: &Session, memory: &RunMemory, dir: &Path) {
    let (config, data) = (&session.config, &session.data);
    let model = &session.model.folder.config;
    eprintln!(
        "model {} ({:.1} M weights), {} training and {} held-out problems, backend {} in {}, about {} MiB",
        config.model.path,
        crate::rollout::memory::num_weights(model) as f64 / 1e6,
        data.train.len(),
        data.held_out.len().min(config.eval.problems),
        config.backend.kind,
        session.precision,
        memory.total_bytes() >> 20,
    );
    let report = &data.report;
    if report.num_duplicates + report.num_over_length + report.num_unreadable > 0 {
        eprintln!("data: {report}");
    }
    eprintln!("run directory {}", dir.display());
}

/// Validates, prints the resolved configuration and the memory estimate.
fn dry_run(session: &Session, memory: &RunMemory) -> Result<(), Failure> {
    println!("{}", session.config.to_toml()?);
    println!("# data: {}", session.data.report);
    println!(
        "# matrix products in {}; weights, everything else and the optimizer in f32",
        session.precision
    );
    let line = |name: &str, bytes: u64| println!("# {name:<42} {:>8} MiB", bytes.div_ceil(1 << 20));
    line("weights, optimizer, process", memory.training_bytes);
    line("model of the start (KL, reward)", memory.reference_bytes);
    line("rollouts", memory.rollout_bytes);
    println!(
        "#   {} completions at once, {} tokens each, cache {} MiB",
        memory.rollout.num_slots,
        memory.rollout.sequence_tokens,
        memory.rollout.kv_bytes.div_ceil(1 << 20)
    );
    line(
        "gradients and activations of the update",
        memory.update_bytes,
    );
    line("moments while a checkpoint is written", memory.save_bytes);
    line(
        "predicted peak (largest of the last three)",
        memory.total_bytes(),
    );
    Ok(())
}

fn conclude(summary: &RunSummary, dir: &Path, store: &CheckpointStore) -> Result<(), Failure> {
    let (path, dir) = (dir, dir.display());
    if summary.is_interrupted {
        println!(
            "stopped after step {} and saved; go on with: trainer --resume {dir}",
            summary.step
        );
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
    println!("{}", super::report::conclude(path)?);
    println!(
        "run directory: {dir}  (config.toml, metrics.jsonl, selection.jsonl, report.html, eval.jsonl)"
    );
    if let Some(checkpoint) = store.latest_valid()?.found {
        let model = model_of(&checkpoint.path);
        println!("trained model: {}", model.display());
        println!(
            "next: trainer eval --recipe {dir}/config.toml --model {} --samples 8 --temperature 1",
            model.display()
        );
    }
    Ok(())
}
