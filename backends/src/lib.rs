//! rlvr-backends
