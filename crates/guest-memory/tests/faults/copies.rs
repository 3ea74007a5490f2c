// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Accesses that run into a page without access, compared with a model byte by byte.

use guest_memory::FaultKind::Protection;
use guest_memory::{Bytes, GuestMemoryResult, VolatileMemoryResult, VolatileSlice};

use crate::calls::{Slice, fault, slice_fault};
use crate::holes::{Holed, address, crossings, hole};
use crate::mapping::{Memory, page};

/// Alignments that a buffer of the host's can have towards the engine's vectors.
const ALIGNMENTS: usize = 16;

/// Returns bytes to write that differ from one case to the next and are never zero.
fn bytes(len: usize, seed: usize) -> Vec<u8> {
    (0..len)
        .map(|index| ((index * 7 + seed) % 255).to_le_bytes()[0] + 1)
        .collect()
}

/// Returns a piece of the buffer at an address of the given alignment.
fn aligned(buffer: &mut [u8], alignment: usize, len: usize) -> &mut [u8] {
    let skip = buffer.as_ptr().addr().wrapping_neg() % ALIGNMENTS + alignment;
    &mut buffer[skip..skip + len]
}

/// Returns the alignments to try: all for short lengths, one for others.
fn alignments(before: usize, len: usize) -> impl Iterator<Item = usize> {
    let step = if len <= 130 { 1 } else { ALIGNMENTS };
    let first = if step == 1 {
        0
    } else {
        (before * 5 + len) % ALIGNMENTS
    };
    (first..ALIGNMENTS).step_by(step)
}

/// Runs a write at every crossing and every alignment of the host's buffer.
fn writes_stop_at_the_hole(
    name: &str,
    write: impl Fn(&Memory, &[u8], usize) -> GuestMemoryResult<()>,
) {
    let mut holed = Holed::new();
    let mut buffer = vec![0; 4 * page()];
    for (seed, (before, len)) in crossings().into_iter().enumerate() {
        let start = hole().start - before;
        for alignment in alignments(before, len) {
            let data = bytes(len, seed + alignment);
            let source = aligned(&mut buffer, alignment, len);
            source.copy_from_slice(&data);
            let case = (name, before, len, alignment);
            let told = fault(name, write(holed.memory(), source, start));
            assert_eq!(
                told,
                (address(hole().start).0, before, Protection),
                "{case:?}"
            );
            holed.expect(start, &data[..before]);
            holed.check(start..hole().start, &case);
        }
    }
}

/// Runs a read at every crossing and every alignment of the host's buffer.
fn reads_stop_at_the_hole(
    name: &str,
    read: impl Fn(&Memory, &mut [u8], usize) -> GuestMemoryResult<()>,
) {
    let holed = Holed::new();
    let mut buffer = vec![0; 4 * page()];
    for (before, len) in crossings() {
        let start = hole().start - before;
        for alignment in alignments(before, len) {
            buffer.fill(0);
            let target = aligned(&mut buffer, alignment, len);
            let case = (name, before, len, alignment);
            let told = fault(name, read(holed.memory(), target, start));
            assert_eq!(
                told,
                (address(hole().start).0, before, Protection),
                "{case:?}"
            );
            let (filled, rest) = target.split_at(before);
            assert_eq!(filled, &holed.model()[start..hole().start], "{case:?}");
            assert!(
                rest.iter().all(|byte| *byte == 0),
                "{case:?}: written behind the fault"
            );
            holed.check(0..0, &case);
        }
    }
}

#[test]
fn writes_by_address_stop_at_a_page_without_access() {
    writes_stop_at_the_hole("write_slice", |memory, bytes, at| {
        memory.write_slice(bytes, address(at))
    });
    writes_stop_at_the_hole("write", |memory, bytes, at| {
        memory.write(bytes, address(at)).map(drop)
    });
    writes_stop_at_the_hole("read_exact_volatile_from", |memory, mut bytes, at| {
        let count = bytes.len();
        memory.read_exact_volatile_from(address(at), &mut bytes, count)
    });
}

#[test]
fn reads_by_address_stop_at_a_page_without_access() {
    reads_stop_at_the_hole("read_slice", |memory, bytes, at| {
        memory.read_slice(bytes, address(at))
    });
    reads_stop_at_the_hole("read", |memory, bytes, at| {
        memory.read(bytes, address(at)).map(drop)
    });
}

/// Runs a write of a slice at every crossing; `data` says what it should write.
fn slice_writes_stop_at_the_hole(
    name: &str,
    data: impl Fn(usize, usize) -> Vec<u8>,
    write: impl Fn(&Slice<'_>, &[u8]) -> VolatileMemoryResult<()>,
) {
    let mut holed = Holed::new();
    for (seed, (before, len)) in crossings().into_iter().enumerate() {
        let start = hole().start - before;
        let data = data(len, seed);
        let case = (name, before, len);
        let told = slice_fault(name, write(&holed.slice(start..start + len), &data));
        assert_eq!(told, (before, before, Protection), "{case:?}");
        holed.expect(start, &data[..before]);
        holed.check(start..hole().start, &case);
    }
}

#[test]
fn writes_of_slices_stop_at_a_page_without_access() {
    slice_writes_stop_at_the_hole("try_copy_from", bytes, |slice, data| {
        slice.try_copy_from(data).map(drop)
    });
    let same = |len, seed: usize| vec![(seed % 255).to_le_bytes()[0]; len];
    slice_writes_stop_at_the_hole("fill", same, |slice, data| slice.fill(data[0]));
}

#[test]
fn a_copy_of_elements_counts_the_bytes_of_one_that_was_cut() {
    let mut holed = Holed::new();
    let start = hole().start - 11;
    let told = holed.slice(start..start + 32).try_copy_from(&[u32::MAX; 8]);
    assert_eq!(
        slice_fault("try_copy_from", told.map(drop)),
        (11, 11, Protection)
    );
    holed.expect(start, &[0xff; 11]);
    holed.check(start..hole().start, &"try_copy_from");
    let mut elements = [0u32; 8];
    let count = holed.slice(start..start + 32).copy_to(&mut elements);
    assert_eq!((count, &elements[..2]), (2, &[u32::MAX; 2][..]));
}

#[test]
fn a_search_for_zeroes_stops_at_a_page_without_access() {
    let holed = Holed::zeroed();
    for (before, len) in crossings() {
        let slice = holed.slice(hole().start - before..hole().start - before + len);
        let told = slice_fault("is_zero", slice.is_zero().map(drop));
        assert_eq!(told, (before, before, Protection), "{before} {len}");
    }
    holed.check(0..0, &"is_zero");
}

#[test]
fn a_search_for_zeroes_that_ends_before_the_page_is_no_fault() {
    let mut holed = Holed::zeroed();
    for back in 1..=100 {
        let at = hole().start - back;
        holed.slice(at..at + 1).fill(9).unwrap();
        holed.expect(at, &[9]);
        holed.check(at..at + 1, &back);
        for before in back..back + 200 {
            let slice = holed.slice(hole().start - before..hole().end);
            assert!(!slice.is_zero().unwrap(), "{before} {back}");
        }
        holed.slice(at..at + 1).fill(0).unwrap();
        holed.expect(at, &[0]);
        holed.check(at..at + 1, &back);
    }
}

#[test]
fn a_copy_between_slices_stops_where_its_source_has_no_access() {
    let source = Holed::new();
    let mut target = Holed::zeroed();
    for (before, len) in crossings()
        .into_iter()
        .filter(|(_, len)| *len <= 2 * page())
    {
        for shift in shifts(len) {
            let start = hole().start - before;
            let case = (before, len, shift);
            let (from, to) = (
                source.slice(start..start + len),
                target.slice(shift..shift + len),
            );
            let told = from.try_copy_to_volatile_slice(to).map(drop);
            assert_eq!(
                slice_fault("copy", told),
                (before, before, Protection),
                "{case:?}"
            );
            target.expect(shift, &source.model()[start..hole().start]);
            target.check(shift..shift + before, &case);
        }
    }
    source.check(0..0, &"source");
}

#[test]
fn a_copy_between_slices_stops_where_its_target_has_no_access() {
    let mut target = Holed::new();
    for (seed, (before, len)) in crossings().into_iter().enumerate() {
        for shift in shifts(len) {
            let start = hole().start - before;
            let case = (before, len, shift);
            let mut data = bytes(len + 32, seed + shift);
            let expected = data[shift..shift + before].to_vec();
            let from = VolatileSlice::from(&mut data[shift..shift + len]);
            let told = from.try_copy_to_volatile_slice(target.slice(start..start + len));
            assert_eq!(
                slice_fault("copy", told.map(drop)),
                (before, before, Protection),
                "{case:?}"
            );
            target.expect(start, &expected);
            target.check(start..hole().start, &case);
        }
    }
}

/// Returns how far the other side of a copy is moved: all alignments for short ones, some for others.
fn shifts(len: usize) -> impl Iterator<Item = usize> {
    (0..17).filter(move |shift| len <= 130 || matches!(shift, 0 | 3 | 8 | 15))
}
