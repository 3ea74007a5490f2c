// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Mapping and unmapping, and the size of a page.
#![expect(unsafe_code, reason = "calls the C library")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};

/// Maps `len_bytes` bytes at an address of the kernel's choice, from `file` at `offset` or from nothing.
///
/// See [mmap(2)](https://man7.org/linux/man-pages/man2/mmap.2.html).
///
/// # Safety
///
/// `flags` must hold neither `MAP_FIXED` nor `MAP_FIXED_NOREPLACE`: they would take the address passed
/// here, which is zero, literally.
pub(crate) unsafe fn mmap(
    len_bytes: usize,
    prot: i32,
    flags: i32,
    file: Option<BorrowedFd<'_>>,
    offset: libc::off64_t,
) -> io::Result<NonNull<u8>> {
    let fd = file.map_or(-1, |file| file.as_raw_fd());
    // SAFETY: the caller rules out fixed addresses, so the kernel picks a range that nothing else uses and
    // no existing object changes; every other argument is checked by the kernel.
    let start = unsafe { libc::mmap64(ptr::null_mut(), len_bytes, prot, flags, fd, offset) };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(start.cast()).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))
}

/// Maps `len_bytes` bytes at an address, if nothing is mapped there.
///
/// See [mmap(2)](https://man7.org/linux/man-pages/man2/mmap.2.html), `MAP_FIXED_NOREPLACE`. `EEXIST` if something is there.
///
/// # Safety
///
/// `flags` must not hold `MAP_FIXED`.
pub(crate) unsafe fn mmap_at(
    start: NonNull<u8>,
    len_bytes: usize,
    prot: i32,
    flags: i32,
    file: Option<BorrowedFd<'_>>,
    offset: libc::off64_t,
) -> io::Result<NonNull<u8>> {
    let fd = file.map_or(-1, |file| file.as_raw_fd());
    let flags = flags | libc::MAP_FIXED_NOREPLACE;
    // SAFETY: this flag lets the kernel use the address only if nothing is mapped there, and the caller rules out the one
    // that replaces, so no existing object changes; every other argument is checked by the kernel.
    let mapped = unsafe { libc::mmap64(start.as_ptr().cast(), len_bytes, prot, flags, fd, offset) };
    if mapped == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    if mapped != start.as_ptr().cast() {
        // Linux before 4.17 takes the address for a hint.
        // SAFETY: mapped by the call above and known to nobody else.
        unsafe { libc::munmap(mapped, len_bytes) };
        return Err(io::Error::from_raw_os_error(libc::EEXIST));
    }
    Ok(start)
}

/// Maps `len_bytes` bytes without a file at an address in place of what is mapped there.
///
/// See [mmap(2)](https://man7.org/linux/man-pages/man2/mmap.2.html), `MAP_FIXED`.
///
/// # Safety
///
/// All pages of the range, the last one as a whole, must belong to the caller, and nothing may use what is mapped there any more.
pub(crate) unsafe fn mmap_over(
    start: NonNull<u8>,
    len_bytes: usize,
    prot: i32,
    flags: i32,
) -> io::Result<()> {
    let flags = flags | libc::MAP_FIXED;
    // SAFETY: the caller owns all pages, which the kernel rounds the end up to, and nobody uses what is replaced.
    let mapped = unsafe { libc::mmap64(start.as_ptr().cast(), len_bytes, prot, flags, -1, 0) };
    match mapped {
        libc::MAP_FAILED => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Moves the mapping of `[from, from + len_bytes)` to another address, in place of what is mapped there.
///
/// See [mremap(2)](https://man7.org/linux/man-pages/man2/mremap.2.html), `MREMAP_FIXED`. After an error the mapping is where it
/// was, and what was mapped at the other address may be gone.
///
/// # Safety
///
/// All pages of both ranges, the last ones as a whole, must belong to the caller, the ranges must not overlap, and nothing may
/// use what is mapped in either.
pub(crate) unsafe fn mremap_over(
    from: NonNull<u8>,
    len_bytes: usize,
    to: NonNull<u8>,
) -> io::Result<()> {
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    // SAFETY: the caller owns all pages of both ranges, which are apart, and nobody uses them.
    let moved = unsafe {
        libc::mremap(
            from.as_ptr().cast(),
            len_bytes,
            len_bytes,
            flags,
            to.as_ptr(),
        )
    };
    match moved {
        libc::MAP_FAILED => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Changes the protection of `[start, start + len_bytes)`.
///
/// See [mprotect(2)](https://man7.org/linux/man-pages/man2/mprotect.2.html).
///
/// # Safety
///
/// All pages of the range, the last one as a whole, must belong to the caller, and nothing may rely on a protection that is taken
/// away.
pub(crate) unsafe fn mprotect(start: NonNull<u8>, len_bytes: usize, prot: i32) -> io::Result<()> {
    // SAFETY: the caller owns all pages, which the kernel rounds the end up to, and vouches for their users.
    match unsafe { libc::mprotect(start.as_ptr().cast(), len_bytes, prot) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Unmaps `[start, start + len_bytes)`.
///
/// See [munmap(2)](https://man7.org/linux/man-pages/man2/mmap.2.html).
///
/// # Safety
///
/// All pages of the range, the last one as a whole, must belong to the caller, and nothing may use their bytes any more.
pub(crate) unsafe fn munmap(start: NonNull<u8>, len_bytes: usize) -> io::Result<()> {
    // SAFETY: the caller owns all pages, which the kernel rounds the end up to, and nobody uses them any more.
    match unsafe { libc::munmap(start.as_ptr().cast(), len_bytes) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Returns the size of a page in bytes.
///
/// See [sysconf(3)](https://man7.org/linux/man-pages/man3/sysconf.3.html).
pub(crate) fn page_size() -> io::Result<usize> {
    // SAFETY: takes an integer, returns an integer.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_size_is_a_power_of_two() {
        assert!(page_size().unwrap().is_power_of_two());
    }

    #[test]
    fn a_mapping_of_nothing_keeps_the_errno() {
        // SAFETY: no fixed address.
        let error = unsafe { mmap(0, libc::PROT_READ, libc::MAP_PRIVATE, None, 0) }.unwrap_err();
        assert!(matches!(
            error.raw_os_error(),
            Some(libc::EINVAL | libc::EBADF)
        ));
    }

    #[test]
    fn memory_comes_zeroed_and_goes_away() {
        let len_bytes = page_size().unwrap();
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: no fixed address.
        let start = unsafe { mmap(len_bytes, libc::PROT_READ, flags, None, 0) }.unwrap();
        // SAFETY: the page was just mapped readable.
        assert_eq!(unsafe { start.as_ptr().read_volatile() }, 0);
        // SAFETY: the page is ours and not used below.
        unsafe { munmap(start, len_bytes) }.unwrap();
    }
}
