// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Copies, fills and arrays.

use std::fmt::Debug;

use arbitrary::Arbitrary;
use guest_memory_volatile::{ByteValued, VolatileArrayRef, VolatileMemory, VolatileMemoryError};

use super::number::Number;
use super::types::{FILL, value, with_type};
use super::window::{Flaw, Kind, Log, Slice, Twin, Window, settle, unless};
use crate::pattern::pattern;

/// An operation on all of a window as the fuzzer makes it.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum Copy {
    /// Elements of the type that the first number stands for, so many.
    To {
        of: u8,
        count: Number,
        is_tried: bool,
    },
    From {
        of: u8,
        count: Number,
        first: u8,
        is_tried: bool,
    },
    /// To the window of that number, which may overlap.
    ToSlice {
        other: u8,
        is_tried: bool,
    },
    Fill(u8),
    Zero,
    IsZero,
    /// An array of the type that the number stands for.
    Array {
        of: u8,
        at: Number,
        count: Number,
        call: OnArray,
    },
}

#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum OnArray {
    Load(Number),
    Store(Number, u8),
    To(Number),
    From(Number, u8),
    ToSlice(u8),
}

/// Longer host arrays are cut, to so many bytes.
const MAX_BYTES: usize = 5000;

impl Copy {
    /// Runs the operation; returns its name and whether it succeeded.
    pub(super) fn run(
        self,
        window: &Window<'_>,
        windows: &[Window<'_>],
        twin: &mut Twin,
    ) -> (&'static str, bool) {
        let slice = &window.slice;
        match self {
            Copy::To {
                of,
                count,
                is_tried,
            } => with_type!(of, T => {
                let fitting = fitting::<T>(window.len, window, count);
                let copy = |buf: &mut [T]| match is_tried {
                    true => slice.try_copy_to(buf),
                    false => Ok(slice.copy_to(buf)),
                };
                ("copy_to", copy_out(window, fitting, twin, copy))
            }),
            Copy::From {
                of,
                count,
                first,
                is_tried,
            } => with_type!(of, T => {
                let fitting = fitting::<T>(window.len, window, count);
                let copy = |buf: &[T]| is_tried.then(|| slice.try_copy_from(buf)).or_else(|| {
                    slice.copy_from(buf);
                    None
                });
                ("copy_from", copy_in(window, fitting, first, twin, copy))
            }),
            Copy::ToSlice { other, is_tried } => {
                let other = &windows[usize::from(other) % windows.len()];
                let copy = |to: Slice<'_>| match is_tried {
                    true => Some(slice.try_copy_to_volatile_slice(to)),
                    false => {
                        slice.copy_to_volatile_slice(to);
                        None
                    }
                };
                (
                    "copy_to_volatile_slice",
                    copy_over(window, other, twin, copy),
                )
            }
            Copy::Fill(byte) => ("fill", fill(window, byte, twin, slice.fill(byte))),
            Copy::Zero => ("zero", fill(window, 0, twin, slice.zero())),
            Copy::IsZero => {
                let bytes = twin.read(window, 0, window.len);
                let expected = bytes.iter().all(|&byte| byte == 0);
                ("is_zero", settle(slice.is_zero(), Ok(expected)) && expected)
            }
            Copy::Array {
                of,
                at,
                count,
                call,
            } => {
                let numbers = [at, count];
                let succeeded =
                    with_type!(of, T => array::<T>(window, windows, numbers, call, twin));
                (call.name(), succeeded)
            }
        }
    }
}

impl OnArray {
    fn name(self) -> &'static str {
        match self {
            OnArray::Load(_) => "VolatileArrayRef::try_load",
            OnArray::Store(..) => "VolatileArrayRef::try_store",
            OnArray::To(_) => "VolatileArrayRef::copy_to",
            OnArray::From(..) => "VolatileArrayRef::copy_from",
            OnArray::ToSlice(_) => "VolatileArrayRef::copy_to_volatile_slice",
        }
    }
}

/// Numbers of elements: how many a host array has, and how many of these there is room for.
#[derive(Clone, Copy, Debug)]
struct Fitting {
    given: usize,
    fitting: usize,
}

fn fitting<T>(room: usize, window: &Window<'_>, count: Number) -> Fitting {
    let size = size_of::<T>();
    let given = count.of(window).min(MAX_BYTES / size.max(1));
    let fitting = room.checked_div(size).map_or(given, |room| room.min(given));
    Fitting { given, fitting }
}

fn copy_out<T: ByteValued + PartialEq + Debug>(
    window: &Window<'_>,
    Fitting { given, fitting }: Fitting,
    twin: &Twin,
    copy: impl FnOnce(&mut [T]) -> Result<usize, VolatileMemoryError>,
) -> bool {
    let unread = value::<T>(&vec![FILL; size_of::<T>()]);
    let mut buf = vec![unread; given];
    let succeeded = settle(copy(&mut buf), Ok(fitting));
    let size = size_of::<T>();
    for (index, element) in buf.into_iter().enumerate() {
        let is_copied = index < fitting;
        let expected = is_copied.then(|| value(twin.read(window, index * size, size)));
        assert_eq!(element, expected.unwrap_or(unread), "element {index}");
    }
    succeeded
}

/// Copies elements in; `copy` returns `None` if the subject does not say whether it could.
fn copy_in<T: ByteValued>(
    window: &Window<'_>,
    Fitting { given, fitting }: Fitting,
    first: u8,
    twin: &mut Twin,
    copy: impl FnOnce(&[T]) -> Option<Result<usize, VolatileMemoryError>>,
) -> bool {
    let size = size_of::<T>();
    let bytes = pattern(first, given * size);
    let element = |index: usize| value::<T>(&bytes[index * size..][..size]);
    let elements: Vec<T> = (0..given).map(element).collect();
    if !window.is_read_only {
        twin.write(window, 0, &bytes[..fitting * size]);
    }
    match copy(&elements) {
        Some(found) => settle(found, unless_read_only(window).map(|()| fitting)),
        None => !window.is_read_only,
    }
}

fn copy_over<'a>(
    window: &Window<'_>,
    other: &Window<'a>,
    twin: &mut Twin,
    copy: impl FnOnce(Slice<'a>) -> Option<Result<usize, VolatileMemoryError>>,
) -> bool {
    let len = window.len.min(other.len);
    if !other.is_read_only {
        let data = twin.read(window, 0, len).to_vec();
        twin.write(other, 0, &data);
    }
    match copy(other.slice) {
        Some(found) => settle(found, unless_read_only(other).map(|()| len)),
        None => !other.is_read_only,
    }
}

fn fill(
    window: &Window<'_>,
    byte: u8,
    twin: &mut Twin,
    found: Result<(), VolatileMemoryError>,
) -> bool {
    if !window.is_read_only {
        twin.write(window, 0, &vec![byte; window.len]);
    }
    settle(found, unless_read_only(window))
}

fn unless_read_only(window: &Window<'_>) -> Result<(), Vec<Flaw>> {
    unless(window.flaws(0, 0, Kind::Write))
}

fn array<T: ByteValued + PartialEq + Debug>(
    window: &Window<'_>,
    windows: &[Window<'_>],
    [at, count]: [Number; 2],
    call: OnArray,
    twin: &mut Twin,
) -> bool {
    let (at, count, size) = (at.of(window), count.of(window), size_of::<T>());
    let found = window.slice.get_array_ref::<T>(at, count);
    let flaws = match count.checked_mul(size) {
        Some(len_bytes) => window.flaws(at, len_bytes, Kind::Read),
        None => vec![Flaw::TooBig(count, size)],
    };
    let Ok(array) = found else {
        return settle(found.map(drop), unless(flaws));
    };
    assert_eq!(flaws, [], "get_array_ref");
    assert_eq!((array.len(), array.element_size()), (count, size));
    assert_eq!(array.is_empty(), count == 0);
    let mut window = *window;
    window.narrow(array.to_slice(), at, count * size);
    on_array(&array, &window, windows, call, twin)
}

fn on_array<'a, T: ByteValued + PartialEq + Debug>(
    array: &VolatileArrayRef<'a, T, Log<'a>>,
    window: &Window<'a>,
    windows: &[Window<'_>],
    call: OnArray,
    twin: &mut Twin,
) -> bool {
    let (count, size) = (array.len(), size_of::<T>());
    match call {
        OnArray::Load(index) => {
            let index = index.of(window);
            if index >= count {
                let flaw = Flaw::OutOfBounds(index);
                let found = array.try_load(index).map(drop);
                return settle(found, Err(vec![flaw]));
            }
            let held = value::<T>(twin.read(window, index * size, size));
            assert_eq!(array.load(index), held, "load");
            let found = array.try_load(index);
            settle(found, Ok(held))
        }
        OnArray::Store(index, first) => {
            let (index, data) = (index.of(window), pattern(first, size));
            let expected = if index >= count {
                Err(vec![Flaw::OutOfBounds(index)])
            } else if window.is_read_only && size > 0 {
                Err(vec![Flaw::ReadOnly(0)])
            } else {
                twin.write(window, index * size, &data);
                Ok(())
            };
            let found = array.try_store(index, value::<T>(&data));
            if index < count {
                array.store(index, value::<T>(&data));
            }
            settle(found, expected)
        }
        OnArray::To(wanted) => {
            let fitting = fitting_elements::<T>(count, window, wanted);
            let copy = |buf: &mut [T]| Ok(array.copy_to(buf));
            copy_out(window, fitting, twin, copy)
        }
        OnArray::From(given, first) => {
            let fitting = fitting_elements::<T>(count, window, given);
            let copy = |buf: &[T]| {
                array.copy_from(buf);
                None
            };
            copy_in(window, fitting, first, twin, copy)
        }
        OnArray::ToSlice(other) => {
            let other = &windows[usize::from(other) % windows.len()];
            let copy = |to: Slice<'_>| {
                array.copy_to_volatile_slice(to);
                None
            };
            copy_over(window, other, twin, copy)
        }
    }
}

/// As [`fitting`], where elements without a size are counted too.
fn fitting_elements<T>(room: usize, window: &Window<'_>, count: Number) -> Fitting {
    let given = count.of(window).min(MAX_BYTES / size_of::<T>().max(1));
    Fitting {
        given,
        fitting: room.min(given),
    }
}
