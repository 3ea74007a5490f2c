// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Signal handlers that a program may have had before.
#![expect(unsafe_code, reason = "installs signal handlers")]

use std::io;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use libc::{c_int, c_void, siginfo_t};

type Handler = extern "C" fn(c_int, *mut siginfo_t, *mut c_void);

/// Installs a handler of three arguments.
pub(super) fn install(signal: c_int, handler: Handler, flags: c_int) {
    set(
        signal,
        handler as *const () as usize,
        flags | libc::SA_SIGINFO,
    );
}

/// Installs a handler of one argument.
pub(super) fn install_short(signal: c_int) {
    set(signal, say_and_exit as *const () as usize, 0);
}

pub(super) fn ignore(signal: c_int) {
    set(signal, libc::SIG_IGN, 0);
}

/// Takes the standard library's handler away.
pub(super) fn be_default(signal: c_int) {
    set(signal, libc::SIG_DFL, 0);
}

fn set(signal: c_int, handler: usize, flags: c_int) {
    // SAFETY: a plain C struct; all zeroes is a valid value of each of its fields.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler;
    action.sa_flags = flags;
    // SAFETY: initialised; the handlers of this file have the signatures that their flags say.
    let done = unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
    assert_eq!(done, 0, "{}", io::Error::last_os_error());
}

/// Writes to the standard output as a signal's context allows.
fn say(text: &[u8]) {
    // SAFETY: the bytes are borrowed.
    unsafe { libc::write(1, text.as_ptr().cast(), text.len()) };
}

fn exit(code: c_int) -> ! {
    // SAFETY: allowed in a signal's context.
    unsafe { libc::_exit(code) }
}

extern "C" fn say_and_exit(_: c_int) {
    say(b"foreign signal\n");
    exit(7);
}

/// Says the signal, and that the address is 8 if it is, and ends the process with code 7.
pub(super) extern "C" fn tell_and_exit(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    assert!(!context.is_null());
    say(match signal {
        libc::SIGBUS => b"foreign SIGBUS",
        _ => b"foreign SIGSEGV",
    });
    // SAFETY: the kernel's, handed on; nobody writes it.
    let info = unsafe { &*info };
    // SAFETY: both signals of a fault have an address, and another's bytes there are only compared.
    if unsafe { info.si_addr() }.addr() == 8 {
        say(b" at 0x8");
    }
    say(b"\n");
    exit(7);
}

/// The page that [`repair`] makes accessible.
pub(super) static BROKEN: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());

/// Gives access to [`BROKEN`] and lets the access try again.
pub(super) extern "C" fn repair(_: c_int, _: *mut siginfo_t, _: *mut c_void) {
    let page = BROKEN.load(Ordering::Relaxed);
    // SAFETY: a page that the scene mapped.
    unsafe { libc::mprotect(page, 1, libc::PROT_READ | libc::PROT_WRITE) };
}

static CALLS: AtomicUsize = AtomicUsize::new(0);

/// Does nothing the first time; ends the process with code 9 the second time.
pub(super) extern "C" fn only_once(_: c_int, _: *mut siginfo_t, _: *mut c_void) {
    if CALLS.fetch_add(1, Ordering::Relaxed) > 0 {
        say(b"called again\n");
        exit(9);
    }
}
