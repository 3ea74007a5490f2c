// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Stops a thread that may sit in `KVM_RUN`: when its time is up, or when another thread wants it.

#![expect(
    unsafe_code,
    reason = "a signal is the only way to get a thread out of KVM_RUN"
)]

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The signal that interrupts `KVM_RUN`.
const KICK: libc::c_int = libc::SIGUSR1;
/// How often the kick is repeated: one that arrives just before `KVM_RUN` is lost.
const KICK_AGAIN: Duration = Duration::from_millis(1);

/// A way to stop one run of a vCPU from another thread.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    is_asked: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

/// # Invariants
///
/// While there is a `worker`, that thread is in [`with_time_limit`], which takes it out before it returns.
#[derive(Debug, Default)]
struct State {
    worker: Option<libc::pthread_t>,
    is_asked: bool,
    is_over: bool,
}

impl Stop {
    /// Asks the run to stop.
    pub(crate) fn ask(&self) {
        self.is_asked.store(true, Ordering::Relaxed);
        let mut state = self.state();
        state.is_asked = true;
        // The watching thread would do it as well, when it gets a processor.
        state.kick();
        self.changed.notify_all();
    }

    /// Returns whether the run is over.
    pub(crate) fn is_over(&self) -> bool {
        self.state().is_over
    }

    /// Waits until the run is asked to stop, over, or `limit` has passed; then kicks until it is over.
    fn watch(&self, limit: Duration) {
        let mut state = self.state();
        let mut wait = limit;
        let mut is_kicking = false;
        loop {
            let is_quiet = |state: &mut State| !state.is_over && (is_kicking || !state.is_asked);
            let waited = self.changed.wait_timeout_while(state, wait, is_quiet);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
            if state.is_over {
                return;
            }
            self.is_asked.store(true, Ordering::Relaxed);
            state.kick();
            is_kicking = true;
            wait = KICK_AGAIN;
        }
    }

    fn finish(&self) {
        let mut state = self.state();
        state.worker = None;
        state.is_over = true;
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn kick(&self) {
        if let Some(worker) = self.worker {
            // SAFETY: the thread is alive by the invariant, and stays so: it needs the lock that guards this state to take
            // itself out.
            unsafe { libc::pthread_kill(worker, KICK) };
        }
    }
}

/// Runs `work` on this thread, with a flag that becomes true when `stop` is asked for or `limit` has passed.
///
/// From then on the thread is kicked out of blocking system calls until `work` returns. The watching
/// thread is joined before this function returns.
pub(crate) fn with_time_limit<R>(
    limit: Duration,
    stop: &Stop,
    work: impl FnOnce(&AtomicBool) -> R,
) -> io::Result<R> {
    // Also at a panic, or the watching thread would go on for ever.
    let end = FinishOnDrop(stop);
    install_handler()?;
    // SAFETY: `pthread_self` has no preconditions.
    stop.state().worker = Some(unsafe { libc::pthread_self() });
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("time limit".to_owned())
            .spawn_scoped(scope, || stop.watch(limit))?;
        let _end = end;
        Ok(work(&stop.is_asked))
    })
}

struct FinishOnDrop<'a>(&'a Stop);

impl Drop for FinishOnDrop<'_> {
    fn drop(&mut self) {
        self.0.finish();
    }
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
        let polls = with_time_limit(Duration::from_millis(20), &Stop::default(), |is_expired| {
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
        let stop = Stop::default();
        let answer = with_time_limit(Duration::from_secs(600), &stop, |is_expired| {
            !is_expired.load(Ordering::Relaxed)
        });
        assert!(answer.unwrap() && stop.is_over());
        assert!(start.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn another_thread_raises_the_flag() {
        let stop = Stop::default();
        std::thread::scope(|scope| {
            scope.spawn(|| stop.ask());
            let work = |is_asked: &AtomicBool| {
                while !is_asked.load(Ordering::Relaxed) {
                    std::thread::yield_now();
                }
            };
            with_time_limit(Duration::from_secs(600), &stop, work).unwrap();
        });
    }
}
