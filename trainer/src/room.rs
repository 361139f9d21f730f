//! Micro-batches that fit the device's memory.
//!
//! Denominators are those of the whole mini-batch, so the gradient is the same however its rows are
//! cut. When the device has no room for a mini-batch, its micro-batches are cut smaller and it is
//! run again from its first row: a backend may report a shortage only when the gradients are read.

use burn::tensor::{Device, TensorReadError};
use rlvr_backends::{OutOfMemory, catch_shortage, hand_back_memory};
use thiserror::Error;

use crate::batch::{Row, largest_divisible, microbatches};
use crate::failure::Failure;
use crate::metrics::StepMetrics;
use crate::state::Counters;

/// Most packed rows of a micro-batch, lowered for good each time the device had no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MicroBatchLimit {
    /// Packed rows of one forward pass.
    pub max_tokens: usize,
    /// How often it was lowered.
    pub num_retries: usize,
}

/// A pass over rows failed.
#[derive(Debug, Error)]
pub enum UpdateError {
    /// The device failed while a number was read.
    #[error("read the loss from the device")]
    Device(#[from] TensorReadError),
    /// Not even one completion with its prompt fits.
    #[error(
        "fit one completion of {tokens} tokens, prompt included, into the device's memory ({shortage}): \
         set update.gradient_checkpointing = true, lower rollout.max_new_tokens or \
         update.max_logits_bytes, or let memory.budget choose"
    )]
    NoRoom {
        /// Tokens of the longest row.
        tokens: usize,
        /// What the device said.
        shortage: OutOfMemory,
    },
}

impl MicroBatchLimit {
    /// A limit that was never lowered.
    pub fn new(max_tokens: usize) -> Self {
        Self {
            max_tokens,
            num_retries: 0,
        }
    }

    /// What is left of the configured limit after the steps so far.
    pub fn left(configured: usize, counters: &Counters) -> Self {
        let left = counters.max_tokens_per_microbatch.unwrap_or(configured);
        Self::new(left.min(configured))
    }

    /// Runs `attempt` over `rows` with the limit, and again with half of it as long as the device
    /// has no room. What an attempt computes must not be used before it is over, and it has to read
    /// all of it.
    ///
    /// # Errors
    /// If the device cannot be read, or every micro-batch was a single completion already.
    pub fn attempt<T>(
        &mut self,
        rows: &[&Row],
        device: &Device,
        mut attempt: impl FnMut(usize) -> Result<T, TensorReadError>,
    ) -> Result<T, UpdateError> {
        loop {
            let found = catch_shortage(|| attempt(self.max_tokens), |error| format!("{error:?}"));
            let shortage = match found {
                Ok(found) => return Ok(found?),
                Err(shortage) => shortage,
            };
            self.lower(rows, shortage)?;
            hand_back_memory(device);
        }
    }

    /// Half of the limit, or of what the largest micro-batch needs if that is less.
    fn lower(&mut self, rows: &[&Row], shortage: OutOfMemory) -> Result<(), UpdateError> {
        let batches = microbatches(rows, self.max_tokens);
        let Some(largest) = largest_divisible(rows, &batches) else {
            let tokens = rows.iter().map(|row| row.tokens.len()).max().unwrap_or(0);
            return Err(UpdateError::NoRoom { tokens, shortage });
        };
        self.max_tokens = self.max_tokens.min(largest).div_ceil(2);
        self.num_retries += 1;
        Ok(())
    }

    /// Adds it to a step's metrics and to what later passes start from.
    pub fn record(&self, counters: &mut Counters, metrics: &mut StepMetrics) {
        metrics.timing.microbatch_tokens = Some(self.max_tokens as u64);
        metrics.timing.num_oom_retries = Some(self.num_retries as u64);
        self.keep(counters);
    }

    /// Later passes start from it, if it was lowered.
    pub fn keep(&self, counters: &mut Counters) {
        if self.num_retries > 0 {
            counters.max_tokens_per_microbatch = Some(self.max_tokens);
        }
    }

    /// What to tell the user if it was lowered in `step`, counted from 1.
    pub fn warning(&self, step: u64) -> Option<String> {
        (self.num_retries > 0).then(|| {
            format!(
                "step {step} ran out of device memory {} times: micro-batches have at most {} \
                 packed rows from now on (update.max_tokens_per_microbatch); the gradient is the \
                 same, the update is slower",
                self.num_retries, self.max_tokens
            )
        })
    }
}

/// Runs a command; that a device has no room, wherever it was said, becomes a sentence.
///
/// # Errors
/// If the command fails.
pub fn with_device_memory<T>(command: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    let shortage = match catch_shortage(command, Failure::whole_chain) {
        Ok(found) => return found,
        Err(shortage) => shortage,
    };
    Err(Failure::run(format!(
        "go on: {shortage}; lower rollout.kv_budget_bytes, rollout.prefill_tokens or \
         update.max_tokens_per_microbatch, or set memory.budget to what the device has"
    )))
}

/// A device with room for so many tokens at a time, as far as the passes of this thread go.
#[cfg(test)]
pub(crate) mod pretended {
    use std::cell::Cell;

    use crate::batch::Row;

    thread_local! {
        static ROOM: Cell<usize> = const { Cell::new(usize::MAX) };
        static TRIED: Cell<Tried> = const { Cell::new(Tried { num_run: 0, num_refused: 0 }) };
    }

    /// Micro-batches.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Tried {
        /// All of them.
        pub(crate) num_run: usize,
        /// Those that found no room.
        pub(crate) num_refused: usize,
    }

    /// `work` on a device with room for `tokens`.
    pub(crate) fn with_room<T>(tokens: usize, work: impl FnOnce() -> T) -> (T, Tried) {
        struct Restore;
        impl Drop for Restore {
            fn drop(&mut self) {
                ROOM.set(usize::MAX);
            }
        }
        let _restore = Restore;
        ROOM.set(tokens);
        TRIED.set(Tried {
            num_run: 0,
            num_refused: 0,
        });
        (work(), TRIED.get())
    }

    /// Panics as a backend does when an allocation failed, if `rows` are more than there is room.
    pub(crate) fn run(rows: &[&Row]) {
        let tokens: usize = rows.iter().map(|row| row.tokens.len()).sum();
        let has_room = tokens <= ROOM.get();
        let before = TRIED.get();
        TRIED.set(Tried {
            num_run: before.num_run + 1,
            num_refused: before.num_refused + usize::from(!has_room),
        });
        assert!(
            has_room,
            "called `Result::unwrap()` on an `Err` value: An IO error happened\nCaused by:\n  \
             out of device memory allocating {tokens} bytes\n"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::PromptId;

    fn rows(lengths: &[usize]) -> Vec<Row> {
        let row = |(index, &length): (usize, &usize)| Row {
            prompt_id: PromptId(index as u64),
            rollout_index: 0,
            tokens: vec![1; 4 + length],
            num_prompt_tokens: 4,
            advantage: 1.0,
            sampler_logprobs: vec![0.0; length],
            old_logprobs: None,
        };
        lengths.iter().enumerate().map(row).collect()
    }

    /// Tries until at most `room` packed rows are asked for.
    fn tried(limit: &mut MicroBatchLimit, rows: &[Row], room: usize) -> Result<usize, UpdateError> {
        let views: Vec<&Row> = rows.iter().collect();
        limit.attempt(&views, &crate::test_device(), |most| {
            let largest = largest_divisible(&views, &microbatches(&views, most));
            assert!(
                largest.unwrap_or(8) <= room,
                "out of device memory allocating {most} bytes"
            );
            Ok(most)
        })
    }

    #[test]
    fn the_limit_halves_until_it_fits_and_stays_there() {
        let rows = rows(&[5; 10]);
        let mut limit = MicroBatchLimit::new(4096);
        // 80 packed rows in all: the first half of 4096 would change nothing.
        assert_eq!(tried(&mut limit, &rows, 40).expect("40 fit"), 40);
        assert_eq!(limit.num_retries, 1);
        assert_eq!(tried(&mut limit, &rows, 40).expect("they still do"), 40);
        assert_eq!(limit.num_retries, 1);
        assert_eq!(tried(&mut limit, &rows, 17).expect("two rows fit"), 20);
        assert!(limit.warning(3).is_some_and(|it| it.contains("at most 20")));
        let (mut counters, mut metrics) = (Counters::default(), StepMetrics::default());
        limit.record(&mut counters, &mut metrics);
        assert_eq!(counters.max_tokens_per_microbatch, Some(20));
        let timing = &metrics.timing;
        assert_eq!(
            (timing.microbatch_tokens, timing.num_oom_retries),
            (Some(20), Some(2))
        );
        let fitting = MicroBatchLimit::new(8);
        assert_eq!(fitting.warning(3), None);
        // A later step in which all fits changes nothing.
        fitting.record(&mut counters, &mut metrics);
        assert_eq!(counters.max_tokens_per_microbatch, Some(20));
        let left = |configured| MicroBatchLimit::left(configured, &counters);
        assert_eq!([left(4096), left(8)], [20, 8].map(MicroBatchLimit::new));
    }

    #[test]
    fn a_completion_that_does_not_fit_alone_names_the_keys() {
        let rows = rows(&[5; 4]);
        let mut limit = MicroBatchLimit::new(4096);
        let error = tried(&mut limit, &rows, 7).expect_err("a row needs 8");
        let text = error.to_string();
        for part in [
            "completion of 9 tokens",
            "no room on the device for 8 bytes",
            "update.gradient_checkpointing",
            "rollout.max_new_tokens",
            "memory.budget",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn a_shortage_anywhere_in_a_command_becomes_a_sentence() {
        let words = "An IO error happened\nCaused by:\n  out of device memory allocating 64 bytes";
        let panicked = with_device_memory::<()>(|| panic!("{words}"));
        let returned = with_device_memory::<()>(|| Err(Failure::run(words)));
        // Behind another failure, which is all that a user would be told.
        let several = format!(
            "Several failures at once\nCaused by:\n  The device refused\nBacktrace:\n{words}"
        );
        let behind = with_device_memory::<()>(|| Err(Failure::run(several)));
        for failure in [panicked, returned, behind] {
            let text = failure.expect_err("no room").chain();
            assert!(
                text.starts_with("go on: no room on the device for 64 bytes;"),
                "{text}"
            );
            assert!(text.contains("rollout.kv_budget_bytes"), "{text}");
        }
        let other = with_device_memory::<()>(|| Err(Failure::usage("`x` is a file")));
        assert_eq!(other.expect_err("as it was").chain(), "`x` is a file");
        assert_eq!(with_device_memory(|| Ok(2)).expect("room"), 2);
    }
}
