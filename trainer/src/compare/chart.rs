//! Accuracy against a cost, as a picture: the mean over seeds of each arm with its interval.

use std::fmt::Write as _;

use super::report::SeedCurves;
use super::statistics::{estimate, interpolate};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 190.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 44.0;
/// Places along the axis at which the mean is drawn.
const GRID: usize = 60;
/// Colours that stay apart for most readers (Okabe and Ito, 2008), then greys.
const COLOURS: [&str; 11] = [
    "#0072b2", "#e69f00", "#d55e00", "#009e73", "#56b4e9", "#cc79a7", "#f0c000", "#7f3c8d",
    "#666666", "#999999", "#000000",
];

/// A mean curve: cost, mean, interval.
type Mean = Vec<(f64, f64, Option<(f64, f64)>)>;

/// The picture.
pub(super) fn chart(arms: &[(String, SeedCurves)], x_name: &str) -> String {
    let means: Vec<Mean> = arms.iter().map(|(_, runs)| mean_curve(runs)).collect();
    let points = || means.iter().flatten();
    let most_x = points().map(|it| it.0).fold(0.0, f64::max).max(1e-9);
    let most_y = points()
        .map(|it| it.2.map_or(it.1, |(_, high)| high))
        .fold(0.0, f64::max)
        .clamp(0.05, 1.0);
    let at = |x: f64, y: f64| {
        let (width, height) = (WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
        let (x, y) = (x / most_x, y.clamp(0.0, most_y) / most_y);
        (LEFT + x * width, HEIGHT - BOTTOM - y * height)
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         role=\"img\" font-family=\"sans-serif\" font-size=\"12\">\n"
    );
    axes(&mut svg, most_x, most_y, x_name, &at);
    for (number, ((name, _), mean)) in arms.iter().zip(&means).enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        band(&mut svg, mean, colour, &at);
        line(&mut svg, mean, colour, &at);
        let y = TOP + 16.0 * (number as f64 + 1.0);
        let x = WIDTH - RIGHT + 14.0;
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"{:.0}\" width=\"14\" height=\"4\" fill=\"{colour}\"/>\
             <text x=\"{:.0}\" y=\"{y:.0}\">{name}</text>",
            y - 6.0,
            x + 20.0
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// Mean over the seeds, as far as all of them go.
fn mean_curve(runs: &SeedCurves) -> Mean {
    let ends = runs.iter().filter_map(|it| it.last()).map(|it| it.0);
    let end = ends.fold(f64::INFINITY, f64::min);
    if runs.is_empty() || !end.is_finite() {
        return Vec::new();
    }
    let place = |number: usize| {
        let x = end * number as f64 / GRID as f64;
        let values: Vec<f64> = runs.iter().filter_map(|run| interpolate(run, x)).collect();
        let found = estimate(&values).filter(|_| values.len() == runs.len())?;
        Some((x, found.mean, found.interval))
    };
    (0..=GRID).filter_map(place).collect()
}

fn axes(
    svg: &mut String,
    most_x: f64,
    most_y: f64,
    x_name: &str,
    at: &impl Fn(f64, f64) -> (f64, f64),
) {
    for tick in 0..=4 {
        let share = f64::from(tick) / 4.0;
        let (left, y) = at(0.0, share * most_y);
        let (right, _) = at(most_x, 0.0);
        let _ = writeln!(
            svg,
            "<line x1=\"{left:.1}\" x2=\"{right:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\" \
             stroke=\"#ddd\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{:.2}</text>",
            left - 6.0,
            y + 4.0,
            share * most_y
        );
        let (x, bottom) = at(share * most_x, 0.0);
        let _ = writeln!(
            svg,
            "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{:.0}</text>",
            bottom + 16.0,
            share * most_x
        );
    }
    let (x, y) = at(most_x / 2.0, 0.0);
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{x_name}</text>",
        y + 34.0
    );
}

fn band(svg: &mut String, mean: &Mean, colour: &str, at: &impl Fn(f64, f64) -> (f64, f64)) {
    let ends: Vec<(f64, (f64, f64))> = mean.iter().filter_map(|it| Some((it.0, it.2?))).collect();
    let upper = ends.iter().map(|(x, (_, high))| at(*x, *high));
    let lower = ends.iter().rev().map(|(x, (low, _))| at(*x, *low));
    let outline: Vec<String> = upper
        .chain(lower)
        .map(|(x, y)| format!("{x:.1},{y:.1}"))
        .collect();
    if !outline.is_empty() {
        let outline = outline.join(" ");
        let _ = writeln!(
            svg,
            "<polygon points=\"{outline}\" fill=\"{colour}\" opacity=\"0.10\"/>"
        );
    }
}

fn line(svg: &mut String, mean: &Mean, colour: &str, at: &impl Fn(f64, f64) -> (f64, f64)) {
    let places = mean.iter().map(|(x, y, _)| at(*x, *y));
    let places: Vec<String> = places.map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
        places.join(" ")
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_goes_as_far_as_every_seed() {
        let runs = vec![vec![(0.0, 0.2), (10.0, 0.4)], vec![(0.0, 0.4), (20.0, 0.8)]];
        let mean = mean_curve(&runs);
        assert_eq!(mean.len(), GRID + 1);
        let (x, y, interval) = mean[GRID];
        assert_eq!((x, interval), (10.0, None));
        assert!((y - 0.5).abs() < 1e-12);
        assert!(mean_curve(&Vec::new()).is_empty());
    }

    #[test]
    fn a_chart_has_a_line_and_a_name_per_arm() {
        let run = |gain: f64| vec![(0.0, 0.2), (10.0, 0.2 + gain)];
        let arms = vec![
            ("one".to_string(), vec![run(0.1), run(0.2), run(0.3)]),
            ("two".to_string(), vec![run(0.4)]),
            ("none".to_string(), Vec::new()),
        ];
        let svg = chart(&arms, "completions");
        assert_eq!(svg.matches("<polyline").count(), 3);
        assert_eq!(svg.matches("<polygon").count(), 1);
        assert!(svg.contains(">one<") && svg.contains(">completions<"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}
