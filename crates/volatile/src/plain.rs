// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The bridge to zerocopy: its derives prove what [`ByteValued`] asks for.
#![expect(unsafe_code, reason = "implements ByteValued from zerocopy's proofs")]

use core::ops::{Deref, DerefMut};

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::byte_valued::ByteValued;

/// A value whose type implements zerocopy's traits, usable wherever [`ByteValued`] is asked for.
///
/// ```
/// use guest_memory_volatile::{Plain, VolatileSlice};
/// use zerocopy::{FromBytes, Immutable, IntoBytes};
///
/// #[repr(C)]
/// #[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
/// struct UsedElement {
///     id: u32,
///     len: u32,
/// }
///
/// # fn main() -> Result<(), guest_memory_volatile::VolatileMemoryError> {
/// let mut backing = [0u8; 16];
/// let memory = VolatileSlice::from(backing.as_mut_slice());
/// memory.write_obj(Plain(UsedElement { id: 3, len: 512 }), 8)?;
/// let element: Plain<UsedElement> = memory.read_obj(8)?;
/// assert_eq!((element.id, element.len), (3, 512));
/// # Ok(())
/// # }
/// ```
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Plain<T>(pub T);

// SAFETY: `Plain` is transparent. `FromBytes`: any bytes are a value. `IntoBytes`: no byte is
// padding. `Immutable`: no interior mutability; a type of any bytes and no padding holds no pointer
// that matters.
unsafe impl<T> ByteValued for Plain<T> where
    T: FromBytes + IntoBytes + Immutable + Copy + Send + Sync
{
}

impl<T> Deref for Plain<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Plain<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T> From<T> for Plain<T> {
    #[inline]
    fn from(value: T) -> Self {
        Self(value)
    }
}
