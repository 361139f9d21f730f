//! `trainer`: see `trainer --help` and the README.

use std::io;
use std::process::ExitCode;

use clap::Parser;
use trainer::cli::{Cli, Command};
use trainer::commands::{
    bench, bounds, calibrate, certify, compare, doctor, eval, generate, grade, plan, report,
    reward_model, score, train,
};
use trainer::failure::Failure;
use trainer::room::with_device_memory;

fn main() -> ExitCode {
    rlvr_backends::keep_freed_memory();
    let command = Cli::parse().into_command();
    match with_device_memory(|| run(command)) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("error: failed to {}", failure.chain());
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Train(args) => train::run(&args, train::Kind::Reinforce)?,
        Command::Sft(args) => train::run(&args, train::Kind::Supervised)?,
        Command::Compare(args) => compare::run(&args)?,
        Command::Calibrate(args) => calibrate::run(&args)?,
        Command::Eval(args) => eval::run(&args)?,
        Command::Generate(args) => generate::run(&args, &mut io::stdout().lock())?,
        Command::Score(args) => score::run(&args, &mut io::stdout().lock())?,
        Command::Report(args) => report::run(&args, &mut io::stdout().lock())?,
        Command::RewardModel(args) => reward_model::run(&args, &mut io::stdout().lock())?,
        Command::Bounds(args) => bounds::run(&args, &mut io::stdout().lock())?,
        Command::Certify(args) => certify::run(&args, &mut io::stdout().lock())?,
        Command::Bench(args) => bench::run(&args, &mut io::stdout().lock())?,
        Command::Plan(args) => plan::run(&args, &mut io::stdout().lock())?,
        Command::Doctor(args) => {
            return doctor::run(&args, &mut io::stdout().lock()).map(ExitCode::from);
        }
        Command::Grade(args) => {
            return grade::run(&args, &mut io::stdout().lock()).map(ExitCode::from);
        }
    }
    Ok(ExitCode::SUCCESS)
}
