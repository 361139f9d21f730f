//! `trainer compare`: arms of prompt selection against each other, several seeds each.

use std::path::Path;
use std::sync::Mutex;

use toml::Value;

use crate::cli::{CompareArgs, resolve};
use crate::compare::{
    ARMS, Arm, Job, JobState, OutcomeError, Report, Runs, RunsError, arms, read_outcome,
};
use crate::config::{RecipeText, RunConfig};
use crate::failure::Failure;

/// The recipe of a comparison that names none.
const DEFAULT_RECIPE: &str = "edge";

/// Makes the runs that are missing and writes `report.md` and `report.html`.
///
/// # Errors
/// If the configuration cannot be used, or a file cannot be written. A run that fails is listed in
/// the report.
pub fn run(args: &CompareArgs) -> Result<(), Failure> {
    let recipe = RecipeText::find(args.config.recipe.as_deref().unwrap_or(DEFAULT_RECIPE))?;
    let chosen = match &args.arms {
        Some(list) => arms(list).map_err(Failure::usage)?,
        None => ARMS.to_vec(),
    };
    let jobs = jobs(args, &recipe, &chosen)?;
    let title = format!("Prompt selection compared: recipe {}", recipe.name);
    let runs = Runs {
        program: std::env::current_exe().map_err(Failure::run)?,
        jobs,
        num_at_once: args.jobs as usize,
    };
    let states = Mutex::new(known_states(&runs)?);
    let write = |states: &[JobState]| write_report(&title, &chosen, &runs, states, &args.out);
    if !args.report_only {
        let note = |place: usize, state: &JobState| {
            let Ok(mut states) = states.lock() else {
                return;
            };
            states[place] = state.clone();
            tell(args.quiet, &runs.jobs[place], state);
            if let Err(failure) = write(&states) {
                eprintln!("warning: failed to {}", failure.chain());
            }
        };
        runs.complete(&note)?;
    }
    let states = states.into_inner().unwrap_or_default();
    let report = write(&states)?;
    if !args.quiet {
        print!("{}", report.to_markdown());
    }
    Ok(())
}

/// One job per seed and arm, seed after seed.
fn jobs(args: &CompareArgs, recipe: &RecipeText, chosen: &[Arm]) -> Result<Vec<Job>, Failure> {
    let mut jobs = Vec::new();
    for number in 0..args.seeds {
        for arm in chosen {
            let config = configuration(args, recipe, arm, number)?;
            let seed = config.run.seed;
            let dir = args.out.join("runs").join(arm.name);
            let dir = std::path::absolute(dir.join(format!("seed-{seed}")));
            let dir = dir.map_err(Failure::run)?;
            let arm = *arm;
            jobs.push(Job {
                arm,
                seed,
                config,
                dir,
            });
        }
    }
    Ok(jobs)
}

/// The recipe under `--set` and the flags, with the arm and the number of the seed above the
/// recipe's own, and what depends on the device decided as the run itself will decide it.
fn configuration(
    args: &CompareArgs,
    recipe: &RecipeText,
    arm: &Arm,
    number: u64,
) -> Result<RunConfig, Failure> {
    let mut named = args.config.named_values();
    if let Some(model) = named.iter_mut().find(|it| it.key == "model.path")
        && let Some(path) = model.value.as_str().map(Path::new)
        && path.is_dir()
        && let Ok(path) = std::path::absolute(path)
    {
        model.value = Value::String(path.display().to_string());
    }
    let mut sets = args.config.sets.clone();
    // An arm's own keys win over those of the recipe's arm.
    sets.push(format!("selection.method={}", arm.method));
    sets.extend(arm.sets.iter().map(|it| (*it).to_string()));
    let mut config = resolve(recipe, &sets, named)?;
    config.run.seed += number;
    let device = rlvr_backends::device(config.backend.kind)?;
    config.decide_for(&device)?;
    Ok(config)
}

fn known_states(runs: &Runs) -> Result<Vec<JobState>, RunsError> {
    runs.jobs.iter().map(Job::state).collect()
}

fn tell(is_quiet: bool, job: &Job, state: &JobState) {
    if is_quiet {
        return;
    }
    let words = match state {
        JobState::Complete => "complete".to_string(),
        JobState::Open => "not finished".to_string(),
        JobState::Failed(words) => format!("failed: {words}"),
    };
    eprintln!("{} seed {}: {words}", job.arm.name, job.seed);
}

fn write_report(
    title: &str,
    chosen: &[Arm],
    runs: &Runs,
    states: &[JobState],
    out: &Path,
) -> Result<Report, Failure> {
    let mut report = Report::new(title.into(), chosen);
    for (job, state) in runs.jobs.iter().zip(states) {
        match state {
            JobState::Complete => report.add(job, read_outcome(&job.dir)?),
            JobState::Open | JobState::Failed(_) => report.miss(job, state),
        }
    }
    std::fs::create_dir_all(out).map_err(Failure::run)?;
    let comparisons = serde_json::to_string_pretty(&report.comparisons()).map_err(Failure::run)?;
    for (name, text) in [
        ("report.md", report.to_markdown()),
        ("report.html", report.to_html()),
        ("comparisons.json", comparisons + "\n"),
    ] {
        std::fs::write(out.join(name), text).map_err(Failure::run)?;
    }
    Ok(report)
}

impl From<RunsError> for Failure {
    fn from(error: RunsError) -> Self {
        match error {
            RunsError::Config(error) => error.into(),
            RunsError::OtherConfig { .. } => Self::usage(error),
            RunsError::Io { .. } => Self::run(error),
        }
    }
}

impl From<OutcomeError> for Failure {
    fn from(error: OutcomeError) -> Self {
        Self::run(error)
    }
}
