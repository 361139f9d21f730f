//! What a device says when it fails, in one sentence.

/// What follows a cause in the texts of CubeCL 0.11, and is not for a user: the source of a kernel
/// (`compile_to_ptx` of cubecl-cuda) and where in the program it was (`BackTrace` of
/// cubecl-environment).
const ENDS: [&str; 5] = [
    SOURCE,
    "Backtrace",
    "No backtrace available",
    "Asked at:",
    "stack backtrace:",
];

/// What cubecl-cuda puts before the source that NVRTC refused.
const SOURCE: &str = "[Source]";

/// What stands between a failure and its cause, in the texts of CubeCL, Burn and wgpu.
const CAUSE: &str = "Caused by:";

/// What cubecl-cuda puts before the words of NVRTC.
const COMPILER: &str = "[Compilation Error]";

/// Characters of a cause at most.
const MOST_CHARS: usize = 300;

/// Lines of a cause at most.
const MOST_LINES: usize = 3;

/// What Burn says before all causes, of any failure.
const OPENER: &str = "An error happened during execution";

/// A device's failure in one sentence: the last cause that it names, after what that one led to, and
/// what stands before both. Of the words of a compiler its first error is left, of the source that it
/// refused the kernel's name. Any other text is returned as it is.
pub fn device_sentence(text: &str) -> String {
    if !text.contains(CAUSE) && !text.contains(SOURCE) {
        return text.into();
    }
    let end = ENDS.iter().filter_map(|end| text.find(end)).min();
    let (said, cut) = text.split_at(end.unwrap_or(text.len()));
    let mut causes = said.split(CAUSE).map(cause);
    let first = causes.next();
    let later: Vec<String> = causes.filter(|cause| !cause.is_empty()).collect();
    let last = &later[later.len().saturating_sub(2)..];
    let mut kept: Vec<&str> = first.iter().chain(last).map(String::as_str).collect();
    kept.retain(|cause| !cause.is_empty());
    kept.dedup();
    let mut sentence = kept.join(": ");
    if let Some(source) = cut.strip_prefix(SOURCE) {
        if let Some(kernel) = kernel_name(source) {
            sentence += &format!(", in kernel `{kernel}`");
        }
        sentence += " (CUBECL_DEBUG_LOG=FILE writes every kernel to a file)";
    }
    sentence
}

/// One cause on one line: the first error of a compiler, or the first lines.
fn cause(text: &str) -> String {
    let text = text.replace(COMPILER, "").replace(OPENER, "");
    let lines = text.lines().map(|line| line.trim_matches([' ', '.', ':']));
    let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    let words = match lines.iter().find(|line| line.contains("error:")) {
        Some(error) => (*error).to_string(),
        None => lines[..lines.len().min(MOST_LINES)].join(": "),
    };
    match words.char_indices().nth(MOST_CHARS) {
        Some((end, _)) => format!("{}...", &words[..end]),
        None => words,
    }
}

/// The name of the first kernel in a source of CUDA C++.
fn kernel_name(source: &str) -> Option<&str> {
    let (_, kernel) = source.split_once("__global__")?;
    let mut words = kernel.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.find(|word| {
        let is_number = word.starts_with(|c: char| c.is_ascii_digit());
        !word.is_empty() && !is_number && !["void", "__launch_bounds__"].contains(word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Burn 0.22 and CubeCL 0.11 nest it: a read of a result that was never written.
    fn read(root: &str) -> String {
        format!(
            "An error happened during execution\nCaused by:\n  The bytes were never written (failure \
             #1020, still claiming 1 buffer(s))\n  matmul_entry\nCaused by:\n  {root}\nAsked at:\nNo \
             backtrace available"
        )
    }

    /// A kernel that NVRTC refuses, with a source of many lines.
    fn refused() -> String {
        let source = "uint32_t const v5 = 0;\n".repeat(500);
        read(&format!(
            "A launch error happened\nCaused by:\n  A compilation error happened during \
             launch\nCaused by:\n  An error caused the compilation to fail\nCaused by:\n  \
             [Compilation Error] \n    default_program(7): warning #177-D: variable \"v3\" was \
             declared but never referenced\n    default_program(12): error: identifier \"x\" is \
             undefined\n    default_program(13): error: expected a \";\"\n    2 errors detected in \
             the compilation of \"default_program\".\n[Source]  \nextern \"C\" __global__ void \
             __launch_bounds__(32)  reduce_kernel_05b2b4ca(float const* v1) {{\n{source}}}\n\n\
             Backtrace:\nNo backtrace available"
        ))
    }

    const REFUSED: &str = "An error caused the compilation to fail: default_program(12): error: \
                           identifier \"x\" is undefined, in kernel `reduce_kernel_05b2b4ca` \
                           (CUBECL_DEBUG_LOG=FILE writes every kernel to a file)";

    #[test]
    fn a_refused_kernel_leaves_the_first_error_and_its_name() {
        assert!(refused().len() > 10_000);
        assert_eq!(device_sentence(&refused()), REFUSED);
        // Among several failures, and after what could not be done.
        let several = format!(
            "Several failures at once\nCaused by:\n  {0}\n{0}",
            refused()
        );
        let while_doing = device_sentence(&format!("read the loss: {several}"));
        assert_eq!(
            while_doing,
            format!("read the loss: Several failures at once: {REFUSED}")
        );
        // On one line, as panics are heard.
        let line = refused();
        let line: Vec<&str> = line.split_whitespace().collect();
        let sentence = device_sentence(&line.join(" "));
        assert!(
            sentence.contains("error: identifier \"x\" is undefined")
                && sentence.contains("in kernel `reduce_kernel_05b2b4ca`"),
            "{sentence}"
        );
        assert!(sentence.len() < 600, "{sentence}");
    }

    #[test]
    fn what_the_driver_says_is_kept() {
        let ptx = "A launch error happened\nCaused by:\n  A compilation error happened during \
                   launch\nCaused by:\n  An error caused the compilation to fail\nCaused by:\n  \
                   Unable to load the PTX: DriverError(CUDA_ERROR_UNSUPPORTED_PTX_VERSION, \"the \
                   provided PTX was compiled with an unsupported toolchain.\")\nBacktrace:\nNo \
                   backtrace available";
        assert_eq!(
            device_sentence(&read(ptx)),
            "An error caused the compilation to fail: Unable to load the PTX: \
             DriverError(CUDA_ERROR_UNSUPPORTED_PTX_VERSION, \"the provided PTX was compiled with an \
             unsupported toolchain.\")"
        );
        let poisoned = "The device is poisoned\nCaused by:\n  The device is poisoned\nCaused by:\n  \
                        cuStreamSynchronize failed with status 700\nBacktrace:\nNo backtrace available";
        assert_eq!(
            device_sentence(poisoned),
            "The device is poisoned: cuStreamSynchronize failed with status 700"
        );
        let memory = "An IO error happened\nCaused by:\n  out of device memory allocating 4096 \
                      bytes\nNo backtrace available";
        assert_eq!(
            device_sentence(&read(memory)),
            "An IO error happened: out of device memory allocating 4096 bytes"
        );
        let shared = "A launch error happened\nCaused by:\n  Too many resources were requested \
                      during launch\nToo much shared memory requested.\nRequested 200000 bytes, \
                      maximum 100000 bytes available.\nBacktrace\nNo backtrace available";
        assert_eq!(
            device_sentence(&read(shared)),
            "A launch error happened: Too many resources were requested during launch: Too much \
             shared memory requested: Requested 200000 bytes, maximum 100000 bytes available"
        );
    }

    #[test]
    fn what_wgpu_refuses_leaves_the_reason() {
        let shader = "A launch error happened\nCaused by:\n  A compilation error happened during \
                      launch\nCaused by:\n  An error caused the compilation to fail\nCaused by:\n  \
                      WGSL compilation failed for kernel `swiglu`: Validation Error\n\nCaused by:\n  \
                      In Device::create_shader_module, label = 'swiglu'\n    \nShader 'swiglu' parsing \
                      error: expected expression, found \"}\"\n   ┌─ wgsl:17:5\n   │\n17 │     }\n   │     \
                      ^ expected expression\n\n\nBacktrace:\nNo backtrace available";
        assert_eq!(
            device_sentence(&read(shader)),
            "WGSL compilation failed for kernel `swiglu`: Validation Error: Shader 'swiglu' parsing \
             error: expected expression, found \"}\""
        );
        let layout = "wgpu error: Validation Error\n\nCaused by:\n  In \
                      Device::create_compute_pipeline\n    Error matching shader requirements against \
                      the pipeline\n      Shader global ResourceBinding { group: 0, binding: 1 } is not \
                      available in the pipeline layout\n        Binding is missing\n\n";
        assert_eq!(
            device_sentence(layout),
            "wgpu error: Validation Error: In Device::create_compute_pipeline: Error matching shader \
             requirements against the pipeline: Shader global ResourceBinding { group: 0, binding: 1 \
             } is not available in the pipeline layout"
        );
    }

    #[test]
    fn long_causes_are_cut_and_other_texts_are_left_alone() {
        let long = format!("a\nCaused by:\n{}", "ä".repeat(1000));
        let cut = format!("a: {}...", "ä".repeat(MOST_CHARS));
        assert_eq!(device_sentence(&long), cut);
        for text in ["open `x`:\n  line 3, error: no\n", "Backtrace", "", &cut] {
            assert_eq!(device_sentence(text), text);
        }
        assert_eq!(device_sentence("Caused by:\n"), "");
    }
}
