//! The real binary, as a user starts it.

use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Runs `trainer` in a folder, without input, to its end.
pub fn trainer_in(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trainer"))
        .args(args)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// What it said on standard error.
pub fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
