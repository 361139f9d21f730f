//! Ctrl-C: the first one lets the step finish and saves; the second one ends the process.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// A flag that Ctrl-C sets.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// A flag that nothing sets.
    pub fn never() -> Self {
        Self::default()
    }

    /// The flag that the process's interrupt signal sets; the same one on every call. Where no
    /// handler can be installed, the signal ends the process at once, as usual.
    pub fn on_ctrl_c() -> Self {
        static FLAG: OnceLock<Interrupt> = OnceLock::new();
        FLAG.get_or_init(Self::install).clone()
    }

    fn install() -> Self {
        let flag = Self::default();
        let set = flag.clone();
        let installed = ctrlc::set_handler(move || {
            if set.0.swap(true, Ordering::SeqCst) {
                std::process::exit(130);
            }
            eprintln!("\nfinishing this step, then saving; once more to stop at once");
        });
        if let Err(error) = installed {
            eprintln!("warning: Ctrl-C will not save: {error}");
        }
        flag
    }

    /// True once it was set.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// Sets it, as Ctrl-C does.
    pub fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
