//! What decode steps hand to one another: tokens, spans, the numbers to draw with, and what was drawn.
//!
//! A few steps are run before the host reads, and know beforehand all that they need from it. Where
//! [`decode_attention`](super::decode_attention) has a CubeCL kernel, all of it stands in memory that
//! stays where it is and is written in place: between two reads a step needs no word from the host,
//! and the launches of one can be recorded and repeated ([`crate::graph`]). Elsewhere each step is
//! given its own.

#[cfg(feature = "cube")]
pub(super) mod cube;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use super::decode_attention::{RowSpan, has_spans_on_device};
use super::index::index;
use super::prefix_attention::Heads;
use crate::graph::{GraphError, Storage};

/// What the first of some steps begins with.
#[derive(Clone, Debug, Default)]
pub struct FirstRows {
    /// `[R]`: the last token of each row.
    pub tokens: Vec<u32>,
    /// `[R]`: what each row sees, the column that the step writes included.
    pub spans: Vec<RowSpan>,
    /// `[R][steps]`, in [0, 1): what each token is drawn with. Rows behind these run in vain: every
    /// step gives them the same token and column, and what they draw means nothing.
    pub uniforms: Vec<Vec<f32>>,
}

/// The state of R rows over at most as many steps as it was made for.
#[derive(Debug)]
pub struct DecodeState {
    num_rows: usize,
    most_steps: usize,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// Each step is handed over by the host.
    Host(Box<OnHost>),
    /// All stays on the device.
    #[cfg(feature = "cube")]
    Device(Box<cube::OnDevice>),
}

#[derive(Debug)]
struct OnHost {
    first: FirstRows,
    device: Device,
    /// Of each step so far, `[R, 3]`.
    drawn: Vec<Tensor<2>>,
}

impl DecodeState {
    /// True if a step of a decoder with these heads needs nothing of the host.
    pub fn stays_on_device(heads: Heads, device: &Device) -> bool {
        has_spans_on_device(device, heads)
    }

    /// Memory for rows of a decoder with these heads.
    pub fn new(num_rows: usize, most_steps: usize, heads: Heads, device: &Device) -> Self {
        let place = match Self::stays_on_device(heads, device) {
            #[cfg(feature = "cube")]
            true => Place::Device(Box::new(cube::OnDevice::new(num_rows, most_steps, device))),
            _ => Place::Host(Box::new(OnHost {
                first: FirstRows::default(),
                device: device.clone(),
                drawn: Vec::new(),
            })),
        };
        Self {
            num_rows,
            most_steps,
            place,
        }
    }

    /// Begins with these rows.
    ///
    /// # Panics
    /// If there are not R of them, or numbers for more steps than there is memory for.
    pub fn begin(self, first: FirstRows) -> Self {
        let count = self.num_rows;
        let fits = first.tokens.len() == count && first.spans.len() == count;
        assert!(fits && first.uniforms.len() <= count, "DecodeState: R rows");
        let steps = first.uniforms.iter().map(Vec::len).max().unwrap_or(0);
        assert!(steps <= self.most_steps, "DecodeState: {steps} steps");
        let place = match self.place {
            Place::Host(host) => Place::Host(Box::new(OnHost {
                first,
                drawn: Vec::new(),
                device: host.device,
            })),
            #[cfg(feature = "cube")]
            Place::Device(device) => Place::Device(Box::new(device.begin(&first))),
        };
        Self { place, ..self }
    }

    /// The tokens that the next step reads, `[R]`.
    pub fn tokens(&self) -> Tensor<1, Int> {
        match &self.place {
            Place::Host(host) => match host.drawn.last() {
                None => {
                    let tokens = host.first.tokens.iter().map(|&token| token as usize);
                    index(tokens.collect(), &host.device)
                }
                Some(drawn) => next_tokens(drawn),
            },
            #[cfg(feature = "cube")]
            Place::Device(device) => device.tokens.clone(),
        }
    }

    /// What the tokens of the next step are drawn with, `[R, 1]`.
    pub fn uniforms(&self) -> Tensor<2> {
        match &self.place {
            Place::Host(host) => {
                let step = host.drawn.len();
                let of = |row: &Vec<f32>| row.get(step).copied().unwrap_or(0.0);
                let mut numbers: Vec<f32> = host.first.uniforms.iter().map(of).collect();
                numbers.resize(self.num_rows, 0.0);
                let numbers = TensorData::new(numbers, [self.num_rows, 1]);
                Tensor::from_data(numbers, (&host.device, DType::F32))
            }
            #[cfg(feature = "cube")]
            Place::Device(device) => device.uniform.clone(),
        }
    }

    /// Where everything stands that a step reads or writes, for [`crate::graph`].
    ///
    /// # Errors
    /// If any of it was to be written and never was.
    pub fn storage(&self) -> Result<Vec<Storage>, GraphError> {
        match &self.place {
            Place::Host(_) => Ok(Vec::new()),
            #[cfg(feature = "cube")]
            Place::Device(device) => device.storage(),
        }
    }

    /// What the rows of the next step see.
    pub(super) fn spans(&self) -> Spans {
        match &self.place {
            Place::Host(host) => Spans::Known(host.spans()),
            #[cfg(feature = "cube")]
            Place::Device(device) => Spans::OnDevice(Box::new(device.spans.clone())),
        }
    }

    /// Goes on with what the step drew.
    ///
    /// # Shapes
    /// - `drawn`: `[R, 3]`, of [`draw`](super::draw::draw)
    pub fn advance(self, drawn: Tensor<2>) -> Self {
        let place = match self.place {
            Place::Host(mut host) => {
                host.drawn.push(drawn);
                Place::Host(host)
            }
            #[cfg(feature = "cube")]
            Place::Device(device) => Place::Device(Box::new(device.advance(drawn))),
        };
        Self { place, ..self }
    }

    /// What the steps drew, one after the other: `[R, 3 * steps]`, where columns of steps that were
    /// not run may follow. Those hold [`NO_TOKEN`](super::NO_TOKEN).
    pub fn drawn(&self) -> Tensor<2> {
        match &self.place {
            Place::Host(host) => Tensor::cat(host.drawn.clone(), 1),
            #[cfg(feature = "cube")]
            Place::Device(device) => device.draws.clone(),
        }
    }
}

impl OnHost {
    fn spans(&self) -> Vec<RowSpan> {
        let mut spans = self.first.spans.clone();
        let own = spans.iter_mut().take(self.first.uniforms.len());
        own.for_each(|span| span.own_columns += self.drawn.len());
        spans
    }
}

/// The tokens of some rows, still on the device: 0 for a row without one.
fn next_tokens(drawn: &Tensor<2>) -> Tensor<1, Int> {
    let tokens = drawn.clone().narrow(1, 0, 1).squeeze_dim::<1>(1);
    tokens.int().clamp_min(0)
}

/// What the rows of a step see, where it is known.
#[derive(Clone, Debug)]
pub(super) enum Spans {
    /// On the host.
    Known(Vec<RowSpan>),
    /// `[R, 3 or more]`; slot of the prompt, its columns, the row's own columns.
    #[cfg(feature = "cube")]
    OnDevice(Box<Tensor<2, Int>>),
}
