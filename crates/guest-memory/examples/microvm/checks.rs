// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Compares what a guest left behind with what it must have.

use std::sync::atomic::Ordering;

use guest_memory::bitmap::GuestDirtyPages;
use guest_memory::{Bytes, GuestAddress, GuestAddressSpace};

use crate::builtin::Company;
use crate::console::say;
use crate::device_thread::{self, MODULE_PAGE};
use crate::dirty::{difference, union};
use crate::failure::{Failure, with_causes};
use crate::guest_program::{
    FILL_AREA, LINES, MODULE_VALUE, MODULE_WORD, OVERWRITE_VALUE, RESULTS, Results,
    SECOND_MODULE_WORD, STACK_END, every_other_page, sequence, written_pages,
};
use crate::home::Home;
use crate::layout::{FOUR_GIB, PAGE_LEN, SharedMemory};
use crate::work::{ENOUGH, TICKS, WORK_LINE, WORK_RESULTS, Work, WorkArea};

/// Ranges that a failed check names.
const FEW_RANGES: usize = 8;
/// Bytes compared at a time.
const CHUNK_BYTES: usize = 1 << 20;

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
        home: &Home,
        company: &Company,
        area: Option<WorkArea>,
    ) -> Result<(), Failure> {
        let Company {
            sightings,
            progress,
            ..
        } = company;
        let mut lines = LINES.to_vec();
        if area.is_some() {
            lines.insert(3, WORK_LINE);
        }
        self.that(
            "the guest's lines arrived",
            sightings.lines == lines,
            || format!("{:?}", sightings.lines),
        );

        let mut words = sequence();
        let mut fill_sum = 0_u32;
        let mut wrong_pages = home.layout.no_pages();
        for page in every_other_page(FILL_AREA) {
            let expected: Vec<u32> = words.by_ref().take(PAGE_LEN / 4).collect();
            fill_sum = expected
                .iter()
                .fold(fill_sum, |sum, &word| sum.wrapping_add(word));
            let bytes: Vec<u8> = expected.into_iter().flat_map(u32::to_le_bytes).collect();
            if read(&home.memory, page, bytes.len())? != bytes {
                wrong_pages.insert_range(GuestAddress(page), 1);
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
        let found = read(&home.memory, RESULTS, 4 * labels.len())?;
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
        if let Some(area) = area {
            self.work(home, area)?;
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
    /// With KVM's log, each side's pages have to be in its own log (`marked` is the library's, where that is known
    /// apart); without one (a host thread played the guest) the library's bitmap has them all.
    pub(crate) fn dirty_pages(
        &mut self,
        home: &Home,
        logged: Option<&GuestDirtyPages>,
        marked: Option<&GuestDirtyPages>,
        either: &GuestDirtyPages,
        area: Option<WorkArea>,
    ) -> Result<(), Failure> {
        let guest = guest_pages(home, area)?;
        let device = device_pages(home, area);
        let both = union(&guest, &device);
        let Some(logged) = logged else {
            let label = "the library's bitmap holds what guest and device wrote";
            self.same_pages(label, either, &both);
            return Ok(());
        };
        self.same_pages("KVM's log holds what the guest wrote", logged, &guest);
        if let Some(marked) = marked {
            let label = "the library's bitmap holds what the device wrote";
            self.same_pages(label, marked, &device);
        }
        self.same_pages("either of them holds what both wrote", either, &both);
        Ok(())
    }

    /// Checks that the rounds of a migration found nothing that neither guest nor device wrote.
    pub(crate) fn pages_of_rounds(
        &mut self,
        home: &Home,
        copied: &GuestDirtyPages,
        area: WorkArea,
    ) -> Result<(), Failure> {
        let area = Some(area);
        let written = union(&guest_pages(home, area)?, &device_pages(home, area));
        self.none(
            &format!(
                "the rounds copied only what was written: {} pages",
                copied.count()
            ),
            &difference(copied, &written),
            "clean",
        );
        Ok(())
    }

    /// Checks that the second machine's logs hold what was written there, when the guest came with `steps` steps done.
    pub(crate) fn pages_after_move(
        &mut self,
        home: &Home,
        found: &GuestDirtyPages,
        area: WorkArea,
        steps: u32,
    ) -> Result<(), Failure> {
        let [all_steps, _] = read_words(&home.memory, WORK_RESULTS)?;
        self.that(
            &format!("the guest went on with its work: {steps} steps, then more"),
            all_steps > steps,
            || format!("{all_steps} in the end"),
        );
        let (mut work, _) = Work::replay(area, steps);
        let later: Vec<u64> = (steps..all_steps).map(|_| work.step(area).0).collect();
        let always = [
            STACK_END - 1,
            RESULTS,
            MODULE_WORD,
            SECOND_MODULE_WORD,
            ENOUGH,
            TICKS,
            MODULE_PAGE,
        ];
        let pages = |work: &[u64]| home.layout.pages_at(work.iter().chain(&always).copied());
        // The first step may have been done except for its count: then its write was logged by the first machine.
        let is_found = |&address: &u64| found.contains(GuestAddress(address));
        let skipped = usize::from(!later.first().is_some_and(is_found));
        let expected = pages(later.get(skipped..).unwrap_or_default());
        self.same_pages(
            "the second machine's logs hold what was written there",
            found,
            &expected,
        );
        Ok(())
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

    /// Checks that two sets are the same.
    pub(crate) fn same_pages(
        &mut self,
        label: &str,
        found: &GuestDirtyPages,
        expected: &GuestDirtyPages,
    ) {
        let label = format!("{label}: {} pages, no other", expected.count());
        self.that(&label, found == expected, || {
            let missing = few_ranges(&difference(expected, found));
            let surplus = few_ranges(&difference(found, expected));
            format!("missing {missing}; too many {surplus}")
        });
    }

    /// Checks that a set is empty.
    pub(crate) fn none(&mut self, label: &str, pages: &GuestDirtyPages, adjective: &str) {
        self.that(label, pages.is_empty(), || {
            format!("{adjective}: {}", few_ranges(pages))
        });
    }

    /// Checks that the area of the guest's work holds what so many steps write.
    fn work(&mut self, home: &Home, area: WorkArea) -> Result<(), Failure> {
        let [steps, number] = read_words(&home.memory, WORK_RESULTS)?;
        let (work, words) = Work::replay(area, steps);
        self.that(
            &format!(
                "the guest's last number after {steps} steps is {:#x}",
                work.number
            ),
            steps > 0 && number == work.number,
            || format!("{number:#x}"),
        );
        let mut wrong_pages = home.layout.no_pages();
        let range = area.range();
        for start in range.clone().step_by(CHUNK_BYTES) {
            let len = CHUNK_BYTES.min(usize::try_from(range.end - start).unwrap_or(CHUNK_BYTES));
            let mut expected = vec![0; len];
            for (address, word) in words.range(start..start + len as u64) {
                let at = usize::try_from(address - start).unwrap_or_default();
                expected[at..at + 4].copy_from_slice(&word.to_le_bytes());
            }
            let found = read(&home.memory, start, len)?;
            let pages = (start..).step_by(PAGE_LEN);
            let pairs = found.chunks(PAGE_LEN).zip(expected.chunks(PAGE_LEN));
            let wrong = pages
                .zip(pairs)
                .filter(|(_, (found, expected))| found != expected);
            wrong_pages.union_with(&home.layout.pages_at(wrong.map(|(page, _)| page)));
        }
        self.none(
            &format!(
                "the area of its work holds those numbers: {} words",
                words.len()
            ),
            &wrong_pages,
            "wrong",
        );
        Ok(())
    }
}

/// Returns the pages that the guest writes, with its work in `area` or without.
fn guest_pages(home: &Home, area: Option<WorkArea>) -> Result<GuestDirtyPages, Failure> {
    let mut pages = home.layout.pages_at(written_pages());
    if let Some(area) = area {
        let [steps, _] = read_words(&home.memory, WORK_RESULTS)?;
        let (_, words) = Work::replay(area, steps);
        pages.union_with(&home.layout.pages_at(words.into_keys()));
    }
    Ok(pages)
}

/// Returns the pages that the device and the monitor write.
fn device_pages(home: &Home, area: Option<WorkArea>) -> GuestDirtyPages {
    let enough = area.map(|_| ENOUGH);
    home.layout
        .pages_at(device_thread::written_pages().chain(enough))
}

/// Formats a set of pages, without the rest if it is long.
fn few_ranges(pages: &GuestDirtyPages) -> String {
    let ranges = pages.ranges().map(|(start, len_bytes)| {
        let end = start.0 + len_bytes;
        format!("[{:#x}, {end:#x})", start.0)
    });
    let few: Vec<String> = ranges.clone().take(FEW_RANGES).collect();
    let rest = if ranges.count() > few.len() {
        ", ..."
    } else {
        ""
    };
    format!("{} pages {}{rest}", pages.count(), few.join(", "))
}

fn read_words(memory: &SharedMemory, address: u64) -> Result<[u32; 2], Failure> {
    let bytes = read(memory, address, 8)?;
    let (words, _) = bytes.as_chunks::<4>();
    Ok([0, 1].map(|index| words.get(index).map_or(0, |word| u32::from_le_bytes(*word))))
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
