// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A memory map as a table for people to read.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;

use guest_memory_bitmap::Bitmap;
use guest_memory_core::{GuestMemory, GuestMemoryRegion};

use crate::bytes_text::bytes_text;
use crate::{GuestMemoryMmap, GuestRegionMmap, Outcome, Sharing};

/// What a cell says where there is nothing to say.
const NOTHING: &str = "-";
/// Titles of the columns that every table has.
const TITLES: [&str; 11] = [
    "range",
    "size",
    "kind",
    "label",
    "backing",
    "page",
    "node",
    "protection",
    "policies",
    "dirty",
    "resident",
];
/// Granule in which dirty bytes are counted.
const DIRTY_PAGE: usize = 4096;

/// Prints a memory map as a table: a line for each region and each hole between regions.
///
/// What it says is asked when it is printed. Dirty bytes are counted in pages of 4 KiB, without a harvest; `-` stands for a
/// region that is not tracked. Resident is what is [in memory](crate::MmapRegion::resident_bytes). A policy in brackets was
/// refused. The nodes are those that hold pages of the region now.
///
/// Printing takes a look at each page of 4 KiB of a region that is tracked, and asks the kernel about each page in memory.
///
/// # Examples
///
/// ```
/// use guest_memory_bitmap::AtomicBitmap;
/// use guest_memory_core::{Bytes, GuestAddress, GuestMemory};
/// use guest_memory_mmap::{GuestMemoryMmap, MemoryTable};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let ranges = [(GuestAddress(0), 1 << 20), (GuestAddress(1 << 30), 1 << 20)];
/// let memory = GuestMemoryMmap::<AtomicBitmap>::from_ranges(&ranges)?;
/// memory.write_obj(7u8, GuestAddress(0x1000))?;
/// let table = MemoryTable::new(&memory)
///     .with_column("slot", |region| (region.as_ptr().addr() % 7).to_string());
/// println!("{table}");
/// assert!(table.to_string().contains("(hole)"));
/// # Ok(())
/// # }
/// ```
pub struct MemoryTable<'a, B = ()> {
    memory: &'a GuestMemoryMmap<B>,
    columns: Vec<(String, Cell<'a, B>)>,
}

/// What makes a cell of a column of the caller's.
type Cell<'a, B> = Box<dyn Fn(&GuestRegionMmap<B>) -> String + 'a>;

impl<'a, B: Bitmap> MemoryTable<'a, B> {
    /// Makes the table of a memory, with the columns that every table has.
    #[must_use]
    pub fn new(memory: &'a GuestMemoryMmap<B>) -> Self {
        Self {
            memory,
            columns: Vec::new(),
        }
    }

    /// Adds a column at the right. `cell` is called for each region when the table is printed; a hole has `-` there.
    #[must_use]
    pub fn with_column(
        mut self,
        title: impl Into<String>,
        cell: impl Fn(&GuestRegionMmap<B>) -> String + 'a,
    ) -> Self {
        self.columns.push((title.into(), Box::new(cell)));
        self
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let nodes = Nodes::read();
        let own = self.columns.iter().map(|(title, _)| title.clone());
        let titles = TITLES.iter().map(|title| (*title).to_owned());
        let mut rows = vec![titles.chain(own).collect::<Vec<_>>()];
        let mut end = 0u128;
        for region in self.memory.iter() {
            let start = u128::from(region.start_addr().0);
            if start > end {
                rows.push(hole(end, start, self.columns.len()));
            }
            let mut row = cells(region, &nodes);
            row.extend(self.columns.iter().map(|(_, cell)| cell(region)));
            rows.push(row);
            end = start.saturating_add(region.size() as u128);
        }
        rows
    }
}

fn range(start: u128, end: u128) -> String {
    format!("[{start:#014x}, {end:#014x})")
}

fn hole(start: u128, end: u128, own_columns: usize) -> Vec<String> {
    let size = bytes_text(end.saturating_sub(start));
    let mut row = vec![range(start, end), size, "(hole)".to_owned()];
    let columns = TITLES.len().saturating_add(own_columns);
    row.resize(columns, NOTHING.to_owned());
    row
}

fn cells<B: Bitmap>(region: &GuestRegionMmap<B>, nodes: &Nodes) -> Vec<String> {
    let start = u128::from(region.start_addr().0);
    let size = region.size();
    let resident = region.resident_bytes(0, size);
    let backing = match region.sharing() {
        Sharing::Shared => region.backing().to_string(),
        Sharing::Private => format!("{}, private", region.backing()),
    };
    vec![
        range(start, start.saturating_add(size as u128)),
        bytes_text(size as u128),
        region.kind().to_string(),
        region.label().unwrap_or(NOTHING).to_owned(),
        backing,
        bytes_text(region.page_size() as u128),
        nodes.of(region.as_ptr().addr()),
        region.protection(0, size).to_string(),
        policies(region),
        dirty(region),
        resident.map_or_else(|_| NOTHING.to_owned(), |bytes| bytes_text(bytes as u128)),
    ]
}

fn policies<B: Bitmap>(region: &GuestRegionMmap<B>) -> String {
    let entries = region.policies().iter().map(|entry| {
        let text = format!("{} {}", entry.kind(), entry.value());
        match entry.outcome() {
            Outcome::Refused(_) => format!("({text})"),
            _ => text,
        }
    });
    let entries: Vec<String> = entries.collect();
    if entries.is_empty() {
        NOTHING.to_owned()
    } else {
        entries.join(", ")
    }
}

fn dirty<B: Bitmap>(region: &GuestRegionMmap<B>) -> String {
    let bitmap = GuestMemoryRegion::bitmap(region);
    if bitmap.tracked_bytes().is_none() {
        return NOTHING.to_owned();
    }
    let offsets = (0..region.size()).step_by(DIRTY_PAGE);
    let pages = offsets.filter(|&offset| bitmap.dirty_at(offset)).count();
    bytes_text((pages as u128).saturating_mul(DIRTY_PAGE as u128))
}

/// Which nodes hold pages, by the first address of each of this process's mappings.
struct Nodes(BTreeMap<usize, String>);

impl Nodes {
    /// Asks the kernel; knows nothing where it does not say.
    fn read() -> Self {
        let text = fs::read_to_string("/proc/self/numa_maps").unwrap_or_default();
        let mappings = text.lines().filter_map(|line| {
            let (start, rest) = line.split_once(' ')?;
            let start = usize::from_str_radix(start, 16).ok()?;
            let nodes: Vec<&str> = rest
                .split_whitespace()
                .filter_map(|word| word.strip_prefix('N')?.split_once('='))
                .map(|(node, _)| node)
                .filter(|node| node.bytes().all(|byte| byte.is_ascii_digit()))
                .collect();
            Some((start, nodes.join(",")))
        });
        Self(mappings.collect())
    }

    fn of(&self, address: usize) -> String {
        let mapping = self.0.range(..=address).next_back();
        match mapping {
            Some((_, nodes)) if !nodes.is_empty() => nodes.clone(),
            _ => NOTHING.to_owned(),
        }
    }
}

impl<B: Bitmap> fmt::Display for MemoryTable<'_, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.rows();
        let columns = rows.first().map_or(0, Vec::len);
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for (index, row) in rows.iter().enumerate() {
            let mut line = String::new();
            for (cell, &width) in row.iter().zip(&widths) {
                if !line.is_empty() {
                    line.push_str("  ");
                }
                line.push_str(&format!("{cell:<width$}"));
            }
            if index > 0 {
                writeln!(f)?;
            }
            f.write_str(line.trim_end())?;
        }
        Ok(())
    }
}

impl<B: fmt::Debug> fmt::Debug for MemoryTable<'_, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let titles: Vec<&String> = self.columns.iter().map(|(title, _)| title).collect();
        f.debug_struct("MemoryTable")
            .field("memory", &self.memory)
            .field("columns", &titles)
            .finish()
    }
}
