//! Where the learning edge is and how it moves: mean utility over pass rate and response entropy,
//! per phase of training, as data and as a picture.
//!
//! The picture is that of HIVE (arXiv 2603.25184): utility is largest at intermediate pass rate
//! and high response entropy, and that region moves as the policy improves.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::record::GroupRecord;

/// Parts of a run.
const NUM_PHASES: u64 = 3;
/// Columns of the map.
const PASS_BINS: usize = 9;
/// Rows of the map.
const ENTROPY_BINS: usize = 8;

/// Utility over pass rate and response entropy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EdgeMap {
    /// Centres of the columns.
    pub pass_rates: Vec<f64>,
    /// Edges of the rows, nats, one more than rows.
    pub entropy_edges: Vec<f64>,
    /// First to last.
    pub phases: Vec<Phase>,
}

/// One part of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// First step, counted from 1.
    pub first_step: u64,
    /// Last step.
    pub last_step: u64,
    /// Groups measured.
    pub num_groups: u64,
    /// Mean pass rate, weighted by utility: where the edge is.
    pub edge_pass_rate: Option<f64>,
    /// Mean response entropy, weighted by utility.
    pub edge_entropy: Option<f64>,
    /// Cells that hold a group.
    pub cells: Vec<Cell>,
}

/// Groups of similar pass rate and response entropy.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// Column.
    pub pass_rate_bin: usize,
    /// Row, lowest entropy first.
    pub entropy_bin: usize,
    /// Groups.
    pub num_groups: u64,
    /// Their mean utility.
    pub utility_mean: f64,
}

impl EdgeMap {
    /// The map of a run of `num_steps` steps; none if no utility was measured.
    pub fn of(records: &[GroupRecord], num_steps: u64) -> Option<Self> {
        let measured: Vec<(&GroupRecord, f64)> = records
            .iter()
            .filter_map(|record| Some((record, record.utility?)))
            .collect();
        let entropies = || measured.iter().map(|(record, _)| record.response_entropy);
        let low = entropies().fold(f64::INFINITY, f64::min);
        let high = entropies().fold(f64::NEG_INFINITY, f64::max);
        if measured.is_empty() {
            return None;
        }
        // Equal entropies get a range all the same, so that the map can be drawn.
        let width = ((high - low) / ENTROPY_BINS as f64).max(1e-6);
        let phase = |number: u64| {
            let first_step = number * num_steps / NUM_PHASES + 1;
            let last_step = (number + 1) * num_steps / NUM_PHASES;
            let inside = measured
                .iter()
                .filter(|(record, _)| (first_step..=last_step).contains(&record.step));
            let inside: Vec<_> = inside.copied().collect();
            Phase::of(&inside, first_step, last_step, |entropy| {
                (((entropy - low) / width) as usize).min(ENTROPY_BINS - 1)
            })
        };
        Some(Self {
            pass_rates: (0..PASS_BINS)
                .map(|bin| bin as f64 / (PASS_BINS - 1) as f64)
                .collect(),
            entropy_edges: (0..=ENTROPY_BINS)
                .map(|bin| low + bin as f64 * width)
                .collect(),
            phases: (0..NUM_PHASES).map(phase).collect(),
        })
    }
}

impl Phase {
    fn of(
        measured: &[(&GroupRecord, f64)],
        first_step: u64,
        last_step: u64,
        entropy_bin: impl Fn(f64) -> usize,
    ) -> Self {
        let mut sums = [[(0_u64, 0.0_f64); ENTROPY_BINS]; PASS_BINS];
        for (record, utility) in measured {
            let column = (record.pass_rate * (PASS_BINS - 1) as f64).round() as usize;
            let cell = &mut sums[column.min(PASS_BINS - 1)][entropy_bin(record.response_entropy)];
            *cell = (cell.0 + 1, cell.1 + utility);
        }
        let cells = sums.iter().enumerate().flat_map(|(column, rows)| {
            let rows = rows.iter().enumerate();
            let filled = rows.filter(|(_, (count, _))| *count > 0);
            filled.map(move |(row, (count, sum))| Cell {
                pass_rate_bin: column,
                entropy_bin: row,
                num_groups: *count,
                utility_mean: sum / *count as f64,
            })
        });
        let total: f64 = measured.iter().map(|(_, utility)| utility).sum();
        let weighted = |value: fn(&GroupRecord) -> f64| {
            let sum: f64 = measured
                .iter()
                .map(|(it, utility)| utility * value(it))
                .sum();
            (total > 0.0).then(|| sum / total)
        };
        Self {
            first_step,
            last_step,
            num_groups: measured.len() as u64,
            edge_pass_rate: weighted(|it| it.pass_rate),
            edge_entropy: weighted(|it| it.response_entropy),
            cells: cells.collect(),
        }
    }
}

/// Side of a cell in the picture.
const CELL: f64 = 30.0;
/// Room for axes.
const MARGIN: f64 = 56.0;

impl EdgeMap {
    /// The map as a picture: darker is more useful, the ring is the utility-weighted mean.
    pub fn to_svg(&self) -> String {
        let (columns, rows) = (self.pass_rates.len() as f64, ENTROPY_BINS as f64);
        let panel = columns * CELL + MARGIN;
        let (width, height) = (
            MARGIN + panel * self.phases.len() as f64,
            rows * CELL + 2.0 * MARGIN + 14.0,
        );
        let most = self.phases.iter().flat_map(|phase| &phase.cells);
        let most = most.map(|cell| cell.utility_mean).fold(0.0, f64::max);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" \
             width=\"{width:.0}\" height=\"{height:.0}\" font-family=\"sans-serif\" \
             font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
        );
        for (number, phase) in self.phases.iter().enumerate() {
            self.panel(&mut svg, phase, MARGIN + number as f64 * panel, most);
        }
        let caption = format!(
            "mean utility of a group by pass rate (across) and response entropy in nats (up); \
             darkest {most:.2e}; the ring is the utility-weighted mean"
        );
        text(&mut svg, MARGIN, height - 8.0, "start", &caption);
        svg.push_str("</svg>\n");
        svg
    }

    fn panel(&self, svg: &mut String, phase: &Phase, left: f64, most: f64) {
        let rows = ENTROPY_BINS as f64;
        let (top, bottom) = (MARGIN - 20.0, MARGIN - 20.0 + rows * CELL);
        let title = format!(
            "steps {} to {} ({} groups)",
            phase.first_step, phase.last_step, phase.num_groups
        );
        text(svg, left, top - 8.0, "start", &title);
        for column in 0..self.pass_rates.len() {
            for row in 0..ENTROPY_BINS {
                let found = phase
                    .cells
                    .iter()
                    .find(|it| (it.pass_rate_bin, it.entropy_bin) == (column, row));
                let fill = found.map_or("#f4f4f4".into(), |it| shade(it.utility_mean / most));
                let (x, y) = (
                    left + column as f64 * CELL,
                    bottom - (row + 1) as f64 * CELL,
                );
                let side = CELL - 1.0;
                let _ = write!(
                    svg,
                    "<rect x=\"{x:.0}\" y=\"{y:.0}\" width=\"{side}\" height=\"{side}\" \
                     fill=\"{fill}\">"
                );
                if let Some(cell) = found {
                    let _ = write!(
                        svg,
                        "<title>{} groups, mean utility {:.3e}</title>",
                        cell.num_groups, cell.utility_mean
                    );
                }
                svg.push_str("</rect>\n");
            }
        }
        for bin in (0..self.pass_rates.len()).step_by(4) {
            let x = left + (bin as f64 + 0.5) * CELL;
            let label = format!("{:.1}", self.pass_rates[bin]);
            text(svg, x, bottom + 14.0, "middle", &label);
        }
        for (bin, edge) in self.entropy_edges.iter().enumerate().step_by(4) {
            let y = bottom - bin as f64 * CELL + 4.0;
            text(svg, left - 4.0, y, "end", &format!("{edge:.2}"));
        }
        self.ring(svg, phase, left, bottom);
    }

    fn ring(&self, svg: &mut String, phase: &Phase, left: f64, bottom: f64) {
        let (Some(pass_rate), Some(entropy)) = (phase.edge_pass_rate, phase.edge_entropy) else {
            return;
        };
        let (low, high) = (self.entropy_edges[0], self.entropy_edges[ENTROPY_BINS]);
        let x = left + (pass_rate * (PASS_BINS - 1) as f64 + 0.5) * CELL;
        let y = bottom - (entropy - low) / (high - low) * ENTROPY_BINS as f64 * CELL;
        let _ = writeln!(
            svg,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"8\" fill=\"none\" stroke=\"#d1322e\" \
             stroke-width=\"2.5\"/>"
        );
    }
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, words: &str) {
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>"
    );
}

/// From light to dark blue; what is not a number is light.
fn shade(share: f64) -> String {
    let share = if share.is_finite() {
        share.clamp(0.0, 1.0)
    } else {
        0.0
    };
    let mix = |from: f64, to: f64| (from + share * (to - from)).round() as u8;
    format!(
        "#{:02x}{:02x}{:02x}",
        mix(222.0, 8.0),
        mix(235.0, 48.0),
        mix(247.0, 107.0)
    )
}

#[cfg(test)]
mod tests {
    use super::super::record::GroupSource;
    use super::*;
    use crate::record::PromptId;
    use rlvr_core::GroupKind;

    fn record(step: u64, pass_rate: f64, entropy: f64, utility: Option<f64>) -> GroupRecord {
        GroupRecord {
            step,
            prompt_id: PromptId(step),
            source: GroupSource::Kept,
            is_trained: true,
            kind: GroupKind::Mixed,
            pass_rate,
            reward_mean: pass_rate,
            response_entropy: entropy,
            completion_tokens_mean: 4.0,
            prompt_tokens: 5,
            run_length: 0,
            prompt_entropy: None,
            question_entropy: None,
            quartile: None,
            utility,
        }
    }

    #[test]
    fn a_map_has_the_mean_utility_of_each_cell_and_phase() {
        let records = [
            record(1, 0.5, 0.0, Some(1.0)),
            record(3, 0.5, 0.05, Some(3.0)),
            record(2, 0.25, 0.8, None),
            record(9, 1.0, 0.8, Some(0.0)),
            record(9, 0.75, 0.8, Some(2.0)),
        ];
        let map = EdgeMap::of(&records, 9).unwrap();
        let [first, second, third] = &map.phases[..] else {
            panic!("three phases");
        };
        assert_eq!(
            (first.first_step, first.last_step, first.num_groups),
            (1, 3, 2)
        );
        assert_eq!(first.cells.len(), 1);
        let cell = first.cells[0];
        assert_eq!((cell.pass_rate_bin, cell.entropy_bin), (4, 0));
        assert_eq!((cell.num_groups, cell.utility_mean), (2, 2.0));
        assert_eq!(first.edge_pass_rate, Some(0.5));
        assert!((first.edge_entropy.unwrap() - 0.0375).abs() < 1e-12);
        assert_eq!((second.num_groups, second.edge_entropy), (0, None));
        assert_eq!(third.edge_pass_rate, Some(0.75));
        assert_eq!(third.cells.len(), 2);
        assert!(EdgeMap::of(&records[2..3], 9).is_none());
    }

    #[test]
    fn a_picture_shows_every_phase_and_the_edge() {
        let records = [
            record(1, 0.5, 0.2, Some(1.0)),
            record(3, 0.0, 0.4, Some(0.0)),
        ];
        let svg = EdgeMap::of(&records, 3).unwrap().to_svg();
        assert_eq!(svg.matches("steps ").count(), 3);
        assert_eq!(svg.matches("<circle").count(), 1);
        assert!(svg.contains(&shade(1.0)) && !svg.contains("NaN"), "{svg}");
        // Equal entropies leave no range.
        let flat = EdgeMap::of(&records[..1], 3).unwrap().to_svg();
        assert!(!flat.contains("NaN") && !flat.contains("inf"), "{flat}");
    }
}
