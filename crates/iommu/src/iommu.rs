// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What an IOMMU is: something that translates.

use std::fmt::Debug;
use std::ops::Deref;
use std::sync::Arc;

use guest_memory_core::{GuestAddress, Permissions, TranslationError};

use crate::iotlb::{Iotlb, IotlbIterator};
use crate::mapping::MappedRange;

/// An IOMMU: translates a device's addresses (IOVAs) by an [`Iotlb`], and knows where to get mappings that it lacks.
///
/// [`SharedIotlb`](crate::SharedIotlb) is one that only has what it was told. To implement another, give
/// [`IotlbGuard`](Self::IotlbGuard) and [`translate`](Self::translate); the provided methods make it fast:
///
/// ```
/// use std::sync::Arc;
///
/// use guest_memory_core::{GuestAddress, Permissions, TranslationError};
/// use guest_memory_iommu::{Iommu, Iotlb, IotlbIterator, IotlbSnapshot, MappedRange, SharedIotlb};
///
/// /// Asks the front end for mappings that are missing.
/// #[derive(Debug)]
/// struct FrontEnd {
///     iotlb: SharedIotlb,
/// }
///
/// impl FrontEnd {
///     /// Sends a request and waits until `self.iotlb` was updated.
///     fn request(&self, iova: GuestAddress) {
///         let page = GuestAddress(iova.0 & !0xfff);
///         self.iotlb.set_mapping(page, GuestAddress(0), 0x1000, Permissions::ReadWrite).ok();
///     }
/// }
///
/// impl Iommu for FrontEnd {
///     type IotlbGuard<'a> = IotlbSnapshot;
///
///     fn translate(
///         &self,
///         iova: GuestAddress,
///         length: usize,
///         access: Permissions,
///     ) -> Result<IotlbIterator<IotlbSnapshot>, TranslationError> {
///         if let Ok(pieces) = self.iotlb.translate(iova, length, access) {
///             return Ok(pieces);
///         }
///         self.request(iova);
///         self.iotlb.translate(iova, length, access)
///     }
///
///     fn first_mapped(&self, iova: GuestAddress, length: usize, access: Permissions) -> Option<MappedRange> {
///         self.iotlb.first_mapped(iova, length, access)
///     }
///
///     fn generation(&self) -> Option<u64> {
///         self.iotlb.generation()
///     }
///
///     fn snapshot(&self) -> Option<Arc<Iotlb>> {
///         self.iotlb.snapshot()
///     }
/// }
///
/// let iommu = FrontEnd { iotlb: SharedIotlb::new() };
/// let at = GuestAddress(0x7010);
/// // The short path asks nobody; an access that finds nothing there goes on to `translate`.
/// assert_eq!(iommu.first_mapped(at, 8, Permissions::Read), None);
/// let range = MappedRange { base: GuestAddress(0x10), length: 8 };
/// assert!(iommu.translate(at, 8, Permissions::Read).is_ok_and(|pieces| pieces.eq([range])));
/// assert_eq!(iommu.first_mapped(at, 8, Permissions::Read), Some(range));
/// ```
pub trait Iommu: Debug + Send + Sync {
    /// A pointer to the table that keeps it as it is, for a translation that goes on.
    type IotlbGuard<'a>: Deref<Target = Iotlb> + 'a
    where
        Self: 'a;

    /// Translates `[iova, iova + length)`, in bytes: the ranges of guest memory that it is mapped to, in order.
    ///
    /// A `length` of 0 is no range and succeeds, as with [`Iotlb::lookup`].
    ///
    /// It may take its time, to get a mapping that is missing. An access that fails calls it again, for the part before
    /// the fault; and up to three times for all of it if there is no [`generation`](Self::generation), as then this is
    /// the short path as well.
    ///
    /// # Errors
    ///
    /// If part of the range cannot be accessed so. The range in the error starts at the first byte that cannot:
    /// the part before is accessed nevertheless.
    fn translate(
        &self,
        iova: GuestAddress,
        length: usize,
        access: Permissions,
    ) -> Result<IotlbIterator<Self::IotlbGuard<'_>>, TranslationError>;

    /// Returns what the start of `[iova, iova + length)` is mapped to, at least one byte and as many as one mapping has, if
    /// that can be found at once.
    ///
    /// This is the short path of an access if there is a [`generation`](Self::generation): it asks nobody, reports nothing
    /// and returns `None` where [`translate`](Self::translate) would have to.
    #[inline]
    fn first_mapped(
        &self,
        iova: GuestAddress,
        length: usize,
        access: Permissions,
    ) -> Option<MappedRange> {
        let _ = (iova, length, access);
        None
    }

    /// Returns a number that grows with each change of the table, after the change and before it is reported as done.
    ///
    /// `None`, the default, says that there is no such number, and that translations must not be kept.
    #[inline]
    fn generation(&self) -> Option<u64> {
        None
    }

    /// Returns the table as it is now, at least as new as the [`generation`](Self::generation) that was read before.
    ///
    /// An [`IommuDevice`](crate::IommuDevice) takes mappings from it to keep. With `None`, the default, it keeps none and asks
    /// [`first_mapped`](Self::first_mapped) each time.
    #[inline]
    fn snapshot(&self) -> Option<Arc<Iotlb>> {
        None
    }
}

impl<I: Iommu + ?Sized> Iommu for Arc<I> {
    type IotlbGuard<'a>
        = I::IotlbGuard<'a>
    where
        Self: 'a;

    #[inline]
    fn translate(
        &self,
        iova: GuestAddress,
        length: usize,
        access: Permissions,
    ) -> Result<IotlbIterator<Self::IotlbGuard<'_>>, TranslationError> {
        (**self).translate(iova, length, access)
    }

    #[inline]
    fn first_mapped(
        &self,
        iova: GuestAddress,
        length: usize,
        access: Permissions,
    ) -> Option<MappedRange> {
        (**self).first_mapped(iova, length, access)
    }

    #[inline]
    fn generation(&self) -> Option<u64> {
        (**self).generation()
    }

    #[inline]
    fn snapshot(&self) -> Option<Arc<Iotlb>> {
        (**self).snapshot()
    }
}
