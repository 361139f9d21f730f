//! rlvr-core
