//! A real shortage, on every compiled backend that has an allocator of its own: it is told from
//! other trouble, and the device computes on.
#![cfg(any(feature = "wgpu", feature = "cuda"))]

use burn::tensor::{Device, Tensor};
use rlvr_backends::{
    BackendKind, OutOfMemory, catch_out_of_memory, compiled, device, device_memory,
    hand_back_memory,
};

/// The sum of so many ones, or the shortage that the device reported.
fn sum_of_ones(device: &Device, count: usize) -> Result<f32, OutOfMemory> {
    let sum = || {
        // Doubled, so that the ones cannot be folded into the sum.
        let ones = Tensor::<1>::ones([count], device) * 2.0;
        ones.sum().div_scalar(2.0).try_into_vec_as::<f32>()
    };
    match catch_out_of_memory(sum)? {
        Ok(values) => Ok(values[0]),
        Err(error) => {
            let text = format!("{error:?}");
            Err(OutOfMemory::in_text(&text).unwrap_or_else(|| panic!("{text}")))
        }
    }
}

#[test]
fn a_shortage_is_recognised_and_the_device_computes_on() {
    for kind in compiled() {
        if matches!(kind, BackendKind::Cpu | BackendKind::Ndarray) {
            continue;
        }
        let device = device(kind).expect("a device");
        assert_eq!(sum_of_ones(&device, 1 << 20), Ok((1 << 20) as f32));
        for exponent in 28..40 {
            match sum_of_ones(&device, 1 << exponent) {
                Ok(_) => println!("{kind}: 2^{exponent} values fit"),
                Err(shortage) => {
                    println!("{kind}: 2^{exponent} values: {shortage}");
                    break;
                }
            }
        }
        assert_eq!(sum_of_ones(&device, 1 << 20), Ok((1 << 20) as f32));
        let before = device_memory(&device).expect("it has an allocator");
        hand_back_memory(&device);
        let after = device_memory(&device).expect("it has an allocator");
        println!("{kind}: {before:?}, handed back: {after:?}");
        assert!(after.reserved_bytes <= before.reserved_bytes);
    }
}
