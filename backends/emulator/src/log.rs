//! Lines about calls that fail, for whoever looks for the reason.

use std::io::Write;

use crate::settings::settings;

/// Appends a line to the log, if there is one.
pub(crate) fn line(words: std::fmt::Arguments<'_>) {
    let Some(path) = &settings().log else {
        return;
    };
    let file = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(path);
    if let Ok(mut file) = file {
        // A log that cannot be written must not change what the program does.
        let _ = writeln!(file, "{words}");
    }
}
