//! `trainer report`: predictions beside measurements, from a run directory.

use std::io::Write;
use std::path::Path;

use crate::cli::ReportArgs;
use crate::failure::Failure;
use crate::report::learned::table as learned_table;
use crate::report::run_files::{Additions, RunReport, run_report, write};
use crate::report::statistics::Complexity;
use crate::report::table::table;

/// Writes `report.json` and `report.html` into the run directory and prints the table, or the
/// JSON.
///
/// # Errors
/// If the directory holds nothing to report on, or a number in it is not usable.
pub fn run(args: &ReportArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let additions = Additions {
        candidates: args.candidates,
        complexity: args.nats.map(|nats| Complexity::Nats { nats }),
        delta: args.delta,
    };
    let found = run_report(&args.run, additions).map_err(Failure::usage)?;
    let page = write(&args.run, &found).map_err(Failure::run)?;
    if args.json {
        let json = serde_json::to_string_pretty(&found).map_err(Failure::run)?;
        return writeln!(out, "{json}").map_err(Failure::run);
    }
    print(&found, &page, out).map_err(Failure::run)
}

fn print(found: &RunReport, page: &Path, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "{}", found.source)?;
    write!(out, "{}", table(&found.report))?;
    if let Some(learned) = &found.learned {
        write!(out, "{}", learned_table(learned))?;
    }
    writeln!(out, "page: {}", page.display())
}

/// The report at the end of a run: written to its directory, not printed. Returns what to say of
/// it; a run with too few prompts for an interval has none, and is told why.
///
/// # Errors
/// If the disk refuses.
pub fn conclude(dir: &Path) -> Result<String, Failure> {
    let found = match run_report(dir, Additions::default()) {
        Ok(found) => found,
        Err(error) => return Ok(format!("no report: failed to {error}")),
    };
    let page = write(dir, &found).map_err(Failure::run)?;
    Ok(format!(
        "report: {}  (as a table: trainer report --run {})",
        page.display(),
        dir.display()
    ))
}
