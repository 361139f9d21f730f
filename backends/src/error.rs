//! What can go wrong when a backend is asked for.

use thiserror::Error;

use crate::kind::{BackendKind, compiled};

/// No device of the requested backend can be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BackendError {
    /// The binary was built without it.
    #[error(
        "use backend `{requested}`: this binary has {}; build one with it by `{}`",
        list(compiled), requested.build_command()
    )]
    NotCompiled {
        /// What was asked for.
        requested: BackendKind,
        /// What this binary has.
        compiled: Vec<BackendKind>,
    },
    /// It is compiled in, but its driver or its hardware does not answer.
    #[error("use backend `{requested}`: no device answers ({reason}); this binary also has {}",
        list(&others(*requested)))]
    NoDevice {
        /// What was asked for.
        requested: BackendKind,
        /// What the driver said.
        reason: String,
    },
}

/// A device does not compute in the precision that was asked for.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "use backend.precision = \"bf16\" on backend `{requested}`: its device computes in {}; \
     set backend.precision to \"auto\" or \"f32\"", .float_types.join(", ")
)]
pub struct NoPrecision {
    /// The backend.
    pub requested: BackendKind,
    /// Types that its device computes in.
    pub float_types: Vec<&'static str>,
}

/// The number of threads cannot be set.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("use {threads} threads: {reason}")]
pub struct ThreadsError {
    /// What was asked for.
    pub threads: usize,
    /// Why not.
    pub reason: String,
}

fn others(requested: BackendKind) -> Vec<BackendKind> {
    let mut kinds = compiled();
    kinds.retain(|&kind| kind != requested);
    kinds
}

fn list(kinds: &[BackendKind]) -> String {
    if kinds.is_empty() {
        return "no other backend".into();
    }
    let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_precision_names_the_key_and_the_way_out() {
        let error = NoPrecision {
            requested: BackendKind::Wgpu,
            float_types: vec!["f32", "f16"],
        };
        assert_eq!(
            error.to_string(),
            "use backend.precision = \"bf16\" on backend `wgpu`: its device computes in f32, f16; \
             set backend.precision to \"auto\" or \"f32\""
        );
    }

    #[test]
    fn a_missing_backend_says_what_is_there_and_how_to_build_it() {
        let error = BackendError::NotCompiled {
            requested: BackendKind::Cuda,
            compiled: vec![BackendKind::Cpu, BackendKind::Wgpu],
        };
        assert_eq!(
            error.to_string(),
            "use backend `cuda`: this binary has cpu, wgpu; build one with it by \
             `cargo build --release -p trainer --features cuda`"
        );
    }
}
