//! Validation rollouts that verl wrote, as statistics.
//!
//! With `trainer.validation_data_dir` set, verl leaves one file `<step>.jsonl` per validation, a line
//! per completion with `input` (the prompt's text), `output`, `score` and `step` (verl,
//! `RayPPOTrainer._dump_generations`). Its training dumps have the same form but come from weights
//! that move between files, so they are no rollouts of one frozen policy and are not read.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::numbers::{Number, quote_non_finite};
use super::read_statistics::held_out_rewards;
use super::statistics::{Statistics, StatisticsError};

/// The part of a line that counts.
#[derive(Deserialize)]
struct Line {
    input: String,
    score: Number,
}

/// The completions of the newest validation in `dir` as held-out rollouts; the score is the reward
/// and the truth. Lines of one `input` are one prompt.
///
/// # Errors
/// If there is no such file, a line is not one, or the scores cannot be used: they have to lie in
/// `[0, 1]`, equally many per prompt.
pub fn read_verl(dir: &Path) -> Result<Statistics, StatisticsError> {
    let path = newest(dir)?;
    let text = std::fs::read_to_string(&path).map_err(io(&path))?;
    let mut rows: Vec<Vec<Number>> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for (index, line) in text.lines().enumerate() {
        let name = format!("{} line {}", path.display(), index + 1);
        let line: Line = serde_json::from_str(&quote_non_finite(line))
            .map_err(|source| StatisticsError::Json { name, source })?;
        let place = *places.entry(line.input).or_insert_with(|| {
            rows.push(Vec::new());
            rows.len() - 1
        });
        rows[place].push(line.score);
    }
    held_out_rewards(rows)
}

/// The file of the last step.
fn newest(dir: &Path) -> Result<PathBuf, StatisticsError> {
    let mut steps = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(io(dir))? {
        let path = entry.map_err(io(dir))?.path();
        let is_dump = path.extension().is_some_and(|it| it == "jsonl");
        let step = path.file_stem().and_then(|it| it.to_str()?.parse().ok());
        if let (true, Some(step)) = (is_dump, step) {
            let step: u64 = step;
            steps.push((step, path));
        }
    }
    let newest = steps.into_iter().max();
    newest.map(|(_, path)| path).ok_or_else(|| {
        let text = "there is no file such as 100.jsonl; set trainer.validation_data_dir in verl";
        io(dir)(std::io::Error::new(std::io::ErrorKind::NotFound, text))
    })
}

fn io(path: &Path) -> impl Fn(std::io::Error) -> StatisticsError {
    let path = path.to_path_buf();
    move |source| StatisticsError::Io {
        path: path.clone(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_validation_is_grouped_by_prompt() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, lines: &[&str]| {
            std::fs::write(folder.path().join(name), lines.join("\n") + "\n").unwrap();
        };
        let error = || read_verl(folder.path()).unwrap_err();
        assert!(matches!(error(), StatisticsError::Io { .. }));
        write("9.jsonl", &["not read: it is older"]);
        write(
            "10.jsonl",
            &[
                r#"{"input": "a", "output": "1", "gts": "1", "score": 1.0, "step": 10, "acc": true}"#,
                r#"{"input": "b", "output": "2", "gts": "1", "score": 0.0, "step": 10}"#,
                r#"{"input": "a", "output": "3", "gts": "1", "score": 0.0, "step": 10}"#,
                r#"{"input": "b", "output": "4", "gts": "1", "score": 0.5, "step": 10}"#,
            ],
        );
        let rewards = read_verl(folder.path()).unwrap().held_out.unwrap().rewards;
        assert_eq!((rewards.n, rewards.k), (2, 2));
        assert_eq!(rewards.data, [1.0, 0.0, 0.0, 0.5]);
        for (score, expected) in [
            ("-1.0", "held_out.rewards[1][0] = -1"),
            ("NaN", "held_out.rewards[1][0]: it is NaN"),
            ("\"high\"", "11.jsonl line 2"),
        ] {
            let second = format!(r#"{{"input": "b", "score": {score}}}"#);
            write("11.jsonl", &[r#"{"input": "a", "score": 1}"#, &second]);
            assert!(error().to_string().contains(expected), "{}", error());
        }
    }
}
