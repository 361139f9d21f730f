//! The one device: its name, properties and context, and the words for errors.

use core::ffi::{c_char, c_int, c_uint};

use cudarc::driver::sys::{
    CUcontext, CUdevice, CUdevice_attribute, CUdevice_attribute_enum::*, CUresult,
};

use crate::settings::settings;

/// Starts the driver.
#[unsafe(no_mangle)]
pub extern "C" fn cuInit(_flags: c_uint) -> CUresult {
    CUresult::CUDA_SUCCESS
}

/// The version of the API, as NVIDIA writes it: 13.0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDriverGetVersion(version: *mut c_int) -> CUresult {
    unsafe { *version = 13000 };
    CUresult::CUDA_SUCCESS
}

/// There is one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetCount(count: *mut c_int) -> CUresult {
    unsafe { *count = 1 };
    CUresult::CUDA_SUCCESS
}

/// The handle of the device with this number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGet(device: *mut CUdevice, ordinal: c_int) -> CUresult {
    if ordinal != 0 {
        return CUresult::CUDA_ERROR_INVALID_DEVICE;
    }
    unsafe { *device = 0 };
    CUresult::CUDA_SUCCESS
}

/// A name that nobody takes for a product.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetName(
    name: *mut c_char,
    length: c_int,
    _device: CUdevice,
) -> CUresult {
    unsafe { copy_text("CUDA emulated on the CPU", name, length) };
    CUresult::CUDA_SUCCESS
}

/// An address at which no card sits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetPCIBusId(
    id: *mut c_char,
    length: c_int,
    _device: CUdevice,
) -> CUresult {
    unsafe { copy_text("0000:00:00.0", id, length) };
    CUresult::CUDA_SUCCESS
}

unsafe fn copy_text(text: &str, to: *mut c_char, length: c_int) {
    let room = usize::try_from(length).unwrap_or(0);
    if room == 0 {
        return;
    }
    let taken = text.len().min(room - 1);
    unsafe {
        core::ptr::copy_nonoverlapping(text.as_ptr().cast(), to, taken);
        *to.add(taken) = 0;
    }
}

/// All of the device's memory, in bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceTotalMem_v2(bytes: *mut usize, _device: CUdevice) -> CUresult {
    unsafe { *bytes = settings().memory };
    CUresult::CUDA_SUCCESS
}

/// A property; of those that nobody asks for here, 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetAttribute(
    value: *mut c_int,
    attribute: CUdevice_attribute,
    _device: CUdevice,
) -> CUresult {
    let arch = settings().arch;
    let found = match attribute {
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR => arch / 10,
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR => arch % 10,
        CU_DEVICE_ATTRIBUTE_WARP_SIZE => 32,
        CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK => 1024,
        CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X | CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y => 1024,
        CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z => 64,
        CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X => i32::MAX,
        CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y | CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z => 65535,
        // Of an A100: 163 KiB.
        CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN => 166_912,
        CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT => 108,
        CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED => 1,
        _ => 0,
    };
    unsafe { *value = found };
    CUresult::CUDA_SUCCESS
}

/// The context that everything lives in; there is one, and it needs no memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDevicePrimaryCtxRetain(
    context: *mut CUcontext,
    _device: CUdevice,
) -> CUresult {
    unsafe { *context = core::ptr::dangling_mut::<u64>().cast() };
    CUresult::CUDA_SUCCESS
}

/// Makes the context that of this thread; it always is.
#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSetCurrent(_context: CUcontext) -> CUresult {
    CUresult::CUDA_SUCCESS
}

/// The name of an error, such as `CUDA_ERROR_OUT_OF_MEMORY`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGetErrorName(error: CUresult, name: *mut *const c_char) -> CUresult {
    unsafe { *name = words(error).0.as_ptr() };
    CUresult::CUDA_SUCCESS
}

/// A sentence about an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGetErrorString(error: CUresult, text: *mut *const c_char) -> CUresult {
    unsafe { *text = words(error).1.as_ptr() };
    CUresult::CUDA_SUCCESS
}

fn words(error: CUresult) -> (&'static core::ffi::CStr, &'static core::ffi::CStr) {
    match error {
        CUresult::CUDA_SUCCESS => (c"CUDA_SUCCESS", c"no error"),
        CUresult::CUDA_ERROR_OUT_OF_MEMORY => (c"CUDA_ERROR_OUT_OF_MEMORY", c"out of memory"),
        CUresult::CUDA_ERROR_INVALID_VALUE => (c"CUDA_ERROR_INVALID_VALUE", c"invalid argument"),
        CUresult::CUDA_ERROR_INVALID_DEVICE => {
            (c"CUDA_ERROR_INVALID_DEVICE", c"invalid device ordinal")
        }
        CUresult::CUDA_ERROR_NOT_FOUND => (c"CUDA_ERROR_NOT_FOUND", c"named symbol not found"),
        CUresult::CUDA_ERROR_ILLEGAL_ADDRESS => (
            c"CUDA_ERROR_ILLEGAL_ADDRESS",
            c"an illegal memory access was encountered",
        ),
        CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED => (
            c"CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
            c"operation not permitted when stream is capturing",
        ),
        _ => (c"CUDA_ERROR_UNKNOWN", c"unknown error"),
    }
}

/// Refuses: there is no tensor memory accelerator, so its kernels are not candidates.
#[unsafe(no_mangle)]
pub extern "C" fn cuTensorMapEncodeTiled() -> CUresult {
    CUresult::CUDA_ERROR_NOT_SUPPORTED
}

/// Refuses, as [`cuTensorMapEncodeTiled`].
#[unsafe(no_mangle)]
pub extern "C" fn cuTensorMapEncodeIm2col() -> CUresult {
    CUresult::CUDA_ERROR_NOT_SUPPORTED
}
