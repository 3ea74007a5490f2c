// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! System calls that a signal may interrupt: those that wait for a file system.

use std::io;

/// Makes a call, and makes it again as long as a signal interrupts it.
pub(crate) fn again<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            answer => return answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_no_answer_and_another_error_is() {
        let mut errnos = [libc::EINTR, libc::EINTR, libc::EIO].into_iter();
        let error = again::<()>(|| {
            let errno = errnos.next().expect("no further call");
            Err(io::Error::from_raw_os_error(errno))
        });
        assert_eq!(error.unwrap_err().raw_os_error(), Some(libc::EIO));
        assert_eq!(again(|| Ok(7)).unwrap(), 7);
    }
}
