//! Launches that are recorded and repeated, on every compiled backend that has a device here and
//! records. The others are reported and skipped.
#![cfg(feature = "cpu")]

use std::sync::{Mutex, PoisonError};

use burn::tensor::{Device, Tensor};
use rlvr_backends::graph::{Preparation, Storage, records_launches};
use rlvr_backends::kernels::{DecodeState, FirstRows, Heads, NO_TOKEN, RowSpan};
use rlvr_backends::{BackendError, compiled, device};

const ROWS: usize = 5;
const STEPS: usize = 4;

/// While one stream records, nothing else may ask the device for memory.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn on_devices_that_record(body: impl Fn(&Device)) {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    for kind in compiled() {
        match device(kind) {
            Ok(device) if records_launches(&device) => body(&device),
            Ok(_) => eprintln!("skipped: {kind} does not record launches"),
            Err(error @ BackendError::NoDevice { .. }) => eprintln!("skipped: {error}"),
            Err(error) => panic!("{error}"),
        }
    }
}

fn values(x: Tensor<2>) -> Vec<f32> {
    x.into_data().iter::<f32>().collect()
}

fn state(device: &Device) -> DecodeState {
    let heads = Heads {
        num_kv_heads: 2,
        group: 2,
        width: 32,
    };
    DecodeState::new(ROWS, STEPS, heads, device)
}

/// Rows that differ; the last is in vain.
fn first(salt: u32) -> FirstRows {
    let span = RowSpan {
        own_columns: 1,
        ..RowSpan::default()
    };
    FirstRows {
        tokens: (0..ROWS as u32).map(|row| 10 * row + salt).collect(),
        spans: vec![span; ROWS],
        uniforms: vec![vec![0.25, 0.5, 0.75, 1.0]; ROWS - 1],
    }
}

/// Draws three times the token less one, and the number it is drawn with: no step is like another.
fn step(state: DecodeState) -> DecodeState {
    let tokens: Tensor<2> = state.tokens().float().unsqueeze_dim(1);
    let uniforms = state.uniforms();
    let drawn = vec![tokens * 3.0 - 1.0, uniforms.clone(), uniforms];
    state.advance(Tensor::cat(drawn, 1))
}

/// What some steps draw, of the rows that are not in vain.
fn drawn(state: &DecodeState, steps: usize) -> Vec<f32> {
    let rows = values(state.drawn());
    let rows = rows.chunks(3 * STEPS).take(ROWS - 1);
    rows.flat_map(|row| row[..3 * steps].to_vec()).collect()
}

#[test]
fn replays_go_on_from_what_stands_in_memory() {
    on_devices_that_record(|device| {
        let plain = |salt| {
            let state = (0..STEPS).fold(state(device).begin(first(salt)), |state, _| step(state));
            drawn(&state, STEPS)
        };
        let preparation = Preparation::new(device).expect("it records");
        let mut state = state(device).begin(first(1));
        for _ in 0..2 {
            state = step(state);
            device.flush().expect("a device");
        }
        let before = state.storage().expect("it is written");
        let (graph, mut state) = preparation.record(|| step(state)).expect("a recording");
        assert_eq!(state.storage(), Ok(before));
        assert_eq!(drawn(&state, 2), {
            let mut all = plain(1);
            let mut place = 0;
            all.retain(|_| {
                place += 1;
                (place - 1) % (3 * STEPS) < 6
            });
            all
        });
        for salt in [1, 2] {
            state = state.begin(first(salt));
            // What was drawn before is gone, should a replay write nothing.
            assert!(drawn(&state, STEPS).iter().all(|&it| it == NO_TOKEN));
            for _ in 0..STEPS {
                graph.replay().expect("a replay");
            }
            assert_eq!(drawn(&state, STEPS), plain(salt));
        }
    });
}

#[test]
fn what_cannot_be_recorded_is_refused_and_the_device_goes_on() {
    on_devices_that_record(|device| {
        let preparation = Preparation::new(device).expect("it records");
        assert!(Preparation::new(device).is_err(), "one at a time");
        // Memory that was not asked for before.
        let refused = preparation.record(|| Tensor::<2>::ones([1 << 12, 1 << 12], device) * 2.0);
        let Err(error) = refused else {
            panic!("recorded");
        };
        assert!(!error.to_string().is_empty());
        // Given up before anything was recorded.
        for _ in 0..2 {
            let _given_up = Preparation::new(device).expect("the one before is over");
        }
        let sum = Tensor::<2>::from_floats([[1.0, 2.0]], device) * 2.0;
        assert_eq!(values(sum), [2.0, 4.0]);
    });
}

#[test]
fn a_tensor_stays_where_it_is_as_long_as_it_is_edited_in_place() {
    on_devices_that_record(|device| {
        let mut edited = Tensor::<2>::zeros([4, 6], device);
        let place = Storage::of(&edited);
        assert_eq!(Storage::of(&edited), place);
        let row = || Tensor::<2>::ones([1, 6], device);
        edited.inplace(|all| all.slice_assign([1..2, 0..6], row()));
        assert_eq!(Storage::of(&edited), place);
        let held = edited.clone();
        edited.inplace(|all| all.slice_assign([2..3, 0..6], row()));
        assert_ne!(Storage::of(&edited), place);
        assert_eq!(Storage::of(&held), place);
        assert_eq!(values(held.sum_dim(1)), [0.0, 6.0, 0.0, 0.0]);
    });
}
