//! `trainer grade`: verdicts without a model.

use std::io::Write;

use crate::cli::{GradeArgs, resolve};
use crate::config::{DEFAULT_RECIPE, RecipeText};
use crate::failure::Failure;
use crate::grade;

/// Grades and gives the exit code.
///
/// # Errors
/// If a switch is unknown or a case cannot be read; the exit code is then 2.
pub fn run(args: &GradeArgs, out: &mut dyn Write) -> Result<u8, Failure> {
    let recipe = RecipeText::find(DEFAULT_RECIPE)?;
    let config = resolve(&recipe, &args.sets, Vec::new())?;
    let exit = grade::run(args, &config.verifier.policy(), out).map_err(Failure::usage)?;
    Ok(exit.code())
}
