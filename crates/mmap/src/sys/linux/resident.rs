// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Which pages are in memory.
#![expect(unsafe_code, reason = "calls the C library")]

use std::io;
use std::ptr::NonNull;

/// Asks for as many pages from `start` on as `answers` has bytes; the lowest bit of each says whether the page is in memory.
///
/// See [mincore(2)](https://man7.org/linux/man-pages/man2/mincore.2.html). `page_size` is the system's, in bytes.
pub(crate) fn mincore(start: NonNull<u8>, page_size: usize, answers: &mut [u8]) -> io::Result<()> {
    let Some(len_bytes) = page_size.checked_mul(answers.len()) else {
        return Err(io::Error::from_raw_os_error(libc::ENOMEM));
    };
    // SAFETY: the kernel looks at the pages without a touch and writes one byte per page, of which the slice has as
    // many as the length has pages.
    match unsafe { libc::mincore(start.as_ptr().cast(), len_bytes, answers.as_mut_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys;

    #[test]
    fn a_page_is_in_memory_once_it_is_touched() {
        let page_size = sys::page_size().unwrap();
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: no fixed address.
        let start = unsafe { sys::mmap(2 * page_size, prot, flags, None, 0) }.unwrap();
        // SAFETY: the first page was just mapped writable.
        unsafe { start.as_ptr().write_volatile(1) };
        let mut answers = [0; 2];
        mincore(start, page_size, &mut answers).unwrap();
        assert_eq!(answers.map(|answer| answer & 1), [1, 0]);
        assert!(mincore(start, usize::MAX, &mut answers).is_err());
        // SAFETY: both pages are ours and not used below.
        unsafe { sys::munmap(start, 2 * page_size) }.unwrap();
    }
}
