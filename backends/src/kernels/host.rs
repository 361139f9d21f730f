//! Tensors of the CPU backend as slices. Where the backend is not compiled in, nothing is one.

use burn::tensor::{Device, Tensor, TensorData};

#[cfg(feature = "cpu")]
mod storage {
    use burn::backend::{BackendTypes, Flex};
    use burn::tensor::{DType, Tensor};

    use crate::kernels::product::Matrix;

    /// A contiguous f32 tensor of the CPU backend.
    pub struct Values(<Flex as BackendTypes>::FloatTensorPrimitive);

    impl Values {
        pub fn of<const D: usize>(x: &Tensor<D>) -> Option<Self> {
            let tensor = x.clone().try_into_primitive::<Flex>().ok()?;
            tensor.as_slice::<f32>().is_some().then_some(Self(tensor))
        }

        pub fn slice(&self) -> &[f32] {
            self.0.as_slice().unwrap_or_default()
        }
    }

    /// A f32 matrix of the CPU backend, transposed views included.
    pub struct Strided(<Flex as BackendTypes>::FloatTensorPrimitive);

    impl Strided {
        pub fn of(x: &Tensor<2>) -> Option<Self> {
            let tensor = x.clone().try_into_primitive::<Flex>().ok()?;
            let is_plain = tensor.dtype() == DType::F32 && tensor.layout().has_positive_strides();
            is_plain.then_some(Self(tensor))
        }

        pub fn matrix(&self) -> Matrix<'_> {
            let layout = self.0.layout();
            let (shape, strides) = (layout.shape(), layout.strides());
            Matrix {
                values: &self.0.storage::<f32>()[layout.start_offset()..],
                rows: shape[0],
                columns: shape[1],
                row_stride: strides[0].unsigned_abs(),
                column_stride: strides[1].unsigned_abs(),
            }
        }
    }
}

#[cfg(not(feature = "cpu"))]
mod storage {
    use burn::tensor::Tensor;

    use crate::kernels::product::Matrix;

    /// There is none.
    pub enum Strided {}

    impl Strided {
        pub fn of(_: &Tensor<2>) -> Option<Self> {
            None
        }

        pub fn matrix(&self) -> Matrix<'_> {
            match *self {}
        }
    }

    /// There is none.
    pub enum Values {}

    impl Values {
        pub fn of<const D: usize>(_: &Tensor<D>) -> Option<Self> {
            None
        }

        pub fn slice(&self) -> &[f32] {
            match *self {}
        }
    }
}

pub(super) use storage::{Strided, Values};

/// True if a kernel can read and edit `x`. Nothing of `x` is held afterwards: a [`Values`] that is
/// still alive makes an edit in place a copy.
pub(super) fn is_host<const D: usize>(x: &Tensor<D>) -> bool {
    Values::of(x).is_some()
}

/// A `[rows, columns]` tensor that takes the values over without a copy.
pub(super) fn tensor(values: Vec<f32>, [rows, columns]: [usize; 2], device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values, [rows, columns]), device)
}

/// Edits the values of an f32 tensor on the host, in place if nothing else holds it.
///
/// # Panics
/// If the values are not f32.
pub(super) fn edit<const D: usize>(x: Tensor<D>, work: impl FnOnce(&mut [f32])) -> Tensor<D> {
    let [x] = edit_all([x], |[values]| work(values));
    x
}

/// As [`edit`], several tensors at once.
///
/// # Panics
/// If the values are not f32.
pub(super) fn edit_all<const D: usize, const N: usize>(
    tensors: [Tensor<D>; N],
    work: impl FnOnce([&mut [f32]; N]),
) -> [Tensor<D>; N] {
    let devices = tensors.each_ref().map(Tensor::device);
    let mut data = tensors.map(Tensor::into_data);
    work(
        data.each_mut()
            .map(|data| match data.as_mut_slice::<f32>() {
                Ok(values) => values,
                Err(error) => panic!("edit: not f32: {error:?}"),
            }),
    );
    let mut devices = devices.iter();
    data.map(|data| match devices.next() {
        Some(device) => Tensor::from_data(data, device),
        None => unreachable!("edit: a device per tensor"),
    })
}
