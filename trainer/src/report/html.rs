//! The report as a self-contained page: one section with a picture and the table.

use minijinja::{AutoEscape, Environment, context};
use serde::Serialize;

use super::history::Point;
use super::learned::Learned;
use super::learned_chart;
use super::picture::{Frame, LEFT, Mark, RIGHT, Tick, height};
use super::row::{Measured, Report, Row};

/// Sampling, reward shift, clipping.
const FILLS: [(&str, &str); 3] = [
    ("sampling", "#7aa6c2"),
    ("reward shift", "#e0a458"),
    ("KL clipping", "#8f6bb3"),
];

#[derive(Serialize)]
struct Bar {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
    fill: &'static str,
    title: String,
}

#[derive(Serialize)]
struct Entry {
    x: f64,
    fill: &'static str,
    label: &'static str,
}

#[derive(Serialize)]
struct Chart {
    frame: Frame,
    bars: Vec<Bar>,
    marks: Vec<Mark>,
    legend: Vec<Entry>,
}

#[derive(Serialize)]
struct Cells {
    heading: Option<&'static str>,
    class: &'static str,
    id: String,
    name: String,
    predicted: String,
    measured: String,
    interval: String,
    ratio: String,
    certified: &'static str,
    vacuous: &'static str,
    standing: &'static str,
    note: String,
}

/// The page.
///
/// # Errors
/// If the template does not fit its values, which a test rules out.
pub fn page(
    title: &str,
    report: &Report,
    points: &[Point],
    learned: Option<&Learned>,
) -> Result<String, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.add_template("page", include_str!("page.html"))?;
    environment.get_template("page")?.render(context! {
        title,
        lines => lines(report),
        chart => chart(points),
        learned,
        learned_chart => learned.map(learned_chart::chart),
        rows => cells(&report.rows),
        remarks => remarks(report),
    })
}

fn shown(found: Measured) -> String {
    format!("{:.4} ({:.4} to {:.4})", found.value, found.low, found.high)
}

fn lines(report: &Report) -> Vec<String> {
    let sets = [("Held-out", report.held_out), ("Training", report.train)];
    let mut lines: Vec<String> = sets
        .into_iter()
        .filter_map(|(name, set)| Some((name, set?)))
        .map(|(name, set)| {
            let reward = shown(set.reward);
            format!(
                "{name} prompts: {} with {} rollouts each, mean reward {reward}.",
                set.n, set.k
            )
        })
        .collect();
    if let Some(error) = report.measured_error {
        lines.push(format!(
            "Measured error, training objective minus held-out truth: {}.",
            shown(error)
        ));
    }
    if let Some(gap) = report.population_gap {
        lines.push(format!(
            "Gap of the populations, both sides uncertain: {}.",
            shown(gap)
        ));
    }
    lines
}

fn remarks(report: &Report) -> Vec<String> {
    let warnings = report
        .warnings
        .iter()
        .map(|line| format!("Warning: {line}"));
    warnings.chain(report.advice.iter().cloned()).collect()
}

fn cells(rows: &[Row]) -> Vec<Cells> {
    let number = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.4}"));
    let yes = |holds: bool| if holds { "yes" } else { "no" };
    let mut group = "";
    rows.iter()
        .map(|row| {
            let is_new = row.group != group;
            group = row.group;
            Cells {
                heading: is_new.then_some(row.group),
                class: match (row.is_violated, row.is_vacuous) {
                    (true, _) => "violated",
                    (false, true) => "vacuous",
                    (false, false) => "",
                },
                id: row.id.clone(),
                name: row.name.clone(),
                predicted: number(row.predicted),
                measured: number(row.measured.map(|it| it.value)),
                interval: row.measured.map_or(String::new(), |it| {
                    format!("{:.4} to {:.4}", it.low, it.high)
                }),
                ratio: row
                    .ratio
                    .map_or(String::new(), |ratio| format!("{ratio:.1}")),
                certified: yes(row.is_certified),
                vacuous: yes(row.is_vacuous),
                standing: row.standing,
                note: row.note.clone(),
            }
        })
        .collect()
}

/// Absolute value of an error's interval.
fn absolute(error: Measured) -> Measured {
    Measured {
        value: error.value.abs(),
        low: error.low.max(-error.high).max(0.0),
        high: error.low.abs().max(error.high.abs()),
    }
}

fn chart(points: &[Point]) -> Option<Chart> {
    if points.is_empty() {
        return None;
    }
    let stacks = |point: &Point| [point.sampling, point.reward_shift, point.clip];
    let tallest = points.iter().map(|point| {
        let error = point.error.map_or(0.0, |error| absolute(error).high);
        stacks(point).iter().sum::<f64>().max(error)
    });
    let top = nice(tallest.fold(1e-6, f64::max));
    let y = |value: f64| height(value, top);
    let slot = (RIGHT - LEFT) / points.len() as f64;
    let (mut bars, mut marks, mut x_ticks) = (Vec::new(), Vec::new(), Vec::new());
    for (index, point) in points.iter().enumerate() {
        let centre = LEFT + slot * (index as f64 + 0.5);
        let width = (slot * 0.4).min(46.0);
        let mut below = 0.0;
        for (part, (label, fill)) in stacks(point).into_iter().zip(FILLS) {
            let (low, high) = (y(below), y(below + part));
            below += part;
            bars.push(Bar {
                x: centre - width,
                y: high,
                width,
                height: low - high,
                fill,
                title: format!("step {}: {label} {part:.4}", point.step),
            });
        }
        if let Some(error) = point.error {
            let found = absolute(error);
            marks.push(Mark {
                x: centre + width * 0.4,
                y: y(found.value),
                low: y(found.low),
                high: y(found.high),
                title: format!("step {}: measured {}", point.step, shown(error)),
            });
        }
        let label = point.step.to_string();
        x_ticks.push(Tick { at: centre, label });
    }
    let y_ticks = (0..=4).map(|tick| {
        let value = top * f64::from(tick) / 4.0;
        Tick {
            at: y(value),
            label: format!("{value:.3}"),
        }
    });
    let legend = FILLS.into_iter().enumerate();
    let legend = legend.map(|(index, (label, fill))| Entry {
        x: LEFT + 130.0 * index as f64,
        fill,
        label,
    });
    Some(Chart {
        frame: Frame::new(x_ticks, y_ticks.collect()),
        bars,
        marks,
        legend: legend.collect(),
    })
}

/// The next of 1, 2, 4 or 10 times a power of ten.
fn nice(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 4.0, 10.0].map(|step| step * power);
    steps
        .into_iter()
        .find(|step| *step >= value)
        .unwrap_or(value)
}
