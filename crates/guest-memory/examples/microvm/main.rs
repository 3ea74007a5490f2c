// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A small virtual machine monitor on the guest-memory library and KVM.
//!
//! `cargo run --release --example microvm` maps guest memory, registers it with KVM, and runs a built-in
//! real-mode program while a device thread writes to the same memory and a memory module is
//! unplugged and plugged again. Then it shows what was written, as KVM and the library's bitmaps recorded
//! it, and checks that this is what had to happen. `--firmware PATH` boots a firmware image instead.
//!
//! `--backing` says what the memory is made of, `--plan` shows what would be done for it, `--prefault` populates it first.
//! With `--migrate` the guest moves to a second machine with a memory of its own while it works; with `--heatmap` a map
//! shows which parts of memory it writes how often.
//!
//! The exit status is 0 if all checks passed, 1 if not, 2 if there was nothing to run.
//!
//! | file | what it knows |
//! |---|---|
//! | `options` | the command line |
//! | `backing`, `policies` | what memory can be made of, and how the system is to treat it |
//! | `description` | the guest's memory as the library's builder takes it, and the plan |
//! | `layout` | the memory map: the library's regions, the firmware loaded |
//! | `prefault` | memory populated before the guest starts |
//! | `huge_pages` | the host's pools of huge pages |
//! | `vm`, `cpu_state` | KVM: memory slots and their logs, one vCPU and what it takes along |
//! | `kick` | how a vCPU is stopped |
//! | `builtin`, `home` | a run of the built-in guest, and a machine for it |
//! | `guest_program`, `work`, `host_guest` | that guest as machine code, and played by a thread without KVM |
//! | `device_thread`, `hotplug` | what happens to memory beside it |
//! | `migration`, `precopy` | the move to a second machine |
//! | `dirty`, `heatmap` | which pages were written |
//! | `firmware` | a run of a firmware image |
//! | `console`, `report`, `checks`, `failure` | what comes out |

mod backing;
mod builtin;
mod checks;
mod console;
mod cpu_state;
mod description;
mod device_thread;
mod dirty;
mod failure;
mod firmware;
mod guest_program;
mod heatmap;
mod home;
mod host_guest;
mod hotplug;
mod huge_pages;
mod kick;
mod layout;
mod migration;
mod options;
mod policies;
mod precopy;
mod prefault;
mod report;
mod vm;
mod work;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use kvm_bindings::KVM_API_VERSION;
use kvm_ioctls::Kvm;

use crate::console::say;
use crate::description::Which;
use crate::failure::{Failure, STATUS_RUN};
use crate::huge_pages::PoolLoan;
use crate::layout::size_text;
use crate::options::Options;

fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) if error.use_stderr() => {
            return refuse(&Failure::setup(options::one_line(&error)));
        }
        // The text of --help; nobody is left to tell if it cannot be printed.
        Err(text) => {
            let _ = text.print();
            return ExitCode::SUCCESS;
        }
    };
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(STATUS_RUN),
        Err(failure) => refuse(&failure),
    }
}

/// Runs what the options ask for; returns whether all checks passed.
fn run(options: &Options) -> Result<bool, Failure> {
    options.check_path()?;
    if options.plan {
        let image_len = match &options.firmware {
            Some(path) => firmware::read_image(path)?.len(),
            None => guest_program::image(None).len(),
        };
        return description::show(options, image_len).map(|()| true);
    }
    let kvm = if options.no_kvm {
        None
    } else {
        open_kvm(options)?
    };
    say!(
        "microvm: {} of {} memory, run by {}",
        size_text(options.memory),
        options.backing,
        if kvm.is_some() {
            "KVM"
        } else {
            "a thread of the host that plays the guest"
        }
    );
    // Declared before all memory, so given back after it.
    let plan = description::of_ram(options, Which::First)?.plan();
    let _loans = PoolLoan::for_machines(if options.migrate { 2 } else { 1 }, &plan);
    match (&options.firmware, &kvm) {
        (Some(path), Some(kvm)) => firmware::run(options, path, kvm),
        (Some(_), None) => Err(Failure::setup("a firmware image needs KVM")),
        (None, kvm) => builtin::run(options, kvm.as_ref()),
    }
}

/// Opens KVM; without it only the built-in guest can be run.
fn open_kvm(options: &Options) -> Result<Option<Kvm>, Failure> {
    let why = match Kvm::new() {
        Ok(kvm) if kvm.get_api_version().cast_unsigned() == KVM_API_VERSION => {
            return Ok(Some(kvm));
        }
        Ok(_) => "/dev/kvm does not speak KVM's interface".to_owned(),
        Err(error) => format!("/dev/kvm cannot be opened: {error}"),
    };
    if options.firmware.is_some() {
        return Err(Failure::setup(format!(
            "a firmware image needs KVM, but {why}"
        )));
    }
    say!("microvm: {why}; a thread of the host plays the guest");
    Ok(None)
}

/// Says in one line on standard error why there is no result.
fn refuse(failure: &Failure) -> ExitCode {
    let _ = writeln!(std::io::stderr().lock(), "microvm: {}", failure.message);
    ExitCode::from(failure.status)
}
