//! The errors of poolbench itself, each with its exit code.

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// The command line asks for something that does not exist or contradicts itself, or names a
    /// target or a file that cannot be used. Reported before anything is measured; exit code 2.
    #[error("{0}")]
    Usage(String),
    /// The program could not do its own work (its server did not start, a file could not be
    /// written after the run); exit code 1.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done, as "starting the server".
        doing: String,
        /// The error of the system.
        source: std::io::Error,
    },
    /// The reader of standard output has gone, as after `| head`; exit code 141, that of a process which
    /// SIGPIPE ended. The program prints nothing about it.
    #[error("the reader of standard output has gone")]
    ReaderGone,
    /// The embedded server broke the protocol of the control connection; exit code 1.
    #[error("the embedded server: {0}")]
    Server(String),
    /// The user's server failed after the run had begun; exit code 1.
    #[error("{0}")]
    Target(String),
}

impl BenchError {
    /// A [`BenchError::Usage`] with this text.
    pub fn usage(text: impl Into<String>) -> Self {
        Self::Usage(text.into())
    }

    /// Wraps an I/O error with what was being done.
    pub fn io(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }

    /// The exit code of the program for this error.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Io { .. } | Self::Server(_) | Self::Target(_) => 1,
            // 128 and the number of SIGPIPE.
            Self::ReaderGone => 141,
        }
    }
}
