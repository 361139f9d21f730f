//! Every backend that is compiled in, held against the CPU by the body that users run too.

use rlvr_backends::{BackendError, BackendKind, compiled, device};
use trainer::self_test::self_test;

#[test]
fn every_compiled_backend_agrees_with_the_cpu() {
    for kind in compiled() {
        if let Err(error @ BackendError::NoDevice { .. }) = device(kind) {
            eprintln!("skipped: {error}");
            continue;
        }
        let found = self_test(kind).unwrap_or_else(|failure| panic!("{}", failure.chain()));
        println!("{found}");
        assert!(found.is_passed(), "{found}");
        // The CPU against itself is the reproducibility promise, so nothing may differ.
        let is_exact = found.checks.iter().all(|check| check.found == 0.0);
        assert!(kind != BackendKind::Cpu || is_exact, "{found}");
    }
}
