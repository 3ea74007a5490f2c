// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Serves a disk image to a virtual machine:
//!
//! ```sh
//! cargo run --example vhost-user-blk -- disk.img disk.sock
//! qemu-system-x86_64 -m 512M -object memory-backend-memfd,id=ram,size=512M,share=on -numa node,memdev=ram \
//!     -chardev socket,id=disk,path=disk.sock -device vhost-user-blk-pci,chardev=disk ...
//! ```
//!
//! A virtual machine that takes its memory away gets no answers; the device lives on.
//! When the virtual machine ends, it says how many pages of its memory the device has written.

use std::error::Error;
use std::fs::File;
use std::sync::Arc;

use blk::{Device, DirtyLog, FileDisk};
use vhost_user_backend::VhostUserDaemon;
use vm_memory::{GuestAddressSpace, GuestMemoryAtomic, GuestMemoryBackend, GuestMemoryMmap};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(image), Some(socket)) = (arguments.next(), arguments.next()) else {
        return Err("usage: vhost-user-blk IMAGE SOCKET".into());
    };
    blk::guard_faults()?;
    let file = File::options().read(true).write(true).open(&image)?;
    let memory = GuestMemoryAtomic::new(GuestMemoryMmap::<DirtyLog>::new());
    let device = Arc::new(Device::new(memory.clone(), FileDisk::new(file, &image)?));
    let mut daemon = VhostUserDaemon::new("vhost-user-blk".into(), device, memory.clone())
        .map_err(|error| error.to_string())?;
    println!("serving {image} on {socket}");
    daemon.serve(socket).map_err(|error| error.to_string())?;

    for region in memory.memory().iter() {
        let pages = region.bitmap().pages();
        let dirty = (0..pages.len())
            .filter(|&page| pages.is_bit_set(page))
            .count();
        println!("{dirty} of {} pages written", pages.len());
    }
    Ok(())
}
