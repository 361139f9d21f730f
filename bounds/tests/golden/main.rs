//! Every formula against numbers from an independent implementation.

#![allow(clippy::unwrap_used, reason = "a test panics by design")]

use std::collections::BTreeMap;

mod sampling;
mod shift_and_clip;
mod toy_world;
mod training;
#[allow(dead_code)]
#[path = "../worlds/mod.rs"]
mod worlds;

const DELTA: f64 = 0.05;

/// The golden numbers of one group; dropping it checks that each was compared.
struct Golden {
    left: BTreeMap<String, f64>,
}

impl Golden {
    fn group(prefix: &str) -> Self {
        let all = rlvr_fixtures::bounds_golden().into_iter();
        let left: BTreeMap<_, _> = all.filter(|(name, _)| name.starts_with(prefix)).collect();
        assert!(!left.is_empty(), "no golden number begins with {prefix}");
        Self { left }
    }

    /// Compares to 1e-9 of the size, far below the digits anyone prints.
    fn is(&mut self, name: &str, value: f64) {
        self.near(name, value, 1e-9);
    }

    fn near(&mut self, name: &str, value: f64, tolerance: f64) {
        let golden = self.left.remove(name);
        let golden = golden.unwrap_or_else(|| panic!("{name} is not golden, or compared twice"));
        let slack = tolerance * golden.abs().max(1.0);
        assert!(
            (value - golden).abs() <= slack,
            "{name}: {value} is not {golden}"
        );
    }

    fn done(self) {
        assert!(
            self.left.is_empty(),
            "never compared: {:?}",
            self.left.keys()
        );
    }
}
