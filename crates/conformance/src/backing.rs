// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The suite for a [`Backing`]: whatever makes mapped memory of a length in bytes.
//!
//! What it holds a backing to:
//!
//! * memory is as long as was asked, zeroed and clean, and no two are the same memory while both are there;
//! * its host address is aligned as promised and stays where it is, also when the memory is moved; the byte at an offset lies so
//!   many bytes further on; all of it can be written and read;
//! * memory made of a file holds that file's bytes from the offset on; if it is shared, a write to the memory is a write to the
//!   file at the same place, the other way round too, and a second mapping, at another offset, is the same memory; if not, the
//!   file stays as it is;
//! * memory without write access says so, refuses every way to write with [`ReadOnly`](guest_memory_volatile::VolatileMemoryError::ReadOnly), keeps its
//!   bytes and stays clean;
//! * memory that is dropped is given back to the system.
//!
//! Only the first two can be asked of every backing. For each of the others there is a method of [`Backing`] to give, and
//! what is not given is not checked.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;

use guest_memory_bitmap::Bitmap;
use guest_memory_core::FileOffset;
use guest_memory_volatile::{VolatileMemory, VolatileSlice};

use crate::config::{Config, expect_bytes, expect_eq, guarded};
use crate::read_only;

/// How often memory is made and dropped before it counts as never given back: what another thread maps at the same place in the
/// meantime looks as if it had not been.
const DROPS: usize = 16;

/// Whatever makes mapped memory.
///
/// A closure that takes the length in bytes and returns the memory is one. A type of its own says more of what it makes:
///
/// ```
/// use guest_memory_conformance::{Config, backing};
/// use guest_memory_core::FileOffset;
/// use guest_memory_mmap::{MmapRegion, MmapRegionBuilder, Protection};
///
/// struct Mapped;
///
/// impl backing::Backing for Mapped {
///     type Memory = MmapRegion<()>;
///
///     fn map(&self, len: usize) -> Self::Memory {
///         MmapRegion::new(len).expect("mapped memory")
///     }
///
///     fn alignment(&self) -> usize {
///         4096
///     }
///
///     fn map_file(&self, file: FileOffset, len: usize) -> Option<Self::Memory> {
///         Some(MmapRegion::from_file(file, len).expect("a mapped file"))
///     }
///
///     fn is_shared(&self) -> bool {
///         true
///     }
///
///     fn map_read_only(&self, len: usize) -> Option<Self::Memory> {
///         let builder = MmapRegionBuilder::new(len).with_protection(Protection::ReadOnly);
///         Some(builder.build().expect("mapped memory"))
///     }
///
///     fn is_mapped(&self, range: std::ops::Range<usize>) -> Option<bool> {
///         backing::is_mapped(range)
///     }
/// }
///
/// backing::check_with(Config::default().untracked(), Mapped);
/// ```
pub trait Backing {
    /// What it makes.
    type Memory: VolatileMemory;

    /// Makes new memory of `len` bytes, which is a multiple of the suite's granule.
    fn map(&self, len: usize) -> Self::Memory;

    /// Returns the alignment in bytes that host addresses have and offsets in files must have; 8 unless it is given.
    fn alignment(&self) -> usize {
        8
    }

    /// Returns the file behind `memory` and where in it the memory starts; `None` unless it is given. If memory that [`map`](Self::map)
    /// made has one, it is that file's bytes, shared.
    fn file_offset(&self, memory: &Self::Memory) -> Option<FileOffset> {
        let _ = memory;
        None
    }

    /// Makes memory of `len` bytes of a file; `None` unless it is given.
    fn map_file(&self, file: FileOffset, len: usize) -> Option<Self::Memory> {
        let _ = (file, len);
        None
    }

    /// Says whether memory of a file is shared: whether writes to one are in the other. Not so unless it is given.
    fn is_shared(&self) -> bool {
        false
    }

    /// Makes memory of `len` bytes that must not be written; `None` unless it is given.
    fn map_read_only(&self, len: usize) -> Option<Self::Memory> {
        let _ = len;
        None
    }

    /// Says whether a byte of a range of host addresses is mapped in this process, as far as that can be seen; `None` unless it
    /// is given. [`is_mapped`] knows for memory of the system's.
    fn is_mapped(&self, range: Range<usize>) -> Option<bool> {
        let _ = range;
        None
    }
}

impl<M: VolatileMemory, F: Fn(usize) -> M> Backing for F {
    type Memory = M;

    fn map(&self, len: usize) -> M {
        self(len)
    }
}

/// Says whether a byte of a range of host addresses is mapped in this process, for [`Backing::is_mapped`]: on Linux, from
/// the list of mappings in `/proc`; `None` elsewhere.
///
/// Memory of an allocator's is not given back to the system when it is freed, so this says nothing of it.
pub fn is_mapped(range: Range<usize>) -> Option<bool> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let is_in = |line: &str| {
        let (start, rest) = line.split_once('-')?;
        let (end, _) = rest.split_once(' ')?;
        let start = usize::from_str_radix(start, 16).ok()?;
        let end = usize::from_str_radix(end, 16).ok()?;
        Some(start < range.end && range.start < end)
    };
    Some(maps.lines().any(|line| is_in(line) == Some(true)))
}

/// Checks a backing; lengths are from a byte to some pages.
///
/// # Panics
///
/// When it does not behave; the message names what was done and what was expected.
///
/// # Examples
///
/// ```
/// use guest_memory_bitmap::AtomicBitmap;
/// use guest_memory_mmap::MmapRegion;
///
/// guest_memory_conformance::backing::check(|len| {
///     MmapRegion::<AtomicBitmap>::new(len).expect("mapped memory")
/// });
/// ```
pub fn check(backing: impl Backing) {
    check_with(Config::default(), backing);
}

/// Checks a backing as [`check`] does, with other settings: those of dirty pages and of the granule of lengths.
///
/// # Panics
///
/// As [`check`].
pub fn check_with(config: Config, backing: impl Backing) {
    let backing = &backing;
    let tracking = config.settle("backing", |len| {
        let memory = backing.map(len);
        memory.as_volatile_slice().bitmap().mark_dirty(0, 1);
        move |offset| memory.as_volatile_slice().bitmap().dirty_at(offset)
    });
    let is_tracked = tracking.page_size.is_some();
    let mut lengths: Vec<usize> = [1, 7, 64, 4095, 4096, 4097, 0x5000]
        .map(|len| config.round_up(len))
        .to_vec();
    lengths.dedup();
    let run = |step: &str, len: usize, check: &dyn Fn() -> Result<(), String>| {
        if let Err(reason) = guarded(&(step, len), check) {
            panic!("backing conformance: {reason}");
        }
    };
    for len in lengths {
        run("new memory", len, &|| new_memory(backing, len));
        run("two memories", len, &|| two_memories(backing, len));
        run("memory that is moved", len, &|| moved(backing, len));
        run("the file of new memory", len, &|| own_file(backing, len));
        run("memory of a file", len, &|| given_file(backing, len));
        run("two memories of a file", len, &|| twice(backing, len));
        run(
            "memory without write access",
            len,
            &|| match backing.map_read_only(len) {
                Some(memory) => {
                    expect_eq("the length", memory.len(), len)?;
                    read_only::check(&memory.as_volatile_slice(), is_tracked)
                }
                None => Ok(()),
            },
        );
        run("memory that is dropped", len, &|| dropped(backing, len));
    }
}

type Slice<'a, M> = VolatileSlice<'a, guest_memory_bitmap::BS<'a, <M as VolatileMemory>::B>>;

/// Returns a window on all of it.
fn whole<M: VolatileMemory>(memory: &M) -> Result<Slice<'_, M>, String> {
    let slice = memory.get_slice(0, memory.len());
    slice.map_err(|error| format!("a window on all of it is {error:?}, expected one"))
}

fn new_memory<B: Backing>(backing: &B, len: usize) -> Result<(), String> {
    let memory = backing.map(len);
    expect_eq("the length", memory.len(), len)?;
    expect_eq("is_empty", memory.is_empty(), len == 0)?;
    let slice = whole(&memory)?;
    expect_eq("the length of a window on all of it", slice.len(), len)?;
    expect_bytes("new memory", 0, &bytes_of(&slice), &vec![0; len])?;
    for offset in 0..len {
        expect_eq(
            "dirty_at of new memory",
            slice.bitmap().dirty_at(offset),
            false,
        )?;
    }

    let base = address_of(&slice);
    let alignment = backing.alignment();
    if !base.is_multiple_of(alignment) {
        return Err(format!(
            "the host address is {base:#x}, expected a multiple of {alignment}"
        ));
    }
    for offset in [0, 1, len / 2, len - 1, len] {
        let rest = memory.get_slice(offset, len - offset);
        let rest = rest.map_err(|error| format!("a window at {offset} is {error:?}"))?;
        let what =
            format!("the host address of the byte at offset {offset}, less that of the first one,");
        expect_eq(&what, address_of(&rest).wrapping_sub(base), offset)?;
    }
    if memory.get_slice(1, len).is_ok() {
        return Err(format!(
            "a window on [1, {len} + 1) was given out, expected an error"
        ));
    }

    let data = pattern(len, 1);
    let written = slice.try_copy_from(&data);
    let written = written.map_err(|error| format!("writing it all: {error:?}"))?;
    expect_eq("the number of bytes written", written, len)?;
    expect_bytes(
        "memory after a write to it all",
        0,
        &bytes_of(&slice),
        &data,
    )?;
    expect_eq(
        "the host address, once more,",
        address_of(&whole(&memory)?),
        base,
    )
}

fn two_memories<B: Backing>(backing: &B, len: usize) -> Result<(), String> {
    let (one, other) = (backing.map(len), backing.map(len));
    let (one, other) = (whole(&one)?, whole(&other)?);
    if address_of(&one) < address_of(&other) + len && address_of(&other) < address_of(&one) + len {
        return Err(format!(
            "both are at host address {:#x}, expected two places",
            address_of(&one)
        ));
    }
    let (first, second) = (pattern(len, 1), pattern(len, 2));
    one.copy_from(&first);
    expect_bytes(
        "the memory beside one that was written",
        0,
        &bytes_of(&other),
        &vec![0; len],
    )?;
    other.copy_from(&second);
    expect_bytes(
        "the memory beside one that was written",
        0,
        &bytes_of(&one),
        &first,
    )
}

fn moved<B: Backing>(backing: &B, len: usize) -> Result<(), String> {
    let memory = backing.map(len);
    let (base, data) = (address_of(&whole(&memory)?), pattern(len, 3));
    whole(&memory)?.copy_from(&data);
    let elsewhere = Box::new(memory);
    let slice = whole(&*elsewhere)?;
    expect_eq("the host address", address_of(&slice), base)?;
    expect_bytes("the memory", 0, &bytes_of(&slice), &data)
}

fn own_file<B: Backing>(backing: &B, len: usize) -> Result<(), String> {
    let memory = backing.map(len);
    match backing.file_offset(&memory) {
        Some(file) => same_bytes(&whole(&memory)?, &file),
        None => Ok(()),
    }
}

/// Checks that memory and file are the same bytes, by writing to both.
fn same_bytes<S: guest_memory_bitmap::BitmapSlice>(
    slice: &VolatileSlice<'_, S>,
    file: &FileOffset,
) -> Result<(), String> {
    let len = slice.len();
    let data = pattern(len, 4);
    slice.copy_from(&data);
    let found = from_file(file.file(), file.start(), len)?;
    expect_bytes("the file after a write to the memory", 0, &found, &data)?;
    let data = pattern(len, 5);
    to_file(file.file(), file.start(), &data)?;
    expect_bytes(
        "the memory after a write to the file",
        0,
        &bytes_of(slice),
        &data,
    )
}

fn given_file<B: Backing>(backing: &B, len: usize) -> Result<(), String> {
    let start = 2 * backing.alignment();
    let total = start + len + backing.alignment();
    let before = pattern(total, 6);
    let Some((file, memory)) = file_with(backing, &before, start, len)? else {
        return Ok(());
    };
    let slice = whole(&memory)?;
    expect_bytes(
        "new memory of a file",
        0,
        &bytes_of(&slice),
        &before[start..][..len],
    )?;
    if let Some(told) = backing.file_offset(&memory) {
        expect_eq(
            "where the memory starts in its file",
            told.start(),
            start as u64,
        )?;
    }
    if backing.is_shared() {
        same_bytes(&slice, &FileOffset::new(clone_of(&file)?, start as u64))?;
    } else {
        let data = pattern(len, 7);
        slice.copy_from(&data);
        expect_bytes("the memory after a write", 0, &bytes_of(&slice), &data)?;
        let found = from_file(&file, start as u64, len)?;
        let what = "the file after a write to memory that is not shared";
        expect_bytes(what, 0, &found, &before[start..][..len])?;
    }
    // What lies around the memory is nobody's.
    let found = from_file(&file, 0, start)?;
    expect_bytes("the file before the memory", 0, &found, &before[..start])?;
    let rest = from_file(&file, (start + len) as u64, total - start - len)?;
    expect_bytes(
        "the file behind the memory",
        0,
        &rest,
        &before[start + len..],
    )
}

/// Maps a file twice, the second time from further on.
fn twice<B: Backing>(backing: &B, len: usize) -> Result<(), String> {
    let ahead = backing.alignment();
    let before = pattern(ahead + len, 8);
    let Some((file, first)) = file_with(backing, &before, 0, len)? else {
        return Ok(());
    };
    let Some(second) = backing.map_file(FileOffset::new(file, ahead as u64), len) else {
        return Ok(());
    };
    let (first, second) = (whole(&first)?, whole(&second)?);
    expect_bytes("the second memory", 0, &bytes_of(&second), &before[ahead..])?;
    let data = pattern(len, 9);
    first.copy_from(&data);
    let mut expected = before[ahead..].to_vec();
    if backing.is_shared() {
        let common = len.saturating_sub(ahead);
        expected[..common].copy_from_slice(&data[len - common..]);
    }
    expect_bytes(
        "the second memory after a write to the first one",
        0,
        &bytes_of(&second),
        &expected,
    )
}

fn dropped<B: Backing>(backing: &B, len: usize) -> Result<(), String> {
    let mut range = 0..0;
    for _ in 0..DROPS {
        let memory = backing.map(len);
        let base = address_of(&whole(&memory)?);
        range = base..base + len;
        match backing.is_mapped(range.clone()) {
            None => return Ok(()),
            Some(is_mapped) => expect_eq("is_mapped of memory in use", is_mapped, true)?,
        }
        drop(memory);
        if backing.is_mapped(range.clone()) == Some(false) {
            return Ok(());
        }
    }
    Err(format!(
        "{range:#x?} is still mapped, expected it to be given back"
    ))
}

/// Makes a file of these bytes and memory of a part of it, if the backing does that.
fn file_with<B: Backing>(
    backing: &B,
    bytes: &[u8],
    start: usize,
    len: usize,
) -> Result<Option<(File, B::Memory)>, String> {
    let file = tempfile::tempfile().map_err(|error| format!("a temporary file: {error}"))?;
    to_file(&file, 0, bytes)?;
    let place = FileOffset::new(clone_of(&file)?, start as u64);
    let memory = backing.map_file(place, len);
    Ok(memory.map(|memory| (file, memory)))
}

fn clone_of(file: &File) -> Result<File, String> {
    file.try_clone()
        .map_err(|error| format!("a second descriptor: {error}"))
}

fn to_file(mut file: &File, start: u64, bytes: &[u8]) -> Result<(), String> {
    file.seek(SeekFrom::Start(start))
        .and_then(|_| file.write_all(bytes))
        .map_err(|error| format!("writing the file: {error}"))
}

fn from_file(mut file: &File, start: u64, len: usize) -> Result<Vec<u8>, String> {
    let mut bytes = vec![0; len];
    file.seek(SeekFrom::Start(start))
        .and_then(|_| file.read_exact(&mut bytes))
        .map_err(|error| format!("reading the file: {error}"))?;
    Ok(bytes)
}

fn bytes_of<S: guest_memory_bitmap::BitmapSlice>(slice: &VolatileSlice<'_, S>) -> Vec<u8> {
    let mut bytes = vec![0xa5; slice.len()];
    slice.copy_to(&mut bytes);
    bytes
}

fn address_of<S: guest_memory_bitmap::BitmapSlice>(slice: &VolatileSlice<'_, S>) -> usize {
    slice.ptr_guard().as_ptr().addr()
}

/// Returns bytes of which no stretch looks like another one, and none is zero.
fn pattern(len: usize, seed: usize) -> Vec<u8> {
    let byte = |at: usize| {
        let mixed =
            (at + 1).wrapping_mul(2_654_435_761) ^ (at >> 8).wrapping_mul(40503) ^ (seed * 83);
        (mixed >> 7).to_le_bytes()[0] | 1
    };
    (0..len).map(byte).collect()
}
