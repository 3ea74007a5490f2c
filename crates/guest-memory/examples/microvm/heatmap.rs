// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A map of which parts of memory are written how often, in characters.

use std::ops::Range;

use guest_memory::GuestMemoryRegion;
use guest_memory::bitmap::GuestDirtyPages;

use crate::console::say;
use crate::layout::{Layout, PAGE_BYTES, is_read_only, size_text};

/// Cells in a row.
const COLUMNS: usize = 64;
/// Rows that the largest region may take.
const MOST_ROWS: usize = 16;
/// From never written to written most.
const SHADES: &[u8; 10] = b" .:-=+*#%@";
/// How many times as many hits the last shade stands for as the first one, as a power of two.
const LAST_SHADE_LOG2: u32 = 8;

/// How often each part of memory was dirty.
#[derive(Debug)]
pub(crate) struct Heatmap {
    cell_bytes: u64,
    stripes: Vec<Stripe>,
    round_count: usize,
    hit_count: u64,
}

/// The cells of one region.
#[derive(Debug)]
struct Stripe {
    range: Range<u64>,
    /// For each cell, the sum over all rounds of its dirty pages.
    hits: Vec<u64>,
}

impl Heatmap {
    /// Makes a map of the writable regions.
    pub(crate) fn of(layout: &Layout) -> Self {
        let regions = layout.regions();
        let writable = regions.filter(|region| !is_read_only(region));
        Heatmap::new(writable.map(|region| {
            let start = region.start_addr().0;
            start..start + region.len()
        }))
    }

    /// Makes a map of ranges of whole pages, in cells of equal size.
    fn new(ranges: impl Iterator<Item = Range<u64>>) -> Self {
        let ranges: Vec<Range<u64>> = ranges.collect();
        let longest = ranges.iter().map(|range| range.end - range.start).max();
        let cell_bytes = longest
            .unwrap_or_default()
            .div_ceil((COLUMNS * MOST_ROWS) as u64)
            .next_power_of_two()
            .max(PAGE_BYTES);
        let stripes = ranges.into_iter().map(|range| {
            let cells = (range.end - range.start).div_ceil(cell_bytes);
            let hits = (0..cells).map(|_| 0).collect();
            Stripe { range, hits }
        });
        Heatmap {
            cell_bytes,
            stripes: stripes.collect(),
            round_count: 0,
            hit_count: 0,
        }
    }

    /// Adds what one round found dirty.
    pub(crate) fn add(&mut self, dirty: &GuestDirtyPages) {
        self.round_count += 1;
        dirty
            .ranges()
            .for_each(|(start, len_bytes)| self.add_range(start.0..start.0 + len_bytes));
    }

    fn add_range(&mut self, dirty: Range<u64>) {
        let cell_bytes = self.cell_bytes;
        for Stripe { range, hits } in &mut self.stripes {
            let mut at = dirty.start.max(range.start);
            let end = dirty.end.min(range.end);
            while at < end {
                let cell = (at - range.start) / cell_bytes;
                let next = (range.start + (cell + 1) * cell_bytes).min(end);
                let pages = (next - at).div_ceil(PAGE_BYTES);
                if let Some(hits) = usize::try_from(cell)
                    .ok()
                    .and_then(|cell| hits.get_mut(cell))
                {
                    *hits += pages;
                    self.hit_count += pages;
                }
                at = next;
            }
        }
    }

    /// Prints the map.
    pub(crate) fn print(&self) {
        self.lines().iter().for_each(|line| say!("{line}"));
    }

    /// Returns the map in lines of less than 80 characters.
    fn lines(&self) -> Vec<String> {
        let scale = Scale::up_to(self.stripes.iter().flat_map(|stripe| &stripe.hits).copied());
        let mut lines = vec![format!(
            "heat map: {} rounds, {} pages dirtied in them, a cell is {}:",
            self.round_count,
            self.hit_count,
            size_text(self.cell_bytes)
        )];
        for Stripe { range, hits } in &self.stripes {
            let starts = (range.start..range.end)
                .step_by(usize::try_from(COLUMNS as u64 * self.cell_bytes).unwrap_or(usize::MAX));
            for (start, row) in starts.zip(hits.chunks(COLUMNS)) {
                let cells: String = row.iter().map(|&hits| scale.shade(hits)).collect();
                lines.push(format!("{start:>#13x} |{cells}|"));
            }
        }
        lines.extend(scale.legend());
        lines
    }
}

/// Which shade stands for how many hits: each for twice as many as the one before it.
#[derive(Debug)]
struct Scale {
    /// Hits that the first shade stands for at most, as a power of two.
    first_log2: u32,
}

impl Scale {
    /// Makes the finest scale that shows the largest of some numbers of hits.
    fn up_to(hits: impl Iterator<Item = u64>) -> Self {
        let most = hits.max().unwrap_or_default();
        let log2 = most.checked_ilog2().unwrap_or_default();
        Scale {
            first_log2: log2.saturating_sub(LAST_SHADE_LOG2),
        }
    }

    fn shade(&self, hits: u64) -> char {
        let index = match hits {
            0 => 0,
            _ => (hits >> self.first_log2).max(1).ilog2() as usize + 1,
        };
        char::from(SHADES[index.min(SHADES.len() - 1)])
    }

    fn legend(&self) -> [String; 3] {
        let least = |index: usize| match index {
            0 | 1 => index as u64,
            _ => 1_u64 << (index - 1) << self.first_log2,
        };
        let entry = |index: usize| format!("'{}' {:<10}", char::from(SHADES[index]), least(index));
        let half = |indices: Range<usize>| {
            let entries: String = indices.map(entry).collect();
            format!("  {}", entries.trim_end())
        };
        [
            "  at least so many dirty pages in a cell, in all rounds together:".to_owned(),
            half(0..5),
            half(5..10),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map_of(ranges: &[Range<u64>]) -> Heatmap {
        Heatmap::new(ranges.iter().cloned())
    }

    #[test]
    fn a_row_starts_with_its_address_and_fits_into_80_columns() {
        let terabyte = 1 << 40;
        let mut map = map_of(&[0..3 << 30, 4 << 30..(4 << 30) + terabyte]);
        map.add_range(0..2 * terabyte);
        let lines = map.lines();
        assert!(
            lines.iter().all(|line| line.chars().count() <= 80),
            "{lines:#?}"
        );
        assert!(lines.len() <= 32, "{lines:#?}");
        assert!(lines[1].starts_with("          0x0 |@"), "{lines:#?}");
        assert!(lines[2].starts_with("  0x100000000 |@"), "{lines:#?}");
    }

    #[test]
    fn cells_count_the_pages_they_hold_in_each_round() {
        let mut map = map_of(&[0..64 << 20, 0xc000_0000..0xc020_0000]);
        assert_eq!(map.cell_bytes, 64 << 10);
        map.add_range(0xf000..0x1_1000);
        map.add_range(0x1_0000..0x2_0000);
        map.add_range(0xc01f_f000..0xc020_0000);
        assert_eq!(map.stripes[0].hits[..3], [1, 17, 0]);
        assert_eq!(map.stripes[1].hits.last(), Some(&1));
        assert_eq!(map.hit_count, 19);
        let lines = map.lines();
        assert!(
            lines[1].ends_with(&format!("|.+{}|", " ".repeat(62))),
            "{lines:#?}"
        );
        assert_eq!(lines[17], format!("   0xc0000000 |{}.|", " ".repeat(31)));
    }

    #[test]
    fn shades_double_and_the_last_one_is_open() {
        let scale = Scale::up_to([0, 100].into_iter());
        let shades: String = [0, 1, 2, 3, 4, 8, 16, 32, 64, 128, 256, u64::MAX]
            .map(|hits| scale.shade(hits))
            .iter()
            .collect();
        assert_eq!(shades, " .::-=+*#%@@");
        let coarse = Scale::up_to([1 << 20].into_iter());
        assert_eq!(
            [1, 1 << 12, 1 << 13, 1 << 20].map(|hits| coarse.shade(hits)),
            ['.', '.', ':', '@']
        );
        let [_, first, second] = coarse.legend();
        assert!(first.contains("':' 8192") && second.ends_with("'@' 1048576"));
    }
}
