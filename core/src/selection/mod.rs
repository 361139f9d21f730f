//! Which prompts a step rolls out: pure functions and small state machines over what the caller
//! knows about the prompts. Plain 64-bit arithmetic on the host, no tensors, no random numbers:
//! every draw is an argument.
//!
//! ```text
//! history ──> stage1 ──> pool ──> gate ──> roll out ──> history
//!               ^                              |
//!               └── exploration <──────────────┘
//! ```
//!
//! HIVE: Hao et al., arXiv 2603.25184; GRESO: Zheng et al., arXiv 2506.02177; dynamic sampling:
//! Yu et al., DAPO, arXiv 2503.14476; MoPPS: Qu et al., arXiv 2507.04632; VCRL: arXiv 2509.19803.
//! HIVE's authors have published no code: where their text is silent, these functions do what
//! GRESO's code does (`Infini-AI-Lab/GRESO`, commit b277843).

pub mod exploration;
pub mod gate;
pub mod greso;
pub mod history;
pub mod mopps;
pub mod rank;
pub mod sizing;
pub mod stage1;
pub mod uniform;
