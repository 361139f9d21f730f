//! Requests that wait, shared by the workers of one call.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::Request;

/// Hands out whole requests in order, so that a prompt is run once, by one worker.
#[derive(Debug)]
pub(super) struct Queue<'a> {
    requests: &'a [Request],
    next: AtomicUsize,
    is_aborted: AtomicBool,
}

impl<'a> Queue<'a> {
    pub(super) fn new(requests: &'a [Request]) -> Self {
        Self {
            requests,
            next: AtomicUsize::new(0),
            is_aborted: AtomicBool::new(false),
        }
    }

    /// Takes requests until they hold at least `num_completions`, or none are left.
    pub(super) fn take(&self, num_completions: usize) -> Vec<(usize, &'a Request)> {
        let mut taken = Vec::new();
        let mut held = 0;
        while held < num_completions && !self.is_aborted.load(Ordering::Relaxed) {
            let place = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(request) = self.requests.get(place) else {
                break;
            };
            held += request.num_completions as usize;
            if request.num_completions > 0 {
                taken.push((place, request));
            }
        }
        taken
    }

    /// Lets the other workers end after the step they are in.
    pub(super) fn abort(&self) {
        self.is_aborted.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_aborted(&self) -> bool {
        self.is_aborted.load(Ordering::Relaxed)
    }
}
