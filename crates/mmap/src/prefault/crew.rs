// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The threads that populate: each takes the next piece until none is left or something goes wrong.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::memory_limit::MemoryLimit;
use super::node;
use super::page::{self, PopulateFailure};
use super::{Prefault, PrefaultError, PrefaultMethod, PrefaultProgress, PrefaultReport};
use crate::Sharing;
use crate::extent::Extent;
use crate::policy::PageSource;
use crate::residency;
use crate::sys;

/// Bytes that a thread takes at once, unless a page is more.
///
/// From 2 MiB to 1 GiB the size makes no difference to the speed that could be told from noise: a call costs nothing beside
/// its pages. This one takes about 5 ms for small pages, after which a cancellation is seen, and leaves threads that end one
/// after the other little to wait for.
const PIECE: usize = 16 << 20;

/// What is to be populated of one region.
#[derive(Clone, Debug)]
pub(super) struct Job<'e> {
    /// Which region, for errors.
    pub(super) region: usize,
    /// Where the extent starts in its region.
    pub(super) offset: usize,
    /// Whole pages, except for the last one of the region.
    pub(super) extent: Extent<'e>,
}

/// Populates all jobs.
pub(super) fn run(jobs: &[Job<'_>], how: &Prefault<'_>) -> Result<PrefaultReport, PrefaultError> {
    // The kernel is asked once for all: what it knows does not depend on the memory.
    let populates = jobs
        .first()
        .is_none_or(|job| page::kernel_populates(&job.extent));
    let method = if populates {
        PrefaultMethod::Populate
    } else {
        PrefaultMethod::Touch
    };
    check_limit(jobs, MemoryLimit::tightest)?;
    run_by(jobs, how, method)
}

/// Refuses what a control group would have this process killed for.
fn check_limit(
    jobs: &[Job<'_>],
    tightest: impl FnOnce() -> Option<MemoryLimit>,
) -> Result<(), PrefaultError> {
    let bytes = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
    let charged: Vec<&Job<'_>> = jobs.iter().filter(|job| is_charged(&job.extent)).collect();
    let lengths = charged.iter().map(|job| bytes(job.extent.len_bytes()));
    let total = lengths.fold(0, u64::saturating_add);
    if total == 0 {
        return Ok(());
    }
    let Some(tightest) = tightest().filter(|limit| total > limit.left()) else {
        return Ok(());
    };
    // Only now, since to find out what is there takes a look at each page.
    let missing = charged.iter().map(|job| {
        let length = job.extent.len_bytes();
        let there = residency::resident_bytes(&job.extent, 0..length).unwrap_or(0);
        bytes(length.saturating_sub(there))
    });
    let missing = missing.fold(0, u64::saturating_add);
    if missing <= tightest.left() {
        return Ok(());
    }
    Err(PrefaultError::OverLimit {
        missing,
        limit: tightest.limit,
        used: tightest.used,
    })
}

/// Says whether pages are charged to the control group for good: the cache of a file makes room, and huge pages have a limit of
/// their own.
fn is_charged(extent: &Extent<'_>) -> bool {
    match PageSource::of(*extent) {
        Ok(PageSource::HugePages) => false,
        Ok(PageSource::File) => extent.details().sharing == Sharing::Private,
        _ => true,
    }
}

/// Likewise by a given method.
pub(super) fn run_by(
    jobs: &[Job<'_>],
    how: &Prefault<'_>,
    method: PrefaultMethod,
) -> Result<PrefaultReport, PrefaultError> {
    let pieces: Vec<_> = jobs.iter().flat_map(pieces).collect();
    let work = Work {
        total: jobs
            .iter()
            .fold(0, |sum, job| job.extent.len_bytes().saturating_add(sum)),
        pieces,
        next: AtomicUsize::new(0),
        state: Mutex::new(State {
            done: 0,
            error: None,
        }),
        how,
        method,
    };
    match (how.threads.get(), how.cpus.is_empty()) {
        (1, true) => work.take_pieces(),
        (threads, _) => {
            // More threads than pieces would have nothing to do.
            let threads = usize::min(threads, work.pieces.len());
            thread::scope(|scope| {
                for _ in 0..threads {
                    let builder = thread::Builder::new().name("prefault".into());
                    if let Err(source) = builder.spawn_scoped(scope, || work.bind_and_take_pieces())
                    {
                        work.fail(|_| PrefaultError::Thread {
                            operation: "start a thread",
                            source,
                        });
                        break;
                    }
                }
            });
        }
    }
    let total = work.total;
    // If a report had panicked, the scope or the report itself would not have let us come here.
    let state = work.state.into_inner();
    let State { done, error } = state.unwrap_or_else(|poison| poison.into_inner());
    match error {
        Some(error) => Err(error.with_done(done)),
        None => Ok(PrefaultReport {
            populated: total,
            method,
        }),
    }
}

/// A part of a job that one thread does.
#[derive(Debug)]
struct Piece<'e> {
    region: usize,
    extent: Extent<'e>,
    /// Where the piece starts in its region.
    offset: usize,
    /// Where its job ends in its region.
    job_end: usize,
}

/// Cuts a job at multiples of a piece's size in the address space, so that no huge page is cut in two.
fn pieces<'e>(job: &Job<'e>) -> impl Iterator<Item = Piece<'e>> {
    let job = job.clone();
    let size = usize::max(PIECE, job.extent.details().page_size);
    let first_address = job.extent.start().addr().get();
    let job_len = job.extent.len_bytes();
    let mut at = 0usize;
    std::iter::from_fn(move || {
        if at >= job_len {
            return None;
        }
        let address = first_address.saturating_add(at);
        let to_boundary = size.saturating_sub(address & size.wrapping_sub(1));
        let len_bytes = usize::min(to_boundary, job_len.saturating_sub(at));
        let piece = Piece {
            region: job.region,
            extent: job.extent.part(at, len_bytes)?,
            offset: job.offset.saturating_add(at),
            job_end: job.offset.saturating_add(job_len),
        };
        at = at.saturating_add(len_bytes);
        Some(piece)
    })
}

/// What the threads share.
struct Work<'w, 'e> {
    pieces: Vec<Piece<'e>>,
    /// Index of the next piece that nobody has taken.
    next: AtomicUsize,
    state: Mutex<State>,
    total: usize,
    how: &'w Prefault<'w>,
    method: PrefaultMethod,
}

struct State {
    done: usize,
    /// The first one; it ends the work of all.
    error: Option<PrefaultError>,
}

impl Work<'_, '_> {
    fn bind_and_take_pieces(&self) {
        if !self.how.cpus.is_empty()
            && let Err(source) =
                node::mask(&self.how.cpus).and_then(|mask| sys::set_affinity(&mask))
        {
            return self.fail(|_| PrefaultError::Thread {
                operation: "bind a thread to the processors given",
                source,
            });
        }
        self.take_pieces();
    }

    fn take_pieces(&self) {
        // Relaxed: the counter alone is shared through it; what a piece is was there before the threads.
        while let Some(piece) = self.pieces.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            if self.is_cancelled() {
                return self.fail(|done| PrefaultError::Cancelled {
                    done,
                    total: self.total,
                });
            }
            match page::populate(&piece.extent, self.method) {
                Ok(()) => {
                    if !self.advance(piece.extent.len_bytes()) {
                        return;
                    }
                }
                Err(failure) => {
                    return self.fail_at(piece, failure);
                }
            }
        }
    }

    /// Counts what a thread has populated and tells of it; says whether to go on.
    fn advance(&self, bytes: usize) -> bool {
        // Poisoned by the panic of a report: the scope passes that on once all threads have ended.
        let Ok(mut state) = self.state.lock() else {
            return false;
        };
        state.done = state.done.saturating_add(bytes);
        if state.error.is_some() {
            return false;
        }
        if let Some(progress) = self.how.progress {
            // Under the lock, so that reports come one at a time and in order.
            progress(PrefaultProgress {
                done: state.done,
                total: self.total,
            });
        }
        true
    }

    fn fail_at(&self, piece: &Piece<'_>, failure: PopulateFailure) {
        let PopulateFailure {
            at,
            len_bytes,
            source,
        } = failure;
        let offset = piece.offset.saturating_add(at);
        let needed = piece.job_end.saturating_sub(offset);
        let from_there = piece.extent.part(at, len_bytes).unwrap_or(piece.extent);
        let reason = page::explain(&from_there, needed, &source);
        if let Ok(mut state) = self.state.lock() {
            state.done = state.done.saturating_add(at);
        }
        self.fail(|done| PrefaultError::Populate {
            region: piece.region,
            offset,
            length: len_bytes,
            done,
            total: self.total,
            reason,
            source,
        });
    }

    /// Ends the work of all threads; the first error stays.
    fn fail(&self, error: impl FnOnce(usize) -> PrefaultError) {
        self.next.store(self.pieces.len(), Ordering::Relaxed);
        if let Ok(mut state) = self.state.lock() {
            let done = state.done;
            state.error.get_or_insert_with(|| error(done));
        }
    }

    fn is_cancelled(&self) -> bool {
        // Relaxed: nothing that the caller wrote before setting it is read here.
        self.how
            .cancelled
            .is_some_and(|cancelled| cancelled.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MmapRegion;
    use std::ops::Range;

    #[test]
    fn what_a_control_group_does_not_allow_is_refused_unless_it_is_there() {
        let region = MmapRegion::<()>::new(1 << 20).unwrap();
        let job = |pages: Range<usize>| Job {
            region: 0,
            offset: pages.start,
            extent: region.extent().part(pages.start, pages.len()).unwrap(),
        };
        let limit = || {
            Some(MemoryLimit {
                limit: 3 << 20,
                used: (3 << 20) - (1 << 19),
            })
        };
        assert!(check_limit(&[job(0..1 << 19)], limit).is_ok());
        assert!(check_limit(&[job(0..1 << 20)], || None).is_ok());
        let error = check_limit(&[job(0..1 << 19), job(1 << 19..1 << 20)], limit).unwrap_err();
        assert_eq!(
            error.to_string(),
            "populating 1048576 bytes exceeds the limit of the control group: 3145728 bytes, of which 2621440 are in use"
        );
        region.prefault_range(0, 1 << 19, &Prefault::new()).unwrap();
        assert!(check_limit(&[job(0..1 << 20)], limit).is_ok());
    }

    #[test]
    fn pieces_are_the_job_in_order_and_end_at_boundaries_of_addresses() {
        let region = MmapRegion::<()>::new(100 << 20).unwrap();
        let (start, end) = (0x3000, (100 << 20) - 0x1000);
        let job = Job {
            region: 0,
            offset: start,
            extent: region.extent().part(start, end - start).unwrap(),
        };
        let mut at = start;
        let pieces: Vec<_> = pieces(&job).collect();
        for piece in &pieces {
            assert_eq!(piece.offset, at);
            assert_eq!(
                piece.extent.start().addr().get(),
                region.as_ptr().addr() + at
            );
            assert!(piece.extent.len_bytes() <= PIECE);
            at += piece.extent.len_bytes();
            assert!(at == end || (region.as_ptr().addr() + at).is_multiple_of(PIECE));
        }
        assert_eq!(at, end);
        assert!(pieces.len() >= 6);
    }
}
