// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Marks in atomic words, and the protocol by which writers set them and harvesters take them.
//!
//! There are two levels. A bit of a *leaf* word is a page; a bit of a *summary* word is a leaf word that may have marks.
//! A harvest reads the summary and only the leaves it names, so that it costs what is dirty and not what is tracked.
//!
//! ```text
//! writer                                      harvester
//!   store data                                  for each summary word that is not zero:
//!   fence W                                       take it (swap with zero)
//!   return if marking is off                      take each leaf it names
//!   set the bits of the leaf, if one is clear   fence H, if anything was taken
//!   set the bit of the summary, if it is clear  read data
//! ```
//!
//! # Why no write is lost
//!
//! The promise: a write whose mark returned before a harvest began is in that harvest or in an earlier one that is not
//! yet copied; a write that races with a harvest is visible to the copy after it, or is in the next one.
//!
//! **The data.** A writer that finds its bits set changes nothing, so no read-modify-write of its own stands between
//! its data and the harvester. Writer and harvester each store one place and then look at the other's: without more the
//! data could wait in the writer's store buffer while the writer sees a bit that is just being taken; the copy would be
//! old and no bit left. The fences exclude it, and there are two pairs of them ([`MarkOrdering`]):
//!
//! * *Asymmetric*: W only keeps the compiler from reordering; H makes every thread of the process pass a full barrier. Seen
//!   from one writer H is a point in its program. If the writer has looked at the leaf by then, its data is visible
//!   after H, and the copy has it. If it has not, it looks after the leaf was taken, and sets the bit again.
//! * *Symmetric*: both are full fences, and one is first. If W is, the copy sees the data; if H is, the writer sees the
//!   taken leaf.
//!
//! **The summary.** A mark returns only after it has seen or set the leaf's bits and then the summary's, in that order,
//! and a harvest takes them in the other order. Say the writer finds the summary's bit set. Either a harvest will
//! still take that bit and then the leaf, or it was set after the leaf was taken by the harvest before. The writer cannot have
//! missed that: its look at the leaf, if it saw that harvest's zero or anything after it, acquires what the harvest
//! released by taking the leaf, the taken summary with it. So the two orders that would be cheaper are wrong: with the
//! summary set first, a harvest between the two steps would leave a bit that nothing names; with the summary taken for granted
//! where the leaf is set, a first marker that was preempted between its steps would hide a second marker's finished write.
//!
//! What may happen is that the summary names a leaf without marks. It costs the harvest one look.
//!
//! **Harvesters** take turns, from their first look at the summary to the end of fence H. Otherwise one that begins after another
//! has taken the summary would find nothing, and be over before the other has taken the leaves: a mark from before both could then
//! be left to a third, when a new mark of the same leaf has set the summary again.
//!
//! **Switching.** Marking is switched on by a store that fence H follows. After it every writer either sees it, or had
//! looked before, and then its data is visible to whoever reads from then on, such as the first full copy of a migration.

use alloc::boxed::Box;

use crate::ordering::MarkOrdering;
use crate::sync::{AtomicU8, AtomicU64, Ordering, Turn, zeroed};
use crate::words;

/// Flag of `Marks::state`: marks are recorded.
const MARKING: u8 = 1;
/// Flag of `Marks::state`, which never changes: the ordering is symmetric.
const SYMMETRIC: u8 = 2;

/// A fixed number of marks, from bit 0 on.
pub(crate) struct Marks {
    /// `words::count_for(bits)` words. Bits that do not exist are never set.
    leaves: Box<[AtomicU64]>,
    /// One bit for each leaf.
    summary: Box<[AtomicU64]>,
    /// The two flags in one, so that the usual case is one comparison.
    state: AtomicU8,
    /// Whose turn it is to take.
    taking: Turn,
}

impl Marks {
    /// Makes so many clean marks, with marking on. The memory is not touched.
    pub(crate) fn new(bits: usize, ordering: MarkOrdering) -> Self {
        let leaf_count = words::count_for(bits);
        Self {
            leaves: zeroed(leaf_count),
            summary: zeroed(words::count_for(leaf_count)),
            state: AtomicU8::new(flags(ordering, true)),
            taking: Turn::default(),
        }
    }

    /// Makes clean marks for `bits`, not fewer than here, and copies what is set here; the ordering and whether marking is
    /// on stay. Marks that are set meanwhile may or may not be in the copy.
    pub(crate) fn copy_with_bits(&self, bits: usize) -> Self {
        let mut copy = Self::new(bits, self.ordering());
        copy.state = AtomicU8::new(flags(self.ordering(), self.is_marking()));
        self.for_each_set_leaf(|index, marks| copy.set_leaf(index, marks));
        copy
    }

    /// Changes the ordering; nobody else knows the marks, so no write is under way.
    pub(crate) fn with_ordering(mut self, ordering: MarkOrdering) -> Self {
        self.state = AtomicU8::new(flags(ordering, self.is_marking()));
        self
    }

    pub(crate) fn ordering(&self) -> MarkOrdering {
        if self.state.load(Ordering::Relaxed) & SYMMETRIC == 0 {
            MarkOrdering::Asymmetric
        } else {
            MarkOrdering::Symmetric
        }
    }

    pub(crate) fn leaf_count(&self) -> usize {
        self.leaves.len()
    }

    /// Switches marking on. What a writer stored before it looked whether to mark is visible when this returns.
    pub(crate) fn start(&self) {
        // Relaxed: the fence is what makes it known. Pairs with the loads in `is_marked` and `mark`.
        self.state.fetch_or(MARKING, Ordering::Relaxed);
        self.ordering().after_take();
    }

    /// Switches marking off; what is marked stays.
    pub(crate) fn stop(&self) {
        // Relaxed: a writer that still marks does no harm.
        self.state.fetch_and(!MARKING, Ordering::Relaxed);
    }

    pub(crate) fn is_marking(&self) -> bool {
        self.state.load(Ordering::Relaxed) & MARKING != 0
    }

    /// Says whether there is nothing to do to mark a bit, after the caller stored the data it stands for: it is set, or
    /// marking is off. Never so for a bit that does not exist, unless marking is off.
    #[inline]
    pub(crate) fn is_marked(&self, bit: usize) -> bool {
        MarkOrdering::Asymmetric.before_mark();
        // Relaxed: `start` makes the flag known to all by its fence, before it returns.
        let state = self.state.load(Ordering::Relaxed);
        if state == MARKING {
            self.is_set_and_named(bit)
        } else {
            state == 0
        }
    }

    /// Marks bits `first` to `last`, both included, which exist, after the caller stored the data they stand for.
    pub(crate) fn mark(&self, first: usize, last: usize) {
        self.ordering().before_mark();
        // Relaxed: as in `is_marked`; behind a full fence it is not older than a `start` whose fence was first.
        if !self.is_marking() {
            return;
        }
        let (first_leaf, last_leaf) = (first / words::BITS, last / words::BITS);
        if first_leaf == last_leaf {
            self.set_leaf(first_leaf, words::mask_in(first_leaf, first, last));
        } else {
            self.set(first, last);
        }
    }

    /// Says whether bit `bit`, which exists, is marked; who sees a mark sees the data of the write that set it.
    #[inline]
    pub(crate) fn is_set(&self, bit: usize) -> bool {
        let (leaf, mask) = words::position(bit);
        // Acquire: pairs with the release in `set_leaf_bits`.
        self.leaves
            .get(leaf)
            .is_some_and(|leaf| leaf.load(Ordering::Acquire) & mask != 0)
    }

    /// Takes all marks: calls `taken(leaf, marks)` for every leaf that has some, in ascending order.
    ///
    /// When this returns, and not before, the data of the marks may be read. `taken` must not take marks itself.
    #[inline]
    pub(crate) fn take(&self, mut taken: impl FnMut(usize, u64)) {
        let _turn = self.taking.wait();
        let mut is_any_taken = false;
        words::for_each_set_word(&self.summary, load_acquire, |group, summary| {
            is_any_taken = true;
            // Acquire: pairs with the release in `set_summary_bits`, so the leaves named are seen as set. Release is what the
            // takes of the leaves below need: they publish it.
            let named = summary.swap(0, Ordering::AcqRel);
            words::for_each_bit(group, named, |leaf| {
                let marks = self.take_leaf(leaf);
                if marks != 0 {
                    taken(leaf, marks);
                }
            });
        });
        if is_any_taken {
            self.ordering().after_take();
        }
    }

    /// Clears bits `first` to `last`, both included. When this returns their data may be read.
    pub(crate) fn clear(&self, first: usize, last: usize) {
        let mut is_any_cleared = false;
        words::for_each_mask(
            first / words::BITS..last / words::BITS + 1,
            |group, mask| {
                let Some(summary) = self.summary.get(group) else {
                    return;
                };
                // The summary stays as it is: it may name leaves without marks.
                words::for_each_bit(group, load_acquire(summary) & mask, |leaf| {
                    let mask = words::mask_in(leaf, first, last);
                    if let Some(word) = self.leaves.get(leaf)
                        && load_acquire(word) & mask != 0
                    {
                        is_any_cleared = true;
                        // As in `take_leaf`.
                        word.fetch_and(!mask, Ordering::AcqRel);
                    }
                });
            },
        );
        if is_any_cleared {
            self.ordering().after_take();
        }
    }

    /// Calls `visit(leaf, marks)` for every leaf that has marks, in ascending order, and changes nothing.
    pub(crate) fn for_each_set_leaf(&self, mut visit: impl FnMut(usize, u64)) {
        words::for_each_set_word(&self.summary, load_acquire, |group, summary| {
            words::for_each_bit(group, load_acquire(summary), |leaf| {
                let marks = self.leaves.get(leaf).map_or(0, load_acquire);
                if marks != 0 {
                    visit(leaf, marks);
                }
            });
        });
    }

    /// Says whether the bit is set and the summary names its leaf: then there is nothing to do.
    #[inline]
    fn is_set_and_named(&self, bit: usize) -> bool {
        let (leaf, mask) = words::position(bit);
        let (group, named) = words::position(leaf);
        // Acquire, of the leaf: pairs with the release in `take_leaf`, so that the summary is not older than the leaf.
        self.leaves
            .get(leaf)
            .is_some_and(|leaf| leaf.load(Ordering::Acquire) & mask != 0)
            && self
                .summary
                .get(group)
                .is_some_and(|summary| summary.load(Ordering::Relaxed) & named != 0)
    }

    /// Sets the bits in the leaves and then in the summary, each word if it needs it.
    fn set(&self, first: usize, last: usize) {
        let (first_leaf, last_leaf) = (first / words::BITS, last / words::BITS);
        words::for_each_mask(first_leaf..last_leaf + 1, |group, mask| {
            let group_start = group * words::BITS;
            let start = first_leaf.max(group_start);
            let end = (last_leaf + 1).min(group_start + words::BITS);
            let leaves = self.leaves.get(start..end).unwrap_or_default();
            // A range that is dirty already is common enough to be looked at as a whole first.
            if leaves
                .iter()
                .fold(u64::MAX, |all, leaf| all & load_acquire(leaf))
                != u64::MAX
            {
                for leaf in start..end {
                    self.set_leaf_bits(leaf, words::mask_in(leaf, first, last));
                }
            }
            self.set_summary_bits(group, mask);
        });
    }

    /// Sets all bits of `marks` in a leaf and then the leaf's bit in the summary.
    #[inline]
    fn set_leaf(&self, leaf: usize, marks: u64) {
        self.set_leaf_bits(leaf, marks);
        let (group, named) = words::position(leaf);
        self.set_summary_bits(group, named);
    }

    #[inline]
    fn set_leaf_bits(&self, leaf: usize, mask: u64) {
        if let Some(word) = self.leaves.get(leaf)
            && load_acquire(word) & mask != mask
        {
            // Release: who takes or sees the bits sees the data. Acquire: pairs with the release in `take_leaf`, so that
            // the look at the summary, which comes next, is not older than that take.
            word.fetch_or(mask, Ordering::AcqRel);
        }
    }

    #[inline]
    fn set_summary_bits(&self, group: usize, mask: u64) {
        if let Some(summary) = self.summary.get(group)
            && summary.load(Ordering::Relaxed) & mask != mask
        {
            // Release: pairs with the acquire in `take`; who takes the bit finds the leaf set.
            summary.fetch_or(mask, Ordering::Release);
        }
    }

    #[inline]
    fn take_leaf(&self, leaf: usize) -> u64 {
        // Release: pairs with the acquire of every look at a leaf by a writer; who sees the taken leaf sees that the summary was
        // taken before. Acquire: pairs with the release in `set_leaf_bits`, for the data of those who set the bits.
        self.leaves
            .get(leaf)
            .map_or(0, |word| word.swap(0, Ordering::AcqRel))
    }
}

/// The state of marks with this ordering.
const fn flags(ordering: MarkOrdering, is_marking: bool) -> u8 {
    let ordering = match ordering {
        MarkOrdering::Asymmetric => 0,
        MarkOrdering::Symmetric => SYMMETRIC,
    };
    if is_marking {
        ordering | MARKING
    } else {
        ordering
    }
}

#[inline]
fn load_acquire(word: &AtomicU64) -> u64 {
    // Acquire: pairs with the release in `set_leaf_bits` or `set_summary_bits`, and with that in `take_leaf`.
    word.load(Ordering::Acquire)
}
