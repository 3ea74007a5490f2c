// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
use super::*;
use crate::bytes::Bytes;
use crate::error::Error;
use crate::region_bytes::GuestMemoryRegionBytes;

/// A range without bytes behind it.
#[derive(Debug)]
struct Range {
    start: u64,
    len: u64,
}

impl GuestMemoryRegion for Range {
    type B = ();

    fn len(&self) -> GuestUsize {
        self.len
    }

    fn start_addr(&self) -> GuestAddress {
        GuestAddress(self.start)
    }

    fn bitmap(&self) -> &() {
        &()
    }
}

impl GuestMemoryRegionBytes for Range {}

fn collection(
    bounds: &[(u64, u64)],
) -> Result<GuestRegionCollection<Range>, GuestRegionCollectionError> {
    let regions = bounds
        .iter()
        .map(|&(start, len)| Range { start, len })
        .collect();
    GuestRegionCollection::from_regions(regions)
}

fn bounds(collection: &GuestRegionCollection<Range>) -> Vec<(u64, u64)> {
    collection
        .iter()
        .map(|range| (range.start, range.len))
        .collect()
}

#[test]
fn bad_lists_of_regions_are_refused() {
    use GuestRegionCollectionError as E;
    let cases: [(&[(u64, u64)], E); 8] = [
        (&[], E::NoMemoryRegion),
        (
            &[(10, 0)],
            E::EmptyRegion {
                start: GuestAddress(10),
            },
        ),
        (&[(10, 5), (14, 5)], E::MemoryRegionOverlap),
        (&[(10, 5), (10, 5)], E::MemoryRegionOverlap),
        (&[(10, 5), (5, 5)], E::UnsortedMemoryRegions),
        (&[(10, 5), (5, 50)], E::UnsortedMemoryRegions),
        (
            &[(u64::MAX, 2)],
            E::RegionPastEnd {
                start: GuestAddress(u64::MAX),
                len: 2,
            },
        ),
        (&[(1, u64::MAX), (u64::MAX, 1)], E::MemoryRegionOverlap),
    ];
    for (list, error) in cases {
        assert_eq!(collection(list).expect_err("refused"), error, "{list:?}");
    }
}

#[test]
fn regions_may_touch_and_end_at_the_end_of_addresses() {
    let memory = collection(&[(0, 1), (1, 4), (8, 2), (u64::MAX - 9, 10)]).expect("in order");
    assert_eq!(memory.num_regions(), 4);
    assert_eq!(memory.last_addr(), GuestAddress(u64::MAX));
    let at = |addr| {
        memory
            .to_region_addr(GuestAddress(addr))
            .map(|(range, at)| (range.start, at.0))
    };
    assert_eq!(at(0), Some((0, 0)));
    assert_eq!(at(4), Some((1, 3)));
    assert_eq!(at(5), None);
    assert_eq!(at(u64::MAX), Some((u64::MAX - 9, 9)));
    assert!(memory.address_in_range(GuestAddress(9)) && !memory.address_in_range(GuestAddress(10)));
}

#[test]
fn insertion_and_removal_leave_the_old_collection_as_it_is() {
    let empty = GuestRegionCollection::<Range>::new();
    assert_eq!(
        (empty.num_regions(), empty.last_addr()),
        (0, GuestAddress(0))
    );
    let insert = |to: &GuestRegionCollection<Range>, start, len| {
        to.insert_region(Arc::new(Range { start, len }))
    };
    let one = insert(&empty, 10, 5).expect("fits");
    let two = insert(&one, 0, 5).expect("fits below");
    let three = insert(&two, 5, 5).expect("fits between");
    assert_eq!(bounds(&three), [(0, 5), (5, 5), (10, 5)]);
    assert_eq!(bounds(&one), [(10, 5)]);
    for (start, len) in [(0, 1), (4, 1), (14, 9), (12, 1), (0, 20), (10, 5)] {
        let error = insert(&three, start, len).expect_err("overlaps");
        assert_eq!(
            error,
            GuestRegionCollectionError::MemoryRegionOverlap,
            "{start} {len}"
        );
    }

    let (rest, removed) = three.remove_region(GuestAddress(5), 5).expect("is there");
    assert_eq!((removed.start, bounds(&rest)), (5, vec![(0, 5), (10, 5)]));
    assert_eq!(three.num_regions(), 3);
    for (base, size) in [(5, 5), (10, 4), (11, 4), (10, 0), (100, 1)] {
        let error = rest
            .remove_region(GuestAddress(base), size)
            .expect_err("is not there");
        assert_eq!(
            error,
            GuestRegionCollectionError::NoMemoryRegion,
            "{base} {size}"
        );
    }
    let (rest, _) = rest.remove_region(GuestAddress(0), 5).expect("is there");
    let (rest, _) = rest.remove_region(GuestAddress(10), 5).expect("is there");
    assert_eq!(rest.num_regions(), 0);
    assert!(rest.find_region(GuestAddress(0)).is_none());
}

#[test]
fn a_region_without_host_addresses_says_so_in_every_access() {
    let memory = collection(&[(0x1000, 0x1000)]).expect("in order");
    let region = memory.find_region(GuestAddress(0x1800)).expect("is there");
    let inside = GuestAddress(0x1800);
    assert!(matches!(
        memory.read_obj::<u32>(inside),
        Err(Error::HostAddressNotAvailable)
    ));
    assert!(matches!(
        memory.get_host_address(inside),
        Err(Error::HostAddressNotAvailable)
    ));
    assert!(matches!(
        region.write_obj(1u8, MemoryRegionAddress(0)),
        Err(Error::HostAddressNotAvailable)
    ));
    assert!(matches!(
        region.as_volatile_slice(),
        Err(Error::HostAddressNotAvailable)
    ));
    assert!(matches!(
        memory.read_obj::<u32>(GuestAddress(0x2000)),
        Err(Error::InvalidGuestAddress(GuestAddress(0x2000)))
    ));
}
