//! The one error that reaches `main`: what failed, why, and the exit code.

use std::error::Error;

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

    /// The error and its causes on one line, without the causes that an error already quotes.
    pub fn chain(&self) -> String {
        let mut text = match &self.action {
            Some(action) => format!("{action}: {}", self.source),
            None => self.source.to_string(),
        };
        let mut cause = self.source.source();
        while let Some(error) = cause {
            let words = error.to_string();
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
    fn an_action_comes_before_what_is_wrong() {
        let failure = Failure::usage("`x` is a file").while_doing("open model `x`");
        assert_eq!(failure.chain(), "open model `x`: `x` is a file");
        assert_eq!(failure.exit_code(), 2);
    }
}
