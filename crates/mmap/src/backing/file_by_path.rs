// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A file that is opened here, by its path.

use std::fs::{File, OpenOptions};
use std::path::Path;

use guest_memory_core::FileOffset;

use super::{Prepared, file};
use crate::Sharing;
use crate::error::MmapRegionError;

/// Opens a file, makes and extends it if asked for, and prepares `size` bytes of it.
pub(crate) fn prepare(
    path: &Path,
    offset: u64,
    sharing: Sharing,
    grow: bool,
    size: usize,
    prot: i32,
) -> Result<Prepared, MmapRegionError> {
    let needs_write = grow || (sharing == Sharing::Shared && prot & libc::PROT_WRITE != 0);
    let mut options = OpenOptions::new();
    // Never truncated: what is in it is what a guest is to find.
    let options = options
        .read(true)
        .write(needs_write)
        .create(grow)
        .truncate(false);
    let file = open(path, options)?;
    let file = FileOffset::new(file, offset);
    if grow {
        file::grow(&file, size)?;
    }
    let flags = file::flags_for(&file, sharing)?;
    file::prepare(file, size, Some(flags), prot)
}

/// Opens a file; an error names it.
pub(crate) fn open(path: &Path, options: &OpenOptions) -> Result<File, MmapRegionError> {
    options.open(path).map_err(|source| MmapRegionError::File {
        operation: "open",
        path: path.to_owned(),
        source,
    })
}
