//! What the device can do at most, measured: the two edges of a roofline.

use std::hint::black_box;
use std::time::Instant;

use burn::tensor::{Device, Distribution, Tensor};
use rlvr_backends::kernels::add;
use rlvr_backends::{BackendKind, DeviceFacts, Precision};
use serde::Serialize;

use crate::failure::Failure;

/// Edges of the matrices that are multiplied, until a product takes long enough to be timed.
const SIZES: [usize; 4] = [1024, 2048, 4096, 8192];

/// A product this long is timed well enough.
const LONG_SECS: f64 = 0.01;

/// Values of the vectors that are added: far more than any cache holds.
const HOST_VALUES: usize = 1 << 26;
const DEVICE_VALUES: usize = 1 << 28;

/// Measured peaks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Peaks {
    /// Of the largest square product that was tried.
    pub flops_per_sec: f64,
    /// Its edge.
    pub matmul_size: usize,
    /// Of adding one vector to another, bytes read and written.
    pub bytes_per_sec: f64,
}

/// Measures both on `device`, a device of `kind`, products in `precision`.
///
/// # Errors
/// If the device fails.
pub fn measure(kind: BackendKind, device: &Device, precision: Precision) -> Result<Peaks, Failure> {
    let mut peaks = Peaks {
        flops_per_sec: 0.0,
        matmul_size: 0,
        bytes_per_sec: add_bytes_per_sec(device, num_values(kind, device))?,
    };
    for size in SIZES {
        let flops_per_sec = matmul_flops_per_sec(device, size, precision)?;
        if flops_per_sec > peaks.flops_per_sec {
            peaks.flops_per_sec = flops_per_sec;
            peaks.matmul_size = size;
        }
        if matmul_flops(size) / flops_per_sec > LONG_SECS {
            break;
        }
    }
    Ok(peaks)
}

/// Best of three products of two random square matrices after a first one that compiles.
///
/// # Errors
/// If the device fails.
pub fn matmul_flops_per_sec(
    device: &Device,
    size: usize,
    precision: Precision,
) -> Result<f64, Failure> {
    let random = || {
        let values = Tensor::<2>::random([size, size], Distribution::Default, device);
        precision.operand(values)
    };
    let (left, right) = (random(), random());
    device.sync().map_err(Failure::run)?;
    let mut best = f64::INFINITY;
    for _ in 0..4 {
        let started = Instant::now();
        let product = left.clone().matmul(right.clone());
        // A number on the host waits for the product; data alone may be a promise.
        let corner = precision.result(product.slice([0..1, 0..1]));
        black_box(corner.try_into_vec_as::<f32>().map_err(Failure::run)?);
        best = best.min(started.elapsed().as_secs_f64());
    }
    Ok(matmul_flops(size) / best)
}

fn matmul_flops(size: usize) -> f64 {
    2.0 * (size as f64).powi(3)
}

/// Values of a vector, as many as one buffer of the device holds.
fn num_values(kind: BackendKind, device: &Device) -> usize {
    let wanted = match kind.is_host() {
        true => HOST_VALUES,
        false => DEVICE_VALUES,
    };
    let most = DeviceFacts::of(kind, device).max_buffer_bytes;
    most.map_or(wanted, |bytes| {
        wanted.min(bytes as usize / size_of::<f32>())
    })
}

/// Best of three sums of two vectors of `count` values.
fn add_bytes_per_sec(device: &Device, count: usize) -> Result<f64, Failure> {
    let addend = Tensor::<1>::ones([count], device);
    let mut sum = Tensor::<1>::zeros([count], device);
    let mut best = f64::INFINITY;
    for _ in 0..4 {
        device.sync().map_err(Failure::run)?;
        let started = Instant::now();
        sum = add(sum, addend.clone());
        let last = sum.clone().narrow(0, count - 1, 1);
        black_box(last.try_into_vec_as::<f32>().map_err(Failure::run)?);
        best = best.min(started.elapsed().as_secs_f64());
    }
    Ok((3 * count * size_of::<f32>()) as f64 / best)
}
