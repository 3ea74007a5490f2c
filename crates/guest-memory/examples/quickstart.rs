// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The first guest memory: map it, read and write it by guest address, meet a hole, copy a file into it.
//!
//! `cargo run --example quickstart`

use std::error::Error;
use std::sync::atomic::Ordering;

use guest_memory::bitmap::AtomicBitmap;
use guest_memory::{
    Bytes, BytesExt, GuestAddress, GuestMemory, GuestMemoryMmap, GuestMemoryRegion, MemoryTable,
};

fn main() -> Result<(), Box<dyn Error>> {
    // 64 MiB at 0 and 64 MiB at 4 GiB, with a dirty bitmap. Without tracking: `GuestMemoryMmap::<()>`.
    let ranges = [
        (GuestAddress(0), 64 << 20),
        (GuestAddress(4 << 30), 64 << 20),
    ];
    let memory = GuestMemoryMmap::<AtomicBitmap>::from_ranges(&ranges)?;

    // Values, bytes, integers of a fixed byte order.
    memory.write_obj(0x1234_5678_u32, GuestAddress(0x1000))?;
    memory.write_slice(b"hello, guest", GuestAddress(4 << 30))?;
    memory.store_le(0xaa55_u16, GuestAddress(0x7dfe), Ordering::Relaxed)?;
    assert_eq!(memory.read_obj::<u32>(GuestAddress(0x1000))?, 0x1234_5678);
    let mut bytes = [0; 12];
    memory.read_slice(&mut bytes, GuestAddress(4 << 30))?;
    assert_eq!(&bytes, b"hello, guest");

    // A guest may name any address: what is not there is an error that says how far the access came, never a panic.
    let last_four_bytes = GuestAddress((64 << 20) - 4);
    match memory.write_slice(&[0xff; 16], last_four_bytes) {
        Ok(()) => return Err("there is no memory behind them".into()),
        Err(error) => println!("a write at {last_four_bytes} into the hole: {error}"),
    }

    // From a file (or a socket) straight into guest memory, without a buffer in between.
    let mut kernel = tempfile::tempfile()?;
    std::io::Write::write_all(&mut kernel, &vec![0x90; 100_000])?;
    std::io::Seek::rewind(&mut kernel)?;
    memory.read_exact_volatile_from(GuestAddress(0x10_0000), &mut kernel, 100_000)?;
    assert_eq!(
        memory.read_obj::<u8>(GuestAddress(0x10_0000 + 99_999))?,
        0x90
    );

    // What a hypervisor is told of each region: guest address, host address, size.
    for region in memory.iter() {
        println!(
            "slot: {:#x} -> {:p}, {} bytes",
            region.start_addr().0,
            region.as_ptr(),
            region.len()
        );
    }
    println!("all of it, with what was written:");
    println!("{}", MemoryTable::new(&memory));
    Ok(())
}
