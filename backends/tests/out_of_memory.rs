//! A real shortage, on every compiled backend that has an allocator of its own: it is told from
//! other trouble, and the device computes on.
#![cfg(any(feature = "wgpu", feature = "cuda"))]

use burn::tensor::{Device, Tensor};
use rlvr_backends::{
    BackendKind, OutOfMemory, catch_shortage, compiled, device, device_memory, hand_back_memory,
    total_memory,
};

/// What a read gives, or the shortage that the device reported.
fn read(value: impl FnOnce() -> Tensor<1>) -> Result<f32, OutOfMemory> {
    let words = |error: &_| format!("{error:?}");
    let found = catch_shortage(|| value().try_into_vec_as::<f32>(), words)?;
    Ok(found.expect("a shortage is an error, and nothing else")[0])
}

/// A sum row by row: llvmpipe ends a loop after 65,535 turns, and with it that of one long row.
fn million(device: &Device) -> Tensor<1> {
    Tensor::<2>::ones([1000, 1000], device).sum_dim(1).sum()
}

/// The first of so many values, all of which have to be somewhere.
fn first_of(device: &Device, count: usize) -> Tensor<1> {
    let pairs = Tensor::<2>::ones([count, 2], device);
    pairs.sum_dim(1).slice([0..1, 0..1]).reshape([1])
}

#[test]
fn a_shortage_is_recognised_and_the_device_computes_on() {
    for kind in compiled() {
        if matches!(kind, BackendKind::Cpu | BackendKind::Ndarray) {
            continue;
        }
        let device = device(kind).expect("a device");
        assert_total_is_told(kind, &device);
        assert_eq!(read(|| million(&device)), Ok(1e6));
        let shortage = (24..40).find_map(|exponent| {
            let found = read(|| first_of(&device, 1 << exponent));
            println!("{kind}: 2^{exponent} values: {found:?}");
            found.err()
        });
        assert!(shortage.is_some(), "{kind}: 2^39 values fit");
        assert_eq!(read(|| million(&device)), Ok(1e6));
        let before = device_memory(&device).expect("it has an allocator");
        hand_back_memory(&device);
        let after = device_memory(&device).expect("it has an allocator");
        println!("{kind}: {before:?}, handed back: {after:?}");
        assert!(after.reserved_bytes <= before.reserved_bytes);
    }
}

/// Of the backends here, CUDA alone; the emulated device tells what it was given.
fn assert_total_is_told(kind: BackendKind, device: &Device) {
    let total = total_memory(device);
    assert_eq!(total.is_some(), kind == BackendKind::Cuda, "{kind}");
    assert_eq!(total_memory(&device.clone().autodiff()), total);
    if let (Some(total), Ok(given)) = (total, std::env::var("CUDA_EMULATOR_MEMORY")) {
        assert_eq!(total.to_string(), given);
    }
}
