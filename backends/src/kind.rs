//! The names of the backends, and which of them this binary contains.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A backend by the name under which `--backend` and the recipe know it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum BackendKind {
    /// Pure-Rust CPU backend (Burn's `flex`); the oracle that every other one is tested against.
    #[default]
    Cpu,
    /// A second, independent CPU implementation, kept to test against while Burn carries it.
    Ndarray,
    /// WebGPU shaders through wgpu: Vulkan, Metal, DirectX or OpenGL adapters, software ones
    /// included.
    Wgpu,
    /// SPIR-V on Vulkan adapters: faster than `wgpu` on real GPUs, not fit for software adapters.
    Vulkan,
    /// NVIDIA GPUs.
    Cuda,
}

impl BackendKind {
    /// Every backend that a build of this project can contain.
    pub const ALL: [Self; 5] = [
        Self::Cpu,
        Self::Ndarray,
        Self::Wgpu,
        Self::Vulkan,
        Self::Cuda,
    ];

    /// The name, equal to the Cargo feature that compiles it in.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Ndarray => "ndarray",
            Self::Wgpu => "wgpu",
            Self::Vulkan => "vulkan",
            Self::Cuda => "cuda",
        }
    }

    /// True if this binary contains it; says nothing about hardware.
    pub const fn is_compiled(self) -> bool {
        match self {
            Self::Cpu => cfg!(feature = "cpu"),
            Self::Ndarray => cfg!(feature = "ndarray"),
            Self::Wgpu => cfg!(feature = "wgpu"),
            Self::Vulkan => cfg!(feature = "vulkan"),
            Self::Cuda => cfg!(feature = "cuda"),
        }
    }

    /// True if its devices compute on the host's memory; [`crate::is_host`] asks a device.
    pub const fn is_host(self) -> bool {
        matches!(self, Self::Cpu | Self::Ndarray)
    }

    /// True if its hardware has units that multiply in bf16, as far as the kind says; its devices
    /// may still lack them.
    pub(crate) const fn multiplies_bf16(self) -> bool {
        match self {
            Self::Cuda => true,
            Self::Cpu | Self::Ndarray | Self::Wgpu | Self::Vulkan => false,
        }
    }

    /// The command that builds a trainer with it.
    pub fn build_command(self) -> String {
        match self {
            Self::Cpu => "cargo build --release -p trainer".into(),
            other => format!("cargo build --release -p trainer --features {other}"),
        }
    }
}

/// The backends that this binary contains, in the order of [`BackendKind::ALL`].
pub fn compiled() -> Vec<BackendKind> {
    let is_compiled = |kind: &BackendKind| kind.is_compiled();
    BackendKind::ALL.into_iter().filter(is_compiled).collect()
}

impl fmt::Display for BackendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no backend.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("no backend is called `{name}`: known are cpu, ndarray, wgpu, vulkan and cuda")]
pub struct UnknownBackend {
    /// What was asked for.
    pub name: String,
}

impl FromStr for BackendKind {
    type Err = UnknownBackend;

    fn from_str(name: &str) -> Result<Self, UnknownBackend> {
        let known = Self::ALL.into_iter().find(|kind| kind.name() == name);
        known.ok_or_else(|| UnknownBackend { name: name.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_serde_and_parsing_agree() {
        for kind in BackendKind::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
            let json = serde_json::to_string(&kind).unwrap();
            assert_eq!(json, format!("\"{kind}\""));
            assert_eq!(serde_json::from_str::<BackendKind>(&json).unwrap(), kind);
        }
        let error = "gpu".parse::<BackendKind>().unwrap_err().to_string();
        for kind in BackendKind::ALL {
            assert!(error.contains(kind.name()), "{error}");
        }
    }

    #[test]
    #[cfg(feature = "cpu")]
    fn the_default_is_compiled_by_default() {
        assert!(compiled().contains(&BackendKind::default()));
    }
}
