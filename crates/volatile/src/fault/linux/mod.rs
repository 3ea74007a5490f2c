// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The signal handlers.
#![expect(
    unsafe_code,
    reason = "installs signal handlers and calls those that were there"
)]

use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering, compiler_fence};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::InstallError;
use crate::fault_kind::FaultKind;

mod context;
mod table;

/// Code of a SIGBUS about a page that is lost but was not accessed. Not in the libc crate for every C library.
const BUS_MCEERR_AO: libc::c_int = 5;

/// Both signals that a page which cannot be accessed raises.
const SIGNALS: [libc::c_int; 2] = [libc::SIGBUS, libc::SIGSEGV];

/// What was installed for each of [`SIGNALS`] before.
static PREVIOUS: [OnceLock<libc::sigaction>; 2] = [OnceLock::new(), OnceLock::new()];

/// Whether the handler of each of [`SIGNALS`] is in place.
static IS_INSTALLED: [AtomicBool; 2] = [AtomicBool::new(false), AtomicBool::new(false)];

/// Whether the handler that was installed before has gone since, so that the default action is due.
static IS_GONE: [AtomicBool; 2] = [AtomicBool::new(false), AtomicBool::new(false)];

thread_local! {
    // Constant and without a destructor, so that the handler's access is a plain one.
    static LAST_KIND: Cell<FaultKind> = const { Cell::new(FaultKind::Other) };
}

pub(super) fn last_kind() -> FaultKind {
    // The handler wrote it behind the back of an access that says it only reads.
    compiler_fence(Ordering::SeqCst);
    LAST_KIND.get()
}

pub(super) fn is_installed() -> bool {
    // Relaxed: nothing is published with it, the handlers are the kernel's.
    IS_INSTALLED.iter().all(|done| done.load(Ordering::Relaxed))
}

pub(super) fn install() -> Result<(), InstallError> {
    static INSTALLING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    if table::is_empty() {
        return Err(InstallError::NoTable);
    }
    for ((signal, previous), done) in SIGNALS.into_iter().zip(&PREVIOUS).zip(&IS_INSTALLED) {
        if !done.load(Ordering::Relaxed) {
            install_for(signal, previous).map_err(InstallError::Handler)?;
            done.store(true, Ordering::Relaxed);
        }
    }
    Ok(())
}

fn install_for(signal: libc::c_int, previous: &OnceLock<libc::sigaction>) -> io::Result<()> {
    // Known before the handler can run.
    let before = previous.get_or_init(|| current_action(signal));
    let action = own_action(before);
    // SAFETY: the action is initialised, and its handler has the signature that its flags say; see `handle` for what
    // it does in a signal's context.
    match unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes the action that takes the place of the one before.
fn own_action(before: &libc::sigaction) -> libc::sigaction {
    // SAFETY: a plain C struct; all zeroes is a valid value of each of its fields.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handle as *const () as libc::sighandler_t;
    // On the alternate stack, where there is one: a stack overflow comes this way too. The rest is as the handler
    // before wants it, which may be called from this one. A signal that is ignored interrupts nothing.
    let inherited = match before.sa_sigaction {
        libc::SIG_IGN => libc::SA_RESTART,
        _ => before.sa_flags & (libc::SA_NODEFER | libc::SA_RESTART),
    };
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | inherited;
    action.sa_mask = before.sa_mask;
    action
}

/// Returns what is installed for a signal.
fn current_action(signal: libc::c_int) -> libc::sigaction {
    // SAFETY: a plain C struct; all zeroes is a valid value of each of its fields, and means the default action.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // It cannot fail: the signal exists. If it did, the default action would stand.
    // SAFETY: asks only; there is room for the answer.
    unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) };
    action
}

/// Goes on behind an access of the table that faulted; hands everything else to the handler before.
///
/// It only reads statics, the table and its arguments, and writes the context and a constant thread-local, all of which
/// is allowed in a signal's context.
///
/// # Safety
///
/// Only the kernel calls it, with a valid `info` and `context`.
unsafe extern "C" fn handle(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // SAFETY: the kernel's, by this function's contract.
    let code = unsafe { (*info).si_code };
    if let Some(kind) = kind(signal, code) {
        let context = context.cast::<libc::ucontext_t>();
        // SAFETY: the kernel's, by this function's contract; nobody else uses it meanwhile.
        let context = unsafe { &mut *context };
        if let Some(recovery) = table::recovery(context::program_counter(context)) {
            context::set_program_counter(context, recovery);
            LAST_KIND.set(kind);
            return;
        }
    }
    // SAFETY: the same contract.
    unsafe { hand_on(signal, code, info, context) };
}

/// Returns why the running instruction faulted; `None` if the signal is not about that.
fn kind(signal: libc::c_int, code: libc::c_int) -> Option<FaultKind> {
    // Not in the libc crate for every C library.
    const SEGV_MAPERR: libc::c_int = 1;
    const SEGV_ACCERR: libc::c_int = 2;
    const BUS_ADRERR: libc::c_int = 2;
    const BUS_MCEERR_AR: libc::c_int = 4;
    match (signal, code) {
        // Sent by a process, or a page that is lost but was not accessed.
        (_, ..=0) | (libc::SIGBUS, BUS_MCEERR_AO) => None,
        (libc::SIGBUS, BUS_ADRERR) => Some(FaultKind::Beyond),
        (libc::SIGBUS, BUS_MCEERR_AR) => Some(FaultKind::Poisoned),
        (libc::SIGSEGV, SEGV_MAPERR) => Some(FaultKind::NotMapped),
        (libc::SIGSEGV, SEGV_ACCERR) => Some(FaultKind::Protection),
        _ => Some(FaultKind::Other),
    }
}

/// Does what would have been done without this crate's handler.
///
/// # Safety
///
/// As [`handle`].
unsafe fn hand_on(
    signal: libc::c_int,
    code: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    let index = usize::from(signal != libc::SIGBUS);
    let before = PREVIOUS.get(index).and_then(OnceLock::get);
    let is_gone = IS_GONE.get(index);
    let (handler, flags) = match before {
        Some(action) if !is_gone.is_some_and(|gone| gone.load(Ordering::Relaxed)) => {
            (action.sa_sigaction, action.sa_flags)
        }
        _ => (libc::SIG_DFL, 0),
    };
    let note_gone = || {
        if let Some(is_gone) = is_gone {
            is_gone.store(true, Ordering::Relaxed);
        }
    };
    if flags & libc::SA_RESETHAND != 0 {
        note_gone();
    }
    let is_sent = code <= 0 || (signal == libc::SIGBUS && code == BUS_MCEERR_AO);
    match handler {
        libc::SIG_IGN if is_sent => {}
        // The kernel does not let a process ignore a fault either.
        libc::SIG_DFL | libc::SIG_IGN => {
            // SAFETY: no handler is installed, only the default action.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
            if is_sent {
                // Comes again when this handler returns. A fault does so by itself.
                // SAFETY: no preconditions.
                unsafe { libc::raise(signal) };
            }
        }
        handler if flags & libc::SA_SIGINFO != 0 => {
            type Handler =
                unsafe extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
            // SAFETY: installed as a handler of three arguments, so it is one.
            let handler = unsafe { std::mem::transmute::<usize, Handler>(handler) };
            // SAFETY: the arguments are the kernel's.
            unsafe { handler(signal, info, context) };
        }
        handler => {
            type Handler = unsafe extern "C" fn(libc::c_int);
            // SAFETY: installed as a handler of one argument, so it is one.
            let handler = unsafe { std::mem::transmute::<usize, Handler>(handler) };
            // SAFETY: the argument is the kernel's.
            unsafe { handler(signal) };
        }
    }
    // One that wants the default action from now on, as the standard library's does, has taken this handler away.
    let is_handler = !matches!(handler, libc::SIG_DFL | libc::SIG_IGN);
    if is_handler && current_action(signal).sa_sigaction == libc::SIG_DFL {
        note_gone();
        if let Some(before) = before {
            let action = own_action(before);
            // SAFETY: as when it was installed; allowed in a signal's context.
            unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
        }
    }
}
