//! Table and plot of what `cargo bench --bench growth` measured:
//!
//! `cargo run --release -p rlvr-benches --bin growth [CRITERION_DIR] [SVG]` prints the table and
//! writes the plot; by default from `target/criterion` to `benches/growth.svg`.

use std::error::Error;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// The benches, and the power of their axis that their mathematics says at most.
const GROUPS: [(&str, &str, f64); 6] = [
    ("rollout_batch", "rows", 1.0),
    ("rollout_context", "tokens of context", 2.0),
    ("update_group", "G", 1.0),
    ("update_context", "tokens of the prompt", 2.0),
    ("selection_history", "prompts in history", 0.2),
    ("selection_digest", "prompts in history", 0.2),
];

/// Seconds by place on the axis, ascending.
type Curve = Vec<(f64, f64)>;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".into());
    let data = arguments.next().map(PathBuf::from);
    let data = data.unwrap_or_else(|| Path::new(&target).join("criterion"));
    let svg = arguments
        .next()
        .unwrap_or_else(|| "benches/growth.svg".into());
    let mut curves = Vec::new();
    for (name, axis, most) in GROUPS {
        let curve = read(&data.join(name))?;
        if curve.len() > 1 {
            println!("{}", row(name, axis, most, &curve));
            curves.push((name, curve));
        }
    }
    if curves.is_empty() {
        return Err(format!("no figures of the bench `growth` in {}", data.display()).into());
    }
    draw(Path::new(&svg), &curves)
}

/// The median of every point of one group.
fn read(folder: &Path) -> Result<Curve, Box<dyn Error>> {
    let mut curve = Vec::new();
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Ok(curve);
    };
    for entry in entries {
        let entry = entry?;
        let Some(place) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let text = std::fs::read_to_string(entry.path().join("new/estimates.json"))?;
        let estimates: Value = serde_json::from_str(&text)?;
        let nanoseconds = estimates["median"]["point_estimate"].as_f64();
        curve.push((place, nanoseconds.ok_or("no median")? / 1e9));
    }
    curve.sort_by(|a: &(f64, f64), b| a.0.total_cmp(&b.0));
    Ok(curve)
}

/// Largest and last power by which cost grows from one point to the next.
fn row(name: &str, axis: &str, most: f64, curve: &Curve) -> String {
    let powers: Vec<f64> = curve
        .windows(2)
        .map(|pair| (pair[1].1 / pair[0].1).ln() / (pair[1].0 / pair[0].0).ln())
        .collect();
    let largest = powers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let points = curve
        .iter()
        .map(|(place, secs)| format!("{place}: {:.3}", secs * 1e3))
        .collect::<Vec<_>>()
        .join(", ");
    format!("| {name} | {axis} | {points} | {largest:.2} | {most} |")
}

const SIZE: (f64, f64) = (760.0, 480.0);
/// Left, top, right and bottom.
const MARGIN: [f64; 4] = [60.0, 16.0, 180.0, 44.0];
const COLOURS: [&str; 6] = [
    "#1b6ca8", "#d1495b", "#3a7d44", "#8e5ea2", "#c77d0a", "#444444",
];

/// From the decades of both axes to pixels.
struct Frame {
    right: f64,
    top: f64,
}

impl Frame {
    fn place(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let width = SIZE.0 - MARGIN[0] - MARGIN[2];
        let height = SIZE.1 - MARGIN[1] - MARGIN[3];
        let across = x.log10() / self.right;
        // Half a decade below the first point, for what gets no slower.
        let up = (y.log10() + 0.5) / (self.top + 0.5);
        (MARGIN[0] + across * width, MARGIN[1] + (1.0 - up) * height)
    }
}

/// Seconds by place, both relative to the first point and logarithmic.
fn draw(path: &Path, curves: &[(&str, Curve)]) -> Result<(), Box<dyn Error>> {
    let relative: Vec<(&str, Curve)> = curves
        .iter()
        .map(|(name, curve)| {
            let (x, y) = curve[0];
            let curve = curve.iter().map(|point| (point.0 / x, point.1 / y));
            (*name, curve.collect())
        })
        .collect();
    let points = || relative.iter().flat_map(|(_, curve)| curve);
    let decades = |most: f64| most.log10().ceil().max(1.0);
    let frame = Frame {
        right: decades(points().map(|point| point.0).fold(1.0, f64::max)),
        top: decades(points().map(|point| point.1).fold(1.0, f64::max)),
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        SIZE.0, SIZE.1
    );
    grid(&frame, &mut svg);
    for (index, (name, curve)) in relative.iter().enumerate() {
        line(&frame, index, name, curve, &mut svg);
    }
    svg.push_str("</svg>\n");
    Ok(std::fs::write(path, svg)?)
}

fn grid(frame: &Frame, svg: &mut String) {
    let mut stroke = |from: (f64, f64), to: (f64, f64), text: &str, shift: (f64, f64)| {
        let ((x1, y1), (x2, y2)) = (frame.place(from), frame.place(to));
        let (x, y) = (x1 + shift.0, y1 + shift.1);
        svg.push_str(&format!(
            "<path d=\"M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{text}</text>\n"
        ));
    };
    let (far, high) = (10f64.powf(frame.right), 10f64.powf(frame.top));
    let low = 10f64.powf(-0.5);
    for decade in 0..=frame.right as i32 {
        let x = 10f64.powi(decade);
        stroke((x, low), (x, high), &format!("{x}"), (0.0, 16.0));
    }
    for decade in 0..=frame.top as i32 {
        let y = 10f64.powi(decade);
        stroke((1.0, y), (far, y), &format!("{y}"), (-24.0, 4.0));
    }
    svg.push_str(&format!(
        "<text x=\"{}\" y=\"{}\">seconds over size, both as multiples of the smallest</text>\n",
        MARGIN[0],
        SIZE.1 - 8.0
    ));
}

fn line(frame: &Frame, index: usize, name: &str, curve: &Curve, svg: &mut String) {
    let colour = COLOURS[index % COLOURS.len()];
    let places: Vec<String> = curve
        .iter()
        .map(|&point| frame.place(point))
        .map(|(x, y)| format!("{x:.1},{y:.1}"))
        .collect();
    let (x, y) = (
        SIZE.0 - MARGIN[2] + 12.0,
        MARGIN[1] + 20.0 * (index + 1) as f64,
    );
    svg.push_str(&format!(
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\n\
         <text x=\"{x:.1}\" y=\"{y:.1}\" fill=\"{colour}\">{name}</text>\n",
        places.join(" ")
    ));
}
