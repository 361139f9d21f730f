//! What a graphics device says of itself.
#![cfg(feature = "wgpu")]

use rlvr_backends::{BackendKind, DeviceFacts, device};

#[test]
fn a_device_that_computes_has_a_name_a_driver_and_a_largest_buffer() {
    let Ok(device) = device(BackendKind::Wgpu) else {
        println!("no device answers: nothing to ask");
        return;
    };
    let facts = DeviceFacts::of(BackendKind::Wgpu, &device);
    println!("{facts:?}");
    let (name, _) = facts.identity.expect("a name");
    assert!(!name.is_empty());
    let driver = facts.driver.expect("a driver");
    assert!(driver.contains("driver"), "{driver}");
    assert!(facts.max_buffer_bytes.is_some_and(|bytes| bytes > 1 << 20));
}
