//! Streams, events and graphs. Work is done when it is submitted, so nothing is ever waited for; a
//! stream that captures writes its work down instead.

use core::ffi::{c_int, c_uint, c_ulonglong};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use cudarc::driver::sys::{
    CUevent, CUgraph, CUgraphExec, CUgraphNode, CUgraphNodeType, CUresult, CUstream,
    CUstreamCaptureMode,
};

use crate::grid::Launch;
use crate::log;
use crate::memory::Transfer;
use crate::settings::settings;

/// One piece of captured work.
#[derive(Clone)]
pub(crate) enum Node {
    /// A kernel.
    Launch(Launch),
    /// Bytes.
    Copy(Transfer),
    /// Memory that is taken while capturing.
    Allocate,
    /// Memory that is given back while capturing.
    Free,
}

/// A queue, and what it has captured, if it does.
struct Stream {
    captured: Option<Vec<Node>>,
}

static CAPTURING: AtomicUsize = AtomicUsize::new(0);

/// Whether any stream captures: some calls are forbidden then.
pub(crate) fn any_captures() -> bool {
    CAPTURING.load(Ordering::SeqCst) > 0
}

unsafe fn stream<'a>(queue: CUstream) -> Option<&'a mut Stream> {
    // SAFETY: a handle is null (the default stream) or of `create`.
    unsafe { queue.cast::<Stream>().as_mut() }
}

/// Writes work down if the stream captures; says whether it did.
///
/// # Safety
///
/// `queue` is a live stream or null.
pub(crate) unsafe fn record(queue: CUstream, node: impl FnOnce() -> Node) -> bool {
    let captured = unsafe { stream(queue) }.and_then(|stream| stream.captured.as_mut());
    captured.map(|nodes| nodes.push(node())).is_some()
}

fn is_capturing(queue: CUstream) -> bool {
    unsafe { stream(queue) }.is_some_and(|stream| stream.captured.is_some())
}

/// A new stream.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuStreamCreate(queue: *mut CUstream, _flags: c_uint) -> CUresult {
    let stream = Box::new(Stream { captured: None });
    unsafe { *queue = Box::into_raw(stream).cast() };
    CUresult::CUDA_SUCCESS
}

/// A new stream; priorities mean nothing here.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuStreamCreateWithPriority(
    queue: *mut CUstream,
    flags: c_uint,
    _priority: c_int,
) -> CUresult {
    unsafe { cuStreamCreate(queue, flags) }
}

/// There is one priority.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuCtxGetStreamPriorityRange(
    least: *mut c_int,
    greatest: *mut c_int,
) -> CUresult {
    unsafe {
        *least = 0;
        *greatest = 0;
    }
    CUresult::CUDA_SUCCESS
}

/// Ends a stream.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuStreamDestroy_v2(queue: CUstream) -> CUresult {
    if !queue.is_null() {
        drop(unsafe { Box::from_raw(queue.cast::<Stream>()) });
    }
    CUresult::CUDA_SUCCESS
}

/// Waits for a stream, which is forbidden while it captures.
#[unsafe(no_mangle)]
pub extern "C" fn cuStreamSynchronize(queue: CUstream) -> CUresult {
    match is_capturing(queue) {
        true => CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,
        false => CUresult::CUDA_SUCCESS,
    }
}

/// Makes a stream wait for an event.
#[unsafe(no_mangle)]
pub extern "C" fn cuStreamWaitEvent(_queue: CUstream, _event: CUevent, _flags: c_uint) -> CUresult {
    CUresult::CUDA_SUCCESS
}

/// A new event, which is a point in time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuEventCreate(event: *mut CUevent, _flags: c_uint) -> CUresult {
    unsafe { *event = Box::into_raw(Box::new(Instant::now())).cast() };
    CUresult::CUDA_SUCCESS
}

/// Sets an event to now.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuEventRecord(event: CUevent, _queue: CUstream) -> CUresult {
    unsafe { *event.cast::<Instant>() = Instant::now() };
    CUresult::CUDA_SUCCESS
}

/// Waits for an event.
#[unsafe(no_mangle)]
pub extern "C" fn cuEventSynchronize(_event: CUevent) -> CUresult {
    CUresult::CUDA_SUCCESS
}

/// Milliseconds between two events.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuEventElapsedTime_v2(
    milliseconds: *mut f32,
    start: CUevent,
    end: CUevent,
) -> CUresult {
    unsafe {
        let (start, end) = (*start.cast::<Instant>(), *end.cast::<Instant>());
        *milliseconds = end.saturating_duration_since(start).as_secs_f32() * 1e3;
    }
    CUresult::CUDA_SUCCESS
}

/// Ends an event.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuEventDestroy_v2(event: CUevent) -> CUresult {
    drop(unsafe { Box::from_raw(event.cast::<Instant>()) });
    CUresult::CUDA_SUCCESS
}

/// Captured work; the nodes' addresses are their handles.
struct Graph {
    nodes: Vec<Node>,
}

/// From here on, work on the stream is written down and not done.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuStreamBeginCapture_v2(
    queue: CUstream,
    _mode: CUstreamCaptureMode,
) -> CUresult {
    if settings().refuses_capture {
        return CUresult::CUDA_ERROR_NOT_SUPPORTED;
    }
    match unsafe { stream(queue) } {
        Some(stream) if stream.captured.is_none() => {
            stream.captured = Some(Vec::new());
            CAPTURING.fetch_add(1, Ordering::SeqCst);
            CUresult::CUDA_SUCCESS
        }
        _ => CUresult::CUDA_ERROR_ILLEGAL_STATE,
    }
}

/// Ends the capture and gives what was written down.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuStreamEndCapture(queue: CUstream, graph: *mut CUgraph) -> CUresult {
    let captured = unsafe { stream(queue) }.and_then(|stream| stream.captured.take());
    let Some(nodes) = captured else {
        return CUresult::CUDA_ERROR_ILLEGAL_STATE;
    };
    CAPTURING.fetch_sub(1, Ordering::SeqCst);
    unsafe { *graph = Box::into_raw(Box::new(Graph { nodes })).cast() };
    CUresult::CUDA_SUCCESS
}

/// The handles of a graph's nodes; without room for them, their number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGraphGetNodes(
    graph: CUgraph,
    handles: *mut CUgraphNode,
    count: *mut usize,
) -> CUresult {
    unsafe {
        let graph = &mut *graph.cast::<Graph>();
        if handles.is_null() {
            *count = graph.nodes.len();
            return CUresult::CUDA_SUCCESS;
        }
        let written = (*count).min(graph.nodes.len());
        for (place, node) in graph.nodes.iter_mut().take(written).enumerate() {
            *handles.add(place) = core::ptr::from_mut(node).cast();
        }
        *count = written;
    }
    CUresult::CUDA_SUCCESS
}

/// What a node does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGraphNodeGetType(
    node: CUgraphNode,
    kind: *mut CUgraphNodeType,
) -> CUresult {
    let found = match unsafe { &*node.cast::<Node>() } {
        Node::Launch(_) => CUgraphNodeType::CU_GRAPH_NODE_TYPE_KERNEL,
        Node::Copy(_) => CUgraphNodeType::CU_GRAPH_NODE_TYPE_MEMCPY,
        Node::Allocate => CUgraphNodeType::CU_GRAPH_NODE_TYPE_MEM_ALLOC,
        Node::Free => CUgraphNodeType::CU_GRAPH_NODE_TYPE_MEM_FREE,
    };
    unsafe { *kind = found };
    CUresult::CUDA_SUCCESS
}

/// Makes a graph ready to run.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGraphInstantiateWithFlags(
    executable: *mut CUgraphExec,
    graph: CUgraph,
    _flags: c_ulonglong,
) -> CUresult {
    unsafe {
        let nodes = (*graph.cast::<Graph>()).nodes.clone();
        *executable = Box::into_raw(Box::new(Graph { nodes })).cast();
    }
    CUresult::CUDA_SUCCESS
}

/// Prepares a graph on the device; nothing to do.
#[unsafe(no_mangle)]
pub extern "C" fn cuGraphUpload(_executable: CUgraphExec, _queue: CUstream) -> CUresult {
    CUresult::CUDA_SUCCESS
}

/// Runs a graph.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGraphLaunch(executable: CUgraphExec, _queue: CUstream) -> CUresult {
    let graph = unsafe { &*executable.cast::<Graph>() };
    if settings().traces {
        log::line(format_args!("graph of {} nodes", graph.nodes.len()));
    }
    for node in &graph.nodes {
        let outcome = match node {
            Node::Launch(launch) => unsafe { launch.run() },
            Node::Copy(copy) => unsafe { copy.run() },
            // As of a graph that allocates and never frees.
            Node::Allocate | Node::Free => Err(CUresult::CUDA_ERROR_INVALID_VALUE),
        };
        if let Err(error) = outcome {
            return error;
        }
    }
    CUresult::CUDA_SUCCESS
}

/// Ends a graph.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGraphDestroy(graph: CUgraph) -> CUresult {
    drop(unsafe { Box::from_raw(graph.cast::<Graph>()) });
    CUresult::CUDA_SUCCESS
}

/// Ends what [`cuGraphInstantiateWithFlags`] made.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGraphExecDestroy(executable: CUgraphExec) -> CUresult {
    drop(unsafe { Box::from_raw(executable.cast::<Graph>()) });
    CUresult::CUDA_SUCCESS
}
