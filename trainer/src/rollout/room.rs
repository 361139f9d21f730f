//! Rollouts that fit the device's memory. Where it has no room, a call is run again with half as many slots
//! and prefill batches half as large: a completion depends on neither.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::tensor::Device;
use rlvr_backends::{catch_shortage, hand_back_memory};

use super::{RolloutConfig, RolloutError};
use crate::policy::cache::CacheShape;

/// Smaller prefill batches make no difference to what is in memory.
const LEAST_PREFILL_TOKENS: usize = 64;

/// What fits, as far as shortages have told, for all clones of an engine.
#[derive(Clone, Debug, Default)]
pub(super) struct Room(Arc<Mutex<Limits>>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Limits {
    slots: Option<usize>,
    prefill_tokens: Option<usize>,
    /// Lowered since the user was told.
    is_news: bool,
}

impl Limits {
    fn within(self, rollout: &RolloutConfig) -> RolloutConfig {
        let least = |value: usize, limit: Option<usize>| limit.map_or(value, |it| it.min(value));
        RolloutConfig {
            max_slots: least(rollout.max_slots, self.slots),
            prefill_tokens: least(rollout.prefill_tokens, self.prefill_tokens),
            ..rollout.clone()
        }
    }

    /// Half of what was tried; false if that was the least.
    fn lower(&mut self, slots: usize, prefill_tokens: usize) -> bool {
        if slots <= 1 && prefill_tokens <= LEAST_PREFILL_TOKENS {
            return false;
        }
        *self = Self {
            slots: Some((slots / 2).max(1)),
            prefill_tokens: Some((prefill_tokens / 2).max(LEAST_PREFILL_TOKENS)),
            is_news: true,
        };
        true
    }
}

impl Room {
    /// Runs `attempt` within what fits, in the caches that `shapes` gives for it, and again with less
    /// as long as the device has no room.
    ///
    /// # Errors
    /// If `shapes` or `attempt` fails, or there is no room for a single completion.
    pub(super) fn attempt<T>(
        &self,
        rollout: &RolloutConfig,
        device: &Device,
        shapes: impl Fn(&RolloutConfig) -> Result<Vec<CacheShape>, RolloutError>,
        mut attempt: impl FnMut(&RolloutConfig, &[CacheShape]) -> Result<T, RolloutError>,
    ) -> Result<T, RolloutError> {
        loop {
            let rollout = self.limits().within(rollout);
            let caches = shapes(&rollout)?;
            let found = catch_shortage(|| attempt(&rollout, &caches), RolloutError::to_string);
            let shortage = match found {
                Ok(found) => return found,
                Err(shortage) => shortage,
            };
            let slots = caches.iter().map(|cache| cache.slots).sum();
            if !self.limits().lower(slots, rollout.prefill_tokens) {
                let tokens = caches.iter().map(CacheShape::sequence_tokens).max();
                return Err(RolloutError::NoRoom {
                    tokens: tokens.unwrap_or(0),
                    shortage,
                });
            }
            hand_back_memory(device);
        }
    }

    /// What to tell the user, once each time less is tried.
    pub(super) fn warning(&self) -> Option<String> {
        let mut limits = self.limits();
        let (slots, prefill_tokens) = (limits.slots?, limits.prefill_tokens?);
        std::mem::take(&mut limits.is_news).then(|| {
            format!(
                "the device ran out of memory in a rollout: at most {slots} completions decode at once from \
                 now on, after prefill batches of {prefill_tokens} tokens (rollout.max_slots, \
                 rollout.prefill_tokens); the completions are the same, the rollout is slower"
            )
        })
    }

    fn limits(&self) -> MutexGuard<'_, Limits> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shapes(rollout: &RolloutConfig) -> Result<Vec<CacheShape>, RolloutError> {
        let shape = |slots| CacheShape {
            slots,
            columns: 32,
            prompt_slots: 1,
            prompt_columns: 8,
        };
        let slots = rollout.max_slots;
        Ok(vec![shape(slots.div_ceil(2)), shape(slots / 2)])
    }

    /// Slots and prefill tokens of all that was tried on a device with room for so many slots.
    fn tried(room: &Room, room_for: usize) -> (Result<(), RolloutError>, Vec<[usize; 2]>) {
        let rollout = RolloutConfig {
            max_slots: 9,
            prefill_tokens: 500,
            ..RolloutConfig::default()
        };
        let mut tried = Vec::new();
        let found = room.attempt(&rollout, &Device::default(), shapes, |rollout, caches| {
            let slots = caches.iter().map(|it| it.slots).sum();
            tried.push([slots, rollout.prefill_tokens]);
            match slots <= room_for {
                true => Ok(()),
                // As a backend reports it: by a panic, or with a number that is read.
                false if tried.len() == 1 => panic!("out of device memory allocating 9 bytes"),
                false => Err(RolloutError::Device {
                    reason: "out of device memory allocating 9 bytes".into(),
                }),
            }
        });
        (found, tried)
    }

    #[test]
    fn less_is_tried_until_it_fits_and_from_then_on() {
        let room = Room::default();
        let clone = room.clone();
        let (found, attempts) = tried(&room, 2);
        assert!(found.is_ok() && clone.warning().is_some_and(|it| it.contains("at most 2 ")));
        assert_eq!(attempts, [[9, 500], [4, 250], [2, 125]]);
        assert_eq!(clone.warning(), None);
        assert_eq!(tried(&clone, 9).1, [[2, 125]]);
    }

    #[test]
    fn a_completion_that_does_not_fit_and_any_other_error_end_it() {
        let (found, attempts) = tried(&Room::default(), 0);
        let error = found.unwrap_err();
        assert!(
            matches!(error, RolloutError::NoRoom { tokens: 40, .. }),
            "{error}"
        );
        assert_eq!(attempts.last(), Some(&[1, LEAST_PREFILL_TOKENS]));
        let other = Room::default().attempt(
            &RolloutConfig::default(),
            &Device::default(),
            shapes,
            |_, _| -> Result<(), _> {
                Err(RolloutError::Device {
                    reason: "the device is poisoned".into(),
                })
            },
        );
        assert!(matches!(other, Err(RolloutError::Device { .. })));
    }
}
