// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Why a page could not be accessed.

use core::fmt;

/// Why a page of guest memory could not be accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FaultKind {
    /// Nothing is mapped at the address.
    NotMapped,
    /// The page is mapped without the access that was tried.
    Protection,
    /// The page is mapped but there is nothing behind it: its file is shorter, or the pool of huge pages is empty.
    Beyond,
    /// The page is lost: its memory is broken.
    Poisoned,
    /// A system call could not access the memory and did not say why (`EFAULT`).
    System,
    /// The operating system gave another reason.
    Other,
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotMapped => "nothing is mapped there",
            Self::Protection => "the page's protection forbids it",
            Self::Beyond => "there is no page behind the mapping",
            Self::Poisoned => "the page's memory is broken",
            Self::System => "a system call could not access it",
            Self::Other => "the page cannot be accessed",
        })
    }
}
