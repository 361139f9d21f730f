//! Who sits where in a worker's cache: completions in slots, and their prompts in slots of their own.

use std::collections::VecDeque;
use std::ops::Range;

use rlvr_backends::kernels::RowSpan;

use super::active::Active;
use crate::policy::cache::PromptKv;

/// A completion in a slot.
pub(super) struct Seat<'a> {
    pub(super) active: Active<'a>,
    pub(super) prompt_slot: usize,
}

impl Seat<'_> {
    /// What its next decode step sees.
    pub(super) fn span(&self) -> RowSpan {
        let [prompt_columns, own_columns] = self.active.num_tokens();
        RowSpan {
            prompt_slot: self.prompt_slot,
            prompt_columns,
            own_columns,
        }
    }
}

/// A prompt that has been run and still owes completions.
pub(super) struct Ready<'a> {
    /// Those without a slot, each with its first token.
    pub(super) waiting: VecDeque<Active<'a>>,
    pub(super) layers: Vec<PromptKv>,
    pub(super) rows: Range<usize>,
    /// Where it is stored, from its first seat on.
    pub(super) prompt_slot: Option<usize>,
}

/// The slots for prompts, and how many hold each: its seats, and the prompt itself while others of
/// its completions wait.
#[derive(Debug)]
pub(super) struct PromptSlots(Vec<usize>);

impl PromptSlots {
    pub(super) fn new(count: usize) -> Self {
        Self(vec![0; count])
    }

    /// A slot that nobody holds, now held once.
    pub(super) fn take(&mut self) -> Option<usize> {
        let free = self.0.iter().position(|holders| *holders == 0)?;
        self.hold(free);
        Some(free)
    }

    pub(super) fn hold(&mut self, slot: usize) {
        self.0[slot] += 1;
    }

    pub(super) fn release(&mut self, slot: usize) {
        self.0[slot] -= 1;
    }
}
