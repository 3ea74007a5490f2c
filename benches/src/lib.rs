// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the benchmarks share: the same work for two libraries, the limits by hand, the clockwork and the report.
//!
//! * [`ours`] and [`theirs`] are the files of `workloads/` compiled twice, once with this library's types and once with
//!   those of `vm-memory`, so that both sides do exactly the same.
//! * [`vectored`], [`harvest`], [`device`], [`behind_iommu`] and [`flat_memory`] are what only this library has.
//! * [`limit`] and [`bare_mappings`] are the same work without a library.
//! * [`measure`] times, [`cases`] says what is compared, [`report`] prints it, [`command_line`] puts them together.
//! * [`record`] is what is kept, with the [`machine`] it was measured on; [`page`] makes the tables and plots of
//!   `docs/performance.md` from it, the plots as [`svg`].
//!
//! The binary `compare` runs all cases against `vm-memory` in one program. `limits` is a small program of its own, with
//! this library and the limits alone. `harvests` and `lookups` show how a cost grows; `flat` is flat memory beside an ordinary one,
//! `backings` what each backing costs, `prefault` how fast memory is populated. `report` makes the pages. `paths` is smaller still, for
//! [`instructions`] to count. The criterion benches take a few of the same workloads.

pub mod bare_mappings;
pub mod behind_iommu;
pub mod buffer;
pub mod cases;
pub mod command_line;
pub mod copies;
pub mod descriptor;
pub mod device;
pub mod fault_guard;
pub mod flat_memory;
pub mod harvest;
pub mod instructions;
pub mod life;
pub mod limit;
pub mod machine;
pub mod measure;
pub mod ours;
pub mod page;
pub mod pair;
pub mod places;
pub mod plot;
pub mod record;
pub mod report;
pub mod statistics;
pub mod svg;
pub mod theirs;
pub mod vectored;

/// Ends the program when an access fails that cannot.
///
/// # Panics
///
/// Always.
#[cold]
#[inline(never)]
pub fn failed() -> ! {
    panic!("an operation of a benchmark failed");
}
