// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How many instructions the hot paths take, which is the same in every run where times are not.
//!
//! The program `paths` is run by valgrind, which counts. `record/instructions.csv` keeps what was counted; a path that
//! grew by more than a tenth is refused.

mod count;
mod table;

use std::fs;
use std::path::Path;

pub use count::{Profile, why_not};
pub use table::Table;

/// What the paths are, as `paths` calls them.
const CASES: [&str; 15] = [
    "flat_read_obj_u32",
    "flat_write_obj_u32",
    "read_obj_u32",
    "write_obj_u32",
    "read_obj_descriptor",
    "load_u64",
    "read_slice_64",
    "write_slice_64",
    "tracked_write_obj_u64",
    "mark_dirty_page",
    "window_load_u16",
    "window_store_u16",
    "reader_read_obj_u32",
    "find_region_among_512",
    "iommu_hit_read_obj_u64",
];

/// Builds `paths` by each of the profiles and counts all its cases.
///
/// # Errors
///
/// What building, running or reading valgrind's output says.
pub fn count(profiles: &[Profile]) -> Result<Table, String> {
    let mut table = Table::default();
    for &profile in profiles {
        let program = count::build(profile)?;
        let empty = count::instructions_each(&program, "empty")?;
        for case in CASES {
            let instructions = count::instructions_each(&program, case)?;
            table.set(case, profile, instructions.saturating_sub(empty));
        }
    }
    Ok(table)
}

/// Returns the table that the repository keeps.
///
/// # Errors
///
/// What reading it says.
pub fn recorded() -> Result<Table, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("record/instructions.csv");
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    Table::parse(&text)
}
