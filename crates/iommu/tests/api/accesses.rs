// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Random accesses next to a model: bytes, counts, errors and dirty bits, through every kind of handle.

use std::num::NonZeroUsize;

use guest_memory_bitmap::{AtomicBitmap, Bitmap, NewBitmap, WithBitmapSlice};
use guest_memory_core::{
    Bytes, FaultCause, GuestAddress, GuestMemory, GuestMemoryError, GuestMemoryRegion, IoMemory,
    Operation, Permissions,
};
use guest_memory_iommu::{Error, IommuDevice, IommuMemory, Iotlb, SharedIotlb};
use guest_memory_mmap::GuestMemoryMmap;
use proptest::prelude::*;

use crate::locked::Locked;

/// Bytes of a unit, which is mapped or not.
const UNIT: u64 = 16;

/// Units of IOVA space that scripts use.
const UNITS: u64 = 24;

/// The first IOVA. Scripts go over a border of pages.
const BASE: u64 = 0x3000 - 12 * UNIT;

/// Bytes of IOVA space with a dirty bit each.
const TRACKED: usize = 0x4000;

/// A bitmap with a bit for each byte.
#[derive(Debug)]
struct ByteBits(AtomicBitmap);

impl<'a> WithBitmapSlice<'a> for ByteBits {
    type S = <AtomicBitmap as WithBitmapSlice<'a>>::S;
}

impl Bitmap for ByteBits {
    fn mark_dirty(&self, offset: usize, len: usize) {
        self.0.mark_dirty(offset, len);
    }

    fn dirty_at(&self, offset: usize) -> bool {
        self.0.dirty_at(offset)
    }

    fn slice_at(&self, offset: usize) -> <Self as WithBitmapSlice<'_>>::S {
        self.0.slice_at(offset)
    }
}

impl Default for ByteBits {
    fn default() -> Self {
        Self::with_len(TRACKED)
    }
}

impl NewBitmap for ByteBits {
    fn with_len(len: usize) -> Self {
        Self(AtomicBitmap::new(len, NonZeroUsize::MIN))
    }
}

/// Two regions that touch, a hole, and a third one.
const REGIONS: [(u64, usize); 3] = [(0, 0x1000), (0x1000, 0x1000), (0x5000, 0x1000)];

type Below = GuestMemoryMmap<ByteBits>;

fn below() -> Below {
    let ranges = REGIONS.map(|(start, len)| (GuestAddress(start), len));
    Below::from_ranges(&ranges).unwrap()
}

/// Where scripts map to: around the borders of regions.
const TARGETS: [u64; 4] = [
    0x1000 - 4 * UNIT,
    0x2000 - 4 * UNIT,
    0x5000 - 4 * UNIT,
    0x6000 - 4 * UNIT,
];

#[derive(Clone, Debug)]
enum Op {
    Map {
        unit: u64,
        target: u64,
        units: u64,
        allowed: Permissions,
    },
    Unmap {
        unit: u64,
        units: u64,
    },
    Write {
        iova: u64,
        len: usize,
        byte: u8,
    },
    Read {
        iova: u64,
        len: usize,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let unit = 0..UNITS;
    let iova = BASE..BASE + UNITS * UNIT;
    let target = (prop::sample::select(TARGETS.to_vec()), 0..8u64)
        .prop_map(|(start, unit)| start + unit * UNIT);
    let allowed = prop::sample::select(vec![
        Permissions::No,
        Permissions::Read,
        Permissions::Write,
        Permissions::ReadWrite,
        Permissions::ReadWrite,
        Permissions::ReadWrite,
    ]);
    let len = prop_oneof![0..9usize, 0..100usize];
    prop_oneof![
        5 => (unit.clone(), target, 1..8u64, allowed)
            .prop_map(|(unit, target, units, allowed)| Op::Map { unit, target, units, allowed }),
        1 => (unit, 1..6u64).prop_map(|(unit, units)| Op::Unmap { unit, units }),
        4 => (iova.clone(), len.clone(), any::<u8>())
            .prop_map(|(iova, len, byte)| Op::Write { iova, len, byte }),
        4 => (iova, len).prop_map(|(iova, len)| Op::Read { iova, len }),
    ]
}

struct Model {
    /// By unit: where it is mapped to, and for what.
    units: Vec<Option<(u64, Permissions)>>,
    /// Bytes of guest memory by address; none where there is no memory.
    bytes: Vec<Option<u8>>,
    /// Which IOVAs were written.
    dirty: Vec<bool>,
}

impl Model {
    fn new() -> Self {
        let mut bytes = vec![None; 0x7000];
        for (start, len) in REGIONS {
            let start = usize::try_from(start).unwrap();
            bytes[start..start + len].fill(Some(0));
        }
        Self {
            units: vec![None; usize::try_from(UNITS).unwrap() + 16],
            bytes,
            dirty: vec![false; TRACKED],
        }
    }

    fn resolve(&self, iova: u64, access: Permissions) -> Result<usize, FaultCause> {
        let unit = usize::try_from((iova - BASE) / UNIT).unwrap();
        let entry = self.units.get(unit).copied().flatten();
        let (target, allowed) = entry.ok_or(FaultCause::NotMapped)?;
        if !allowed.allow(access) {
            return Err(FaultCause::NotAllowed);
        }
        let target = GuestAddress(target + (iova - BASE) % UNIT);
        let at = usize::try_from(target.0).unwrap();
        match self.bytes[at] {
            Some(_) => Ok(at),
            None => Err(FaultCause::NoMemory { target }),
        }
    }

    /// Returns where the bytes of the access are, up to the first that cannot be accessed, and why it cannot be.
    fn reach(
        &self,
        iova: u64,
        len: usize,
        access: Permissions,
    ) -> (Vec<usize>, Option<FaultCause>) {
        let mut found = Vec::new();
        for here in iova..iova + len as u64 {
            match self.resolve(here, access) {
                Ok(at) => found.push(at),
                Err(cause) => return (found, Some(cause)),
            }
        }
        (found, None)
    }
}

/// Checks the error of an access that stopped after `done` bytes.
fn check_error(
    error: GuestMemoryError,
    operation: Operation,
    iova: u64,
    len: usize,
    done: usize,
    expected: FaultCause,
) {
    let fault = match error {
        GuestMemoryError::Interrupted {
            operation: what,
            address,
            length,
            completed,
            source,
        } if done > 0 => {
            assert_eq!(
                (what, address, length, completed),
                (operation, GuestAddress(iova), len, done)
            );
            *source
        }
        other => {
            assert_eq!(done, 0, "{other:?}");
            other
        }
    };
    let GuestMemoryError::IommuError(Error::Fault {
        iova_range,
        access,
        cause,
    }) = fault
    else {
        panic!("{fault:?}");
    };
    let wanted = match operation {
        Operation::Write => Permissions::Write,
        _ => Permissions::Read,
    };
    assert_eq!((access, cause), (wanted, expected));
    assert_eq!(iova_range.base, GuestAddress(iova + done as u64));
    assert!((1..=len - done).contains(&iova_range.length));
}

fn access(memory: &impl IoMemory, op: &Op, model: &mut Model) {
    match *op {
        Op::Write { iova, len, byte } => {
            let data: Vec<u8> = (0..len)
                .map(|n| byte.wrapping_add(u8::try_from(n).unwrap()))
                .collect();
            let (places, cause) = model.reach(iova, len, Permissions::Write);
            let allowed = memory.check_range(GuestAddress(iova), len, Permissions::Write);
            assert_eq!(allowed, cause.is_none());
            match (memory.write(&data, GuestAddress(iova)), cause) {
                (Ok(done), None) => assert_eq!(done, len),
                (Err(error), Some(cause)) => {
                    check_error(error, Operation::Write, iova, len, places.len(), cause);
                }
                other => panic!("{other:?}"),
            }
            for (n, at) in places.into_iter().enumerate() {
                model.bytes[at] = Some(data[n]);
                model.dirty[usize::try_from(iova).unwrap() + n] = true;
            }
        }
        Op::Read { iova, len } => {
            let mut data = vec![0xee; len];
            let (places, cause) = model.reach(iova, len, Permissions::Read);
            match (memory.read(&mut data, GuestAddress(iova)), cause) {
                (Ok(done), None) => assert_eq!(done, len),
                (Err(error), Some(cause)) => {
                    check_error(error, Operation::Read, iova, len, places.len(), cause);
                }
                other => panic!("{other:?}"),
            }
            let mut expected: Vec<_> = places.iter().map(|&at| model.bytes[at].unwrap()).collect();
            expected.resize(len, 0xee);
            assert_eq!(data, expected);
        }
        _ => unreachable!("no access"),
    }
}

/// Runs a script; `change` changes the table, `access` goes through the handle.
fn run(
    ops: &[Op],
    below: &Below,
    bitmap: &ByteBits,
    mut change: impl FnMut(&dyn Fn(&mut Iotlb)),
    mut run_access: impl FnMut(&Op, &mut Model),
) {
    let mut model = Model::new();
    for op in ops {
        match *op {
            Op::Map {
                unit,
                target,
                units,
                allowed,
            } => {
                change(&|table| {
                    let (iova, to) = (GuestAddress(BASE + unit * UNIT), GuestAddress(target));
                    let length = usize::try_from(units * UNIT).unwrap();
                    table.set_mapping(iova, to, length, allowed).unwrap();
                });
                for n in 0..units {
                    let at = usize::try_from(unit + n).unwrap();
                    model.units[at] = Some((target + n * UNIT, allowed));
                }
            }
            Op::Unmap { unit, units } => {
                change(&|table| {
                    let length = usize::try_from(units * UNIT).unwrap();
                    table.invalidate_mapping(GuestAddress(BASE + unit * UNIT), length);
                });
                let unit = usize::try_from(unit).unwrap();
                let units = usize::try_from(units).unwrap();
                model.units[unit..unit + units].fill(None);
            }
            _ => run_access(op, &mut model),
        }
    }
    for (iova, &is_dirty) in model.dirty.iter().enumerate() {
        assert_eq!(bitmap.dirty_at(iova), is_dirty, "iova {iova:#x}");
    }
    for region in below.iter() {
        let start = usize::try_from(region.start_addr().0).unwrap();
        let mut bytes = vec![0; usize::try_from(region.len()).unwrap()];
        below.read_slice(&mut bytes, region.start_addr()).unwrap();
        for (n, &byte) in bytes.iter().enumerate() {
            assert_eq!(model.bytes[start + n], Some(byte), "gpa {:#x}", start + n);
            assert!(!region.bitmap().dirty_at(n), "marked below");
        }
    }
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    prop::collection::vec(op(), 1..40)
}

proptest! {
    #[test]
    fn accesses_by_a_shared_table_are_those_of_the_model(ops in ops()) {
        let memory = IommuMemory::new(below(), SharedIotlb::new(), true, ByteBits::default());
        run(
            &ops,
            memory.get_backend(),
            memory.bitmap(),
            |change| memory.iommu().update(|table| change(table)),
            |op, model| access(&memory, op, model),
        );
    }

    #[test]
    fn accesses_by_a_locked_table_are_those_of_the_model(ops in ops()) {
        let memory = IommuMemory::new(below(), Locked::default(), true, ByteBits::default());
        run(
            &ops,
            memory.get_backend(),
            memory.bitmap(),
            |change| change(&mut memory.iommu().table.write().unwrap()),
            |op, model| access(&memory, op, model),
        );
    }

    #[test]
    fn accesses_of_a_device_by_a_locked_table_are_those_of_the_model(ops in ops()) {
        let memory = IommuMemory::new(below(), Locked::default(), true, ByteBits::default());
        let mut device = IommuDevice::new(memory.clone());
        run(
            &ops,
            memory.get_backend(),
            memory.bitmap(),
            |change| change(&mut memory.iommu().table.write().unwrap()),
            |op, model| access(&device.enter(), op, model),
        );
    }

    #[test]
    fn accesses_of_a_device_are_those_of_the_model(ops in ops()) {
        let memory = IommuMemory::new(below(), SharedIotlb::new(), true, ByteBits::default());
        let mut device = IommuDevice::new(memory.clone());
        run(
            &ops,
            memory.get_backend(),
            memory.bitmap(),
            |change| memory.iommu().update(|table| change(table)),
            |op, model| access(&device.enter(), op, model),
        );
    }
}
