//! KL clipping: what replacing a log-ratio l by `clip(l, -tau, tau)` costs, and where to clip.
//!
//! l is a **sequence** log-ratio, the sum over a completion's tokens. Clipping every token at
//! tau instead leaves a completion of T tokens a range of `2 T tau`, which is normally vacuous.

pub mod tail;
pub mod threshold;

pub use tail::{
    RenyiTail, Tail, free_lower_tail, free_lower_tail_weak, renyi_tail, smoothing_range, tail,
};
pub use threshold::{clip_objective, tau_star, tau_star_asym};
