//! `trainer reward-model`: a learned reward from completions that the verifier has graded.

use std::io::Write;

use burn::module::Module;

use crate::cli::{RewardModelArgs, resolve};
use crate::config::{DEFAULT_RECIPE, RecipeText};
use crate::failure::Failure;
use crate::reward::RewardConfig;
use crate::reward_model::build::build;
use crate::reward_model::file::{DESCRIPTION, Description};
use crate::reward_model::pair_slope;
use crate::session::Session;
use crate::state::load_decoder;

/// Makes the reward model, saves it, and prints what each of its heads is worth.
///
/// # Errors
/// If the configuration or an input fails, there are too few pairs, or the folder holds a reward
/// model already.
pub fn run(args: &RewardModelArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let recipe = RecipeText::find(args.config.recipe.as_deref().unwrap_or(DEFAULT_RECIPE))?;
    let mut config = resolve(&recipe, &args.config.sets, args.config.named_values())?;
    if args.out.join(DESCRIPTION).exists() {
        return Err(Failure::usage(format!(
            "make a reward model in {}: there is one already; choose another --out",
            args.out.display()
        )));
    }
    // The truth is the verdict, whatever the recipe pays for.
    config.reward.components = RewardConfig::default().components;
    let session = Session::open(config)?;
    let base = load_decoder(&session.model.folder, &session.device).map_err(Failure::usage)?;
    let found = build(&session, &base.valid()).map_err(Failure::usage)?;
    found.save(&args.out).map_err(Failure::run)?;
    if args.json {
        let json = serde_json::to_string_pretty(&found.description).map_err(Failure::run)?;
        return writeln!(out, "{json}").map_err(Failure::run);
    }
    print(&found.description, out).map_err(Failure::run)?;
    writeln!(out, "reward model: {}", args.out.display()).map_err(Failure::run)
}

fn print(found: &Description, out: &mut dyn Write) -> std::io::Result<()> {
    let base = &found.base;
    writeln!(
        out,
        "hidden states of {} (weights {:.12}), {} wide: {}",
        base.model, base.sha256, base.width, base.layer
    )?;
    writeln!(
        out,
        "\n{:>6} {:>15} {:>18} {:>12} {:>12} {:>12}",
        "pairs", "held-out pairs", "95 % interval", "calibration", "mean |error|", "root of L2"
    )?;
    for head in &found.heads {
        let count = head.errors.len() as f64;
        let absolute = head.errors.iter().map(|e| e.abs()).sum::<f64>() / count;
        let squares = head.errors.iter().map(|e| e * e).sum::<f64>() / count;
        let share = head.pair_accuracy;
        writeln!(
            out,
            "{:>6} {:>15} {:>18} {:>12.4} {absolute:>12.4} {:>12.4}",
            head.num_pairs,
            format!("{:.3} of {}", share.value, head.num_held_out_pairs),
            format!("{:.3} to {:.3}", share.low, share.high),
            head.calibration_error,
            squares.sqrt(),
        )?;
    }
    if let Some(slope) = pair_slope(&found.heads) {
        writeln!(
            out,
            "\nfit of L2 = floor + G^2 / pairs: G = {slope:.3}; times the coverage sqrt(1 + chi2) it is \
             `trainer plan --pair-slope`"
        )?;
    }
    Ok(())
}
