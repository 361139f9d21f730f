//! From specs to datasets: splits, counts, and the few-shot chat that a recipe can express.

// Helpers of tests are tests too.
#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::path::PathBuf;

use trainer::dataset::{
    DataConfig, Dataset, DatasetError, PromptConfig, Rendered, Unreadable, load, prompt_id,
};
use trainer::record::{Problem, PromptId, StopReason};
use trainer::reward::{RewardConfig, grade_completion};

fn config(text: &str) -> DataConfig {
    let config: DataConfig = toml::from_str(text).unwrap();
    config.validate().unwrap();
    config
}

fn ids(problems: &[Problem]) -> HashSet<PromptId> {
    problems.iter().map(|problem| problem.id).collect()
}

#[track_caller]
fn check_split(dataset: &Dataset) {
    let (train, held_out) = (ids(&dataset.train), ids(&dataset.held_out));
    assert!(train.is_disjoint(&held_out));
    assert_eq!(train.len(), dataset.train.len(), "duplicates in train");
    assert_eq!(
        held_out.len(),
        dataset.held_out.len(),
        "duplicates in held-out"
    );
    assert_eq!(dataset.report.num_train, dataset.train.len());
    assert_eq!(dataset.report.num_held_out, dataset.held_out.len());
    for problem in dataset.train.iter().chain(&dataset.held_out) {
        assert_eq!(problem.id, prompt_id(&problem.problem));
    }
}

struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder }
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn lines(&self, name: &str, numbers: std::ops::Range<u32>) -> PathBuf {
        let lines: Vec<String> = numbers
            .map(|n| format!(r#"{{"problem": "double {n}", "answer": "{}"}}"#, 2 * n))
            .collect();
        self.write(name, &lines.join("\n"))
    }
}

#[test]
fn a_file_is_split_by_content_alone() {
    let files = Files::new();
    let path = files.lines("a.jsonl", 0..400);
    let text = std::fs::read_to_string(&path).unwrap();
    let reversed: Vec<&str> = text.lines().rev().collect();
    let reversed = files.write("b.jsonl", &reversed.join("\n"));
    let split = |path: &PathBuf, seed| {
        let text = format!("train = '{}'\nheld_out_size = 30", path.display());
        load(&config(&text), seed).unwrap()
    };
    let dataset = split(&path, 0);
    check_split(&dataset);
    assert_eq!((dataset.train.len(), dataset.held_out.len()), (370, 30));
    assert_eq!(split(&reversed, 7).held_out, dataset.held_out);
}

#[test]
fn a_separate_held_out_file_takes_its_problems_out_of_training() {
    let files = Files::new();
    let train = files.lines("a.jsonl", 0..100);
    let held_out = files.lines("b.jsonl", 90..150);
    let config = config(&format!(
        "train = '{}'\nheld_out = '{}'\nheld_out_size = 5",
        train.display(),
        held_out.display()
    ));
    let dataset = load(&config, 0).unwrap();
    check_split(&dataset);
    assert_eq!((dataset.train.len(), dataset.held_out.len()), (90, 5));
    assert_eq!(dataset.report.num_overlapping, 10);
}

#[test]
fn duplicates_and_limits_are_counted() {
    let files = Files::new();
    let mut text = std::fs::read_to_string(files.lines("a.jsonl", 0..50)).unwrap();
    text.push_str("\n{\"problem\": \" double  7\", \"answer\": \"14\"}\n");
    let path = files.write("b.jsonl", &text);
    let config = config(&format!(
        "train = '{}'\nheld_out_size = 0\nmax_problems = 40",
        path.display()
    ));
    let dataset = load(&config, 0).unwrap();
    assert_eq!(dataset.report.num_records, 51);
    assert_eq!(dataset.report.num_duplicates, 1);
    assert_eq!(dataset.report.num_over_limit, 10);
}

#[test]
fn unreadable_references_stop_or_are_listed() {
    let files = Files::new();
    let mut text = std::fs::read_to_string(files.lines("a.jsonl", 0..20)).unwrap();
    text.push_str("\n\n{\"problem\": \"halve 0\", \"answer\": \"1/0\"}");
    let path = files.write("b.jsonl", &text);
    let mut config = config(&format!("train = '{}'", path.display()));
    let message = load(&config, 0).unwrap_err().to_string();
    assert!(
        message.contains("b.jsonl:22: reference answer `1/0`"),
        "{message}"
    );
    config.unreadable = Unreadable::Drop;
    let report = load(&config, 0).unwrap().report;
    assert_eq!(report.num_unreadable, 1);
    assert!(report.unreadable[0].contains("b.jsonl:22"), "{report:?}");
}

#[test]
fn a_few_problems_are_still_split() {
    let files = Files::new();
    for num in 2..12 {
        let path = files.lines("few.jsonl", 0..num);
        let dataset = load(&config(&format!("train = '{}'", path.display())), 0).unwrap();
        check_split(&dataset);
        assert!(!dataset.held_out.is_empty());
    }
    let path = files.lines("few.jsonl", 0..1);
    let error = load(&config(&format!("train = '{}'", path.display())), 0).unwrap_err();
    assert!(matches!(error, DatasetError::NoHeldOut { .. }), "{error}");
}

#[test]
fn tasks_hold_out_the_same_problems_whatever_the_seed() {
    let config =
        config("train = 'task:addition?digits=3'\nnum_problems = 2000\nheld_out_size = 200");
    let (first, second) = (load(&config, 1).unwrap(), load(&config, 2).unwrap());
    for dataset in [&first, &second] {
        check_split(dataset);
        assert_eq!((dataset.train.len(), dataset.held_out.len()), (2000, 200));
    }
    assert_eq!(first.held_out, second.held_out);
    assert_ne!(first.train, second.train);
    assert!(ids(&second.train).is_disjoint(&ids(&first.held_out)));
    assert_eq!(load(&config, 1).unwrap(), first);
    let longer = DataConfig {
        num_problems: 3000,
        ..config
    };
    assert_eq!(load(&longer, 1).unwrap().train[..2000], first.train[..]);
}

#[test]
fn no_size_moves_a_drawn_problem_across_the_split() {
    let sized = |size| {
        let text = format!("train = 'task:addition?digits=2'\nheld_out_size = {size}");
        load(&config(&text), 3).unwrap()
    };
    let (small, large) = (sized(20), sized(500));
    assert!(ids(&small.train).is_disjoint(&ids(&large.held_out)));
    assert!(ids(&small.held_out).is_subset(&ids(&large.held_out)));
}

#[test]
fn a_finite_task_is_exhausted_and_still_split() {
    let config = config(
        "train = 'task:addition?digits=1&style=question'\nheld_out_frac = 0.2\nheld_out_size = 100",
    );
    let dataset = load(&config, 0).unwrap();
    check_split(&dataset);
    assert_eq!(dataset.train.len() + dataset.held_out.len(), 100);
    assert!(
        (10..30).contains(&dataset.held_out.len()),
        "{}",
        dataset.report
    );
}

#[test]
fn files_and_tasks_can_be_joined() {
    let files = Files::new();
    let path = files.lines("a.jsonl", 0..100);
    let config = config(&format!(
        "train = '{}, task:words?weight=1, task:addition?weight=3'
        num_problems = 400
        held_out_size = 40",
        path.display()
    ));
    let dataset = load(&config, 0).unwrap();
    check_split(&dataset);
    assert_eq!(dataset.held_out.len(), 40);
    let has = |word: &str| {
        dataset
            .train
            .iter()
            .filter(|p| p.problem.contains(word))
            .count()
    };
    assert!((250..350).contains(&has("+")), "{}", has("+"));
    assert!((50..150).contains(&has(" has ")), "{}", has(" has "));
    assert!(has("double") > 50);
}

#[test]
fn worked_solutions_earn_the_full_reward() {
    for (format, solution_end) in [("marker", "#### "), ("box", "\\boxed{"), ("bare", "")] {
        let data = config(&format!(
            "train = 'task:mix?level=3'\nnum_problems = 500\nanswer_format = '{format}'"
        ));
        let reward: RewardConfig = toml::from_str(&format!(
            "format = '{format}'\ncomponents = [{{ kind = 'correct', weight = 1.0, strict = true }}]"
        ))
        .unwrap();
        for problem in load(&data, 0).unwrap().train {
            let solution = problem.solution.unwrap();
            assert!(solution.contains(solution_end));
            let reward = grade_completion(
                &reward,
                &Default::default(),
                &problem.reference_answer,
                &solution,
                StopReason::StopToken,
            );
            assert_eq!(
                reward.total, 1.0,
                "{} -> {solution}: {}",
                problem.problem, reward.reason
            );
        }
    }
}

/// One-digit sums after three worked chat turns, the bare number as answer.
#[test]
fn a_recipe_expresses_few_shot_sums() {
    let data = config("train = 'task:addition?digits=1&style=question'\nanswer_format = 'bare'");
    let prompt: PromptConfig = toml::from_str(
        r#"
        few_shot = [
            { problem = "What is 3 + 4?", solution = "7" },
            { problem = "What is 25 - 12?", solution = "13" },
            { problem = "What is 6 * 2?", solution = "12" },
        ]
        "#,
    )
    .unwrap();
    let dataset = load(&data, 0).unwrap();
    for problem in dataset.train.iter().chain(&dataset.held_out) {
        let Rendered::Chat(turns) = prompt.render(&problem.problem) else {
            panic!("chat is the default");
        };
        let turns: Vec<(&str, &str)> = turns
            .iter()
            .map(|turn| (turn.role.as_str(), turn.content.as_str()))
            .collect();
        let (shots, last) = turns.split_at(6);
        assert_eq!(
            shots,
            [
                ("user", "What is 3 + 4?"),
                ("assistant", "7"),
                ("user", "What is 25 - 12?"),
                ("assistant", "13"),
                ("user", "What is 6 * 2?"),
                ("assistant", "12"),
            ]
        );
        let [("user", text)] = last else {
            panic!("{last:?}");
        };
        let sum = text.strip_prefix("What is ").unwrap();
        let (a, b) = sum.strip_suffix('?').unwrap().split_once(" + ").unwrap();
        let (a, b): (u32, u32) = (a.parse().unwrap(), b.parse().unwrap());
        assert!(a <= 9 && b <= 9);
        let answer = (a + b).to_string();
        assert_eq!(problem.reference_answer, answer);
        assert_eq!(problem.solution, Some(answer));
    }
}

/// The real data is not part of the project; its folder is named by `RLVR_GSM8K_DIR`.
#[test]
fn gsm8k_loads_without_an_unreadable_reference() {
    let Some(folder) = std::env::var_os("RLVR_GSM8K_DIR").map(PathBuf::from) else {
        println!("skipped: RLVR_GSM8K_DIR is not set");
        return;
    };
    let config = config(&format!(
        "train = 'gsm8k:{0}/train.jsonl'
        held_out = 'gsm8k:{0}/test.jsonl'
        held_out_size = 2000",
        folder.display()
    ));
    let dataset = load(&config, 0).unwrap();
    check_split(&dataset);
    assert_eq!(dataset.report.num_records, 8792);
    assert_eq!(dataset.report.num_unreadable, 0);
    println!("{}", dataset.report);
    for problem in &dataset.train {
        let solution = problem.solution.as_deref().unwrap();
        assert!(
            !solution.contains("<<") && solution.contains("#### "),
            "{solution}"
        );
    }
}
