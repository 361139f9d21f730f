//! Modules: the shared libraries of compiled kernels, loaded.

use core::ffi::{CStr, c_char, c_int, c_void};

use cudarc::driver::sys::{CUfunction, CUfunction_attribute, CUmodule, CUresult};
use libloading::Library;

use crate::lanes::{Lane, block_barrier, current, give_way};
use crate::log;
use crate::warp::warp;

/// The functions that a kernel calls, in the layout of `emu_table` in `device.h`.
#[repr(C)]
struct Table {
    current: extern "C" fn() -> *mut Lane,
    block_barrier: extern "C" fn(),
    warp: extern "C" fn(c_int, u64, u32, u32) -> u64,
    give_way: extern "C" fn(),
}

/// A kernel that can be launched.
pub(crate) struct Kernel {
    /// Runs one lane, with an array of pointers to the arguments.
    pub(crate) entry: unsafe extern "C" fn(*mut *mut c_void),
    /// What the kernel is called.
    pub(crate) name: String,
    /// Bytes of every argument.
    pub(crate) parameters: Vec<usize>,
    /// Whether lanes meet, so that each needs a stack of its own.
    pub(crate) meets: bool,
    _library: Library,
}

impl Kernel {
    fn load(path: &CStr) -> Result<Self, String> {
        let path = path.to_str().map_err(|error| error.to_string())?;
        // SAFETY: the library was built by the emulator, from `device.h` and a kernel.
        unsafe {
            let library = Library::new(path).map_err(|error| error.to_string())?;
            Self::symbols(library).map_err(|error| error.to_string())
        }
    }

    unsafe fn symbols(library: Library) -> Result<Self, libloading::Error> {
        unsafe {
            let table = *library.get::<*mut Table>(b"emu")?;
            *table = Table {
                current,
                block_barrier,
                warp,
                give_way,
            };
            let entry = *library.get::<unsafe extern "C" fn(*mut *mut c_void)>(b"emu_entry")?;
            let sizes = *library
                .get::<unsafe extern "C" fn(*mut usize, usize) -> usize>(b"emu_parameters")?;
            let meets = **library.get::<*const c_int>(b"emu_meets")? != 0;
            let name = CStr::from_ptr(*library.get::<*const c_char>(b"emu_name")?);
            let mut parameters = vec![0; sizes(core::ptr::null_mut(), 0)];
            sizes(parameters.as_mut_ptr(), parameters.len());
            Ok(Self {
                entry,
                name: name.to_string_lossy().into_owned(),
                parameters,
                meets,
                _library: library,
            })
        }
    }
}

/// Loads what the emulator's NVRTC made.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuModuleLoadData(module: *mut CUmodule, image: *const c_void) -> CUresult {
    let path = unsafe { CStr::from_ptr(image.cast::<c_char>()) };
    match Kernel::load(path) {
        Ok(kernel) => {
            unsafe { *module = Box::into_raw(Box::new(kernel)).cast() };
            CUresult::CUDA_SUCCESS
        }
        Err(words) => {
            log::line(format_args!("module {path:?}: {words}"));
            CUresult::CUDA_ERROR_INVALID_IMAGE
        }
    }
}

/// The kernel of a module; there is one, whatever it is called.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuModuleGetFunction(
    function: *mut CUfunction,
    module: CUmodule,
    _name: *const c_char,
) -> CUresult {
    unsafe { *function = module.cast() };
    CUresult::CUDA_SUCCESS
}

/// Takes every attribute.
#[unsafe(no_mangle)]
pub extern "C" fn cuFuncSetAttribute(
    _function: CUfunction,
    _attribute: CUfunction_attribute,
    _value: c_int,
) -> CUresult {
    CUresult::CUDA_SUCCESS
}

/// The kernel behind a handle.
///
/// # Safety
///
/// The handle is of [`cuModuleGetFunction`].
pub(crate) unsafe fn kernel(function: CUfunction) -> &'static Kernel {
    // Nothing unloads a module.
    unsafe { &*function.cast::<Kernel>() }
}
