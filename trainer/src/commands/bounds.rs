//! `trainer bounds`: every bound from a file of statistics, for runs of any trainer.

use std::io::{Read, Write};
use std::path::Path;

use crate::cli::BoundsArgs;
use crate::failure::Failure;
use crate::report::predict::report;
use crate::report::read_statistics::read_statistics;
use crate::report::statistics::{Statistics, StatisticsError};
use crate::report::table::table;
use crate::report::verl::read_verl;

/// Reads statistics and prints the report as JSON, or as a table.
///
/// # Errors
/// If the file is not the documented JSON or a number in it cannot be used; it is named.
pub fn run(args: &BoundsArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let statistics = statistics(args).map_err(Failure::usage)?;
    let found = report(&statistics).map_err(Failure::usage)?;
    if args.table {
        return write!(out, "{}", table(&found)).map_err(Failure::run);
    }
    let json = serde_json::to_string_pretty(&found).map_err(Failure::run)?;
    writeln!(out, "{json}").map_err(Failure::run)
}

fn statistics(args: &BoundsArgs) -> Result<Statistics, StatisticsError> {
    match (&args.input, &args.from_verl) {
        (Some(input), _) => read_statistics(&input.display().to_string(), &text_of(input)?),
        (None, Some(dir)) => Ok(Statistics {
            candidates: args.candidates,
            ..read_verl(dir)?
        }),
        (None, None) => Err(StatisticsError::Nothing),
    }
}

fn text_of(path: &Path) -> Result<String, StatisticsError> {
    let io = |source| StatisticsError::Io {
        path: path.into(),
        source,
    };
    if path == Path::new("-") {
        let mut text = String::new();
        return std::io::stdin()
            .read_to_string(&mut text)
            .map(|_| text)
            .map_err(io);
    }
    std::fs::read_to_string(path).map_err(io)
}
