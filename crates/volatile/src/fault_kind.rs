// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Why a page could not be accessed.

use core::fmt;

/// What the operating system said about a page that could not be accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FaultKind {
    /// Nothing is mapped at the address.
    NotMapped,
    /// The page's protection forbids the access.
    Protection,
    /// There is no page behind the mapping: its file was truncated, or the pool of huge pages is empty.
    Beyond,
    /// The machine lost the page's content.
    Poisoned,
    /// A system call was given memory that it could not access (`EFAULT`).
    System,
    /// Something else.
    Other,
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotMapped => "nothing is mapped there",
            Self::Protection => "the page's protection forbids the access",
            Self::Beyond => "there is no page behind the mapping",
            Self::Poisoned => "the page's content is lost",
            Self::System => "a system call could not access the memory",
            Self::Other => "unknown cause",
        })
    }
}
