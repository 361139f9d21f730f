//! The report as a table for a terminal.

use core::fmt::Write;

use super::row::{Measured, Report, Row, SetSummary};

/// Characters of the column of names.
const NAME: usize = 58;

/// The whole report as text.
pub fn table(report: &Report) -> String {
    let mut text = String::new();
    let sets = [("held-out", report.held_out), ("training", report.train)];
    for (name, set) in sets {
        text += &set.map_or_else(String::new, |set| summary_line(name, &set));
    }
    if let Some(error) = report.measured_error {
        text += &line(
            "measured error",
            &format!(
                "{}, training objective minus held-out truth",
                interval(error)
            ),
        );
    }
    if let Some(gap) = report.population_gap {
        let words = format!("{}, both sides uncertain", interval(gap));
        text += &line("gap of populations", &words);
    }
    if let Some(parts) = report.parts {
        let words = format!(
            "sampling {:+.4}, reward {:+.4}, clip {:+.4}",
            parts.sampling, parts.reward, parts.clip
        );
        text += &line("  its parts", &words);
    }
    text += &line("delta of a row", &format!("{}", report.delta));
    text += &format!(
        "\n{:<NAME$} {:>9} {:>9} {:>18} {:>7}  {}\n",
        "", "predicted", "measured", "95 % interval", "ratio", "standing"
    );
    let mut group = "";
    for row in &report.rows {
        if row.group != group {
            group = row.group;
            text += &format!("{group}\n");
        }
        text += &row_line(row);
    }
    for (heading, lines) in [("warning", &report.warnings), ("advice", &report.advice)] {
        for words in lines {
            text += &format!("{heading}: {words}\n");
        }
    }
    text
}

fn line(name: &str, words: &str) -> String {
    format!("{name:<22} {words}\n")
}

fn summary_line(name: &str, set: &SetSummary) -> String {
    let mut words = format!(
        "{} x {}, mean reward {}",
        set.n,
        set.k,
        interval(set.reward)
    );
    if let (Some(rollout), Some(prompt)) = (set.sigma_r2, set.sigma_p2) {
        let _ = write!(
            words,
            "; variance {prompt:.4} of prompts, {rollout:.4} of rollouts"
        );
    }
    line(&format!("{name} prompts"), &words)
}

fn interval(found: Measured) -> String {
    format!("{:.4} ({:.4} to {:.4})", found.value, found.low, found.high)
}

fn row_line(row: &Row) -> String {
    let number = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.4}"));
    let measured = row.measured;
    let ends = measured.map_or("-".into(), |it| format!("{:.4} to {:.4}", it.low, it.high));
    let ratio = row.ratio.map_or("-".into(), |ratio| format!("{ratio:.1}"));
    let mut standing = row.standing.to_string();
    if row.is_vacuous {
        standing += ", vacuous";
    }
    if row.is_violated {
        standing += ", VIOLATED";
    }
    let mut text = format!(
        "  {:<width$} {:>9} {:>9} {ends:>18} {ratio:>7}  {standing}\n",
        format!("{:<16} {}", row.id, row.name),
        number(row.predicted),
        number(measured.map(|it| it.value)),
        width = NAME - 2,
    );
    if !row.note.is_empty() {
        text += &format!("    {}\n", row.note);
    }
    text
}
