// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A time limit for a thread that may sit in `KVM_RUN`.

#![expect(
    unsafe_code,
    reason = "a signal is the only way to get a thread out of KVM_RUN"
)]

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// The signal that interrupts `KVM_RUN`.
const KICK: libc::c_int = libc::SIGUSR1;
/// How often the kick is repeated: one that arrives just before `KVM_RUN` is lost.
const KICK_AGAIN: Duration = Duration::from_millis(10);

/// Runs `work` on this thread, with a flag that becomes true when `limit` has passed.
///
/// From then on the thread is kicked out of blocking system calls until `work` returns. The watching
/// thread is joined before this function returns.
pub(crate) fn with_time_limit<R>(
    limit: Duration,
    work: impl FnOnce(&AtomicBool) -> R,
) -> io::Result<R> {
    install_handler()?;
    let is_expired = AtomicBool::new(false);
    let (done, is_done) = channel::<()>();
    // SAFETY: `pthread_self` has no preconditions.
    let worker = unsafe { libc::pthread_self() };
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("time limit".to_owned())
            .spawn_scoped(scope, || {
                let is_done = is_done;
                let mut wait = limit;
                while is_done.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                    is_expired.store(true, Ordering::Relaxed);
                    // SAFETY: `worker` is alive: it is the thread that waits for this one at the scope's end.
                    unsafe { libc::pthread_kill(worker, KICK) };
                    wait = KICK_AGAIN;
                }
            })?;
        // Dropped when `work` has returned or panicked; that ends the watching thread.
        let _done = done;
        Ok(work(&is_expired))
    })
}

/// Makes the kick interrupt `KVM_RUN` and nothing else.
fn install_handler() -> io::Result<()> {
    extern "C" fn ignore(_signal: libc::c_int) {}

    // SAFETY: `sigaction` is a plain C struct; all zeroes is a valid value of each of its fields.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = ignore as *const () as libc::sighandler_t;
    // Other system calls go on after the signal; KVM_RUN returns EINTR all the same.
    action.sa_flags = libc::SA_RESTART;
    // SAFETY:
    // - `action` is initialised, and its handler has the signature that flags without SA_SIGINFO ask for.
    // - The handler does nothing, so it is async-signal-safe.
    // - The old action may be null: nobody asks for it.
    let result = unsafe { libc::sigaction(KICK, &raw const action, std::ptr::null_mut()) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_is_raised_when_the_time_is_up() {
        let polls = with_time_limit(Duration::from_millis(20), |is_expired| {
            let mut polls = 0_u64;
            while !is_expired.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(1));
                polls += 1;
            }
            polls
        });
        assert!(polls.unwrap() > 0);
    }

    #[test]
    fn work_that_ends_in_time_does_not_wait_for_the_limit() {
        let start = std::time::Instant::now();
        let answer = with_time_limit(Duration::from_secs(600), |is_expired| {
            !is_expired.load(Ordering::Relaxed)
        });
        assert!(answer.unwrap());
        assert!(start.elapsed() < Duration::from_secs(60));
    }
}
