// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Advice about memory.
#![expect(unsafe_code, reason = "calls the C library")]

use std::io;
use std::ptr::NonNull;

/// Gives advice, one of `MADV_*`, about `[start, start + len_bytes)`.
///
/// See [madvise(2)](https://man7.org/linux/man-pages/man2/madvise.2.html). The kernel rounds the end up to a page.
///
/// # Safety
///
/// What the advice does to the pages of the range must be the caller's to decide: some replaces their contents.
pub(crate) unsafe fn madvise(start: NonNull<u8>, len_bytes: usize, advice: i32) -> io::Result<()> {
    // SAFETY: the caller may do to the range what the advice does; the kernel checks the rest.
    match unsafe { libc::madvise(start.as_ptr().cast(), len_bytes, advice) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys;

    #[test]
    fn memory_that_is_not_needed_is_zero_afterwards() {
        let len_bytes = sys::page_size().unwrap();
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: no fixed address.
        let start = unsafe { sys::mmap(len_bytes, prot, flags, None, 0) }.unwrap();
        // SAFETY: the page was just mapped writable.
        unsafe { start.as_ptr().write_volatile(7) };
        // SAFETY: the page is ours.
        unsafe { madvise(start, len_bytes, libc::MADV_DONTNEED) }.unwrap();
        // SAFETY: the page is mapped readable.
        assert_eq!(unsafe { start.as_ptr().read_volatile() }, 0);
        // SAFETY: the page is ours; the kernel refuses the advice before it looks at the page.
        let error = unsafe { madvise(start, len_bytes, -1) }.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        // SAFETY: the page is ours and not used below.
        unsafe { sys::munmap(start, len_bytes) }.unwrap();
    }
}
