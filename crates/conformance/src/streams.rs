// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The suite for streams: implementations of [`ReadVolatile`] and [`WriteVolatile`], and of the same at an offset of a file.
//!
//! What it holds a source to:
//!
//! * what comes are the source's next bytes, all of them and in order, from the first byte of the slice on; no byte behind them
//!   changes, and the marks are those of the bytes that came;
//! * a count is that of the bytes that came, and 0 only at the end or where there is no room; a source that breaks is an error;
//! * an exact form fills all of the slice or fails: with the cause alone if nothing came, else with the bytes wanted and the bytes
//!   that came, which are in place; what a signal interrupts is tried again;
//! * many slices are one stretch of bytes, in order: what comes is at its place in them, whether it ends within a slice or behind
//!   one, whether slices are empty or there are none; the exact form goes on at the byte after the last one;
//! * a slice that must not be written is refused, alone or among many, with nothing read.
//!
//! A sink is held to the same the other way round: it takes the next bytes of the slices, in order and each once, says how
//! many, and leaves the memory and its marks alone.
//!
//! A file at an offset has no position: what one call does depends on its offset alone.

use guest_memory_volatile::{ReadVolatile, ReadVolatileAt, WriteVolatile, WriteVolatileAt};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::config::{Config, expect_bytes, guarded};

mod positioned;
mod rows;
mod sink;
mod source;

use positioned::Positioned;

/// What a stream does when it has given or taken its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// It moves no more byte, and says so with a count of 0.
    WithNothing,
    /// It breaks: each further call is an I/O error.
    WithAnError,
    /// It does not end: a sink that takes everything.
    Never,
}

/// One call on a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// One slice of so many bytes, once.
    Once(usize),
    /// One slice of so many bytes, all of it.
    All(usize),
    /// Slices of so many bytes, once.
    Row(Vec<usize>),
    /// Slices of so many bytes, all of them.
    WholeRow(Vec<usize>),
    /// Slices of so many bytes, of which one must not be written, either way.
    ReadOnlyRow {
        row: Vec<usize>,
        which: usize,
        whole: bool,
    },
}

/// Checks the sources that `make` returns for the bytes that they are to give before they end.
///
/// # Panics
///
/// When one does not behave; the message names the call and the shortest script.
///
/// # Examples
///
/// ```
/// use std::io::Cursor;
///
/// guest_memory_conformance::streams::check_source(|bytes| Cursor::new(bytes.to_vec()));
/// ```
pub fn check_source<R: ReadVolatile>(make: impl Fn(&[u8]) -> R) {
    check_source_with(Config::default(), Ends::WithNothing, make);
}

/// Checks sources as [`check_source`] does, with a number of cases and with another end.
///
/// # Panics
///
/// As [`check_source`].
pub fn check_source_with<R: ReadVolatile>(config: Config, ends: Ends, make: impl Fn(&[u8]) -> R) {
    config.run("source", &scripts(), |(len, calls)| {
        let data = source::data(*len);
        let mut stream = guarded(&("make", len), || Ok(make(&data)))?;
        let mut position = 0;
        for call in calls {
            guarded(call, || {
                source::apply(call, &mut stream, &data, &mut position, ends)
            })?;
        }
        Ok(())
    });
}

/// Checks files that are read at an offset: `make` returns one of these bytes.
///
/// # Panics
///
/// As [`check_source`].
///
/// # Examples
///
/// ```
/// guest_memory_conformance::streams::check_source_at(|bytes| bytes.to_vec());
/// ```
pub fn check_source_at<R: ReadVolatileAt>(make: impl Fn(&[u8]) -> R) {
    check_source_at_with(Config::default(), make);
}

/// Checks files as [`check_source_at`] does, with a number of cases.
///
/// # Panics
///
/// As [`check_source`].
pub fn check_source_at_with<R: ReadVolatileAt>(config: Config, make: impl Fn(&[u8]) -> R) {
    check_source_with(config, Ends::WithNothing, |data| {
        Positioned::new(make(data))
    });
}

/// Checks the sinks that `make` returns for the number of bytes that they have room for; `taken` returns what one took.
///
/// # Panics
///
/// As [`check_source`].
///
/// # Examples
///
/// ```
/// use std::io::Cursor;
///
/// use guest_memory_conformance::streams;
///
/// streams::check_sink(
///     |room| Cursor::new(vec![0u8; room].leak()),
///     |cursor: &Cursor<&mut [u8]>| cursor.get_ref()[..cursor.position() as usize].to_vec(),
/// );
/// ```
pub fn check_sink<W: WriteVolatile>(make: impl Fn(usize) -> W, taken: impl Fn(&W) -> Vec<u8>) {
    check_sink_with(Config::default(), Ends::WithNothing, make, taken);
}

/// Checks sinks as [`check_sink`] does, with a number of cases and with another end.
///
/// # Panics
///
/// As [`check_source`].
///
/// # Examples
///
/// ```
/// use guest_memory_conformance::Config;
/// use guest_memory_conformance::streams::{Ends, check_sink_with};
///
/// // A vector has room for everything.
/// check_sink_with(Config::default(), Ends::Never, |_| Vec::new(), |vector: &Vec<u8>| vector.clone());
/// ```
pub fn check_sink_with<W: WriteVolatile>(
    config: Config,
    ends: Ends,
    make: impl Fn(usize) -> W,
    taken: impl Fn(&W) -> Vec<u8>,
) {
    config.run("sink", &scripts(), |(room, calls)| {
        let mut stream = guarded(&("make", room), || Ok(make(*room)))?;
        let mut expected = Vec::new();
        for call in calls {
            guarded(call, || {
                sink::apply(call, &mut stream, *room, &mut expected, ends)?;
                expect_bytes("what the sink took", 0, &taken(&stream), &expected)
            })?;
        }
        Ok(())
    });
}

/// Checks files that are written at an offset and end: `make` returns one with room for so many bytes; `taken` returns the bytes
/// before the offset that it is given.
///
/// # Panics
///
/// As [`check_source`].
///
/// # Examples
///
/// ```
/// use std::cell::RefCell;
///
/// use guest_memory_bitmap::BitmapSlice;
/// use guest_memory_conformance::streams;
/// use guest_memory_volatile::{VolatileMemoryError, VolatileSlice, WriteVolatileAt};
///
/// /// A disk in memory.
/// struct Disk(RefCell<Vec<u8>>);
///
/// impl WriteVolatileAt for Disk {
///     fn write_volatile_at<B: BitmapSlice>(
///         &self,
///         buf: &VolatileSlice<'_, B>,
///         offset: u64,
///     ) -> Result<usize, VolatileMemoryError> {
///         let mut sectors = self.0.borrow_mut();
///         let start = sectors.len().min(offset as usize);
///         buf.try_copy_to(&mut sectors[start..])
///     }
/// }
///
/// streams::check_sink_at(
///     |room| Disk(RefCell::new(vec![0; room])),
///     |disk, end| disk.0.borrow()[..end].to_vec(),
/// );
/// ```
pub fn check_sink_at<W: WriteVolatileAt>(
    make: impl Fn(usize) -> W,
    taken: impl Fn(&W, usize) -> Vec<u8>,
) {
    check_sink_at_with(Config::default(), Ends::WithNothing, make, taken);
}

/// Checks files as [`check_sink_at`] does, with a number of cases and with another end.
///
/// # Panics
///
/// As [`check_source`].
///
/// # Examples
///
/// ```
/// use std::fs::File;
/// use std::os::unix::fs::FileExt;
///
/// use guest_memory_conformance::Config;
/// use guest_memory_conformance::streams::{Ends, check_sink_at_with};
///
/// check_sink_at_with(
///     Config::default().cases(32),
///     Ends::Never,
///     |_| tempfile::tempfile().expect("a temporary file"),
///     |file: &File, end| {
///         let mut bytes = vec![0; end];
///         file.read_exact_at(&mut bytes, 0).expect("a file that was written so far");
///         bytes
///     },
/// );
/// ```
pub fn check_sink_at_with<W: WriteVolatileAt>(
    config: Config,
    ends: Ends,
    make: impl Fn(usize) -> W,
    taken: impl Fn(&W, usize) -> Vec<u8>,
) {
    check_sink_with(
        config,
        ends,
        |room| Positioned::new(make(room)),
        |stream| taken(stream.inner(), stream.position()),
    );
}

/// Makes lengths of streams in bytes, and calls.
fn scripts() -> impl Strategy<Value = (usize, Vec<Call>)> {
    let len = || prop_oneof![1 => Just(0usize), 5 => 0usize..40, 1 => 0usize..300];
    // A batch of slices in the kit's own walk is sixteen; a row of more crosses it.
    let row = || prop_oneof![4 => vec(prop_oneof![1 => Just(0usize), 3 => 0usize..14], 0..7), 1 => vec(0usize..9, 15..24)];
    let call = prop_oneof![
        2 => len().prop_map(Call::Once),
        2 => len().prop_map(Call::All),
        3 => row().prop_map(Call::Row),
        3 => row().prop_map(Call::WholeRow),
        1 => (row(), any::<usize>(), any::<bool>())
            .prop_map(|(row, which, whole)| Call::ReadOnlyRow { row, which, whole }),
    ];
    (0usize..160, vec(call, 1..12))
}
