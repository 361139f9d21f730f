//! Learned reward, truth and bound over KL, as the second picture of the page.

use serde::Serialize;

use super::learned::{Checkpoint, HeadPoint, Learned};
use super::picture::{Frame, LEFT, Mark, RIGHT, Tick, height};
use super::row::Measured;

#[derive(Serialize)]
struct Series {
    label: &'static str,
    colour: &'static str,
    legend_x: f64,
    /// Corners of the line, as SVG wants them.
    line: String,
    marks: Vec<Mark>,
}

/// The picture, for the template.
#[derive(Serialize)]
pub(super) struct LearnedChart {
    frame: Frame,
    series: Vec<Series>,
}

type Value = fn(&Checkpoint, &HeadPoint) -> Measured;

fn exact(value: f64) -> Measured {
    Measured {
        value,
        low: value,
        high: value,
    }
}

/// Legend, colour and value of each line.
const SERIES: [(&str, &str, Value); 4] = [
    ("learned reward", "#d55e00", |_, head| head.reward),
    ("truth (verifier)", "#0072b2", |at, _| at.truth),
    ("mean |reward - truth|", "#666666", |_, head| {
        head.absolute_error
    }),
    ("certified bound (R4)", "#cc79a7", |_, head| {
        exact(head.clipped_chi_square)
    }),
];

/// The picture of the run's reward; its line goes through the checkpoints in the order of steps.
pub(super) fn chart(found: &Learned) -> LearnedChart {
    let points: Vec<(&Checkpoint, &HeadPoint)> = found
        .checkpoints
        .iter()
        .filter_map(|at| Some((at, at.heads.last()?)))
        .collect();
    let widest = points.iter().map(|(at, _)| at.kl.value);
    let widest = widest.fold(1e-3, f64::max) * 1.05;
    let x = |kl: f64| LEFT + (RIGHT - LEFT) * (kl / widest).clamp(0.0, 1.0);
    let y = |value: f64| height(value, 1.0);
    let series = SERIES.iter().enumerate();
    let series = series.map(|(index, &(label, colour, value))| {
        let mark = |&(at, head): &(&Checkpoint, &HeadPoint)| {
            let found = value(at, head);
            Mark {
                x: x(at.kl.value),
                y: y(found.value),
                low: y(found.low),
                high: y(found.high),
                title: format!("step {}: {label} {:.4}", at.step, found.value),
            }
        };
        let marks: Vec<Mark> = points.iter().map(mark).collect();
        let corners = marks.iter().map(|it| format!("{:.1},{:.1}", it.x, it.y));
        Series {
            label,
            colour,
            legend_x: LEFT + 190.0 * index as f64,
            line: corners.collect::<Vec<_>>().join(" "),
            marks,
        }
    });
    let tick = |value: f64, at: f64| Tick {
        at,
        label: format!("{value:.2}"),
    };
    let quarters = || (0..=4).map(|quarter| f64::from(quarter) / 4.0);
    let x_ticks = quarters().map(|q| tick(q * widest, x(q * widest)));
    let y_ticks = quarters().map(|q| tick(q, y(q)));
    LearnedChart {
        frame: Frame::new(x_ticks.collect(), y_ticks.collect()),
        series: series.collect(),
    }
}
