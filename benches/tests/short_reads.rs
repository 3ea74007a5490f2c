// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The same short reads by the library and by the one it is compared with: where do the bytes land?
//!
//! The test of the library's own streams (`socket_streams`) holds that they land where they belong. This one shows that
//! such a test can fail.
#![expect(
    clippy::unwrap_used,
    reason = "the helpers of tests may unwrap as tests do"
)]

#[path = "../../crates/guest-memory/tests/delivery/mod.rs"]
#[expect(dead_code, reason = "the interruptions are for the other test")]
mod delivery;

/// Reads what a seed's peer delivers with the library `$library` and says whether it lies where it belongs.
macro_rules! reads_by {
    ($name:ident, $library:ident) => {
        mod $name {
            use $library::bitmap::BitmapSlice;
            use $library::{
                Bytes, GuestAddress, GuestMemoryMmap, ReadVolatile, VolatileMemoryError,
                VolatileSlice,
            };

            use crate::delivery::{LAYOUTS, START, Script, ranges};

            /// Gives its bytes by ones to sevens and has nothing more to do with the memory than any other stream.
            struct Peer {
                script: Script,
                given: usize,
            }

            impl ReadVolatile for Peer {
                fn read_volatile<B: BitmapSlice>(
                    &mut self,
                    buf: &mut VolatileSlice<'_, B>,
                ) -> Result<usize, VolatileMemoryError> {
                    let portion = self.script.portion();
                    let left = &self.script.bytes[self.given..];
                    let mut portion = &left[..portion.min(left.len())];
                    let count = portion.read_volatile(buf)?;
                    self.given += count;
                    Ok(count)
                }
            }

            pub(crate) fn lie_where_they_belong(seed: u64) -> bool {
                let script = Script::of_seed(seed);
                let (address, count, layout) = (script.address(), script.count, script.layout);
                let ranges = ranges(layout);
                let ranges: Vec<_> = ranges
                    .into_iter()
                    .map(|(start, len)| (GuestAddress(start), len))
                    .collect();
                let memory = GuestMemoryMmap::<()>::from_ranges(&ranges).unwrap();
                let mut peer = Peer { script, given: 0 };
                let mut done = 0;
                while done < count {
                    let at = GuestAddress(address + done as u64);
                    match memory.read_volatile_from(at, &mut peer, count - done) {
                        Ok(0) => break,
                        Ok(moved) => done += moved,
                        Err(error) => panic!("seed {seed}: {error}"),
                    }
                }
                assert_eq!(done, peer.given, "seed {seed}: the count is true");
                let mut bytes = vec![0; LAYOUTS[layout].iter().sum()];
                memory.read_slice(&mut bytes, GuestAddress(START)).unwrap();
                bytes == peer.script.model(done)
            }
        }
    };
}

reads_by!(ours, guest_memory);
reads_by!(theirs, vm_memory);

#[test]
fn short_reads_land_where_they_belong_here_and_not_there() {
    let seeds = 0..1000;
    let misplaced = |lie_where_they_belong: fn(u64) -> bool| {
        seeds
            .clone()
            .filter(|&seed| !lie_where_they_belong(seed))
            .count()
    };
    assert_eq!(misplaced(ours::lie_where_they_belong), 0);
    let by_them = misplaced(theirs::lie_where_they_belong);
    println!("vm-memory 0.18 misplaces bytes in {by_them} of 1000 seeds");
    assert!(by_them > 0, "vm-memory 0.18 is repaired");
}
