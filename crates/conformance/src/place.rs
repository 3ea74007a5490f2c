// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Where scripts look: offsets and lengths crowded around the places where faults live.

use proptest::prelude::*;

/// Places worth trying in one layout: borders of ranges and pages, holes, the ends of the number
/// range.
#[derive(Clone, Debug)]
pub struct Map {
    ranges: Vec<(u64, usize)>,
    borders: Vec<u64>,
}

impl Map {
    /// Lists the places of `ranges` of (start, length in bytes); there must be one at least.
    pub fn new(ranges: &[(u64, usize)], page_size: usize) -> Self {
        let mut borders = Vec::new();
        for &(start, len) in ranges {
            borders.push(start.wrapping_add(len as u64));
            borders.extend([start, start.wrapping_add(page_size as u64)]);
        }
        borders.extend([0, u64::MAX, u64::MAX / 2, u64::from(u32::MAX)]);
        Self {
            ranges: ranges.to_vec(),
            borders,
        }
    }
}

/// A place before the layout is known.
#[derive(Clone, Copy, Debug)]
pub enum Spot {
    /// At some byte inside one of the ranges; both numbers are taken modulo what there is.
    Inside {
        /// Number of the range.
        range: usize,
        /// Offset in the range.
        byte: usize,
    },
    /// A few bytes before or after a border.
    Border {
        /// Number of the border, modulo what there is.
        border: usize,
        /// Bytes past the border.
        distance: i8,
    },
}

impl Spot {
    /// Finds the address in a layout.
    ///
    /// # Panics
    ///
    /// When the map has no range.
    pub fn find(self, map: &Map) -> u64 {
        match self {
            Spot::Inside { range, byte } => {
                let (start, len) = map.ranges[range % map.ranges.len()];
                start.wrapping_add((byte % len.max(1)) as u64)
            }
            Spot::Border { border, distance } => {
                map.borders[border % map.borders.len()].wrapping_add_signed(distance.into())
            }
        }
    }

    /// Finds the offset in a layout whose only range starts at zero; too far stays far.
    pub(crate) fn find_offset(self, map: &Map) -> usize {
        usize::try_from(self.find(map)).unwrap_or(usize::MAX)
    }
}

/// Makes places, most of them at a border.
pub(crate) fn spot() -> impl Strategy<Value = Spot> {
    let distance = prop_oneof![-1i8..=1, -18i8..=18];
    prop_oneof![
        2 => (0usize..8, 0usize..1 << 20).prop_map(|(range, byte)| Spot::Inside { range, byte }),
        3 => (0usize..64, distance).prop_map(|(border, distance)| Spot::Border { border, distance }),
    ]
}

/// Makes lengths of buffers in bytes: mostly short, some empty, some over several pages.
pub(crate) fn buffer_len(page_size: usize) -> impl Strategy<Value = usize> {
    prop_oneof![
        1 => Just(0usize),
        6 => 0usize..=40,
        1 => 0usize..=page_size * 3,
    ]
}

/// Makes counts in bytes that need no buffer: as [`buffer_len`], and absurd ones.
pub(crate) fn count(page_size: usize) -> impl Strategy<Value = usize> {
    prop_oneof![
        8 => buffer_len(page_size),
        1 => (0usize..40).prop_map(|less| usize::MAX - less),
        1 => (0usize..40).prop_map(|less| usize::MAX / 2 + 20 - less),
    ]
}

/// Makes lengths of ranges in bytes, from one byte to four pages and a bit.
pub(crate) fn range_len(page_size: usize) -> impl Strategy<Value = usize> {
    prop_oneof![
        1 => 1usize..=24,
        2 => (1usize..=4).prop_map(move |pages| pages * page_size),
        2 => 1usize..=page_size * 4 + 24,
    ]
}
