// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Which parts of a file hold data and which are holes.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use crate::interrupted::again;
use crate::sys;
use crate::whole_pages;

/// Lists the data in `len_bytes` bytes of a file from `start` on, as offsets from `start`.
///
/// All is data in a file that cannot tell, such as one on hugetlbfs or a device.
pub(crate) fn data_ranges(
    file: BorrowedFd<'_>,
    start: u64,
    len_bytes: usize,
) -> io::Result<Vec<Range<usize>>> {
    let mut ranges = Vec::new();
    if file_len(file)?.is_none() {
        whole_pages::push(&mut ranges, 0..len_bytes);
        return Ok(ranges);
    }
    // The position of the descriptor at hand is shared with everybody who got it.
    let own = File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    let place = |offset: usize| {
        u64::try_from(offset)
            .ok()
            .and_then(|offset| start.checked_add(offset))
            .and_then(|place| libc::off64_t::try_from(place).ok())
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EOVERFLOW))
    };
    let offset = |place: libc::off64_t| {
        let offset = u64::try_from(place).unwrap_or(0).saturating_sub(start);
        usize::min(usize::try_from(offset).unwrap_or(len_bytes), len_bytes)
    };
    let mut at = 0;
    while at < len_bytes {
        let data = match again(|| sys::seek(own.as_fd(), place(at)?, libc::SEEK_DATA)) {
            Ok(data) => data,
            // From here on there is but a hole.
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => break,
            // The file system does not know the question.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                whole_pages::push(&mut ranges, at..len_bytes);
                break;
            }
            Err(error) => return Err(error),
        };
        let hole = again(|| sys::seek(own.as_fd(), data, libc::SEEK_HOLE))?;
        let (data, hole) = (offset(data), offset(hole));
        whole_pages::push(&mut ranges, data..hole);
        // A file that does not move on would keep us here for ever.
        at = usize::max(hole, at.saturating_add(1));
    }
    Ok(ranges)
}

/// Returns the length of a file of a file system, which may have holes and which a memory file is as well; nothing for others.
pub(crate) fn file_len(file: BorrowedFd<'_>) -> io::Result<Option<u64>> {
    let file = File::from(file.try_clone_to_owned()?);
    let metadata = again(|| file.metadata())?;
    Ok(metadata.is_file().then_some(metadata.len()))
}
