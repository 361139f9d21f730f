//! Fused device operations, one file each.
//!
//! A file here holds a public function over `Tensor`s, its portable path in plain Burn
//! operations, the kernel, and the test that the two agree. The portable path is the definition;
//! the kernel is used only on devices that have it, and is added only when a bench shows the
//! gain. Callers never ask which path ran.
//!
//! | operation | devices with a kernel |
//! | --- | --- |
//! | none yet | - |
