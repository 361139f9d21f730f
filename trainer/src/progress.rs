//! What a person sees while a run goes on: a live bar on a terminal, plain lines elsewhere.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::metrics::StepMetrics;

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgressMode {
    /// A bar that is redrawn.
    Bar,
    /// One line per step.
    Lines,
    /// Nothing.
    Quiet,
}

impl ProgressMode {
    /// The mode that fits the standard error stream.
    pub fn detect(is_quiet: bool) -> Self {
        if is_quiet {
            Self::Quiet
        } else if std::io::stderr().is_terminal() {
            Self::Bar
        } else {
            Self::Lines
        }
    }
}

/// Shows the steps of one run on the standard error stream.
#[derive(Debug)]
pub struct Progress {
    mode: ProgressMode,
    bar: ProgressBar,
    num_steps: u64,
    /// The newest held-out accuracy; most steps have none of their own.
    accuracy: Option<Accuracy>,
}

#[derive(Clone, Copy, Debug)]
struct Accuracy {
    value: f64,
    half_width: f64,
}

impl Progress {
    /// Progress of a run that goes from `done` to `num_steps` steps.
    pub fn new(mode: ProgressMode, done: u64, num_steps: u64) -> Self {
        let bar = match mode {
            ProgressMode::Bar => ProgressBar::new(num_steps).with_position(done),
            ProgressMode::Lines | ProgressMode::Quiet => ProgressBar::hidden(),
        };
        let style = ProgressStyle::with_template(
            "{bar:24} {prefix:8} {pos}/{len} {msg} | {elapsed} < {eta}",
        );
        if let Ok(style) = style {
            bar.set_style(style);
        }
        if mode == ProgressMode::Bar {
            // The steps done before a resume took no time of this process.
            bar.reset_eta();
            bar.enable_steady_tick(Duration::from_millis(500));
        }
        Self {
            mode,
            bar,
            num_steps,
            accuracy: None,
        }
    }

    /// Shows a finished step.
    pub fn step(&mut self, metrics: &StepMetrics) {
        if let Some(value) = metrics.eval_accuracy {
            let low = metrics.eval_accuracy_low.unwrap_or(value);
            let high = metrics.eval_accuracy_high.unwrap_or(value);
            let half_width = (high - low) / 2.0;
            self.accuracy = Some(Accuracy { value, half_width });
        }
        match self.mode {
            ProgressMode::Bar => {
                self.bar.set_position(metrics.step);
                self.bar.set_message(self.summary(metrics));
            }
            ProgressMode::Lines => self.note(&format!(
                "step {}/{} {}{}",
                metrics.step,
                self.num_steps,
                self.summary(metrics),
                self.time(metrics)
            )),
            ProgressMode::Quiet => {}
        }
    }

    /// Names what the run is doing now; only a bar shows it.
    pub fn phase(&self, name: &'static str) {
        if self.mode == ProgressMode::Bar {
            self.bar.set_prefix(name);
        }
    }

    /// A line for the user, above the bar.
    pub fn note(&self, line: &str) {
        match self.mode {
            ProgressMode::Bar => self.bar.println(line),
            // A closed stream must not end a run.
            ProgressMode::Lines => drop(writeln!(std::io::stderr(), "{line}")),
            ProgressMode::Quiet => {}
        }
    }

    /// Removes the bar.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// Reward, held-out accuracy and speeds; what was not measured is left out.
    fn summary(&self, metrics: &StepMetrics) -> String {
        let mut parts = Vec::new();
        if let Some(reward) = metrics.reward_mean {
            parts.push(format!("reward {reward:.3}"));
        }
        if let Some(Accuracy { value, half_width }) = self.accuracy {
            parts.push(format!("held-out {value:.3} +- {half_width:.3}"));
        }
        let timing = &metrics.timing;
        let speeds = [
            ("prefill", timing.prefill_tokens_per_sec),
            ("decode", timing.decode_tokens_per_sec),
            ("update", timing.update_tokens_per_sec),
        ];
        let speeds: Vec<String> = speeds
            .iter()
            .filter_map(|(name, speed)| Some(format!("{name} {:.0}", (*speed)?)))
            .collect();
        if !speeds.is_empty() {
            parts.push(format!("tok/s {}", speeds.join(" ")));
        }
        parts.join(" | ")
    }

    /// Seconds of this step and a guess of those left, from this step alone.
    fn time(&self, metrics: &StepMetrics) -> String {
        let Some(secs) = metrics.timing.step_secs else {
            return String::new();
        };
        let left = secs * self.num_steps.saturating_sub(metrics.step) as f64;
        format!(" | {secs:.1} s, about {left:.0} s left")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(step: u64, accuracy: Option<f64>) -> StepMetrics {
        let mut metrics = StepMetrics {
            step,
            reward_mean: Some(0.25),
            eval_accuracy: accuracy,
            eval_accuracy_low: accuracy.map(|it| it - 0.02),
            eval_accuracy_high: accuracy.map(|it| it + 0.04),
            ..StepMetrics::default()
        };
        metrics.timing.decode_tokens_per_sec = Some(812.4);
        metrics.timing.step_secs = Some(2.0);
        metrics
    }

    #[test]
    fn a_step_without_evaluation_shows_the_last_one() {
        let mut progress = Progress::new(ProgressMode::Quiet, 0, 10);
        let first = metrics(1, None);
        progress.step(&first);
        assert_eq!(progress.summary(&first), "reward 0.250 | tok/s decode 812");
        progress.step(&metrics(2, Some(0.5)));
        let third = metrics(3, None);
        progress.step(&third);
        assert_eq!(
            progress.summary(&third),
            "reward 0.250 | held-out 0.500 +- 0.030 | tok/s decode 812"
        );
        assert_eq!(progress.time(&third), " | 2.0 s, about 14 s left");
        assert_eq!(
            progress
                .summary(&StepMetrics::default())
                .matches("held-out")
                .count(),
            1
        );
    }

    #[test]
    fn quiet_wins_over_the_terminal() {
        assert_eq!(ProgressMode::detect(true), ProgressMode::Quiet);
        assert_ne!(ProgressMode::detect(false), ProgressMode::Quiet);
    }

    #[test]
    fn a_bar_counts_from_where_the_run_was_resumed() {
        let mut progress = Progress::new(ProgressMode::Bar, 5, 10);
        assert_eq!(progress.bar.position(), 5);
        progress.phase("decode");
        progress.step(&metrics(6, None));
        assert_eq!(
            (progress.bar.position(), progress.bar.length()),
            (6, Some(10))
        );
        progress.finish();
    }
}
