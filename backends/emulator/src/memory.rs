//! Device memory: allocations of the host with a limit, and copies that have to lie within one.

use core::ffi::c_void;
use std::alloc::{Layout, alloc, dealloc};
use std::collections::BTreeMap;
use std::sync::Mutex;

use cudarc::driver::sys::{CUDA_MEMCPY2D, CUdeviceptr, CUmemorytype, CUresult, CUstream};

use crate::grid::is_idle;
use crate::log;
use crate::settings::settings;
use crate::stream::{self, Node};

/// As `cuMemAlloc` aligns.
const ALIGNMENT: usize = 256;

/// What is allocated: the size by the address.
struct Allocations {
    by_address: BTreeMap<usize, usize>,
    used: usize,
}

static ALLOCATIONS: Mutex<Allocations> = Mutex::new(Allocations {
    by_address: BTreeMap::new(),
    used: 0,
});

fn allocations() -> std::sync::MutexGuard<'static, Allocations> {
    ALLOCATIONS
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Whether an access stays within one allocation.
fn is_within(address: usize, bytes: usize) -> bool {
    let allocations = allocations();
    let below = allocations.by_address.range(..=address).next_back();
    below.is_some_and(|(start, size)| address + bytes <= start + size)
}

fn allocate(bytes: usize) -> Result<usize, CUresult> {
    if bytes == 0 {
        return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
    }
    let mut allocations = allocations();
    if allocations.used + bytes > settings().memory {
        log::line(format_args!(
            "out of memory: {bytes} bytes wanted, {} of {} in use",
            allocations.used,
            settings().memory
        ));
        return Err(CUresult::CUDA_ERROR_OUT_OF_MEMORY);
    }
    let layout = layout(bytes)?;
    // SAFETY: the size is not zero.
    let address = unsafe { alloc(layout) } as usize;
    if address == 0 {
        return Err(CUresult::CUDA_ERROR_OUT_OF_MEMORY);
    }
    allocations.by_address.insert(address, bytes);
    allocations.used += bytes;
    trace("allocated", bytes, &allocations);
    Ok(address)
}

fn trace(what: &str, bytes: usize, allocations: &Allocations) {
    if settings().traces {
        let used = allocations.used;
        log::line(format_args!("{what} {bytes} bytes, {used} in use"));
    }
}

fn layout(bytes: usize) -> Result<Layout, CUresult> {
    Layout::from_size_align(bytes, ALIGNMENT).map_err(|_| CUresult::CUDA_ERROR_INVALID_VALUE)
}

fn free(address: usize) -> Result<(), CUresult> {
    let mut allocations = allocations();
    let Some(bytes) = allocations.by_address.remove(&address) else {
        log::line(format_args!("free of {address:#x}, which is not allocated"));
        return Err(CUresult::CUDA_ERROR_INVALID_VALUE);
    };
    allocations.used -= bytes;
    trace("freed", bytes, &allocations);
    // SAFETY: the address came from `alloc` with this layout, and is no longer listed.
    unsafe { dealloc(address as *mut u8, layout(bytes)?) };
    Ok(())
}

fn status(result: Result<(), CUresult>) -> CUresult {
    result.err().unwrap_or(CUresult::CUDA_SUCCESS)
}

/// Allocates device memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemAlloc_v2(address: *mut CUdeviceptr, bytes: usize) -> CUresult {
    if stream::any_captures() {
        return CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    status(allocate(bytes).map(|found| unsafe { *address = found as CUdeviceptr }))
}

/// Allocates device memory in the order of a stream.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemAllocAsync(
    address: *mut CUdeviceptr,
    bytes: usize,
    queue: CUstream,
) -> CUresult {
    let result = allocate(bytes).map(|found| {
        unsafe { *address = found as CUdeviceptr };
        unsafe { stream::record(queue, || Node::Allocate) };
    });
    status(result)
}

/// Frees device memory.
#[unsafe(no_mangle)]
pub extern "C" fn cuMemFree_v2(address: CUdeviceptr) -> CUresult {
    status(free(address as usize))
}

/// Frees device memory in the order of a stream; streams never lag behind here.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemFreeAsync(address: CUdeviceptr, queue: CUstream) -> CUresult {
    unsafe { stream::record(queue, || Node::Free) };
    status(free(address as usize))
}

/// Host memory for fast copies; here, any.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemAllocHost_v2(address: *mut *mut c_void, bytes: usize) -> CUresult {
    // The size in front of the block, for the function that frees it.
    let Ok(layout) = layout(bytes + ALIGNMENT) else {
        return CUresult::CUDA_ERROR_INVALID_VALUE;
    };
    // SAFETY: the layout has room for the size and is not empty.
    unsafe {
        let start = alloc(layout);
        if start.is_null() {
            return CUresult::CUDA_ERROR_OUT_OF_MEMORY;
        }
        *start.cast::<usize>() = layout.size();
        *address = start.add(ALIGNMENT).cast();
    }
    CUresult::CUDA_SUCCESS
}

/// Frees what [`cuMemAllocHost_v2`] gave.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemFreeHost(address: *mut c_void) -> CUresult {
    // SAFETY: the caller hands back an address of `cuMemAllocHost_v2`, which wrote the size there.
    unsafe {
        let start = address.cast::<u8>().sub(ALIGNMENT);
        let size = *start.cast::<usize>();
        let Ok(layout) = Layout::from_size_align(size, ALIGNMENT) else {
            return CUresult::CUDA_ERROR_INVALID_VALUE;
        };
        dealloc(start, layout);
    }
    CUresult::CUDA_SUCCESS
}

/// A copy of bytes between any two places, rows `pitch` apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transfer {
    from: usize,
    from_pitch: usize,
    is_from_device: bool,
    to: usize,
    to_pitch: usize,
    is_to_device: bool,
    width: usize,
    height: usize,
}

impl Transfer {
    fn line(
        from: usize,
        is_from_device: bool,
        to: usize,
        is_to_device: bool,
        bytes: usize,
    ) -> Self {
        Self {
            from,
            from_pitch: bytes,
            is_from_device,
            to,
            to_pitch: bytes,
            is_to_device,
            width: bytes,
            height: 1,
        }
    }

    /// Copies, if what is on the device is allocated.
    ///
    /// # Safety
    ///
    /// The host's side is valid for the bytes.
    pub(crate) unsafe fn run(&self) -> Result<(), CUresult> {
        let span = |pitch: usize| match self.height {
            0 => 0,
            rows => (rows - 1) * pitch + self.width,
        };
        let (read, written) = (span(self.from_pitch), span(self.to_pitch));
        if read == 0 {
            return Ok(());
        }
        let is_inside = (!self.is_from_device || is_within(self.from, read))
            && (!self.is_to_device || is_within(self.to, written));
        if !is_inside {
            log::line(format_args!("outside of device memory: {self:?}"));
            return Err(CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
        }
        let is_blank = self.is_from_device && !self.is_to_device && is_idle();
        for row in 0..self.height {
            let from = (self.from + row * self.from_pitch) as *const u8;
            let to = (self.to + row * self.to_pitch) as *mut u8;
            match is_blank {
                true => unsafe { core::ptr::write_bytes(to, 0, self.width) },
                false => unsafe { core::ptr::copy(from, to, self.width) },
            }
        }
        Ok(())
    }

    /// Copies, or writes the copy down for the graph that the stream captures.
    unsafe fn submit(self, queue: CUstream) -> CUresult {
        if unsafe { stream::record(queue, || Node::Copy(self)) } {
            return CUresult::CUDA_SUCCESS;
        }
        status(unsafe { self.run() })
    }
}

/// From the device to the host.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemcpyDtoHAsync_v2(
    to: *mut c_void,
    from: CUdeviceptr,
    bytes: usize,
    queue: CUstream,
) -> CUresult {
    unsafe { Transfer::line(from as usize, true, to as usize, false, bytes).submit(queue) }
}

/// From the host to the device.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemcpyHtoDAsync_v2(
    to: CUdeviceptr,
    from: *const c_void,
    bytes: usize,
    queue: CUstream,
) -> CUresult {
    unsafe { Transfer::line(from as usize, false, to as usize, true, bytes).submit(queue) }
}

/// On the device.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemcpyDtoDAsync_v2(
    to: CUdeviceptr,
    from: CUdeviceptr,
    bytes: usize,
    queue: CUstream,
) -> CUresult {
    unsafe { Transfer::line(from as usize, true, to as usize, true, bytes).submit(queue) }
}

/// Rows between the host and the device.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemcpy2DAsync_v2(
    copy: *const CUDA_MEMCPY2D,
    queue: CUstream,
) -> CUresult {
    let copy = unsafe { &*copy };
    let is_device = |kind| kind == CUmemorytype::CU_MEMORYTYPE_DEVICE;
    let (is_from_device, is_to_device) =
        (is_device(copy.srcMemoryType), is_device(copy.dstMemoryType));
    let from = match is_from_device {
        true => copy.srcDevice as usize,
        false => copy.srcHost as usize,
    };
    let to = match is_to_device {
        true => copy.dstDevice as usize,
        false => copy.dstHost as usize,
    };
    let rows = Transfer {
        from: from + copy.srcXInBytes + copy.srcY * copy.srcPitch,
        from_pitch: copy.srcPitch,
        is_from_device,
        to: to + copy.dstXInBytes + copy.dstY * copy.dstPitch,
        to_pitch: copy.dstPitch,
        is_to_device,
        width: copy.WidthInBytes,
        height: copy.Height,
    };
    unsafe { rows.submit(queue) }
}
