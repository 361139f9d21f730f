//! What is known about the prompts that were visited, and a fingerprint of all of it.

use std::collections::BTreeMap;

use rlvr_core::{BetaPosterior, GresoRuns, GroupKind, TrailingRun};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// What is known about one prompt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromptHistory {
    /// The trailing run, of either type.
    pub run: TrailingRun,
    /// The trailing runs as GRESO's code counts them.
    pub greso: GresoRuns,
    /// Posterior of the pass rate.
    pub posterior: BetaPosterior,
    /// Every group, oldest first.
    pub visits: Vec<Visit>,
}

/// One group of one prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Visit {
    /// Step, counted from 1.
    pub step: u64,
    /// Epoch, counted from 0.
    pub epoch: u64,
    /// Rewards by completion index.
    pub rewards: Vec<f64>,
    /// Kind of the group.
    pub kind: GroupKind,
    /// Response entropy: mean over completions of the mean over their tokens, nats.
    pub entropy: f64,
}

/// Histories by place in the data.
///
/// The fingerprint is the exclusive or of one SHA-256 per prompt, of its place and its history. A
/// visit takes the old one of its prompt out and puts the new one in, so a step costs what it
/// visits and not what was ever visited.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histories {
    by_place: BTreeMap<u64, PromptHistory>,
    fingerprint: [u8; 32],
}

impl Histories {
    /// That of one prompt; none if it was never visited.
    pub fn get(&self, place: u64) -> Option<&PromptHistory> {
        self.by_place.get(&place)
    }

    /// All of them, in the order of the data.
    pub fn values(&self) -> impl Iterator<Item = &PromptHistory> {
        self.by_place.values()
    }

    /// True if no prompt was visited.
    pub fn is_empty(&self) -> bool {
        self.by_place.is_empty()
    }

    /// Adds a group of the prompt at `place`; `decay` is that of the posterior.
    pub fn visit(&mut self, place: u64, visit: Visit, pass_rate: f64, decay: f64) {
        let history = self.by_place.entry(place).or_default();
        if !history.visits.is_empty() {
            exchange(&mut self.fingerprint, &digest(place, history));
        }
        history.visit(visit, pass_rate, decay);
        exchange(&mut self.fingerprint, &digest(place, history));
    }

    /// The fingerprint, the same for the same histories in whatever order they came about.
    pub fn fingerprint(&self) -> &[u8; 32] {
        &self.fingerprint
    }
}

impl From<BTreeMap<u64, PromptHistory>> for Histories {
    fn from(by_place: BTreeMap<u64, PromptHistory>) -> Self {
        let mut fingerprint = [0; 32];
        for (place, history) in &by_place {
            exchange(&mut fingerprint, &digest(*place, history));
        }
        Self {
            by_place,
            fingerprint,
        }
    }
}

impl Serialize for Histories {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.by_place.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Histories {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        BTreeMap::deserialize(deserializer).map(Self::from)
    }
}

fn digest(place: u64, history: &PromptHistory) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(place.to_le_bytes());
    // Writing plain records into memory cannot fail.
    hash.update(serde_json::to_vec(history).unwrap_or_default());
    hash.finalize().into()
}

fn exchange(fingerprint: &mut [u8; 32], part: &[u8; 32]) {
    for (byte, other) in fingerprint.iter_mut().zip(part) {
        *byte ^= other;
    }
}

impl PromptHistory {
    /// Adds a group; `decay` is that of the posterior.
    pub fn visit(&mut self, visit: Visit, pass_rate: f64, decay: f64) {
        let count = visit.rewards.len();
        let mean_reward = visit.rewards.iter().sum::<f64>() / count.max(1) as f64;
        self.run = self.run.after(visit.kind);
        self.greso = self.greso.after(mean_reward);
        self.posterior = self.posterior.after(pass_rate, count, decay);
        self.visits.push(visit);
    }

    /// Response entropy of the latest visit.
    pub fn latest_entropy(&self) -> Option<f64> {
        self.visits.last().map(|visit| visit.entropy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visit(step: u64, entropy: f64) -> Visit {
        Visit {
            step,
            epoch: 0,
            rewards: vec![0.0, 1.0],
            kind: GroupKind::Mixed,
            entropy,
        }
    }

    fn histories(visits: &[(u64, u64, f64)]) -> Histories {
        let mut histories = Histories::default();
        for &(place, step, entropy) in visits {
            histories.visit(place, visit(step, entropy), 0.5, 1.0);
        }
        histories
    }

    #[test]
    fn a_fingerprint_follows_its_histories_and_nothing_else() {
        let plain = histories(&[(3, 1, 0.1), (7, 1, 0.2), (3, 2, 0.3)]);
        let other_order = histories(&[(7, 1, 0.2), (3, 1, 0.1), (3, 2, 0.3)]);
        assert_eq!(plain, other_order);
        let again = Histories::from(plain.by_place.clone());
        assert_eq!(again.fingerprint(), plain.fingerprint());
        for changed in [
            &[(3, 1, 0.1), (7, 1, 0.2)][..],
            &[(3, 1, 0.1), (8, 1, 0.2), (3, 2, 0.3)],
            &[(3, 1, 0.1), (7, 1, 0.2), (3, 2, 0.4)],
            &[(3, 2, 0.3), (7, 1, 0.2), (3, 1, 0.1)],
        ] {
            assert_ne!(histories(changed).fingerprint(), plain.fingerprint());
        }
    }
}
