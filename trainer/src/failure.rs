//! The one error that reaches `main`: what failed, why, and the exit code.

use std::error::Error;

use rlvr_backends::device_sentence;
use thiserror::Error;

/// Whose move it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The run started and failed: exit code 1.
    Run,
    /// The command line, the configuration or an input file has to change: exit code 2.
    Usage,
}

/// A failure with its causes.
#[derive(Debug, Error)]
#[error("{source}")]
pub struct Failure {
    kind: FailureKind,
    action: Option<String>,
    source: Box<dyn Error + Send + Sync>,
}

impl Failure {
    /// A run that failed.
    pub fn run(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(FailureKind::Run, source.into())
    }

    /// Words or values that cannot be used.
    pub fn usage(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(FailureKind::Usage, source.into())
    }

    fn new(kind: FailureKind, source: Box<dyn Error + Send + Sync>) -> Self {
        Self {
            kind,
            action: None,
            source,
        }
    }

    /// Says what could not be done, in words that follow "failed to", where the source only says
    /// what is wrong.
    #[must_use]
    pub fn while_doing(self, action: impl Into<String>) -> Self {
        Self {
            action: Some(action.into()),
            ..self
        }
    }

    /// Whose move it is.
    pub fn kind(&self) -> FailureKind {
        self.kind
    }

    /// 1 or 2; 0 is success and never a failure.
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            FailureKind::Run => 1,
            FailureKind::Usage => 2,
        }
    }

    /// The error and its causes on one line, without the causes that an error already quotes, and of
    /// what a device says what is for a user.
    pub fn chain(&self) -> String {
        self.chain_of(|error| device_sentence(&error.to_string()))
    }

    /// As [`Failure::chain`], with all that a device says: sources of kernels among it.
    pub fn whole_chain(&self) -> String {
        self.chain_of(|error| error.to_string())
    }

    fn chain_of(&self, words: impl Fn(&dyn Error) -> String) -> String {
        let first = words(self.source.as_ref());
        let mut text = match &self.action {
            Some(action) => format!("{action}: {first}"),
            None => first,
        };
        let mut cause = self.source.source();
        while let Some(error) = cause {
            let words = words(error);
            if !text.ends_with(&words) {
                text = format!("{text}: {words}");
            }
            cause = error.source();
        }
        text
    }
}

macro_rules! failures {
    ($($kind:ident: $($error:ty),+;)+) => {$($(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::$kind(error)
            }
        }
    )+)+};
}

failures! {
    usage: crate::config::ConfigError, rlvr_backends::BackendError, rlvr_backends::NoPrecision,
        rlvr_backends::ThreadsError;
    run: crate::checkpoint::CheckpointError, crate::metrics::LogError;
}

impl From<crate::run_dir::RunDirError> for Failure {
    fn from(error: crate::run_dir::RunDirError) -> Self {
        if error.is_usage() {
            Self::usage(error)
        } else {
            Self::run(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConfigError, RecipeText};
    use crate::rollout::RolloutError;
    use crate::room::UpdateError;
    use burn::tensor::ExecutionError;

    #[test]
    fn a_chain_names_every_cause_once() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing.toml");
        let error = RecipeText::read(&missing).unwrap_err();
        assert!(matches!(error, ConfigError::ReadRecipe { .. }));
        let failure = Failure::from(error);
        assert_eq!(
            (failure.kind(), failure.exit_code()),
            (FailureKind::Usage, 2)
        );
        let chain = failure.chain();
        assert!(chain.contains("missing.toml: "), "{chain}");
        assert_eq!(chain.matches("No such file").count(), 1, "{chain}");
        assert_eq!(Failure::run("out of luck").exit_code(), 1);
    }

    #[test]
    fn of_a_kernel_that_does_not_compile_the_error_is_left() {
        let said = "An error happened during execution\nCaused by:\n  An error caused the compilation \
                    to fail\nCaused by:\n  [Compilation Error] \n    default_program(2): error: no \
                    such thing\n[Source]  \n__global__ void swiglu_1(float* x) {\nint y;\n}\n\
                    Backtrace:\nNo backtrace available";
        let error = ExecutionError::WithContext {
            reason: said.into(),
        };
        let error = UpdateError::Device(error.into());
        let failure = Failure::run(error);
        assert_eq!(
            failure.chain(),
            "read the loss from the device: An error caused the compilation to fail: \
             default_program(2): error: no such thing, in kernel `swiglu_1` (CUBECL_DEBUG_LOG=FILE \
             writes every kernel to a file)"
        );
        assert!(failure.whole_chain().contains("int y;"));
        let reason = said.into();
        let failure = Failure::run(RolloutError::Device { reason });
        let chain = failure.chain();
        assert!(chain.ends_with("to a file)"), "{chain}");
        assert!(!chain.contains("int y;") && chain.contains("no such thing"));
    }

    #[test]
    fn an_action_comes_before_what_is_wrong() {
        let failure = Failure::usage("`x` is a file").while_doing("open model `x`");
        assert_eq!(failure.chain(), "open model `x`: `x` is a file");
        assert_eq!(failure.exit_code(), 2);
    }
}
