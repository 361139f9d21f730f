//! Decode steps that differ in nothing but what stands in memory, and how they are repeated: launched
//! one by one, or, where the device records, as one launch each.
//!
//! A number of rows is run once as it is, so that kernels are chosen and compiled. The second time the
//! launches of a step are recorded; then the recording is run on the same rows once more, and has to
//! draw what the plain steps drew. From then on it is replayed, as long as everything it reads and
//! writes is where it was. Whatever fails on the way ends the call; [`super::engine`] runs it again
//! without recordings, and says so.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rlvr_backends::OutOfMemory;
use rlvr_backends::graph::{Graph, GraphError, Preparation, Storage};
use rlvr_backends::kernels::{DecodeState, FirstRows};

use super::RolloutError;
use super::device_sampling::DeviceSampler;
use super::engine::Call;
use super::worker::read;
use crate::policy::cache::KvCache;

/// Whether launches are recorded, for all clones of an engine.
#[derive(Clone, Debug, Default)]
pub(super) struct Recordings(Arc<Mutex<Outcome>>);

#[derive(Clone, Debug, Default)]
enum Outcome {
    /// None has failed.
    #[default]
    Fine,
    /// One has, and the user does not know.
    Failed(String),
    /// One has, and the user knows.
    Told,
}

impl Recordings {
    pub(super) fn are_possible(&self) -> bool {
        matches!(*self.outcome(), Outcome::Fine)
    }

    pub(super) fn fail(&self, reason: String) {
        *self.outcome() = Outcome::Failed(reason);
    }

    /// What to tell the user, once.
    pub(super) fn warning(&self) -> Option<String> {
        let mut outcome = self.outcome();
        let Outcome::Failed(reason) = &*outcome else {
            return None;
        };
        let reason = reason.clone();
        *outcome = Outcome::Told;
        Some(format!(
            "decode steps are launched kernel by kernel from now on, which is slower: their launches \
             could not be recorded ({reason}); with rollout.record_steps=false it is not tried"
        ))
    }

    fn outcome(&self) -> MutexGuard<'_, Outcome> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far log-probs and entropies of a replay may be from those of plain steps, in nats. The same
/// kernels run on the same numbers; what a recording gets wrong is off by more than rounding.
const MOST_DIFFERENCE: f32 = 1e-3;

/// By row, then by step: token, log-prob and entropy.
pub(super) type Drawn = Vec<Vec<[f32; 3]>>;

/// What runs a step.
#[derive(Clone, Copy)]
pub(super) struct Stepper<'a> {
    pub(super) call: &'a Call<'a>,
    pub(super) sampler: &'a DeviceSampler,
}

impl Stepper<'_> {
    /// One token for each row.
    fn step(self, state: DecodeState, cache: &mut KvCache) -> DecodeState {
        let rows = cache.rows_of(&state);
        let weights = &self.call.weights;
        let hidden = weights.step(state.tokens(), &rows, cache);
        // Nothing else may hold what the state edits in place.
        drop(rows);
        let drawn = self.sampler.draw_unread(weights, hidden, state.uniforms());
        state.advance(drawn)
    }

    /// Some steps, each handed to the device by itself where they will be recorded: operations of
    /// two steps must not be fused.
    fn steps(self, mut state: DecodeState, num_steps: usize, cache: &mut KvCache) -> DecodeState {
        for _ in 0..num_steps {
            state = self.step(state, cache);
            if self.call.records {
                // What it reports, the read reports too.
                let _ = self.call.weights.device().flush();
            }
        }
        state
    }
}

/// The steps of a call, by number of rows.
#[derive(Debug, Default)]
pub(super) struct Repeated {
    levels: BTreeMap<usize, Level>,
    /// Steps that were replays.
    pub(super) num_replayed: u64,
}

/// Steps of one number of rows.
#[derive(Debug)]
enum Level {
    /// Has run.
    Plain(DecodeState),
    Recorded(Box<Recording>),
}

/// A step that can be repeated as one launch.
#[derive(Debug)]
struct Recording {
    state: DecodeState,
    graph: Graph,
    /// Of state and cache, when it was recorded.
    storage: [Vec<Storage>; 2],
    /// Edits of the cache at the last look at where it stands.
    num_edits: u64,
}

impl Repeated {
    /// Runs some steps from these rows and reads what they draw; rows in vain are not given.
    ///
    /// # Errors
    /// If the device fails, or a recording.
    pub(super) fn run(
        &mut self,
        stepper: Stepper<'_>,
        first: FirstRows,
        num_steps: usize,
        cache: &mut KvCache,
    ) -> Result<Drawn, RolloutError> {
        let num_rows = first.tokens.len();
        let job = Job {
            stepper,
            num_own: first.uniforms.len(),
            first,
            num_steps,
        };
        let records = stepper.call.records;
        let (level, drawn) = match self.levels.remove(&num_rows) {
            Some(Level::Recorded(recording)) => match recording.replay(&job, cache)? {
                (recording, Some(drawn)) => {
                    self.num_replayed += num_steps as u64;
                    (Level::Recorded(Box::new(recording)), drawn)
                }
                // Something was moved: recorded anew.
                (recording, None) => record(recording.state, &job, cache)?,
            },
            Some(Level::Plain(state)) if records => record(state, &job, cache)?,
            Some(Level::Plain(state)) => job.plain(state, cache)?,
            None => job.plain(stepper.call.state(num_rows, cache), cache)?,
        };
        self.levels.insert(num_rows, level);
        Ok(drawn)
    }
}

/// Some steps from some rows.
struct Job<'a> {
    stepper: Stepper<'a>,
    first: FirstRows,
    /// Rows that are not in vain.
    num_own: usize,
    num_steps: usize,
}

impl Job<'_> {
    fn plain(
        &self,
        state: DecodeState,
        cache: &mut KvCache,
    ) -> Result<(Level, Drawn), RolloutError> {
        let state = self.run(state, cache);
        let drawn = self.read(&state)?;
        Ok((Level::Plain(state), drawn))
    }

    fn run(&self, state: DecodeState, cache: &mut KvCache) -> DecodeState {
        let state = state.begin(self.first.clone());
        self.stepper.steps(state, self.num_steps, cache)
    }

    fn read(&self, state: &DecodeState) -> Result<Drawn, RolloutError> {
        let drawn = state.drawn();
        let width = drawn.dims()[1];
        let drawn = read(drawn)?;
        let rows = drawn.chunks_exact(width).take(self.num_own);
        Ok(rows
            .map(|row| row.as_chunks().0[..self.num_steps].to_vec())
            .collect())
    }
}

/// Runs the steps, records one, and holds the recording against what was run.
fn record(
    state: DecodeState,
    job: &Job<'_>,
    cache: &mut KvCache,
) -> Result<(Level, Drawn), RolloutError> {
    let device = job.stepper.call.weights.device();
    let preparation = Preparation::new(&device)?;
    let state = job.run(state, cache);
    let expected = job.read(&state)?;
    let before = [state.storage()?, cache.storage()?];
    let (graph, state) = preparation.record(|| job.stepper.step(state, cache))?;
    let recording = Recording {
        storage: [state.storage()?, cache.storage()?],
        num_edits: cache.num_edits(),
        state,
        graph,
    };
    if recording.storage != before {
        return Err(failed("its step does not write in place"));
    }
    match recording.replay(job, cache)? {
        (recording, Some(found)) if is_same(&found, &expected) => {
            Ok((Level::Recorded(Box::new(recording)), expected))
        }
        (_, Some(_)) => Err(failed("it draws other tokens than the steps it repeats")),
        (_, None) => Err(failed("what it writes was moved at once")),
    }
}

impl Recording {
    /// Replays the steps and reads what they draw; `None`, with nothing run, if something is not
    /// where it was.
    fn replay(
        mut self,
        job: &Job<'_>,
        cache: &KvCache,
    ) -> Result<(Self, Option<Drawn>), RolloutError> {
        self.state = self.state.begin(job.first.clone());
        if self.is_moved(cache)? {
            return Ok((self, None));
        }
        for _ in 0..job.num_steps {
            self.graph.replay()?;
        }
        let drawn = job.read(&self.state)?;
        Ok((self, Some(drawn)))
    }

    /// Fails if any of it was to be written and never was.
    fn is_moved(&mut self, cache: &KvCache) -> Result<bool, RolloutError> {
        let [state, panels] = &self.storage;
        if self.num_edits != cache.num_edits() {
            if *panels != cache.storage()? {
                return Ok(true);
            }
            self.num_edits = cache.num_edits();
        }
        Ok(*state != self.state.storage()?)
    }
}

/// True if both draw the same tokens with the same log-probs and entropies.
fn is_same(found: &Drawn, expected: &Drawn) -> bool {
    let mut pairs = found.iter().flatten().zip(expected.iter().flatten());
    let is_close = |a: f32, b: f32| (a - b).abs() <= MOST_DIFFERENCE || a.to_bits() == b.to_bits();
    pairs.all(|(a, b)| a[0] == b[0] && is_close(a[1], b[1]) && is_close(a[2], b[2]))
}

fn failed(reason: &str) -> RolloutError {
    RolloutError::Recording {
        reason: reason.into(),
    }
}

impl From<GraphError> for RolloutError {
    /// A shortage of memory is one, whatever it kept from being done.
    fn from(error: GraphError) -> Self {
        let reason = error.to_string();
        match OutOfMemory::in_text(&reason) {
            Some(_) => Self::Device { reason },
            None => failed(&reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_ends_recordings_for_all_clones_and_is_told_once() {
        let recordings = Recordings::default();
        let clone = recordings.clone();
        assert!(clone.are_possible() && clone.warning().is_none());
        recordings.fail("no memory".into());
        assert!(!clone.are_possible());
        assert!(clone.warning().is_some_and(|it| it.contains("(no memory)")));
        assert!(recordings.warning().is_none() && !recordings.are_possible());
    }

    #[test]
    fn a_shortage_is_no_failed_recording() {
        let shortage = "The bytes were never written: out of device memory allocating 4096 bytes";
        let error = RolloutError::from(GraphError::new(shortage));
        assert!(matches!(error, RolloutError::Device { .. }), "{error}");
        let error = RolloutError::from(GraphError::new("the device is poisoned"));
        assert!(matches!(error, RolloutError::Recording { .. }), "{error}");
    }

    #[test]
    fn a_recording_has_to_draw_the_same() {
        let of = |rows: [[f32; 3]; 2]| vec![vec![rows[0], rows[1]]];
        let expected = of([[3.0, -1.0, 2.0], [-1.0, f32::NAN, f32::NAN]]);
        assert!(is_same(&expected, &expected));
        assert!(is_same(
            &of([[3.0, -1.0004, 2.0], [-1.0, f32::NAN, f32::NAN]]),
            &expected
        ));
        for other in [[4.0, -1.0, 2.0], [3.0, -1.01, 2.0], [3.0, -1.0, f32::NAN]] {
            assert!(!is_same(
                &of([other, [-1.0, f32::NAN, f32::NAN]]),
                &expected
            ));
        }
    }
}
