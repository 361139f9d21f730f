//! rlvr-verifier
