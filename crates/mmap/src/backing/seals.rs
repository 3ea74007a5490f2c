// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What nobody can do to a memory file any more.

use std::fmt;
use std::fs::File;
use std::os::fd::AsFd;

use memfd::FileSeal;

use crate::error::MmapRegionError;
use crate::sys;

/// Seals of a memory file. Once there, a seal cannot be taken off, by nobody.
///
/// All three by default. A peer with the descriptor could otherwise shrink the file, which makes the next access a SIGBUS,
/// or seal it against writes that are still to come. It prints as a list, such as `shrink, grow`, or `none`.
///
/// # Examples
///
/// ```
/// use guest_memory_mmap::{Backing, MmapRegion, MmapRegionBuilder, Seals};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // A file that a peer may extend, to plug memory later, and not shrink.
/// let seals = Seals { grow: false, ..Seals::ALL };
/// let ram = Backing::Memfd { name: "ram".to_owned(), seals, huge_pages: None };
/// let region: MmapRegion = MmapRegionBuilder::new(0x1000).with_backing(ram).build()?;
/// let file = region.file_offset().ok_or("no file")?.file();
/// assert!(file.set_len(0x2000).is_ok());
/// assert!(file.set_len(0x1000).is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct Seals {
    /// The file cannot become shorter (`F_SEAL_SHRINK`).
    pub shrink: bool,
    /// The file cannot become longer (`F_SEAL_GROW`).
    pub grow: bool,
    /// No further seals can be added (`F_SEAL_SEAL`).
    pub seal: bool,
}

impl Seals {
    /// All three.
    pub const ALL: Self = Self {
        shrink: true,
        grow: true,
        seal: true,
    };
    /// None.
    pub const NONE: Self = Self {
        shrink: false,
        grow: false,
        seal: false,
    };

    /// Returns them as the `memfd` crate has them.
    pub(crate) fn to_list(self) -> Vec<FileSeal> {
        let list = [
            (self.shrink, FileSeal::SealShrink),
            (self.grow, FileSeal::SealGrow),
            // The last one, since nothing can be added after it.
            (self.seal, FileSeal::SealSeal),
        ];
        list.into_iter()
            .filter_map(|(is_set, seal)| is_set.then_some(seal))
            .collect()
    }

    /// Returns those that a file has; none where it cannot have any.
    pub(crate) fn of(file: &File) -> Self {
        let bits = sys::seals(file.as_fd()).unwrap_or(0);
        Self {
            shrink: bits & libc::F_SEAL_SHRINK != 0,
            grow: bits & libc::F_SEAL_GROW != 0,
            seal: bits & libc::F_SEAL_SEAL != 0,
        }
    }

    /// Checks that a file has all of these.
    pub(crate) fn check(self, file: &File) -> Result<(), MmapRegionError> {
        let found = Self::of(file);
        let missing = Self {
            shrink: self.shrink && !found.shrink,
            grow: self.grow && !found.grow,
            seal: self.seal && !found.seal,
        };
        if missing == Self::NONE {
            Ok(())
        } else {
            Err(MmapRegionError::SealsMissing { missing })
        }
    }
}

impl Default for Seals {
    /// Returns all three.
    fn default() -> Self {
        Self::ALL
    }
}

impl fmt::Display for Seals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (self.shrink, "shrink"),
            (self.grow, "grow"),
            (self.seal, "seal"),
        ];
        let mut is_first = true;
        for (_, name) in names.into_iter().filter(|&(is_set, _)| is_set) {
            if !is_first {
                f.write_str(", ")?;
            }
            f.write_str(name)?;
            is_first = false;
        }
        if is_first {
            f.write_str("none")
        } else {
            Ok(())
        }
    }
}
