//! `trainer plan`: how to spend a budget on evaluation.

use std::io::Write;

use crate::cli::PlanArgs;
use crate::failure::Failure;
use crate::report::plan::{Pairs, PlanError, Situation, plan, table};
use crate::report::run_costs::{Measurements, Unit, measurements};

/// Prints the plan as a table, or as JSON.
///
/// # Errors
/// If something is neither given nor measured, or the budget buys too little.
pub fn run(args: &PlanArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let (unit, budget) = budget(args);
    let measured = match &args.run {
        Some(dir) => measurements(dir, unit).map_err(Failure::usage)?,
        None => Measurements::default(),
    };
    let free = matches!(unit, Unit::Completions);
    let need = |name: &str, given: Option<f64>, measured: Option<f64>| {
        given.or(measured).ok_or_else(|| {
            Failure::usage(PlanError::Missing(format!(
                "{name} is not known; give it, or --run a directory that measured it"
            )))
        })
    };
    let situation = Situation {
        sigma_p2: need(
            "--variance-prompts",
            args.variance_prompts,
            measured.sigma_p2,
        )?,
        sigma_r2: need(
            "--variance-rollouts",
            args.variance_rollouts,
            measured.sigma_r2,
        )?,
        prefill: need(
            "--prefill",
            args.prefill,
            free.then_some(0.0).or(measured.prefill),
        )?,
        decode: need(
            "--decode",
            args.decode,
            free.then_some(1.0).or(measured.decode),
        )?,
        delta: args.delta,
        budget,
    };
    let pairs = args.pair_cost.zip(args.pair_slope);
    let pairs = pairs.map(|(cost, slope)| Pairs { cost, slope });
    let found = plan(situation, pairs).map_err(Failure::usage)?;
    if args.json {
        let json = serde_json::to_string_pretty(&found).map_err(Failure::run)?;
        return writeln!(out, "{json}").map_err(Failure::run);
    }
    write!(out, "{}", table(&found, unit.name())).map_err(Failure::run)
}

/// Exactly one of the three is given.
fn budget(args: &PlanArgs) -> (Unit, f64) {
    match (
        args.budget_secs,
        args.budget_tokens,
        args.budget_completions,
    ) {
        (Some(secs), _, _) => (Unit::Secs, secs),
        (None, Some(tokens), _) => (Unit::Tokens, tokens),
        (None, None, completions) => (Unit::Completions, completions.unwrap_or_default()),
    }
}
