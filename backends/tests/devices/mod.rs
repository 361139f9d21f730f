//! Every device that is not the oracle, and how close its values have to be.

use burn::tensor::{Device, Tensor, TensorData};
use rlvr_backends::{BackendError, BackendKind, compiled, device};

/// Runs `body` on every device that is not the oracle.
pub fn on_every_device(body: impl Fn(BackendKind, &Device)) {
    for kind in compiled()
        .into_iter()
        .filter(|kind| *kind != BackendKind::Cpu)
    {
        match device(kind) {
            Ok(device) => body(kind, &device),
            Err(error @ BackendError::NoDevice { .. }) => eprintln!("skipped: {error}"),
            Err(error) => panic!("{error}"),
        }
    }
}

/// Values between -1 and 1 that repeat nowhere, the same on every device.
pub fn noise<const D: usize>(shape: [usize; D], salt: usize, device: &Device) -> Tensor<D> {
    let place = |index: usize| (index * 7 + salt * 131) as f64 * 0.618_034 + salt as f64;
    let count = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|i| place(i).sin() as f32).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

pub fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().iter::<f32>().collect()
}

/// Every value within `tolerance` of the largest expected one.
pub fn assert_close(
    kind: BackendKind,
    what: &str,
    given: &[f32],
    expected: &[f32],
    tolerance: f32,
) {
    assert_eq!(given.len(), expected.len(), "{kind}: {what}");
    let largest = expected.iter().fold(0f32, |most, x| most.max(x.abs()));
    for (index, (given, expected)) in given.iter().zip(expected).enumerate() {
        assert!(
            (given - expected).abs() <= tolerance * largest,
            "{kind}: {what}[{index}] is {given}, expected {expected}"
        );
    }
}
