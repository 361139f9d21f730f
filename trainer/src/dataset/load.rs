//! Specs to a dataset: read, check, drop duplicates, split.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::config::{DataConfig, Fields, Unreadable};
use super::error::{DatasetError, Place};
use super::hub::fetch;
use super::row::{Row, check_reference, problem};
use super::source::read_json;
use super::spec::Spec;
use super::split::{is_reserved, prompt_id};
use super::table::read_parquet;
use super::task::Task;
use crate::record::{Problem, PromptId};

/// Held-out problems of procedural tasks are drawn with this seed, so that runs with different
/// seeds are evaluated on the same problems.
const HELD_OUT_SEED: u64 = 0x6865_6c64_2d6f_7574;

/// Most unreadable references that the report lists.
const MAX_LISTED: usize = 20;

/// Problems to train on and problems to evaluate on; no problem is in both.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// In the order of the files; those of procedural tasks by index.
    pub train: Vec<Problem>,
    /// By content hash.
    pub held_out: Vec<Problem>,
    /// Where all problems went.
    pub report: DataReport,
}

/// Where all problems went, as counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataReport {
    /// Records read from files.
    pub num_records: usize,
    /// Problems drawn from procedural tasks, repetitions included.
    pub num_drawn: usize,
    /// Records whose problem text was there before; the first one stays.
    pub num_duplicates: usize,
    /// Training records left out because the held-out data has the same problem.
    pub num_overlapping: usize,
    /// Records left out because the verifier cannot read their reference answer.
    pub num_unreadable: usize,
    /// Problems left out because their prompt is too long.
    pub num_over_length: usize,
    /// Training problems left out by `max_problems`.
    pub num_over_limit: usize,
    /// Problems to train on.
    pub num_train: usize,
    /// Problems to evaluate on.
    pub num_held_out: usize,
    /// The first unreadable reference answers, with their places.
    pub unreadable: Vec<String>,
}

impl core::fmt::Display for DataReport {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "{} train, {} held out of {} records and {} drawn; left out: {} duplicates, {} also \
             held out, {} unreadable, {} over length, {} over the limit",
            self.num_train,
            self.num_held_out,
            self.num_records,
            self.num_drawn,
            self.num_duplicates,
            self.num_overlapping,
            self.num_unreadable,
            self.num_over_length,
            self.num_over_limit,
        )
    }
}

/// Loads the training and the held-out problems.
///
/// The split depends on the content hash alone: neither order nor seed nor the amount of data
/// moves a problem across it. `seed` decides which problems the procedural tasks draw for
/// training.
///
/// # Errors
/// See [`DatasetError`]; messages name file and line.
pub fn load(config: &DataConfig, seed: u64) -> Result<Dataset, DatasetError> {
    let mut loader = Loader {
        config,
        report: DataReport::default(),
    };
    let train = loader.pool(&config.train)?;
    let dataset = match &config.held_out {
        Some(spec) => loader.with_held_out(train, spec, seed)?,
        None => loader.split(train, seed),
    };
    if dataset.train.is_empty() {
        return Err(DatasetError::NoTrain {
            report: dataset.report.to_string(),
        });
    }
    if dataset.held_out.is_empty() && config.held_out_size > 0 {
        return Err(DatasetError::NoHeldOut {
            report: dataset.report.to_string(),
        });
    }
    Ok(dataset)
}

/// What a list of specs gives: the problems of its files, and its tasks as one mixture.
struct Pool {
    problems: Vec<Problem>,
    task: Option<Task>,
}

struct Loader<'c> {
    config: &'c DataConfig,
    report: DataReport,
}

impl Loader<'_> {
    /// Reads all files of a spec list; duplicates are dropped and counted.
    fn pool(&mut self, specs: &str) -> Result<Pool, DatasetError> {
        let mut problems = Vec::new();
        let mut tasks = Vec::new();
        let mut seen = HashSet::new();
        for spec in Spec::parse_list(specs)? {
            let rows = match &spec {
                Spec::Task(task) => {
                    tasks.push(task.clone());
                    continue;
                }
                Spec::Json(path) => read_json(path)?,
                Spec::Parquet(path) => read_parquet(path)?,
                Spec::Hub(hub) => fetch(hub)?,
            };
            self.add(rows, &mut problems, &mut seen)?;
        }
        let task = match tasks.len() {
            0 => None,
            1 => tasks.pop(),
            _ => Some(Task::mixture(tasks)),
        };
        Ok(Pool { problems, task })
    }

    fn add(
        &mut self,
        rows: Vec<(Place, Row)>,
        problems: &mut Vec<Problem>,
        seen: &mut HashSet<PromptId>,
    ) -> Result<(), DatasetError> {
        let fields: Option<&Fields> = self.config.fields.as_ref();
        for (place, row) in rows {
            self.report.num_records += 1;
            let problem = problem(&row, fields, &place)?;
            if let Err(error) = check_reference(&problem, &place) {
                self.unreadable(error)?;
            } else if seen.insert(problem.id) {
                problems.push(problem);
            } else {
                self.report.num_duplicates += 1;
            }
        }
        Ok(())
    }

    fn unreadable(&mut self, error: DatasetError) -> Result<(), DatasetError> {
        match self.config.unreadable {
            Unreadable::Error => Err(error),
            Unreadable::Drop => {
                self.report.num_unreadable += 1;
                if self.report.unreadable.len() < MAX_LISTED {
                    self.report.unreadable.push(error.to_string());
                }
                Ok(())
            }
        }
    }

    /// Both parts are given: training problems that are held out too are dropped.
    fn with_held_out(
        &mut self,
        train: Pool,
        held_out: &str,
        seed: u64,
    ) -> Result<Dataset, DatasetError> {
        let pool = self.pool(held_out)?;
        // The whole held-out data is kept out of training, not only the part that is used.
        let mut reserved: HashSet<PromptId> = pool.problems.iter().map(|p| p.id).collect();
        let mut held_out = pool.problems;
        if let Some(task) = &pool.task {
            let size = self.config.held_out_size;
            held_out.extend(self.draw(task, HELD_OUT_SEED, size, |id| !reserved.contains(&id)));
            reserved.extend(held_out.iter().map(|p| p.id));
        }
        let held_out = self.lowest(held_out);
        let num_before = train.problems.len();
        let mut problems = train.problems;
        problems.retain(|problem| !reserved.contains(&problem.id));
        self.report.num_overlapping = num_before - problems.len();
        let mut problems = self.limit(problems);
        if let Some(task) = &train.task {
            let known: HashSet<PromptId> = problems.iter().map(|p| p.id).collect();
            let is_free = |id| !reserved.contains(&id) && !known.contains(&id);
            problems.extend(self.draw(task, seed, self.config.num_problems, is_free));
        }
        Ok(self.finish(problems, held_out))
    }

    /// One pool is split by content hash.
    fn split(&mut self, pool: Pool, seed: u64) -> Dataset {
        let (size, frac) = (self.config.held_out_size, self.config.held_out_frac);
        let is_held = |id: PromptId| size > 0 && is_reserved(id, frac);
        let mut candidates: Vec<Problem> = pool
            .problems
            .iter()
            .filter(|problem| is_held(problem.id))
            .cloned()
            .collect();
        if let Some(task) = &pool.task {
            let known: HashSet<PromptId> = pool.problems.iter().map(|p| p.id).collect();
            let is_wanted = |id| is_held(id) && !known.contains(&id);
            candidates.extend(self.draw(task, HELD_OUT_SEED, size, is_wanted));
        } else if candidates.is_empty() && size > 0 && pool.problems.len() > 1 {
            // A handful of problems may leave the range empty: hold out the lowest hash.
            candidates.extend(pool.problems.iter().min_by_key(|p| p.id).cloned());
        }
        let held_out = self.lowest(candidates);
        let held_ids: HashSet<PromptId> = held_out.iter().map(|p| p.id).collect();
        let mut problems = pool.problems;
        problems.retain(|problem| !held_ids.contains(&problem.id));
        let mut problems = self.limit(problems);
        if let Some(task) = &pool.task {
            let known: HashSet<PromptId> = problems.iter().map(|p| p.id).collect();
            let is_free = |id| !is_held(id) && !known.contains(&id) && !held_ids.contains(&id);
            problems.extend(self.draw(task, seed, self.config.num_problems, is_free));
        }
        self.finish(problems, held_out)
    }

    /// The problems with the lowest hashes, no more than `held_out_size`.
    fn lowest(&self, mut problems: Vec<Problem>) -> Vec<Problem> {
        problems.sort_by_key(|problem| problem.id);
        problems.truncate(self.config.held_out_size);
        problems
    }

    fn limit(&mut self, mut problems: Vec<Problem>) -> Vec<Problem> {
        if let Some(max_problems) = self.config.max_problems {
            self.report.num_over_limit = problems.len().saturating_sub(max_problems);
            problems.truncate(max_problems);
        }
        problems
    }

    /// Draws distinct problems in the order of their index until there are enough, or until so
    /// many draws in a row brought nothing new that the task must be exhausted.
    fn draw(
        &mut self,
        task: &Task,
        seed: u64,
        size: usize,
        is_wanted: impl Fn(PromptId) -> bool,
    ) -> Vec<Problem> {
        let mut problems: Vec<Problem> = Vec::new();
        let mut seen = HashSet::new();
        let mut num_idle = 0;
        for index in 0.. {
            if problems.len() == size || num_idle > 8 * seen.len() + 1000 {
                break;
            }
            self.report.num_drawn += 1;
            let made = task.make(seed, index);
            let id = prompt_id(&made.problem);
            if !seen.insert(id) {
                num_idle += 1;
                continue;
            }
            num_idle = 0;
            if is_wanted(id) {
                let answer = made.answer.to_string();
                let solution = self.config.answer_format.write_worked(&made.steps, &answer);
                problems.push(Problem {
                    id,
                    problem: made.problem,
                    reference_answer: answer,
                    solution: Some(solution),
                });
            }
        }
        problems
    }

    fn finish(&mut self, train: Vec<Problem>, held_out: Vec<Problem>) -> Dataset {
        let mut report = core::mem::take(&mut self.report);
        report.num_train = train.len();
        report.num_held_out = held_out.len();
        Dataset {
            train,
            held_out,
            report,
        }
    }
}
