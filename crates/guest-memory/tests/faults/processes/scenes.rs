// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the child processes do.
#![expect(
    unsafe_code,
    reason = "uses bad pointers, sends signals, forks, as the scenes want"
)]

use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use guest_memory::{Bytes, GuestMemoryError, fault};
use libc::{SIGBUS, SIGSEGV};

use super::handlers;
use crate::mapping::{Mapping, Memory, START, memory_of, page, shared_memory};

/// Plays a scene.
pub(super) fn play(name: &str) {
    no_core();
    match name {
        "bad pointer" => installed(|| touch(8)),
        "pointer past the end of a file" => installed(touch_past_the_end),
        "engine without handlers, short file" => touch_by_engine(&short_memory()),
        "engine without handlers, no access" => {
            without_access(touch_by_engine);
        }
        "engine with the signal blocked" => installed(|| {
            block(SIGBUS);
            touch_by_engine(&short_memory());
        }),
        "handler of SIGSEGV before" => {
            handlers::install(SIGSEGV, handlers::tell_and_exit, 0);
            installed(|| touch(8));
        }
        "handler of SIGBUS before" => {
            handlers::install(SIGBUS, handlers::tell_and_exit, 0);
            installed(touch_past_the_end);
        }
        "handler of one argument before" => {
            handlers::install_short(SIGSEGV);
            installed(|| touch(8));
        }
        "repairing handler before" => {
            handlers::install(SIGSEGV, handlers::repair, 0);
            let mapping = Mapping::anonymous(page());
            mapping.protect(0..page(), libc::PROT_NONE);
            handlers::BROKEN.store(mapping.base().cast(), Ordering::Relaxed);
            installed(|| touch(mapping.base().addr()));
        }
        "handler for one fault before" => {
            handlers::install(SIGSEGV, handlers::only_once, libc::SA_RESETHAND);
            installed(|| touch(8));
        }
        "stack overflow" => installed(|| println!("survived: {}", overflow(1))),
        "stack overflow in a thread" => installed(|| {
            let thread = thread::spawn(|| overflow(1));
            println!("survived: {}", thread.join().unwrap());
        }),
        "sent SIGSEGV" => {
            handlers::be_default(SIGSEGV);
            installed(|| send(SIGSEGV));
        }
        "sent SIGBUS" => {
            handlers::be_default(SIGBUS);
            installed(|| send(SIGBUS));
        }
        "sent SIGSEGV to the runtime twice" => installed(|| {
            // The standard library's handler takes no notice of the first but wants the default action from then on.
            send_and_sleep(SIGSEGV);
            println!("the first passed");
            assert!(short_memory().read_obj::<u64>(START).is_err());
            assert!(without_access(|memory| memory
                .read_obj::<u64>(START)
                .is_err()));
            println!("the engine's fault is still an error");
            io::stdout().flush().unwrap();
            send(SIGSEGV);
        }),
        "sent SIGSEGV, ignored" => {
            handlers::ignore(SIGSEGV);
            installed(|| send(SIGSEGV));
        }
        "sent SIGBUS, ignored" => {
            handlers::ignore(SIGBUS);
            installed(|| send(SIGBUS));
        }
        "news of a lost page" => {
            handlers::be_default(SIGBUS);
            installed(send_news_of_a_lost_page);
        }
        "news of a lost page, ignored" => {
            handlers::ignore(SIGBUS);
            installed(send_news_of_a_lost_page);
        }
        "sent to a handler before" => {
            handlers::install(SIGSEGV, handlers::tell_and_exit, 0);
            installed(|| send(SIGSEGV));
        }
        "bad pointer, SIGSEGV ignored" => {
            handlers::ignore(SIGSEGV);
            installed(|| touch(8));
        }
        "signals sent during copies" => {
            handlers::ignore(SIGSEGV);
            installed(copy_under_fire);
        }
        "ignored signal during a read" => {
            handlers::ignore(SIGSEGV);
            installed(read_under_fire);
        }
        "fork" => installed(fault_in_a_fork),
        unknown => panic!("there is no scene {unknown:?}"),
    }
}

/// Installs the fault guard, sees that it works, and goes on.
fn installed(scene: impl FnOnce()) {
    assert!(!fault::is_installed());
    fault::install().unwrap();
    fault::install().unwrap();
    assert!(fault::is_installed());
    let told = short_memory().read_obj::<u64>(START);
    assert!(
        matches!(told, Err(GuestMemoryError::Fault { .. })),
        "{told:?}"
    );
    println!("the engine's fault is an error");
    io::stdout().flush().unwrap();
    scene();
}

/// Makes memory whose file was truncated.
fn short_memory() -> Memory {
    let (file, memory) = shared_memory(page());
    file.set_len(0).unwrap();
    memory
}

/// Calls a function with memory whose page has no access.
fn without_access<T>(call: impl FnOnce(&Memory) -> T) -> T {
    let mapping = Mapping::anonymous(page());
    mapping.protect(0..page(), libc::PROT_NONE);
    call(&memory_of(mapping.region(page())))
}

/// Crashes are meant here: no traces of them.
fn no_core() {
    let limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the limit is initialised.
    unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const limit) };
}

/// Reads a word by a pointer of the scene's own.
fn touch(address: usize) {
    let pointer = std::ptr::without_provenance::<u64>(std::hint::black_box(address));
    // SAFETY: it is not: that the process ends here, or the page becomes accessible, is what the scene is about.
    let word = unsafe { pointer.read_volatile() };
    println!("survived: {word}");
}

fn touch_past_the_end() {
    let memory = short_memory();
    let slice = guest_memory::GuestMemory::get_slice(&memory, START, 8).unwrap();
    touch(slice.ptr_guard().as_ptr().addr());
}

fn touch_by_engine(memory: &Memory) {
    println!("survived: {:?}", memory.read_obj::<u64>(START));
}

fn block(signal: i32) {
    // SAFETY: a plain C struct of integers.
    let mut signals: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: a set; the signal exists.
    unsafe { libc::sigaddset(&raw mut signals, signal) };
    // SAFETY: the set is initialised; the old one is not asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const signals, std::ptr::null_mut()) };
}

/// Sends a signal to this process and waits for it.
fn send(signal: i32) {
    send_and_sleep(signal);
    println!("survived");
}

fn send_and_sleep(signal: i32) {
    // SAFETY: no preconditions.
    let process = unsafe { libc::getpid() };
    // SAFETY: no preconditions.
    unsafe { libc::kill(process, signal) };
    thread::sleep(Duration::from_millis(200));
}

/// Sends what the kernel sends, to those who want to know early, about a page that nobody has accessed.
fn send_news_of_a_lost_page() {
    const BUS_MCEERR_AO: i32 = 5;
    // SAFETY: a plain C struct; all zeroes is a valid value of each of its fields.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    info.si_signo = SIGBUS;
    info.si_code = BUS_MCEERR_AO;
    // SAFETY: no preconditions.
    let process = unsafe { libc::getpid() };
    // SAFETY: no preconditions.
    let thread = unsafe { libc::gettid() };
    // To the thread itself, as only that may claim to be the kernel.
    // SAFETY: reads the signal's description, which is initialised.
    let sent = unsafe {
        libc::syscall(
            libc::SYS_rt_tgsigqueueinfo,
            process,
            thread,
            SIGBUS,
            &raw const info,
        )
    };
    assert_eq!(sent, 0);
    thread::sleep(Duration::from_millis(200));
    println!("survived");
}

#[expect(unconditional_recursion, reason = "that is the scene")]
#[inline(never)]
fn overflow(depth: u64) -> u64 {
    let room = std::hint::black_box([depth; 64]);
    overflow(depth.wrapping_add(room[3])).wrapping_add(room[5])
}

/// Copies and fills while another thread sends signals that must not look like faults.
fn copy_under_fire() {
    let mapping = Mapping::anonymous(16 * page());
    let memory = memory_of(mapping.region(page()));
    let is_over = AtomicBool::new(false);
    // SAFETY: no preconditions.
    let target = unsafe { libc::pthread_self() };
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..20_000 {
                // SAFETY: the thread lives as long as the scope.
                unsafe { libc::pthread_kill(target, SIGSEGV) };
            }
            is_over.store(true, Ordering::Relaxed);
        });
        let mut back = vec![0; 16 * page()];
        while !is_over.load(Ordering::Relaxed) {
            memory.write_slice(&vec![7; 16 * page()], START).unwrap();
            memory.read_slice(&mut back, START).unwrap();
            memory.store(1u64, START, Ordering::SeqCst).unwrap();
            assert_eq!(memory.load::<u64>(START, Ordering::SeqCst).unwrap(), 1);
        }
        assert!(back.iter().all(|byte| *byte == 7));
    });
    println!("survived");
}

/// Waits in a system call while another thread sends a signal that is ignored.
fn read_under_fire() {
    let (mut reader, mut writer) = io::pipe().unwrap();
    // SAFETY: no preconditions.
    let target = unsafe { libc::pthread_self() };
    thread::scope(|scope| {
        scope.spawn(move || {
            for _ in 0..20 {
                thread::sleep(Duration::from_millis(5));
                // SAFETY: the thread lives as long as the scope.
                unsafe { libc::pthread_kill(target, SIGSEGV) };
            }
            writer.write_all(&[1]).unwrap();
        });
        let mut byte = [0];
        println!("survived: {:?}", reader.read(&mut byte).unwrap());
    });
}

fn fault_in_a_fork() {
    let memory = short_memory();
    // SAFETY: the child only reads guest memory and ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let is_told = matches!(
            memory.read_obj::<u64>(START),
            Err(GuestMemoryError::Fault { completed: 0, .. })
        );
        // SAFETY: no preconditions.
        unsafe { libc::_exit(i32::from(!is_told)) };
    }
    let mut status = -1;
    // SAFETY: there is room for the status.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!((waited, status), (child, 0));
    println!("survived");
}
