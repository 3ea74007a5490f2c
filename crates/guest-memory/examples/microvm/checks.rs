// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Compares what a guest left behind with what it must have.

use std::sync::atomic::Ordering;

use guest_memory::{Bytes, GuestAddress, GuestAddressSpace};

use crate::builtin::Sightings;
use crate::console::say;
use crate::device_thread::{self, Progress};
use crate::dirty::DirtyPages;
use crate::failure::{Failure, with_causes};
use crate::guest_program::{
    FILL_AREA, LINES, MODULE_VALUE, OVERWRITE_VALUE, RESULTS, Results, every_other_page, sequence,
    written_pages,
};
use crate::layout::{FOUR_GIB, PAGE_LEN, SharedMemory};

/// The checks of a run, printed as they are made.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    passed_count: usize,
    failed_count: usize,
}

impl Checks {
    /// Checks what the built-in guest printed, wrote and found out.
    pub(crate) fn built_in_guest(
        &mut self,
        memory: &SharedMemory,
        sightings: &Sightings,
        progress: &Progress,
    ) -> Result<(), Failure> {
        self.that(
            "the guest's lines arrived",
            sightings.lines == LINES,
            || format!("{:?}", sightings.lines),
        );

        let mut words = sequence();
        let mut fill_sum = 0_u32;
        let mut wrong_pages = DirtyPages::default();
        for page in every_other_page(FILL_AREA) {
            let expected: Vec<u32> = words.by_ref().take(PAGE_LEN / 4).collect();
            fill_sum = expected
                .iter()
                .fold(fill_sum, |sum, &word| sum.wrapping_add(word));
            let bytes: Vec<u8> = expected.into_iter().flat_map(u32::to_le_bytes).collect();
            if read(memory, page, bytes.len())? != bytes {
                wrong_pages.insert(page);
            }
        }
        self.none(
            "the guest's pages hold its sequence of numbers",
            &wrong_pages,
            "wrong",
        );

        let expected = Results {
            fill_sum,
            device_sum: device_thread::words_sum(),
            while_plugged: MODULE_VALUE,
            while_unplugged: u32::MAX,
            plugged_again: MODULE_VALUE,
            image_byte: OVERWRITE_VALUE,
        };
        let labels = [
            "the guest's sum of its own pages",
            "the guest's sum of the device's pages",
            "the module's word before it was unplugged",
            "the module's word while it was unplugged",
            "the module's word after it was plugged again",
            "the image's byte after the guest wrote to it",
        ];
        let found = read(memory, RESULTS, 4 * labels.len())?;
        for ((label, found), expected) in labels
            .into_iter()
            .zip(found.as_chunks::<4>().0)
            .zip(expected.words())
        {
            let found = u32::from_le_bytes(*found);
            let label = format!("{label} is {expected:#x}");
            self.that(&label, found == expected, || format!("{found:#x}"));
        }
        for (label, count) in [
            (
                "the guest read the unplugged module once",
                sightings.unmapped_reads,
            ),
            (
                "the guest's write to the image was refused once",
                sightings.image_writes,
            ),
        ] {
            self.that(label, count == 1, || count.to_string());
        }
        let is_acknowledged = progress.is_acknowledged.load(Ordering::Relaxed);
        self.that(
            "the device saw the guest's acknowledgement",
            is_acknowledged,
            || "it did not".to_owned(),
        );
        Ok(())
    }

    /// Checks that the image that ends at 4 GiB is what it was.
    pub(crate) fn image(&mut self, memory: &SharedMemory, image: &[u8]) -> Result<(), Failure> {
        let found = read(memory, FOUR_GIB - image.len() as u64, image.len())?;
        let wrong_bytes = found
            .iter()
            .zip(image)
            .filter(|(found, expected)| found != expected)
            .count();
        self.that("the read-only image is unchanged", wrong_bytes == 0, || {
            format!("{wrong_bytes} bytes differ")
        });
        Ok(())
    }

    /// Checks that exactly the pages that the built-in guest and the device write are dirty.
    ///
    /// With KVM's log, each side's pages have to be in its own log; without one (a host thread played
    /// the guest) the library's bitmap has them all.
    pub(crate) fn dirty_pages(&mut self, logged: Option<&DirtyPages>, marked: &DirtyPages) {
        let guest: DirtyPages = written_pages().collect();
        let device: DirtyPages = device_thread::written_pages().collect();
        let both = guest.union(&device);
        if let Some(logged) = logged {
            self.same_pages("KVM's log holds what the guest wrote", logged, &guest);
            self.same_pages(
                "the library's bitmap holds what the device wrote",
                marked,
                &device,
            );
            self.same_pages(
                "either of them holds what both wrote",
                &marked.union(logged),
                &both,
            );
        } else {
            self.same_pages(
                "the library's bitmap holds what guest and device wrote",
                marked,
                &both,
            );
        }
    }

    /// Records and prints one check; `found` tells what was there if it failed.
    pub(crate) fn that(&mut self, label: &str, is_true: bool, found: impl FnOnce() -> String) {
        if is_true {
            self.passed_count += 1;
            say!("  passed  {label}");
        } else {
            self.failed_count += 1;
            say!("  FAILED  {label}; found: {}", found());
        }
    }

    /// Prints the sum of all checks; returns whether all of them passed.
    pub(crate) fn print_verdict(&self) -> bool {
        let count = self.passed_count + self.failed_count;
        let is_passed = self.failed_count == 0 && count > 0;
        if is_passed {
            say!("result: all {count} checks passed");
        } else {
            say!("result: {} of {count} checks FAILED", self.failed_count);
        }
        is_passed
    }

    fn same_pages(&mut self, label: &str, found: &DirtyPages, expected: &DirtyPages) {
        let label = format!("{label}: {} pages, no other", expected.page_count());
        self.that(&label, found == expected, || {
            let missing = expected.difference(found).ranges();
            let surplus = found.difference(expected).ranges();
            format!("missing {missing:x?}, too many {surplus:x?}")
        });
    }

    fn none(&mut self, label: &str, pages: &DirtyPages, adjective: &str) {
        self.that(label, pages.page_count() == 0, || {
            format!("{adjective} pages {:x?}", pages.ranges())
        });
    }
}

/// Reads guest memory through the library.
fn read(memory: &SharedMemory, address: u64, len_bytes: usize) -> Result<Vec<u8>, Failure> {
    let mut bytes = vec![0; len_bytes];
    memory
        .memory()
        .read_slice(&mut bytes, GuestAddress(address))
        .map_err(|error| {
            Failure::run(format!("cannot read the result: {}", with_causes(&error)))
        })?;
    Ok(bytes)
}
