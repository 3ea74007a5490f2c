// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! POSIX shared memory objects: files in memory that other processes find by a name.

use std::ffi::CString;
use std::io;

use guest_memory_core::FileOffset;

use super::file::writable_len;
use crate::error::MmapRegionError;
use crate::sys;

/// The longest name that the system takes, with its slash, in bytes.
const LONGEST_NAME: usize = 255;

/// What is done about a shared memory object.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "kebab-case")
)]
#[non_exhaustive]
pub enum ShmObject {
    /// It is there, and long enough.
    Open,
    /// It is made and keeps its name, until somebody unlinks it, also if the region cannot be built then; there must be none of
    /// the name.
    Create,
    /// It is made and loses its name at once, so that only who is given the descriptor can map it.
    CreateUnlinked,
}

/// Opens or makes an object of at least `size` bytes.
pub(crate) fn open(
    name: &str,
    object: ShmObject,
    size: usize,
    prot: i32,
) -> Result<FileOffset, MmapRegionError> {
    let failed = |operation| {
        move |source| MmapRegionError::SharedMemory {
            operation,
            name: name.to_owned(),
            source,
        }
    };
    let invalid = || io::Error::from_raw_os_error(libc::EINVAL);
    let c_name = CString::new(name)
        .ok()
        .filter(|_| is_valid(name))
        .ok_or_else(|| failed("use the name of")(invalid()))?;
    if object == ShmObject::Open {
        let access = if prot & libc::PROT_WRITE == 0 {
            libc::O_RDONLY
        } else {
            libc::O_RDWR
        };
        let file = sys::shm_open(&c_name, access).map_err(failed("open"))?;
        return Ok(FileOffset::new(file, 0));
    }
    let len_bytes = writable_len(size)?;
    let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL;
    let file = sys::shm_open(&c_name, flags).map_err(failed("create"))?;
    let sized = file.set_len(len_bytes).map_err(failed("resize"));
    if sized.is_err() || object == ShmObject::CreateUnlinked {
        let unlinked = sys::shm_unlink(&c_name).map_err(failed("unlink"));
        sized.and(unlinked)?;
    }
    Ok(FileOffset::new(file, 0))
}

/// Says whether an object can have the name.
pub(crate) fn is_valid(name: &str) -> bool {
    let rest = name.strip_prefix('/').unwrap_or("");
    name.len() <= LONGEST_NAME && !rest.is_empty() && !rest.contains(['/', '\0'])
}
