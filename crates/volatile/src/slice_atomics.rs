// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Atomic access to a slice by offset.
#![expect(unsafe_code, reason = "moves words through the copy engine")]

use core::mem::transmute_copy;
use core::sync::atomic::Ordering;

use guest_memory_bitmap::BitmapSlice;

use crate::atomic_access::AtomicAccess;
use crate::atomic_integer::AtomicInteger;
use crate::copy::Word;
use crate::error::{Error, Result};
use crate::slice::VolatileSlice;

/// The plain value of an atomic.
type Value<T> = <<T as AtomicAccess>::A as AtomicInteger>::V;

/// Evaluates `$body` with `$word` being the word of the size of `$access`'s atomic.
macro_rules! by_size {
    ($access:ty, $word:ident => $body:expr) => {{
        const {
            assert!(
                size_of::<<$access as AtomicAccess>::A>() <= 8,
                "an atomic has at most 8 bytes"
            )
        };
        match size_of::<<$access as AtomicAccess>::A>() {
            1 => {
                type $word = u8;
                $body
            }
            2 => {
                type $word = u16;
                $body
            }
            4 => {
                type $word = u32;
                $body
            }
            _ => {
                type $word = u64;
                $body
            }
        }
    }};
}

/// Writes a read-modify-write in terms of the word's function of the same name.
macro_rules! read_modify_write {
    ($(#[$docs:meta])* $name:ident) => {
        $(#[$docs])*
        ///
        /// Values count as unsigned integers of the host's byte order. Atomic and sequentially consistent, whatever
        /// `order` says.
        ///
        /// # Errors
        ///
        /// Those of [`store`](Self::store).
        ///
        /// # Dirty tracking
        ///
        /// The bytes are marked, even if the new value is the old one.
        #[inline(always)]
        pub fn $name<T: AtomicAccess>(&self, val: T, addr: usize, order: Ordering) -> Result<T> {
            let _ = order;
            let at = self.writable_word::<T>(addr)?;
            by_size!(T, W => {
                // SAFETY: `writable_word` gave an aligned word of this size that may be written.
                match unsafe { <W as Word>::$name(at, to_word(val)) } {
                    Ok(before) => {
                        self.bitmap().mark_dirty(addr, size_of::<W>());
                        Ok(from_word(before))
                    }
                    Err(fault) => Err(Error::fault(addr, fault)),
                }
            })
        }
    };
}

impl<B: BitmapSlice> VolatileSlice<'_, B> {
    /// Stores a value atomically, and no weaker than `order` says.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfBounds`] or [`Error::Overflow`] if it does not fit, [`Error::ReadOnly`] if the
    /// memory must not be written, [`Error::Misaligned`] if its host address is not aligned to
    /// its size, [`Error::Fault`] if the page cannot be accessed.
    ///
    /// # Panics
    ///
    /// If `order` is not one that a store can have (`Acquire` or `AcqRel`).
    ///
    /// # Dirty tracking
    ///
    /// The bytes are marked.
    #[inline(always)]
    pub fn store<T: AtomicAccess>(&self, val: T, addr: usize, order: Ordering) -> Result<()> {
        let at = self.writable_word::<T>(addr)?;
        by_size!(T, W => {
            let word: W = to_word(val);
            let stored = match order {
                // SAFETY: `writable_word` gave an aligned word of this size that may be written.
                Ordering::Relaxed => unsafe { W::store(at, word) },
                // SAFETY: as above.
                Ordering::Release => unsafe { W::store_release(at, word) },
                // SAFETY: as above.
                Ordering::SeqCst => unsafe { W::swap(at, word) }.map(drop),
                _ => panic!("a store does not acquire"),
            };
            match stored {
                Ok(()) => {
                    self.bitmap().mark_dirty(addr, size_of::<W>());
                    Ok(())
                }
                Err(fault) => Err(Error::fault(addr, fault)),
            }
        })
    }

    /// Loads a value atomically, and no weaker than `order` says.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfBounds`] or [`Error::Overflow`] if it reaches past the end,
    /// [`Error::Misaligned`] if its host address is not aligned to its size, [`Error::Fault`] if the page cannot be
    /// accessed.
    ///
    /// # Panics
    ///
    /// If `order` is not one that a load can have (`Release` or `AcqRel`).
    #[inline(always)]
    pub fn load<T: AtomicAccess>(&self, addr: usize, order: Ordering) -> Result<T> {
        let at = self.word::<T>(addr)?;
        by_size!(T, W => {
            let loaded = match order {
                // SAFETY: `word` gave an aligned word of this size.
                Ordering::Relaxed => unsafe { W::load(at) },
                // SAFETY: as above.
                Ordering::Acquire | Ordering::SeqCst => unsafe { W::load_ordered(at) },
                _ => panic!("a load does not release"),
            };
            match loaded {
                Ok(word) => Ok(from_word(word)),
                Err(fault) => Err(Error::fault(addr, fault)),
            }
        })
    }

    /// Stores `new` atomically if `current` is there; returns what was there, as `Ok` if it was stored.
    ///
    /// Values count as unsigned integers of the host's byte order. Sequentially consistent, whatever the orders say.
    ///
    /// # Errors
    ///
    /// Those of [`store`](Self::store).
    ///
    /// # Panics
    ///
    /// If `failure` is not an order that a load can have.
    ///
    /// # Dirty tracking
    ///
    /// The bytes are marked if `new` was stored, and only then.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::atomic::Ordering::SeqCst;
    /// # use guest_memory_volatile::ByteValued;
    ///
    /// # #[repr(align(8))]
    /// # struct Words([u64; 2]);
    /// # let mut words = Words([0; 2]);
    /// # let memory = words.0.as_bytes();
    /// // The guest's lock at offset 8, which is free as long as it is 0.
    /// assert_eq!(memory.compare_exchange(0u32, 1, 8, SeqCst, SeqCst)?, Ok(0));
    /// assert_eq!(memory.compare_exchange(0u32, 1, 8, SeqCst, SeqCst)?, Err(1));
    /// assert_eq!(memory.fetch_add(1u32, 8, SeqCst)?, 1);
    /// # Ok::<(), guest_memory_volatile::VolatileMemoryError>(())
    /// ```
    #[inline(always)]
    pub fn compare_exchange<T: AtomicAccess>(
        &self,
        current: T,
        new: T,
        addr: usize,
        success: Ordering,
        failure: Ordering,
    ) -> Result<core::result::Result<T, T>> {
        let _ = success;
        assert!(
            matches!(
                failure,
                Ordering::Relaxed | Ordering::Acquire | Ordering::SeqCst
            ),
            "a failed exchange does not release"
        );
        let at = self.writable_word::<T>(addr)?;
        by_size!(T, W => {
            let expected: W = to_word(current);
            // SAFETY: `writable_word` gave an aligned word of this size that may be written.
            match unsafe { W::compare_exchange(at, expected, to_word(new)) } {
                Ok(before) if before == expected => {
                    self.bitmap().mark_dirty(addr, size_of::<W>());
                    Ok(Ok(from_word(before)))
                }
                Ok(before) => Ok(Err(from_word(before))),
                Err(fault) => Err(Error::fault(addr, fault)),
            }
        })
    }

    read_modify_write! {
        /// Stores a value and returns the one before.
        swap
    }
    read_modify_write! {
        /// Adds to a value, wrapping around, and returns the one before.
        fetch_add
    }
    read_modify_write! {
        /// Ands a value and returns the one before.
        fetch_and
    }
    read_modify_write! {
        /// Ors a value and returns the one before.
        fetch_or
    }
    read_modify_write! {
        /// Exclusive-ors a value and returns the one before.
        fetch_xor
    }

    /// Returns the aligned address of a word.
    #[inline(always)]
    fn word<T: AtomicAccess>(&self, addr: usize) -> Result<*mut u8> {
        let source = self.span().sub(addr, size_of::<T::A>())?;
        source.aligned::<T::A>().map(<*mut T::A>::cast)
    }

    /// Returns the aligned address of a word that may be written.
    #[inline(always)]
    fn writable_word<T: AtomicAccess>(&self, addr: usize) -> Result<*mut u8> {
        let target = self.span().sub(addr, size_of::<T::A>())?;
        target.check_writable(addr)?;
        target.aligned::<T::A>().map(<*mut T::A>::cast)
    }
}

/// Makes a word of a value of the same size.
#[inline(always)]
fn to_word<T: AtomicAccess, W: Word>(value: T) -> W {
    let value: Value<T> = value.into();
    assert!(size_of::<Value<T>>() == size_of::<W>());
    // SAFETY: of the same size as just checked; an atomic's value is plain bytes by the contract of `AtomicInteger`,
    // and any are a word.
    unsafe { transmute_copy::<Value<T>, W>(&value) }
}

/// Makes a value of a word of the same size.
#[inline(always)]
fn from_word<T: AtomicAccess, W: Word>(word: W) -> T {
    assert!(size_of::<Value<T>>() == size_of::<W>());
    // SAFETY: of the same size as just checked; any bytes are an atomic's value by the contract of `AtomicInteger`.
    unsafe { transmute_copy::<W, Value<T>>(&word) }.into()
}

#[cfg(test)]
mod tests;
