//! NVRTC's functions: a program is CUDA C++, and what it compiles to is a shared library of the host,
//! of which the "PTX" is the path.

use core::ffi::{CStr, c_char, c_int};
use std::ffi::CString;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use cudarc::nvrtc::sys::{nvrtcProgram, nvrtcResult};

use crate::log;
use crate::settings::settings;
use crate::source::rewrite;

/// The headers, by the names under which kernels include them.
const HEADERS: [(&str, &str); 8] = [
    ("device.h", include_str!("../include/device.h")),
    ("half_types.h", include_str!("../include/half_types.h")),
    ("cuda_bf16.h", include_str!("../include/cuda_bf16.h")),
    ("cuda_fp16.h", include_str!("../include/cuda_fp16.h")),
    ("mma.h", include_str!("../include/mma.h")),
    ("cuda/barrier", include_str!("../include/barrier.h")),
    ("cooperative_groups.h", "#pragma once\n"),
    ("cooperative_groups/memcpy_async.h", "#pragma once\n"),
];

/// As NVRTC's defaults: products and sums are contracted.
const OPTIONS: [&str; 8] = [
    "-std=c++17",
    "-O1",
    "-march=native",
    "-ffp-contract=fast",
    "-fno-strict-aliasing",
    "-fPIC",
    "-w",
    "-fno-exceptions",
];

/// A library; and a kernel may be called what a function of the host is.
const LINK_OPTIONS: [&str; 2] = ["-shared", "-Wl,-Bsymbolic"];

/// A program, and what became of it.
struct Program {
    source: String,
    log: CString,
    artifact: CString,
}

/// Compiles CUDA C++ to a shared library, or finds it compiled.
fn compile(cuda: &str) -> Result<PathBuf, String> {
    let source = rewrite(cuda)?;
    let folder = headers()?;
    let mut hasher = DefaultHasher::new();
    (&source, OPTIONS, LINK_OPTIONS, &settings().compiler).hash(&mut hasher);
    let stem = folder.join(format!("{:016x}", hasher.finish()));
    let library = stem.with_extension("so");
    if library.exists() {
        return Ok(library);
    }
    let own = std::process::id();
    let (text, built) = (
        stem.with_extension(format!("{own}.cpp")),
        stem.with_extension(format!("{own}.so")),
    );
    write(&text, &source)?;
    let mut command = Command::new(&settings().compiler);
    command.args(OPTIONS).args(LINK_OPTIONS);
    command.arg("-I").arg(&folder).arg("-include");
    command.arg(folder.join("device.h")).arg("-o");
    run(command.args([&built, &text]))?;
    // Renamed when whole: another process may look for it at the same time.
    rename(&text, &stem.with_extension("cpp"))?;
    rename(&built, &library)?;
    Ok(library)
}

/// Runs the compiler; an error is what it says.
fn run(command: &mut Command) -> Result<(), String> {
    let output = command
        .output()
        .map_err(|error| format!("{}: {error}", settings().compiler))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// The folder of the cache for these headers, with the headers in it.
fn headers() -> Result<PathBuf, String> {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let make = || {
        let mut hasher = DefaultHasher::new();
        HEADERS.hash(&mut hasher);
        let folder = settings().cache.join(format!("{:016x}", hasher.finish()));
        for (name, text) in HEADERS {
            let path = folder.join(name);
            let inner = path.parent().unwrap_or(&folder);
            std::fs::create_dir_all(inner)
                .map_err(|error| format!("{}: {error}", inner.display()))?;
            write(&path, text)?;
        }
        precompile(&folder.join("device.h"))?;
        Ok(folder)
    };
    FOLDER.get_or_init(make).clone()
}

/// Parses the header that every kernel includes once for all, which is a third of a kernel's time.
fn precompile(header: &Path) -> Result<(), String> {
    let parsed = header.with_extension("h.gch");
    if parsed.exists() {
        return Ok(());
    }
    let built = header.with_extension(format!("{}.gch", std::process::id()));
    let mut command = Command::new(&settings().compiler);
    command.args(OPTIONS).args(["-x", "c++-header"]).arg(header);
    run(command.arg("-o").arg(&built))?;
    rename(&built, &parsed)
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

fn rename(from: &Path, to: &Path) -> Result<(), String> {
    std::fs::rename(from, to).map_err(|error| format!("{}: {error}", to.display()))
}

/// Takes a copy of the source.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvrtcCreateProgram(
    program: *mut nvrtcProgram,
    source: *const c_char,
    _name: *const c_char,
    _headers: c_int,
    _header_texts: *const *const c_char,
    _header_names: *const *const c_char,
) -> nvrtcResult {
    let source = unsafe { CStr::from_ptr(source) };
    let made = Program {
        source: source.to_string_lossy().into_owned(),
        log: CString::default(),
        artifact: CString::default(),
    };
    unsafe { *program = Box::into_raw(Box::new(made)).cast() };
    nvrtcResult::NVRTC_SUCCESS
}

/// Compiles with the compiler of the host, after the real NVRTC, if there is one, has accepted it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvrtcCompileProgram(
    program: nvrtcProgram,
    count: c_int,
    options: *const *const c_char,
) -> nvrtcResult {
    let program = unsafe { &mut *program.cast::<Program>() };
    let count = usize::try_from(count).unwrap_or(0);
    let options: Vec<&CStr> = (0..count)
        .map(|place| unsafe { CStr::from_ptr(*options.add(place)) })
        .collect();
    let checked = match &settings().nvrtc {
        Some(path) => unsafe { real::accept(path, &program.source, &options) },
        None => Ok(()),
    };
    let compiled = checked.and_then(|()| compile(&program.source));
    match compiled {
        Ok(path) => {
            let path = path.into_os_string().into_encoded_bytes();
            program.artifact = CString::new(path).unwrap_or_default();
            nvrtcResult::NVRTC_SUCCESS
        }
        Err(words) => {
            log::line(format_args!("not compiled: {words}\n{}", program.source));
            program.log = CString::new(words.replace('\0', " ")).unwrap_or_default();
            nvrtcResult::NVRTC_ERROR_COMPILATION
        }
    }
}

/// Bytes of the artifact, with its last zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvrtcGetPTXSize(program: nvrtcProgram, size: *mut usize) -> nvrtcResult {
    unsafe { *size = (*program.cast::<Program>()).artifact.count_bytes() + 1 };
    nvrtcResult::NVRTC_SUCCESS
}

/// The artifact.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvrtcGetPTX(program: nvrtcProgram, ptx: *mut c_char) -> nvrtcResult {
    unsafe { give(&(*program.cast::<Program>()).artifact, ptx) };
    nvrtcResult::NVRTC_SUCCESS
}

/// Bytes of what the compiler said, with its last zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvrtcGetProgramLogSize(
    program: nvrtcProgram,
    size: *mut usize,
) -> nvrtcResult {
    unsafe { *size = (*program.cast::<Program>()).log.count_bytes() + 1 };
    nvrtcResult::NVRTC_SUCCESS
}

/// What the compiler said.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvrtcGetProgramLog(
    program: nvrtcProgram,
    text: *mut c_char,
) -> nvrtcResult {
    unsafe { give(&(*program.cast::<Program>()).log, text) };
    nvrtcResult::NVRTC_SUCCESS
}

unsafe fn give(text: &CStr, to: *mut c_char) {
    let bytes = text.to_bytes_with_nul();
    unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr().cast(), to, bytes.len()) };
}

/// Ends a program.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvrtcDestroyProgram(program: *mut nvrtcProgram) -> nvrtcResult {
    drop(unsafe { Box::from_raw((*program).cast::<Program>()) });
    nvrtcResult::NVRTC_SUCCESS
}

/// The version that the driver's half says too.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvrtcVersion(major: *mut c_int, minor: *mut c_int) -> nvrtcResult {
    unsafe {
        *major = 13;
        *minor = 0;
    }
    nvrtcResult::NVRTC_SUCCESS
}

/// Words for a result.
#[unsafe(no_mangle)]
pub extern "C" fn nvrtcGetErrorString(result: nvrtcResult) -> *const c_char {
    match result {
        nvrtcResult::NVRTC_SUCCESS => c"NVRTC_SUCCESS".as_ptr(),
        nvrtcResult::NVRTC_ERROR_COMPILATION => c"NVRTC_ERROR_COMPILATION".as_ptr(),
        _ => c"NVRTC_ERROR_INTERNAL_ERROR".as_ptr(),
    }
}

/// The NVRTC of a CUDA toolkit, asked for its opinion.
mod real {
    use super::*;
    use libloading::Library;

    type Create = unsafe extern "C" fn(
        *mut nvrtcProgram,
        *const c_char,
        *const c_char,
        c_int,
        *const *const c_char,
        *const *const c_char,
    ) -> c_int;
    type Compile = unsafe extern "C" fn(nvrtcProgram, c_int, *const *const c_char) -> c_int;
    type Size = unsafe extern "C" fn(nvrtcProgram, *mut usize) -> c_int;
    type Text = unsafe extern "C" fn(nvrtcProgram, *mut c_char) -> c_int;
    type Destroy = unsafe extern "C" fn(*mut nvrtcProgram) -> c_int;

    /// Whether it compiles this source with these options; its log if not.
    pub(super) unsafe fn accept(
        path: &Path,
        source: &str,
        options: &[&CStr],
    ) -> Result<(), String> {
        static LIBRARY: OnceLock<Result<Library, String>> = OnceLock::new();
        let open = || unsafe { Library::new(path) }.map_err(|error| error.to_string());
        let library = LIBRARY.get_or_init(open).as_ref().map_err(String::clone)?;
        let source = CString::new(source).map_err(|error| error.to_string())?;
        let options: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();
        unsafe { ask(library, &source, &options) }.map_err(|error| error.to_string())?
    }

    unsafe fn ask(
        library: &Library,
        source: &CStr,
        options: &[*const c_char],
    ) -> Result<Result<(), String>, libloading::Error> {
        unsafe {
            let create = library.get::<Create>(b"nvrtcCreateProgram")?;
            let compile = library.get::<Compile>(b"nvrtcCompileProgram")?;
            let size = library.get::<Size>(b"nvrtcGetProgramLogSize")?;
            let text = library.get::<Text>(b"nvrtcGetProgramLog")?;
            let destroy = library.get::<Destroy>(b"nvrtcDestroyProgram")?;
            let none = core::ptr::null();
            let mut program: nvrtcProgram = core::ptr::null_mut();
            create(
                &mut program,
                source.as_ptr(),
                c"kernel.cu".as_ptr(),
                0,
                none,
                none,
            );
            let status = compile(program, options.len() as c_int, options.as_ptr());
            let mut length = 0usize;
            size(program, &mut length);
            let mut log = vec![0u8; length.max(1)];
            text(program, log.as_mut_ptr().cast());
            destroy(&mut program);
            let words = String::from_utf8_lossy(&log)
                .trim_end_matches('\0')
                .to_string();
            Ok(match status {
                0 => Ok(()),
                _ => Err(format!("NVRTC itself refuses it ({status}): {words}")),
            })
        }
    }
}
