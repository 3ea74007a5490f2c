// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Which processors a thread runs on.
#![expect(unsafe_code, reason = "calls the C library")]

use std::io;

/// Lets the calling thread run on the processors whose bits are set, processor 0 being the lowest bit of the first word.
///
/// See [sched_setaffinity(2)](https://man7.org/linux/man-pages/man2/sched_setaffinity.2.html).
pub(crate) fn set_affinity(processors: &[libc::c_ulong]) -> io::Result<()> {
    const CALLING_THREAD: libc::pid_t = 0;
    // SAFETY: the kernel reads as many bytes from the pointer as the slice has; its mask is an array of words as well,
    // of any length.
    let status = unsafe {
        libc::sched_setaffinity(
            CALLING_THREAD,
            size_of_val(processors),
            processors.as_ptr().cast(),
        )
    };
    match status {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_cannot_run_nowhere() {
        let error = set_affinity(&[0]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    }
}
