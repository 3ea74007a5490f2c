// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The suite for a [`GuestAddressSpace`]: a handle from which devices get the memory of the moment.
//!
//! What it holds a handle to:
//!
//! * [`memory`](GuestAddressSpace::memory) gives the map that was put in force last, whole: its regions, its bytes, and
//!   no others;
//! * all handles are handles on the same map: a clone sees what any of them replaces, however old it is, and one that is dropped
//!   takes nothing away;
//! * what was given is kept: a guard, and every clone of it, has the map that it was given, with the same host addresses and all
//!   that was written to it, whatever is replaced or dropped meanwhile;
//! * two guards of one map are the same memory: what is written through one is read through the other;
//! * [`check_concurrent`]: who knows of a replacement, also one by another thread, is given no older map, and no look
//!   sees parts of two maps.
//!
//! The kit knows nothing of how a map is replaced: that is a closure of the implementor's. A handle whose map never changes, such
//! as a reference or an `Arc`, has [`check`].

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use guest_memory_bitmap::Bitmap;
use guest_memory_core::{
    Bytes, GuestAddress, GuestAddressSpace, GuestMemory, GuestMemoryRegion, MemoryRegionAddress,
};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::bytes::Data;
use crate::config::{Config, Tracking, expect_eq, guarded};
use crate::memory;
use crate::model::Model;

/// Length in bytes of what the ranges of a map are multiples of.
const UNIT: usize = 64;

/// How many maps are put in force under readers.
const REPLACEMENTS: usize = 200;

/// One thing that the users of a handle do; numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Operation {
    /// Puts new memory over these ranges in force, through a handle.
    Replace {
        handle: usize,
        ranges: Ranges,
    },
    CloneHandle(usize),
    /// Drops a handle, unless it is the last one.
    DropHandle(usize),
    /// Asks a handle for the memory and keeps what it gives.
    Load(usize),
    CloneGuard(usize),
    DropGuard(usize),
    /// Writes through a guard.
    Write {
        guard: usize,
        region: usize,
        offset: usize,
        data: Data,
    },
}

/// Starts and lengths in bytes, sorted, without overlaps.
type Ranges = Vec<(u64, usize)>;

#[derive(Debug)]
struct Script {
    first: Ranges,
    operations: Vec<Operation>,
}

/// What the suite keeps: handles, guards with the number of the map each was given, and the models of all maps.
struct Users<S: GuestAddressSpace> {
    handles: Vec<S>,
    guards: Vec<(S::T, usize)>,
    maps: Vec<Model>,
}

/// Checks handles whose map does not change: `make` returns one on new, zeroed memory over a list of (start, length in bytes),
/// sorted by start and free of overlaps.
///
/// # Panics
///
/// When one does not behave; the message names the operation and the shortest script.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
///
/// use guest_memory_bitmap::AtomicBitmap;
/// use guest_memory_conformance::address_space;
/// use guest_memory_mmap::GuestMemoryMmap;
///
/// type Memory = GuestMemoryMmap<AtomicBitmap>;
///
/// address_space::check(|ranges| Arc::new(Memory::from_ranges(ranges).expect("mapped memory")));
/// ```
pub fn check<S>(make: impl Fn(&[(GuestAddress, usize)]) -> S)
where
    S: GuestAddressSpace<M: GuestMemory>,
{
    check_with(Config::default(), make, None::<fn(&S, &[_])>);
}

/// Checks handles whose map can be replaced: `replace` puts new, zeroed memory over other ranges in force, through the handle that
/// it is given.
///
/// # Panics
///
/// As [`check`].
///
/// # Examples
///
/// ```
/// use guest_memory_atomic::GuestMemoryAtomic;
/// use guest_memory_bitmap::AtomicBitmap;
/// use guest_memory_conformance::address_space;
/// use guest_memory_mmap::GuestMemoryMmap;
///
/// type Memory = GuestMemoryMmap<AtomicBitmap>;
///
/// address_space::check_swappable(
///     |ranges| GuestMemoryAtomic::new(Memory::from_ranges(ranges).expect("mapped memory")),
///     |handle, ranges| {
///         let memory = Memory::from_ranges(ranges).expect("mapped memory");
///         handle.lock().expect("no writer panicked").replace(memory);
///     },
/// );
/// ```
pub fn check_swappable<S>(
    make: impl Fn(&[(GuestAddress, usize)]) -> S,
    replace: impl Fn(&S, &[(GuestAddress, usize)]),
) where
    S: GuestAddressSpace<M: GuestMemory>,
{
    check_with(Config::default(), make, Some(replace));
}

/// Checks handles as [`check_swappable`] does, or as [`check`] without `replace`, with other settings.
///
/// # Panics
///
/// As [`check`].
pub fn check_with<S>(
    config: Config,
    make: impl Fn(&[(GuestAddress, usize)]) -> S,
    replace: Option<impl Fn(&S, &[(GuestAddress, usize)])>,
) where
    S: GuestAddressSpace<M: GuestMemory>,
{
    let tracking = measured(&config, &make);
    config.run(
        "address space",
        &scripts(config, replace.is_some()),
        |script| {
            let handle = guarded(&("make", &script.first), || {
                Ok(make(&addresses(&script.first)))
            })?;
            let mut users = Users {
                handles: vec![handle],
                guards: Vec::new(),
                maps: vec![Model::new(&script.first, tracking.page_size)],
            };
            guarded(&"a new handle", || users.compare())?;
            for operation in &script.operations {
                guarded(operation, || {
                    users.apply(operation, replace.as_ref(), tracking)?;
                    users.compare()
                })?;
            }
            Ok(())
        },
    );
}

/// Checks that threads are given no older map than they know of, and none that is made of two.
///
/// One thread replaces the map, others look; each map has two regions, and both tell its number. `make` and `replace` are those of
/// [`check_swappable`].
///
/// # Panics
///
/// As [`check`].
///
/// # Examples
///
/// ```
/// use guest_memory_atomic::GuestMemoryAtomic;
/// use guest_memory_conformance::{Config, address_space};
/// use guest_memory_mmap::GuestMemoryMmap;
///
/// type Memory = GuestMemoryMmap<()>;
///
/// address_space::check_concurrent(
///     Config::default(),
///     |ranges| GuestMemoryAtomic::new(Memory::from_ranges(ranges).expect("mapped memory")),
///     |handle, ranges| {
///         let memory = Memory::from_ranges(ranges).expect("mapped memory");
///         handle.lock().expect("no writer panicked").replace(memory);
///     },
/// );
/// ```
pub fn check_concurrent<S>(
    config: Config,
    make: impl Fn(&[(GuestAddress, usize)]) -> S,
    replace: impl Fn(&S, &[(GuestAddress, usize)]) + Sync,
) where
    S: GuestAddressSpace<M: GuestMemory> + Send + Sync,
{
    let handle = make(&numbered(&config, 0));
    // Stored after the replacement has returned: who sees a number knows of that map.
    let replaced = AtomicUsize::new(0);
    let looks = [const { AtomicUsize::new(0) }; 2];
    let looked = thread::scope(|scope| {
        let look = |handle: S, looks| {
            let (config, replaced) = (&config, &replaced);
            scope.spawn(move || {
                let _over = SetAtEnd(looks);
                let mut newest = 0;
                while newest < REPLACEMENTS {
                    let known = replaced.load(Ordering::Acquire).max(newest);
                    newest = number_of(config, &*handle.memory())?;
                    if newest < known {
                        return Err(format!(
                            "a look gave map {newest}, expected {known} or newer"
                        ));
                    }
                    // Relaxed: it only paces the writer.
                    looks.fetch_add(1, Ordering::Relaxed);
                    if newest % 2 == 0 {
                        // Lets a replacement come between two looks where there are few processors.
                        thread::yield_now();
                    }
                }
                Ok(())
            })
        };
        let readers = [
            look(handle.clone(), &looks[0]),
            look(handle.clone(), &looks[1]),
        ];
        for number in 1..=REPLACEMENTS {
            replace(&handle, &numbered(&config, number));
            replaced.store(number, Ordering::Release);
            // Some replacements come while nobody looks, some while all do, and some one by one.
            if number % 3 == 0 {
                let before = looks.each_ref().map(|looks| looks.load(Ordering::Relaxed));
                for (looks, before) in looks.iter().zip(before) {
                    while looks.load(Ordering::Relaxed) <= before && before < OVER {
                        thread::yield_now();
                    }
                }
            }
        }
        readers.map(|reader| {
            let told = reader.join();
            told.unwrap_or_else(|_| Err("a look panicked; expected it to return".into()))
        })
    });
    for result in looked {
        if let Err(reason) = result {
            panic!("address space conformance: {reason}");
        }
    }
}

/// The number of looks of a thread that looks no more.
const OVER: usize = usize::MAX / 2;

/// Makes a number [`OVER`] when it goes, also by a panic.
struct SetAtEnd<'a>(&'a AtomicUsize);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(OVER, Ordering::Relaxed);
    }
}

/// The ranges of map `number`: both are that much longer than those of map 0.
fn numbered(config: &Config, number: usize) -> [(GuestAddress, usize); 2] {
    let len = config.round_up(1) * (number + 1);
    [(GuestAddress(0), len), (GuestAddress(1 << 40), len)]
}

/// Tells which of the [`numbered`] maps a memory is.
fn number_of(config: &Config, memory: &impl GuestMemory) -> Result<usize, String> {
    let ranges: Vec<_> = memory
        .iter()
        .map(|region| (region.start_addr(), region.len()))
        .collect();
    let len = ranges.first().map_or(0, |range| range.1);
    let number = usize::try_from(len).unwrap_or(0) / config.round_up(1);
    let number = number.saturating_sub(1);
    let expected = numbered(config, number).map(|(start, len)| (start, len as u64));
    expect_eq("a map that was seen", ranges, expected.to_vec())?;
    // Its memory can be used at both ends.
    for (start, len) in expected {
        let last = GuestAddress(start.0 + (len - 1));
        let byte = memory.read_obj::<u8>(last);
        let byte = byte.map_err(|error| format!("reading at {last:?}: {error:?}"))?;
        expect_eq("the last byte of a new region", byte, 0)?;
    }
    Ok(number)
}

/// Measures how the memories track, on one made for it.
fn measured<S>(config: &Config, make: &impl Fn(&[(GuestAddress, usize)]) -> S) -> Tracking
where
    S: GuestAddressSpace<M: GuestMemory>,
{
    config.settle("address space", |len| {
        let handle = make(&[(GuestAddress(0), len)]);
        let guard = handle.memory();
        if let Some(region) = guard.iter().next() {
            region.bitmap().mark_dirty(0, 1);
        }
        move |offset| {
            let region = guard.iter().next();
            region.is_some_and(|region| region.bitmap().dirty_at(offset))
        }
    })
}

fn scripts(config: Config, can_replace: bool) -> impl Strategy<Value = Script> {
    let ranges = move || {
        vec((0u64..3, 1usize..3), 1..4).prop_map(move |raw| {
            let mut next = 0;
            let mut ranges = Ranges::new();
            for (gap, units) in raw {
                let start = next + config.round_up_address(gap * UNIT as u64);
                let len = config.round_up(units * UNIT);
                ranges.push((start, len));
                next = start + len as u64;
            }
            ranges
        })
    };
    let any = || 0usize..1 << 16;
    let data = (1u8.., 1usize..20).prop_map(|(first, len)| Data { first, len });
    let replacements = if can_replace { 3 } else { 0 };
    let operation = prop_oneof![
        replacements => (any(), ranges()).prop_map(|(handle, ranges)| Operation::Replace { handle, ranges }),
        1 => any().prop_map(Operation::CloneHandle),
        1 => any().prop_map(Operation::DropHandle),
        3 => any().prop_map(Operation::Load),
        2 => any().prop_map(Operation::CloneGuard),
        1 => any().prop_map(Operation::DropGuard),
        3 => (any(), any(), any(), data)
            .prop_map(|(guard, region, offset, data)| Operation::Write { guard, region, offset, data }),
    ];
    (ranges(), vec(operation, 1..24)).prop_map(|(first, operations)| Script { first, operations })
}

impl<S: GuestAddressSpace<M: GuestMemory>> Users<S> {
    fn apply(
        &mut self,
        operation: &Operation,
        replace: Option<&impl Fn(&S, &[(GuestAddress, usize)])>,
        tracking: Tracking,
    ) -> Result<(), String> {
        let (handles, guards) = (self.handles.len(), self.guards.len());
        match operation {
            Operation::Replace { handle, ranges } => {
                if let Some(replace) = replace {
                    replace(&self.handles[handle % handles], &addresses(ranges));
                    self.maps.push(Model::new(ranges, tracking.page_size));
                }
            }
            Operation::CloneHandle(handle) => {
                let clone = self.handles[handle % handles].clone();
                self.handles.push(clone);
            }
            Operation::DropHandle(handle) if handles > 1 => {
                self.handles.remove(handle % handles);
            }
            Operation::Load(handle) => {
                let guard = self.handles[handle % handles].memory();
                self.guards.push((guard, self.maps.len() - 1));
            }
            Operation::CloneGuard(guard) if guards > 0 => {
                let (guard, map) = &self.guards[guard % guards];
                self.guards.push((guard.clone(), *map));
            }
            Operation::DropGuard(guard) if guards > 0 => {
                self.guards.remove(guard % guards);
            }
            Operation::Write {
                guard,
                region,
                offset,
                data,
            } if guards > 0 => {
                let (guard, map) = &self.guards[guard % guards];
                let model = &mut self.maps[*map];
                let span = &model.spans()[region % model.spans().len()];
                let at = span.start() + (offset % span.len()) as u64;
                let count = guard.write(&data.bytes(), GuestAddress(at));
                let count =
                    count.map_err(|error| format!("returned {error:?}, expected a count"))?;
                let expected = model.write(at, &data.bytes());
                expect_eq("the count of the write", count, expected)?;
            }
            _ => {} // No guard or second handle to do it with.
        }
        Ok(())
    }

    /// Looks at all maps that somebody has, and at what each handle gives now.
    fn compare(&self) -> Result<(), String> {
        let newest = self.maps.len() - 1;
        let mut address_of = vec![None; self.maps.len()];
        for (which, (guard, map)) in self.guards.iter().enumerate() {
            let told = same(&**guard, &self.maps[*map], &mut address_of[*map]);
            told.map_err(|reason| format!("guard {which}, of map {map} of {newest}: {reason}"))?;
        }
        for (which, handle) in self.handles.iter().enumerate() {
            let told = same(
                &*handle.memory(),
                &self.maps[newest],
                &mut address_of[newest],
            );
            told.map_err(|reason| format!("what handle {which} gives now: {reason}"))?;
        }
        Ok(())
    }
}

/// Compares a memory with the model of its map; `host` is where in the host the map was seen before.
fn same<M: GuestMemory>(
    memory: &M,
    model: &Model,
    host: &mut Option<*const u8>,
) -> Result<(), String> {
    memory::bounds(memory, model)?;
    memory::compare(memory, model)?;
    let first = memory.iter().next();
    let slice = first.map(|region| region.get_slice(MemoryRegionAddress(0), 1));
    let Some(Ok(slice)) = slice else {
        return Err("the first region has no slice, expected one".into());
    };
    let found = slice.ptr_guard().as_ptr();
    let expected = *host.get_or_insert(found);
    expect_eq("the host address of the map", found, expected)
}

fn addresses(ranges: &Ranges) -> Vec<(GuestAddress, usize)> {
    ranges
        .iter()
        .map(|&(start, len)| (GuestAddress(start), len))
        .collect()
}
