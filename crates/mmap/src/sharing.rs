// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Who sees what is written to memory.

use std::fmt;

/// Who sees what is written to a mapping.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
pub enum Sharing {
    /// This process alone. Of a file it is a copy on write; after a fork parent and child have a copy each.
    #[default]
    Private,
    /// Everybody who maps the same memory: other processes with the file, a forked child.
    Shared,
}

impl Sharing {
    /// Returns the flag for `mmap`: `MAP_PRIVATE` or `MAP_SHARED`.
    #[must_use]
    pub const fn flag(self) -> i32 {
        match self {
            Self::Private => libc::MAP_PRIVATE,
            Self::Shared => libc::MAP_SHARED,
        }
    }

    /// Returns what flags of `mmap` ask for.
    pub(crate) const fn from_flags(flags: i32) -> Self {
        // Both bits together are MAP_SHARED_VALIDATE.
        if flags & libc::MAP_SHARED != 0 {
            Self::Shared
        } else {
            Self::Private
        }
    }
}

impl fmt::Display for Sharing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Private => "private",
            Self::Shared => "shared",
        })
    }
}
