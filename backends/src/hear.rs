//! What panics say while a piece of work runs, on whatever thread they happen.
//!
//! Drivers run on threads of their own, whose panics never reach the caller except as a vague
//! error later on. One hook, installed on first use, passes their words to whoever listens.

use std::any::Any;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once, PoisonError};
use std::thread::{self, ThreadId};

/// Which panics a listener hears, and whether they are printed all the same.
pub(crate) trait Ear: Send + Sync + 'static {
    /// True if a panic with these words, on the thread of the work or another one, is for this
    /// listener alone: it is kept, and neither printed nor heard by anyone else.
    fn takes(&self, words: &str, is_own_thread: bool) -> bool;
}

/// What came of the work: its value or the payload of its panic, and the words of all panics that
/// the listener took, in order.
pub(crate) struct Heard<T> {
    pub(crate) outcome: thread::Result<T>,
    pub(crate) words: Vec<String>,
}

struct Listener {
    id: u64,
    thread: ThreadId,
    ear: Box<dyn Ear>,
    words: Vec<String>,
}

static LISTENERS: Mutex<Vec<Listener>> = Mutex::new(Vec::new());

fn with_listeners<R>(work: impl FnOnce(&mut Vec<Listener>) -> R) -> R {
    work(&mut LISTENERS.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Runs `work` with panics caught. Calls may be nested: the innermost listener is asked first.
pub(crate) fn hear<T>(ear: impl Ear, work: impl FnOnce() -> T) -> Heard<T> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    install();
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    with_listeners(|all| {
        all.push(Listener {
            id,
            thread: thread::current().id(),
            ear: Box::new(ear),
            words: Vec::new(),
        });
    });
    let outcome = panic::catch_unwind(AssertUnwindSafe(work));
    let words = with_listeners(|all| {
        let place = all.iter().position(|listener| listener.id == id);
        place.map_or_else(Vec::new, |place| all.remove(place).words)
    });
    Heard { outcome, words }
}

/// Puts the hook before the one that is there, once.
fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !is_taken(&message(info.payload())) {
                before(info);
            }
        }));
    });
}

fn is_taken(words: &str) -> bool {
    let here = thread::current().id();
    with_listeners(|all| {
        let mut newest_first = all.iter_mut().rev();
        let taker =
            newest_first.find(|listener| listener.ear.takes(words, listener.thread == here));
        taker.is_some_and(|listener| {
            listener.words.push(words.into());
            true
        })
    })
}

/// The text of a panic on one line.
pub(crate) fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("the driver gave no reason");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Held by tests whose panics happen on threads of their own, which any listener may take.
#[cfg(test)]
pub(crate) static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

#[cfg(test)]
mod tests {
    use super::*;

    struct Prefix(&'static str);

    impl Ear for Prefix {
        fn takes(&self, words: &str, is_own_thread: bool) -> bool {
            is_own_thread && words.starts_with(self.0)
        }
    }

    #[test]
    fn the_innermost_listener_that_wants_it_takes_a_panic() {
        let outer = hear(Prefix("flood"), || {
            let inner = hear(Prefix("fire"), || panic!("fire in  the\nhall"));
            assert_eq!(inner.words, vec!["fire in the hall"]);
            assert!(inner.outcome.is_err());
            let inner = hear(Prefix("fire"), || panic!("flood"));
            assert!(inner.outcome.is_err() && inner.words.is_empty());
            7
        });
        assert_eq!(outer.outcome.ok(), Some(7));
        assert_eq!(outer.words, vec!["flood"]);
    }
}
