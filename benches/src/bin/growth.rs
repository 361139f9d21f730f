//! Table and plot of what `cargo bench --bench growth` measured:
//!
//! `cargo run --release -p rlvr-benches --bin growth [CRITERION_DIR] [SVG]` prints the table and
//! writes the plot; by default from `target/criterion` to `benches/growth.svg`.

use std::error::Error;
use std::path::{Path, PathBuf};

use plotters::prelude::*;
use serde_json::Value;

/// The benches, and the power of their axis that their mathematics says at most.
const GROUPS: [(&str, &str, f64); 6] = [
    ("rollout_batch", "rows", 1.0),
    ("rollout_context", "tokens of context", 2.0),
    ("update_group", "G", 1.0),
    ("update_context", "tokens of the prompt", 2.0),
    ("selection_history", "prompts in history", 0.2),
    ("selection_digest", "prompts in history", 1.0),
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

/// Seconds by place relative to the first point, both logarithmic.
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
    let right = points().map(|point| point.0).fold(1.0, f64::max);
    let top = points().map(|point| point.1).fold(1.0, f64::max);
    let root = SVGBackend::new(path, (760, 480)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d((1.0..right).log_scale(), (0.5..top).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("times the smallest")
        .y_desc("times its seconds")
        .draw()?;
    for (index, (name, curve)) in relative.iter().enumerate() {
        let colour = Palette99::pick(index).to_rgba();
        chart
            .draw_series(LineSeries::new(
                curve.iter().copied(),
                colour.stroke_width(2),
            ))?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour));
    }
    chart
        .configure_series_labels()
        .background_style(WHITE)
        .border_style(BLACK)
        .position(SeriesLabelPosition::UpperLeft)
        .draw()?;
    root.present()?;
    Ok(())
}
