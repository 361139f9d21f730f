//! rlvr-benches
