//! What the pictures of the page share: their frame, its axes, and values with an interval.

use serde::Serialize;

/// Size of a picture, in SVG units.
const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 340.0;
/// Edges of its plot.
pub(super) const LEFT: f64 = 60.0;
pub(super) const RIGHT: f64 = 840.0;
pub(super) const TOP: f64 = 30.0;
pub(super) const BOTTOM: f64 = 285.0;

/// A tick of an axis.
#[derive(Serialize)]
pub(super) struct Tick {
    pub at: f64,
    pub label: String,
}

/// A value with the ends of its interval, in the units of the picture.
#[derive(Serialize)]
pub(super) struct Mark {
    pub x: f64,
    pub y: f64,
    pub low: f64,
    pub high: f64,
    pub title: String,
}

/// A picture's size and axes.
#[derive(Serialize)]
pub(super) struct Frame {
    width: f64,
    height: f64,
    left: f64,
    right: f64,
    x_ticks: Vec<Tick>,
    y_ticks: Vec<Tick>,
}

impl Frame {
    pub(super) fn new(x_ticks: Vec<Tick>, y_ticks: Vec<Tick>) -> Self {
        Self {
            width: WIDTH,
            height: HEIGHT,
            left: LEFT,
            right: RIGHT,
            x_ticks,
            y_ticks,
        }
    }
}

/// Height of `value` on an axis from 0 to `top`; what is above stands at the top.
pub(super) fn height(value: f64, top: f64) -> f64 {
    BOTTOM - (BOTTOM - TOP) * (value / top).clamp(0.0, 1.0)
}
