// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Streams between files and pages that cannot be accessed, where it is the kernel that finds out.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};

use guest_memory::FaultKind::{Protection, System};
use guest_memory::{Bytes, ReadVolatile, WriteVolatile};

use crate::calls::{fault, slice_fault};
use crate::holes::{Holed, address, hole};
use crate::mapping::memory_file;

/// Makes a file of some bytes, to be read from its start.
fn file_of(bytes: &[u8]) -> File {
    let mut file = memory_file(0);
    file.write_all(bytes).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    file
}

fn contents(mut file: File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_file_read_into_a_page_without_access_is_a_fault() {
    let holed = Holed::new();
    let mut slice = holed.slice(hole().start..hole().start + 100);
    let told = file_of(&[5; 200]).read_volatile(&mut slice);
    assert_eq!(slice_fault("read_volatile", told.map(drop)), (0, 0, System));
    let told = file_of(&[5; 200]).read_exact_volatile(&mut slice);
    assert_eq!(slice_fault("read_exact_volatile", told), (0, 0, System));
    let at = address(hole().start);
    let told = holed
        .memory()
        .read_volatile_from(at, &mut file_of(&[5; 200]), 100);
    assert_eq!(
        fault("read_volatile_from", told.map(drop)),
        (at.0, 0, System)
    );
    let told = holed
        .memory()
        .read_exact_volatile_from(at, &mut file_of(&[5; 200]), 100);
    assert_eq!(fault("read_exact_volatile_from", told), (at.0, 0, System));
    // After a system call that failed the whole slice counts as written.
    holed.take_dirty();
    holed.check(0..0, &"reads of a file");
}

#[test]
fn a_file_written_from_a_page_without_access_is_a_fault() {
    let holed = Holed::new();
    let slice = holed.slice(hole().start..hole().start + 100);
    let told = file_of(&[]).write_volatile(&slice);
    assert_eq!(
        slice_fault("write_volatile", told.map(drop)),
        (0, 0, System)
    );
    let told = file_of(&[]).write_all_volatile(&slice);
    assert_eq!(slice_fault("write_all_volatile", told), (0, 0, System));
    let at = address(hole().start);
    let told = holed.memory().write_volatile_to(at, &mut file_of(&[]), 100);
    assert_eq!(
        fault("write_volatile_to", told.map(drop)),
        (at.0, 0, System)
    );
    let told = holed
        .memory()
        .write_all_volatile_to(at, &mut file_of(&[]), 100);
    assert_eq!(fault("write_all_volatile_to", told), (at.0, 0, System));
}

/// The first call of the system is short, the second one fails: the count is that of both.
#[test]
fn an_exact_read_of_a_file_counts_the_bytes_before_the_page() {
    let mut holed = Holed::new();
    for before in [1, 7, 64, 600] {
        let at = address(hole().start - before);
        let told = holed
            .memory()
            .read_exact_volatile_from(at, &mut file_of(&[5; 800]), 700);
        assert_eq!(
            fault("read_exact_volatile_from", told),
            (at.0 + before as u64, before, System)
        );
        holed.expect(hole().start - before, &vec![5; before]);
        assert!((1..=before).all(|back| holed.is_marked(hole().start - back)));
        holed.take_dirty();
        let mut slice = holed.slice(hole().start - before..hole().start + 700 - before);
        let told = file_of(&[5; 800]).read_exact_volatile(&mut slice);
        assert_eq!(
            slice_fault("read_exact_volatile", told),
            (before, before, System)
        );
        assert!((1..=before).all(|back| holed.is_marked(hole().start - back)));
        holed.take_dirty();
        holed.check(0..0, &before);
    }
}

#[test]
fn an_exact_write_to_a_file_counts_the_bytes_before_the_page() {
    let holed = Holed::new();
    for before in [1, 7, 64, 600] {
        let at = address(hole().start - before);
        let mut file = file_of(&[]);
        let told = holed.memory().write_all_volatile_to(at, &mut file, 700);
        assert_eq!(
            fault("write_all_volatile_to", told),
            (at.0 + before as u64, before, System)
        );
        assert_eq!(
            contents(file),
            &holed.model()[hole().start - before..hole().start]
        );
    }
}

/// What came before a page in a short call is a count and not an error.
#[test]
fn a_single_read_of_a_file_is_short_at_the_page() {
    let mut holed = Holed::new();
    let at = address(hole().start - 33);
    let told = holed
        .memory()
        .read_volatile_from(at, &mut file_of(&[5; 800]), 700);
    assert_eq!(told.unwrap(), 33);
    holed.expect(hole().start - 33, &[5; 33]);
    holed.check(hole().start - 33..hole().start, &"read_volatile_from");
}

/// A destination that fails does not take what it could not read.
#[test]
fn a_stream_of_the_hosts_memory_takes_no_more_than_the_bytes_before_the_page() {
    let holed = Holed::new();
    let at = address(hole().start - 33);
    let mut taken = Vec::new();
    let told = holed.memory().write_all_volatile_to(at, &mut taken, 700);
    assert_eq!(
        fault("write_all_volatile_to", told),
        (at.0 + 33, 33, Protection)
    );
    assert!(taken.len() <= 33, "{} bytes were taken", taken.len());
}
