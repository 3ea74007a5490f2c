// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Changing what may be done with a region's memory.
#![expect(unsafe_code, reason = "takes away access that somebody may rely on")]

use std::io;
use std::ops::Range;

use guest_memory_bitmap::Bitmap;

use crate::extent::Extent;
use crate::protections::Protections;
use crate::view::View;
use crate::{MmapRegion, Protection};

/// Error of changing the protection of `[offset, offset + length)` of a region, in bytes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProtectError {
    /// The range reaches past the region's end.
    #[error("[{offset:#x}, +{length}) reaches past the end of a region of {size} bytes")]
    OutOfBounds {
        /// Where in the region the range starts.
        offset: usize,
        /// Length of the range.
        length: usize,
        /// Size of the region.
        size: usize,
    },
    /// Only whole pages have a protection; the end may also be the region's, if the region owns its memory.
    #[error("[{offset:#x}, +{length}) is not made of whole pages of {page_size} bytes")]
    Unaligned {
        /// Where in the region the range starts.
        offset: usize,
        /// Length of the range.
        length: usize,
        /// Size of a page.
        page_size: usize,
    },
    /// The region is in use, and was not built with a protection that may change then.
    #[error(
        "the region is in use and was not built with changeable protection, so its protection is fixed"
    )]
    Fixed,
    /// The system refused. Some pages may have changed; accesses are granted where both protections allow them.
    #[error("cannot protect [{offset:#x}, +{length}) as {protection}")]
    Refused {
        /// Where in the region the range starts.
        offset: usize,
        /// Length of the range.
        length: usize,
        /// What was asked for.
        protection: Protection,
        /// Why: `ENOMEM` if the process has too many mappings, `EACCES` if the file was not opened for writing.
        source: io::Error,
    },
}

impl<B: Bitmap> MmapRegion<B> {
    /// Returns what may be done with all of `[offset, offset + length)`: the least that any of its bytes allows, and nothing if it
    /// reaches past the end of the region. Of no bytes it is what may be done with the one at `offset`.
    pub fn protection(&self, offset: usize, length: usize) -> Protection {
        if self.range(offset, length).is_none() {
            return Protection::NoAccess;
        }
        match &self.protections {
            Some(protections) => protections.over(offset, length),
            None => Protection::from_prot(self.prot),
        }
    }

    /// Lists the parts of a range within the region that differ in protection, each as the calls see it that manage memory.
    pub(crate) fn extents(&self, range: Range<usize>) -> Vec<(Range<usize>, Extent<'_>)> {
        let parts = match &self.protections {
            Some(protections) => protections.parts(range),
            None => vec![(range, Protection::from_prot(self.prot))],
        };
        let extent = self.extent();
        let part = |(range, protection): (Range<usize>, Protection)| {
            let part = extent.part(range.start, range.len())?;
            // SAFETY: it is what is noted for the range. Who changes it at the same time vouches for those who use the range.
            Some((range, unsafe { part.with_protection(protection) }))
        };
        parts.into_iter().filter_map(part).collect()
    }

    /// Returns what may be done with all of the memory, if that is the same everywhere and does not change while the region
    /// is shared.
    pub(crate) fn fixed_protection(&self) -> Option<Protection> {
        match self.protections {
            Some(_) => None,
            None => Some(Protection::from_prot(self.prot)),
        }
    }

    /// Changes what may be done with `[offset, offset + length)`, whole pages, while nobody has a window on the region.
    ///
    /// For instance to make a firmware read-only once it is loaded. If the whole region changes, accesses stay as
    /// fast as before; else each looks up its protection from now on, at a cost of some ten nanoseconds. The range may also
    /// end with the region, if the region owns its memory; one of no bytes changes nothing.
    ///
    /// # Errors
    ///
    /// [`OutOfBounds`](ProtectError::OutOfBounds), [`Unaligned`](ProtectError::Unaligned): the range is none that can be protected;
    /// [`Refused`](ProtectError::Refused): the system's answer.
    ///
    /// # Examples
    ///
    /// ```
    /// use guest_memory_mmap::{MmapRegion, Protection};
    /// use guest_memory_volatile::VolatileMemory;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut firmware = MmapRegion::<()>::new(1 << 20)?;
    /// firmware.as_volatile_slice().write_slice(b"firmware", 0)?;
    /// firmware.set_protection(0, 1 << 20, Protection::ReadOnly)?;
    /// assert_eq!(firmware.as_volatile_slice().read_obj::<[u8; 8]>(0)?, *b"firmware");
    /// assert!(firmware.as_volatile_slice().write_obj(0u8, 0).is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_protection(
        &mut self,
        offset: usize,
        length: usize,
        protection: Protection,
    ) -> Result<(), ProtectError> {
        self.check_pages(offset, length)?;
        let size = self.size();
        if self.protections.is_none() && length < size {
            self.protections = Some(Protections::uniform(size, Protection::from_prot(self.prot)));
            self.renew_view();
        }
        // SAFETY: windows borrow the region, so that there is none. Whoever has a pointer of `as_ptr` was promised nothing
        // beyond the protection, and whoever else uses memory of somebody else vouched for this when the region was made.
        let changed = unsafe { self.protect_pages(offset, length, protection) };
        // With a list of protections the change is noted there; without one all of the region was to change.
        if self.protections.is_none() {
            // After an error some pages may have changed: what both allow is granted.
            if changed.is_ok() || protection < Protection::from_prot(self.prot) {
                self.prot = protection.prot();
            }
            self.renew_view();
        }
        changed
    }

    /// Changes what may be done with `[offset, offset + length)`, whole pages, of a region in use.
    ///
    /// The region must have been built
    /// [with changeable protection](crate::MmapRegionBuilder::with_changeable_protection). Accesses that begin
    /// afterwards are refused with an error if they are not allowed.
    ///
    /// # Safety
    ///
    /// Where access is taken away: no window, reference or pointer to the range that was handed out before may be used
    /// for it any more. (With the fault guard installed, an access through a window is an error and no signal, so that
    /// windows may go on being used; references to atomics and pointers may not.)
    ///
    /// # Errors
    ///
    /// As for [`set_protection`](Self::set_protection), and [`Fixed`](ProtectError::Fixed) if the region was not built for it.
    ///
    /// # Examples
    ///
    /// ```
    /// use guest_memory_mmap::{MmapRegion, MmapRegionBuilder, Protection};
    /// use guest_memory_volatile::VolatileMemory;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let builder = MmapRegionBuilder::new(1 << 20).with_changeable_protection();
    /// let region: MmapRegion = builder.build()?;
    /// // SAFETY: no window on the first half is open, and nobody has a pointer to it.
    /// unsafe { region.protect(0, 1 << 19, Protection::NoAccess) }?;
    /// assert!(region.get_slice(0, 8).is_err());
    /// assert!(region.get_slice(1 << 19, 8)?.write_obj(1u8, 0).is_ok());
    /// # Ok(())
    /// # }
    /// ```
    pub unsafe fn protect(
        &self,
        offset: usize,
        length: usize,
        protection: Protection,
    ) -> Result<(), ProtectError> {
        self.check_pages(offset, length)?;
        if self.protections.is_none() {
            return Err(ProtectError::Fixed);
        }
        // SAFETY: the caller vouches for those who use the range.
        unsafe { self.protect_pages(offset, length, protection) }
    }

    /// # Safety
    ///
    /// As for [`protect`](Self::protect). Without a list of protections the caller notes the new one.
    unsafe fn protect_pages(
        &self,
        offset: usize,
        length: usize,
        protection: Protection,
    ) -> Result<(), ProtectError> {
        if length == 0 {
            return Ok(());
        }
        // SAFETY: the caller vouches for those who use the range; accesses through the region look at what is noted.
        let call = || unsafe { self.mapping.protect(offset, length, protection) };
        let changed = match &self.protections {
            Some(protections) => protections.change(offset, length, protection, call),
            None => call(),
        };
        changed.map_err(|source| ProtectError::Refused {
            offset,
            length,
            protection,
            source,
        })
    }

    /// Makes the view anew that slices are cut from.
    fn renew_view(&mut self) {
        let protection = match &self.protections {
            // Looked up for each access.
            Some(_) => Protection::NoAccess,
            None => Protection::from_prot(self.prot),
        };
        self.view = self.view_as(protection);
    }

    fn check_pages(&self, offset: usize, length: usize) -> Result<(), ProtectError> {
        let (size, page_size) = (self.size(), self.page_size);
        let range = self
            .range(offset, length)
            .ok_or(ProtectError::OutOfBounds {
                offset,
                length,
                size,
            })?;
        let is_whole = range.start.is_multiple_of(page_size)
            && (range.end.is_multiple_of(page_size) || (range.end == size && self.owned()));
        if is_whole {
            Ok(())
        } else {
            Err(ProtectError::Unaligned {
                offset,
                length,
                page_size,
            })
        }
    }

    /// Returns the view of all of the memory, given what may be done with it.
    fn view_as(&self, protection: Protection) -> View {
        let len_bytes = if protection.is_readable() {
            self.size()
        } else {
            0
        };
        // SAFETY: the memory is a valid guest range, as was promised when the region was made, as far as the
        // protection goes, which is the memory's.
        unsafe { View::new(self.mapping.start(), len_bytes, !protection.is_writable()) }
    }

    /// Returns the view for an access to `[offset, offset + count)` whose protection is looked up.
    pub(crate) fn looked_up_view(&self, offset: usize, count: usize) -> Option<View> {
        let protections = self.protections.as_ref()?;
        Some(self.view_as(protections.over(offset, count)))
    }
}
