//! rlvr-bounds
