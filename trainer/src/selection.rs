//! Which prompts a step rolls out. Stateless: the choice is a function of (seed, step), so a
//! resumed run chooses what the uninterrupted one would have.

use serde::{Deserialize, Serialize};

use crate::config::InvalidValue;
use crate::record::PromptId;
use crate::seed::{Stage, stream};

/// How prompts are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SelectionMethod {
    /// Every prompt once per epoch, in a seeded order that changes with the epoch.
    #[default]
    Uniform,
}

/// The section `[selection]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SelectionConfig {
    /// How prompts are chosen.
    pub method: SelectionMethod,
    /// P: prompts per step, at least 1.
    pub prompts_per_step: usize,
}

impl Default for SelectionConfig {
    fn default() -> Self {
        Self {
            method: SelectionMethod::Uniform,
            prompts_per_step: 16,
        }
    }
}

impl SelectionConfig {
    /// # Errors
    /// If `prompts_per_step` is zero.
    pub fn validate(&self) -> Result<(), InvalidValue> {
        if self.prompts_per_step == 0 {
            return Err(InvalidValue::new(
                "selection.prompts_per_step",
                0,
                "at least 1",
            ));
        }
        Ok(())
    }
}

/// Indices of the `count` prompts of `step` (counted from 0) among `num_prompts`.
///
/// # Panics
/// If `num_prompts` is zero; an empty dataset is refused at load time.
pub fn select(
    method: SelectionMethod,
    seed: u64,
    step: u64,
    count: usize,
    num_prompts: usize,
) -> Vec<usize> {
    assert!(num_prompts > 0, "select: no prompts");
    match method {
        SelectionMethod::Uniform => {
            let epoch_key =
                |epoch| stream(seed, Stage::Select, epoch, PromptId(0), 0).below(u64::MAX);
            let first = step * count as u64;
            let chosen = rlvr_core::uniform(first, count, num_prompts as u64, epoch_key);
            chosen.into_iter().map(|index| index as usize).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prompt_comes_once_per_epoch_in_changing_order() {
        let step = |step| select(SelectionMethod::Uniform, 7, step, 4, 10);
        let places: Vec<usize> = (0..5).flat_map(step).collect();
        let (mut first, mut second) = (places[..10].to_vec(), places[10..].to_vec());
        assert_ne!(first, second);
        first.sort_unstable();
        second.sort_unstable();
        assert_eq!(first, (0..10).collect::<Vec<_>>());
        assert_eq!(second, first);
    }

    #[test]
    fn a_step_does_not_depend_on_the_steps_before() {
        let step = |seed| select(SelectionMethod::Uniform, seed, 9, 3, 8);
        assert_eq!(step(1), step(1));
        assert_ne!(step(1), step(2));
    }
}
