//! The data stream: an endless sequence of epochs, each a permutation of its own.

use std::collections::BTreeSet;

use rlvr_core::selection::uniform::permuted;

use crate::record::PromptId;
use crate::seed::{Stage, stream};

/// Random key of an epoch's order; the same for every arm.
fn epoch_key(seed: u64, epoch: u64) -> u64 {
    stream(seed, Stage::Select, epoch, PromptId(0), 0).below(u64::MAX)
}

/// Indices of the `count` prompts of `step` (counted from 0) in uniform selection: a function of
/// its arguments, without a memory.
///
/// # Panics
/// If `num_prompts` is zero; an empty dataset is refused at load time.
pub fn uniform_step(seed: u64, step: u64, count: usize, num_prompts: usize) -> Vec<usize> {
    assert!(num_prompts > 0, "uniform_step: no prompts");
    let first = step * count as u64;
    let epoch_key = |epoch| epoch_key(seed, epoch);
    let chosen = rlvr_core::uniform(first, count, num_prompts as u64, epoch_key);
    chosen.into_iter().map(|index| index as usize).collect()
}

/// What becomes of an epoch's end that does not fill a raw batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EpochEnd {
    /// The batch is completed from the next epoch.
    GoOn,
    /// It is dropped, as GRESO's code does.
    Drop,
}

/// Reads the stream from a position on, each prompt once per step.
#[derive(Clone, Debug)]
pub struct DataStream {
    seed: u64,
    num_prompts: u64,
    position: u64,
    epoch: Option<(u64, u64)>,
    seen: BTreeSet<u64>,
    end: EpochEnd,
}

impl DataStream {
    /// The stream at the start of a step.
    pub fn new(seed: u64, num_prompts: u64, position: u64, end: EpochEnd) -> Self {
        Self {
            seed,
            num_prompts,
            position,
            epoch: None,
            seen: BTreeSet::new(),
            end,
        }
    }

    /// Where it stands.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// True if every prompt has been pulled in this step.
    pub fn is_exhausted(&self) -> bool {
        self.seen.len() as u64 >= self.num_prompts
    }

    /// The next `count` prompts that were not pulled in this step yet; fewer only when all have
    /// been, or when an epoch's end is dropped.
    pub fn pull(&mut self, count: usize) -> Vec<u64> {
        let mut raw = Vec::with_capacity(count);
        while raw.len() < count && !self.is_exhausted() {
            let is_boundary = self.position.is_multiple_of(self.num_prompts);
            let is_whole = self.num_prompts >= count as u64;
            if self.end == EpochEnd::Drop && is_boundary && is_whole && !raw.is_empty() {
                // They belong to the epoch that has ended; the batch starts again.
                for dropped in raw.drain(..) {
                    self.seen.remove(&dropped);
                }
            }
            let index = self.index();
            self.position += 1;
            if self.seen.insert(index) {
                raw.push(index);
            }
        }
        raw
    }

    fn index(&mut self) -> u64 {
        let epoch = self.position / self.num_prompts;
        let key = match self.epoch {
            Some((known, key)) if known == epoch => key,
            _ => epoch_key(self.seed, epoch),
        };
        self.epoch = Some((epoch, key));
        permuted(self.position % self.num_prompts, self.num_prompts, key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prompt_comes_once_per_epoch_in_changing_order() {
        let places: Vec<usize> = (0..5)
            .flat_map(|step| uniform_step(7, step, 4, 10))
            .collect();
        let (mut first, mut second) = (places[..10].to_vec(), places[10..].to_vec());
        assert_ne!(first, second);
        first.sort_unstable();
        second.sort_unstable();
        assert_eq!(first, (0..10).collect::<Vec<_>>());
        assert_eq!(second, first);
    }

    #[test]
    fn a_step_does_not_depend_on_the_steps_before() {
        let step = |seed| uniform_step(seed, 9, 3, 8);
        assert_eq!(step(1), step(1));
        assert_ne!(step(1), step(2));
    }

    #[test]
    fn the_stream_is_the_uniform_order() {
        let mut stream = DataStream::new(7, 10, 0, EpochEnd::GoOn);
        let pulled: Vec<usize> = stream.pull(8).into_iter().map(|i| i as usize).collect();
        let expected: Vec<usize> = (0..2)
            .flat_map(|step| uniform_step(7, step, 4, 10))
            .collect();
        assert_eq!(pulled, expected);
        assert_eq!(stream.position(), 8);
    }

    #[test]
    fn a_step_that_crosses_an_epoch_sees_no_prompt_twice() {
        let mut stream = DataStream::new(7, 10, 6, EpochEnd::GoOn);
        let mut pulled = stream.pull(4);
        pulled.extend(stream.pull(4));
        assert_eq!(pulled.len(), 8);
        pulled.extend(stream.pull(4));
        assert!(stream.is_exhausted());
        assert!(stream.pull(4).is_empty());
        pulled.sort_unstable();
        assert_eq!(pulled, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn an_epochs_end_can_be_dropped() {
        let mut stream = DataStream::new(7, 10, 8, EpochEnd::Drop);
        let batch = stream.pull(4);
        let second_epoch: Vec<u64> = DataStream::new(7, 10, 10, EpochEnd::GoOn).pull(4);
        assert_eq!(batch, second_epoch);
        assert_eq!(stream.position(), 14);
    }
}
