// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Describes the guest's memory for the library: what lies where, made of what, treated how.
//!
//! ```text
//! 0                       RAM, as much as fits below 3 GiB
//! 3 GiB                   a memory module that can be unplugged (built-in guest only)
//!                         a hole for devices
//! 4 GiB - image size      the firmware image, read-only once it is loaded
//! 4 GiB                   the rest of the RAM
//! ```

use std::path::Path;

use guest_memory::mmap::{GuestMemoryPlan, RegionProblem};
use guest_memory::{GuestAddress, GuestMemoryBuilder, RegionKind, RegionSpec};

use crate::console::say;
use crate::failure::Failure;
use crate::layout::{FOUR_GIB, LOW_RAM_END, MODULE_BYTES, MODULE_START, size_text};
use crate::options::Options;

/// Which machine's memory it is, where a guest moves from one to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// The one that the guest starts on.
    First,
    /// The one that it is migrated to.
    Second,
}

/// Describes all memory of a machine.
pub(crate) fn of_machine(
    options: &Options,
    image_len: usize,
    which: Which,
) -> Result<GuestMemoryBuilder, Failure> {
    // Fits, since no image is larger than the room for it.
    let start = GuestAddress(FOUR_GIB - image_len as u64);
    let firmware = RegionSpec::new("firmware", start, image_len).with_kind(RegionKind::Rom);
    Ok(of_ram(options, which)?.with_region(firmware))
}

/// Describes what of a machine's memory is made as the command line says: RAM and the module.
pub(crate) fn of_ram(options: &Options, which: Which) -> Result<GuestMemoryBuilder, Failure> {
    let low_bytes = options.memory.min(LOW_RAM_END);
    let high_bytes = options.memory - low_bytes;
    let module_bytes = MODULE_BYTES as u64;
    // In a file the regions lie one after the other, and the memory of a second machine after them.
    let mut offset = match which {
        Which::First => 0,
        Which::Second => options.memory + module_bytes,
    };
    let path = options.path.as_deref().unwrap_or(Path::new(""));
    let module_backing = options.backing.or_smaller(path, module_bytes);
    let is_module_there = options.firmware.is_none();
    let mut builder = GuestMemoryBuilder::new();
    for (label, start, len_bytes, backing, is_there) in [
        ("low", 0, low_bytes, options.backing, true),
        (
            "module",
            MODULE_START,
            module_bytes,
            module_backing,
            is_module_there,
        ),
        (
            "high",
            FOUR_GIB,
            high_bytes,
            options.backing,
            high_bytes > 0,
        ),
    ] {
        if is_there {
            let size = usize::try_from(len_bytes).map_err(|_| {
                Failure::setup(format!(
                    "{} do not fit in this host's address space",
                    size_text(len_bytes)
                ))
            })?;
            let region = RegionSpec::new(label, GuestAddress(start), size)
                .with_backing(backing.of_region(label, path, offset))
                .with_policies(options.policies.policies(options.threads()));
            builder = builder.with_region(region);
        }
        offset += len_bytes;
    }
    Ok(builder)
}

/// Prints what will be done for a machine's memory, and what stands in its way.
pub(crate) fn print_plan(plan: &GuestMemoryPlan, which: Which) {
    match which {
        Which::First => say!("plan:"),
        Which::Second => say!("plan of the second machine:"),
    }
    for line in plan.to_string().lines() {
        say!("  {line}");
    }
}

/// Prints the plans of all machines and does nothing.
///
/// # Errors
/// If they have problems, with all of them.
pub(crate) fn show(options: &Options, image_len: usize) -> Result<(), Failure> {
    let machines = if options.migrate {
        &[Which::First, Which::Second][..]
    } else {
        &[Which::First]
    };
    let mut problems = Vec::new();
    for &which in machines {
        let plan = of_machine(options, image_len, which)?.plan();
        print_plan(&plan, which);
        problems.extend(plan.problems().iter().map(RegionProblem::to_string));
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(Failure::setup(problems.join("; ")))
}
