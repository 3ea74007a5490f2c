// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Why the monitor stops early, as one line and an exit status.

use std::error::Error;

/// Exit status when a run did not end as it should have.
pub(crate) const STATUS_RUN: u8 = 1;
/// Exit status when there was nothing to run: wrong arguments, a missing image, too little memory.
pub(crate) const STATUS_SETUP: u8 = 2;

/// A reason to stop.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The exit status.
    pub(crate) status: u8,
    /// What happened, one line.
    pub(crate) message: String,
}

impl Failure {
    /// Makes a failure from before the guest ran.
    pub(crate) fn setup(message: impl Into<String>) -> Self {
        Failure {
            status: STATUS_SETUP,
            message: message.into(),
        }
    }

    /// Makes a failure of a running guest.
    pub(crate) fn run(message: impl Into<String>) -> Self {
        Failure {
            status: STATUS_RUN,
            message: message.into(),
        }
    }
}

/// Returns an error's message followed by those of its causes.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !message.ends_with(&text) {
            message = format!("{message}: {text}");
        }
        cause = error.source();
    }
    message
}
