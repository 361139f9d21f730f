//! What selection carries from step to step, and how it is saved.
//!
//! Everything is in `selection.json` of a checkpoint and comes back bit-equal; a digest of it is in
//! every line of `selection.jsonl`. Arms without a memory save an empty one.

use std::collections::VecDeque;

use rlvr_core::Exploration;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::counts::{AuditCounts, StepCounts};
use super::histories::Histories;
use super::window::WindowStep;
use crate::config::hex;
use crate::record::Prompt;

/// Version of the format.
const VERSION: u32 = 1;

/// The state of prompt selection between two steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelectionState {
    version: u32,
    /// SHA-256 of the ids of the training prompts, in their order.
    data_digest: String,
    /// Number of training prompts.
    pub num_prompts: u64,
    /// Position in the endless sequence of epochs.
    pub position: u64,
    /// Exploration probabilities.
    #[serde(with = "exploration_bits")]
    pub exploration: Exploration,
    /// Histories of the prompts that were visited, by place in the data.
    pub histories: Histories,
    /// Sums over all steps.
    pub totals: Totals,
    /// The latest steps, for correlations.
    pub window: VecDeque<WindowStep>,
}

/// Sums over all steps; audits are counted apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Totals {
    /// Prompts pulled from the data.
    pub num_raw_prompts: u64,
    /// Prompts that passed the history filter.
    pub num_stage1_kept: u64,
    /// Prompts that were scored.
    pub num_scored_prompts: u64,
    /// Their tokens.
    pub scored_tokens: u64,
    /// Rounds.
    pub num_rounds: u64,
    /// Groups generated, before any filter.
    pub num_groups_generated: u64,
    /// Completions generated, before any filter.
    pub num_completions: u64,
    /// Their tokens.
    pub completion_tokens: u64,
    /// Prompt tokens that were run, scored ones included.
    pub prefill_tokens: u64,
    /// Groups whose rewards differ.
    pub num_groups_mixed: u64,
    /// Groups trained on.
    pub num_groups_trained: u64,
    /// Steps that trained on fewer groups than configured.
    pub num_short_steps: u64,
    /// Audit completions.
    pub audit_num_completions: u64,
    /// Their tokens.
    pub audit_completion_tokens: u64,
}

impl Totals {
    /// Adds a step.
    pub(super) fn add(&mut self, step: &StepCounts, audit: &AuditCounts, is_short: bool) {
        self.num_raw_prompts += step.num_raw_prompts;
        self.num_stage1_kept += step.num_stage1_kept;
        self.num_scored_prompts += step.num_scored_prompts;
        self.scored_tokens += step.scored_tokens;
        self.num_rounds += step.num_rounds;
        self.num_groups_generated += step.num_groups_generated;
        self.num_completions += step.num_completions;
        self.completion_tokens += step.completion_tokens;
        self.prefill_tokens += step.prefill_tokens;
        self.num_groups_mixed += step.num_groups_mixed;
        self.num_groups_trained += step.num_groups_trained;
        self.num_short_steps += u64::from(is_short);
        self.audit_num_completions += audit.audit_num_completions;
        self.audit_completion_tokens += audit.audit_completion_tokens;
    }
}

/// A saved state that cannot be used.
#[derive(Debug, Error)]
pub enum SelectionStateError {
    /// Not what this version writes.
    #[error("read the state of prompt selection")]
    Format(#[from] serde_json::Error),
    /// Of another version.
    #[error(
        "read the state of prompt selection: it is of version {found}, this program reads {VERSION}"
    )]
    Version {
        /// Its version.
        found: u32,
    },
    /// Of other data.
    #[error(
        "continue prompt selection: its state belongs to another data set of {saved} training \
         prompts (digest {saved_digest}), this run has {current} (digest {current_digest}); give \
         the data that the run was started with"
    )]
    OtherData {
        /// Prompts then.
        saved: u64,
        /// Digest then.
        saved_digest: String,
        /// Prompts now.
        current: u64,
        /// Digest now.
        current_digest: String,
    },
}

/// SHA-256 of the prompt ids in their order.
fn data_digest(prompts: &[Prompt]) -> String {
    let mut hash = Sha256::new();
    for prompt in prompts {
        hash.update(prompt.id.0.to_le_bytes());
    }
    hex(&hash.finalize())
}

impl SelectionState {
    /// The state before the first step.
    pub fn fresh(prompts: &[Prompt], exploration: Exploration) -> Self {
        Self {
            version: VERSION,
            data_digest: data_digest(prompts),
            num_prompts: prompts.len() as u64,
            position: 0,
            exploration,
            histories: Histories::default(),
            totals: Totals::default(),
            window: VecDeque::new(),
        }
    }

    /// The bytes that are saved.
    ///
    /// # Errors
    /// If a number is not finite; the loop lets none in.
    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    /// Reads what [`SelectionState::to_bytes`] wrote.
    ///
    /// # Errors
    /// If it is damaged or of another version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SelectionStateError> {
        let state: Self = serde_json::from_slice(bytes)?;
        match state.version {
            VERSION => Ok(state),
            found => Err(SelectionStateError::Version { found }),
        }
    }

    /// SHA-256 of everything, in hexadecimal; histories enter by their fingerprint.
    ///
    /// # Errors
    /// As [`SelectionState::to_bytes`].
    pub fn digest(&self) -> Result<String, serde_json::Error> {
        let exploration = [self.exploration.p_easy, self.exploration.p_hard].map(f64::to_bits);
        let rest = (
            self.version,
            &self.data_digest,
            self.num_prompts,
            self.position,
            exploration,
            &self.totals,
            &self.window,
        );
        let mut hash = Sha256::new();
        hash.update(self.histories.fingerprint());
        hash.update(serde_json::to_vec(&rest)?);
        Ok(hex(&hash.finalize()))
    }

    /// Refuses other training prompts than those that the state knows.
    ///
    /// # Errors
    /// If ids or order differ.
    pub fn check_data(&self, prompts: &[Prompt]) -> Result<(), SelectionStateError> {
        let current_digest = data_digest(prompts);
        if current_digest == self.data_digest {
            return Ok(());
        }
        let short = |digest: &str| digest.chars().take(12).collect();
        Err(SelectionStateError::OtherData {
            saved: self.num_prompts,
            saved_digest: short(&self.data_digest),
            current: prompts.len() as u64,
            current_digest: short(&current_digest),
        })
    }

    /// The epoch of the stream, counted from 0.
    pub fn epoch(&self) -> u64 {
        self.position / self.num_prompts.max(1)
    }
}

/// The two probabilities as the bits of their 64-bit floats.
mod exploration_bits {
    use rlvr_core::Exploration;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(
        value: &Exploration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        [value.p_easy.to_bits(), value.p_hard.to_bits()].serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Exploration, D::Error> {
        let [p_easy, p_hard] = <[u64; 2]>::deserialize(deserializer)?;
        Ok(Exploration {
            p_easy: f64::from_bits(p_easy),
            p_hard: f64::from_bits(p_hard),
        })
    }
}

#[cfg(test)]
mod tests {
    use rlvr_core::GroupKind;

    use super::super::histories::Visit;
    use super::*;
    use crate::record::PromptId;

    fn prompts(ids: &[u64]) -> Vec<Prompt> {
        let prompt = |&id: &u64| Prompt {
            id: PromptId(id),
            prompt_text: String::new(),
            prompt_tokens: vec![1],
            reference_answer: String::new(),
            solution: None,
        };
        ids.iter().map(prompt).collect()
    }

    fn state() -> SelectionState {
        let mut state = SelectionState::fresh(&prompts(&[3, 1, 2]), Exploration::default());
        state.exploration.p_easy = 0.1 + 0.2;
        state.position = 7;
        let visit = Visit {
            step: 4,
            epoch: 2,
            rewards: vec![0.1, 1.0 / 3.0],
            kind: GroupKind::Mixed,
            entropy: 2.0 / 3.0,
        };
        state.histories.visit(1, visit, 0.5, 0.9);
        state
    }

    #[test]
    fn a_state_comes_back_bit_equal() {
        let state = state();
        let bytes = state.to_bytes().unwrap();
        let read = SelectionState::from_bytes(&bytes).unwrap();
        assert_eq!(read, state);
        assert_eq!(read.to_bytes().unwrap(), bytes);
        assert_eq!(read.digest().unwrap(), state.digest().unwrap());
        assert_eq!(read.exploration.p_easy.to_bits(), (0.1_f64 + 0.2).to_bits());
        assert_eq!(state.epoch(), 2);
        let mut other = state.clone();
        other.exploration.p_easy = 0.3;
        assert_ne!(other.digest().unwrap(), state.digest().unwrap());
        let changes: [fn(&mut SelectionState); 4] = [
            |it| it.position += 1,
            |it| it.totals.num_rounds += 1,
            |it| it.window.push_back(WindowStep::default()),
            |it| it.histories = Histories::default(),
        ];
        for change in changes {
            let mut other = state.clone();
            change(&mut other);
            assert_ne!(other.digest().unwrap(), state.digest().unwrap());
        }
    }

    #[test]
    fn another_data_set_is_refused() {
        let state = state();
        assert!(state.check_data(&prompts(&[3, 1, 2])).is_ok());
        for ids in [&[3, 1][..], &[1, 3, 2], &[3, 1, 4]] {
            let error = state.check_data(&prompts(ids)).unwrap_err().to_string();
            assert!(error.contains("another data set of 3"), "{error}");
        }
    }

    #[test]
    fn another_version_is_refused() {
        let text = String::from_utf8(state().to_bytes().unwrap()).unwrap();
        let text = text.replace("\"version\":1", "\"version\":9");
        let error = SelectionState::from_bytes(text.as_bytes()).unwrap_err();
        assert!(matches!(error, SelectionStateError::Version { found: 9 }));
        assert!(SelectionState::from_bytes(b"{}").is_err());
    }
}
