// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The suite for a copy engine: how bytes of memory with other writers are moved.
//!
//! What it holds an implementation of [`Bytes`] to, beside all that [`bytes`](crate::bytes) asks:
//!
//! * [`check`]: a copy of every length, from and to every alignment on both sides, moves exactly its bytes: no other byte of the
//!   memory or of the buffer changes, and the pages of the bytes written are dirty, and no other;
//! * [`check_within`]: a copy from one place of the memory to another arrives as if all was read first, however the two overlap,
//!   and marks its target alone;
//! * [`check_untorn`]: an aligned word of 1, 2, 4 or 8 bytes that another thread writes is seen old or new, never as a mixture,
//!   whatever the alignment of the buffer on our side, and so is each aligned word of a long copy, an object and an atomic of
//!   such a size.
//!
//! The memory has to start zeroed and clean, its first byte aligned to eight bytes in the host.

use std::fmt::Debug;

use guest_memory_core::Bytes;

use crate::config::{Config, expect_bytes, expect_eq, guarded};
use crate::model::Span;

mod untorn;

pub use untorn::check_untorn;

/// Bytes before and behind what is copied.
const MARGIN: usize = 16;

/// Lengths in bytes that are copied at few alignments: around the widths of vectors and the blocks of engines.
const LONG: [usize; 16] = [
    95, 96, 97, 127, 128, 129, 191, 255, 256, 257, 511, 513, 1023, 1025, 4095, 4097,
];

/// Length in bytes up to which every alignment is tried.
const SHORT: usize = 67;

/// Checks the memory that `make` returns for a length in bytes; `address` makes an address of an offset. Dirty pages are not
/// looked at.
///
/// # Panics
///
/// When one does not behave; the message says which copy.
///
/// # Examples
///
/// ```
/// use guest_memory_core::{GuestAddress, MemoryRegionAddress};
/// use guest_memory_mmap::GuestRegionMmap;
///
/// guest_memory_conformance::copy::check(
///     |len| GuestRegionMmap::<()>::from_range(GuestAddress(0), len, None).expect("mapped memory"),
///     MemoryRegionAddress,
/// );
/// ```
pub fn check<A, T>(make: impl Fn(usize) -> T, address: impl Fn(u64) -> A)
where
    T: Bytes<A>,
    T::E: Debug,
{
    let config = Config::default().untracked();
    check_with(config, make, address, |_, _| {}, |_, _| false);
}

/// Checks memory as [`check`] does, with other settings and with dirty pages: `mark` marks the byte at an offset as a write would,
/// `dirty_at` answers for an offset. Each copy that is checked for its marks has new memory.
///
/// # Panics
///
/// As [`check`].
pub fn check_with<A, T>(
    config: Config,
    make: impl Fn(usize) -> T,
    address: impl Fn(u64) -> A,
    mark: impl Fn(&T, usize),
    dirty_at: impl Fn(&T, usize) -> bool,
) where
    T: Bytes<A>,
    T::E: Debug,
{
    let dirty_at = &dirty_at;
    let tracking = config.settle("copy", |len| {
        let subject = make(len);
        mark(&subject, 0);
        move |offset| dirty_at(&subject, offset)
    });
    let long = *LONG.last().unwrap_or(&0);
    let len = config.round_up(long + 3 * MARGIN);
    let subject = make(len);
    // What the memory holds; its marks pile up, so they are for new memory to show.
    let mut held = Span::new(0, len, None);
    for copy in copies() {
        let told = guarded(&copy, || {
            moves(&copy, &subject, &address, &mut held)?;
            if !copy.shows_marks() {
                return Ok(());
            }
            let fresh_len = config.round_up(copy.offset + copy.len + MARGIN);
            let fresh = make(fresh_len);
            let mut span = Span::new(0, fresh_len, tracking.page_size);
            write(&copy, &fresh, &address, &mut span)?;
            span.compare_dirty(|offset| dirty_at(&fresh, offset))
        });
        if let Err(reason) = told {
            panic!("copy conformance: {reason}");
        }
    }
}

/// One length at one alignment of either side.
#[derive(Clone, Copy, Debug)]
struct Copy {
    /// Offset in the memory.
    offset: usize,
    /// Offset in a buffer whose first byte is aligned to eight.
    buffer_offset: usize,
    len: usize,
}

impl Copy {
    /// Says whether it is one of those few whose marks are looked at.
    fn shows_marks(&self) -> bool {
        self.buffer_offset == 1 && (self.offset + self.len).is_multiple_of(3)
    }

    fn data(&self) -> Vec<u8> {
        let seed = self.offset * 31 + self.buffer_offset * 7 + self.len;
        let byte = |at: usize| ((seed + at * 5) % 251 + 1).to_le_bytes()[0];
        (0..self.len).map(byte).collect()
    }
}

fn copies() -> impl Iterator<Item = Copy> {
    let short = (0..=SHORT).flat_map(|len| {
        (MARGIN..MARGIN + 8).flat_map(move |offset| (0..8).map(move |buffer| (offset, buffer, len)))
    });
    let long = LONG.into_iter().flat_map(|len| {
        [MARGIN, MARGIN + 1, MARGIN + 7]
            .into_iter()
            .flat_map(move |offset| [0, 1, 4].map(|buffer| (offset, buffer, len)))
    });
    short.chain(long).map(|(offset, buffer_offset, len)| Copy {
        offset,
        buffer_offset,
        len,
    })
}

/// A buffer whose first byte is aligned to eight, and which is longer than what is copied.
struct Buffer(Vec<u8>);

impl Buffer {
    const FILL: u8 = 0xa5;

    fn new(len: usize) -> Self {
        Self(vec![Self::FILL; len + 8])
    }

    fn bytes(&mut self) -> &mut [u8] {
        let (first, len) = (self.0.as_ptr().align_offset(8), self.0.len() - 8);
        &mut self.0[first..][..len]
    }
}

/// Copies in and out again and looks at all there is.
fn moves<A, T>(
    copy: &Copy,
    subject: &T,
    address: &impl Fn(u64) -> A,
    held: &mut Span,
) -> Result<(), String>
where
    T: Bytes<A>,
    T::E: Debug,
{
    write(copy, subject, address, held)?;
    let around = read(
        subject,
        address,
        copy.offset - MARGIN,
        copy.len + 2 * MARGIN,
    )?;
    let expected = &held.bytes()[copy.offset - MARGIN..][..copy.len + 2 * MARGIN];
    expect_bytes(
        "the memory after the write",
        copy.offset - MARGIN,
        &around,
        expected,
    )?;

    let mut buffer = Buffer::new(copy.len + 3 * 8);
    let bytes = buffer.bytes();
    let part = &mut bytes[copy.buffer_offset..][..copy.len];
    subject
        .read_slice(part, address(copy.offset as u64))
        .map_err(|error| format!("the read returned {error:?}, expected it to succeed"))?;
    let mut expected = vec![Buffer::FILL; bytes.len()];
    expected[copy.buffer_offset..][..copy.len].copy_from_slice(&copy.data());
    expect_bytes("the buffer after the read", 0, bytes, &expected)
}

fn write<A, T>(
    copy: &Copy,
    subject: &T,
    address: &impl Fn(u64) -> A,
    held: &mut Span,
) -> Result<(), String>
where
    T: Bytes<A>,
    T::E: Debug,
{
    let mut buffer = Buffer::new(copy.len + 3 * 8);
    let part = &mut buffer.bytes()[copy.buffer_offset..][..copy.len];
    part.copy_from_slice(&copy.data());
    subject
        .write_slice(part, address(copy.offset as u64))
        .map_err(|error| format!("the write returned {error:?}, expected it to succeed"))?;
    held.write(copy.offset, &copy.data());
    Ok(())
}

fn read<A, T>(
    subject: &T,
    address: &impl Fn(u64) -> A,
    offset: usize,
    len: usize,
) -> Result<Vec<u8>, String>
where
    T: Bytes<A>,
    T::E: Debug,
{
    let mut bytes = vec![0; len];
    subject
        .read_slice(&mut bytes, address(offset as u64))
        .map_err(|error| format!("reading it back: {error:?}"))?;
    Ok(bytes)
}

/// Checks copies within a memory: `copy` copies so many bytes from one offset to another and returns how many it copied.
///
/// `make` and `address` are those of [`check`]; `mark` and `dirty_at` those of [`check_with`].
///
/// # Panics
///
/// As [`check`].
///
/// # Examples
///
/// ```
/// use guest_memory_bitmap::{AtomicBitmap, Bitmap};
/// use guest_memory_conformance::{Config, copy};
/// use guest_memory_core::{GuestAddress, GuestMemoryRegion, MemoryRegionAddress};
/// use guest_memory_mmap::GuestRegionMmap;
///
/// type Region = GuestRegionMmap<AtomicBitmap>;
///
/// copy::check_within(
///     Config::default(),
///     |len| Region::from_range(GuestAddress(0), len, None).expect("mapped memory"),
///     MemoryRegionAddress,
///     |region, offset| region.bitmap().mark_dirty(offset, 1),
///     |region, offset| region.bitmap().dirty_at(offset),
///     |region, from, to, len| {
///         let window = |at: usize| GuestMemoryRegion::get_slice(region, MemoryRegionAddress(at as u64), len);
///         window(from)?.try_copy_to_volatile_slice(window(to)?).map_err(Into::into)
///     },
/// );
/// ```
pub fn check_within<A, T>(
    config: Config,
    make: impl Fn(usize) -> T,
    address: impl Fn(u64) -> A,
    mark: impl Fn(&T, usize),
    dirty_at: impl Fn(&T, usize) -> bool,
    copy: impl Fn(&T, usize, usize, usize) -> Result<usize, T::E>,
) where
    T: Bytes<A>,
    T::E: Debug,
{
    let dirty_at = &dirty_at;
    let tracking = config.settle("copy", |len| {
        let subject = make(len);
        mark(&subject, 0);
        move |offset| dirty_at(&subject, offset)
    });
    for (from, to, len) in overlaps() {
        let total = config.round_up(from.max(to) + len + MARGIN);
        let told = guarded(&CopyWithin { from, to, len }, || {
            let subject = make(total);
            let mut span = Span::new(0, total, tracking.page_size);
            let before: Vec<u8> = (0..total)
                .map(|at| (at % 251 + 1).to_le_bytes()[0])
                .collect();
            subject
                .write_slice(&before, address(0))
                .map_err(|error| format!("filling it: {error:?}"))?;
            span.write(0, &before);
            let copied = copy(&subject, from, to, len)
                .map_err(|error| format!("returned {error:?}, expected {len}"))?;
            expect_eq("the number of bytes copied", copied, len)?;
            span.write(to, &before[from..][..len]);
            let found = read(&subject, &address, 0, total)?;
            expect_bytes("the memory after the copy", 0, &found, span.bytes())?;

            // On clean memory, all of it zero: it is the marks that are looked at.
            let subject = make(total);
            let mut span = Span::new(0, total, tracking.page_size);
            let copied = copy(&subject, from, to, len)
                .map_err(|error| format!("returned {error:?}, expected {len}"))?;
            expect_eq("the number of bytes copied", copied, len)?;
            span.mark(to, len);
            span.compare_dirty(|offset| dirty_at(&subject, offset))
        });
        if let Err(reason) = told {
            panic!("copy conformance: {reason}");
        }
    }
}

#[derive(Debug)]
#[expect(dead_code, reason = "told in messages")]
struct CopyWithin {
    from: usize,
    to: usize,
    len: usize,
}

/// Lists pairs of places (from, to, length in bytes) that overlap in every way, and some that do not.
fn overlaps() -> impl Iterator<Item = (usize, usize, usize)> {
    let distances = [-200isize, -65, -64, -17, -16, -9, -8, -7, -3, -1];
    let distances = distances.into_iter();
    let distances = distances
        .clone()
        .chain([0])
        .chain(distances.map(|less| -less));
    distances.flat_map(|distance| {
        let lengths = [0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 130, 257];
        let offsets = [208usize, 211];
        lengths.into_iter().flat_map(move |len| {
            offsets.map(|from| (from, from.wrapping_add_signed(distance), len))
        })
    })
}
