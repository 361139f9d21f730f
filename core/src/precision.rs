//! What matrix products are computed in. Everything else is computed in 32 bits.

use core::fmt;

use burn::tensor::{DType, Tensor};

/// What matrix products are computed in.
///
/// In half precision a product is that of mixed-precision training as PyTorch's autocast does it:
/// 32-bit operands are rounded, multiplied, and the result, which the device rounds once more, is
/// 32-bit again. bfloat16 has f32's range, so no loss scaling is needed (Kalamkar et al., "A Study
/// of BFLOAT16 for Deep Learning Training", 2019, arXiv:1905.12322).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// f32 throughout.
    #[default]
    F32,
    /// f32 throughout, on a device that rounds the operands of a product of f32 tensors to TF32's 11
    /// bits, as Burn's products do on the tensor cores of NVIDIA. An operand is split into what
    /// bfloat16 keeps of it and the rest: `a b = h(a) h(b) + h(a) l(b) + l(a) b`, of which the device
    /// cuts only what is 2^-9 of the whole, so 19 bits are right (after Markidis et al., "NVIDIA
    /// Tensor Core Programmability, Performance & Precision", 2018, arXiv:1803.04014). Three products
    /// for one.
    F32Split,
    /// Operands and results of products in bfloat16: 8 bits of precision, relative error 2^-9 each.
    Bf16,
}

impl Precision {
    /// What a product multiplies: `x` rounded, or `x` as it is. Worth its own call where one
    /// operand goes into several products, or waits for one: nothing is rounded twice.
    pub fn operand<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::F32 | Self::F32Split => x,
            Self::Bf16 => x.cast(DType::BF16),
        }
    }

    /// A product's result, or an operand that elementwise work goes on from, in 32 bits.
    pub fn result<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::F32 | Self::F32Split => x,
            Self::Bf16 => x.cast(DType::F32),
        }
    }

    /// `a b`, the last two axes multiplied, in 32 bits.
    ///
    /// # Panics
    ///
    /// If the inner axes differ.
    pub fn matmul<const D: usize>(self, a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
        self.result(self.product(a, b))
    }

    /// As [`Precision::matmul`], as the device leaves it, in the type of an operand: for what reads
    /// either.
    ///
    /// # Panics
    ///
    /// If the inner axes differ.
    pub fn product<const D: usize>(self, a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
        match self {
            Self::F32Split => split_product(a, b),
            Self::F32 | Self::Bf16 => self.operand(a).matmul(self.operand(b)),
        }
    }

    /// Type of an operand.
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 | Self::F32Split => DType::F32,
            Self::Bf16 => DType::BF16,
        }
    }

    /// Bytes of one value of an operand.
    pub const fn value_bytes(self) -> usize {
        match self {
            Self::F32 | Self::F32Split => 4,
            Self::Bf16 => 2,
        }
    }

    /// `f32` or `bf16`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 | Self::F32Split => "f32",
            Self::Bf16 => "bf16",
        }
    }
}

/// `a b` in the parts of [`Precision::F32Split`], the small ones added first.
fn split_product<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
    let high = |x: &Tensor<D>| x.clone().cast(DType::BF16).cast(DType::F32);
    let (a_high, b_high) = (high(&a), high(&b));
    let (a_low, b_low) = (a - a_high.clone(), b.clone() - b_high.clone());
    let low = a_high.clone().matmul(b_low) + a_low.matmul(b);
    low + a_high.matmul(b_high)
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
