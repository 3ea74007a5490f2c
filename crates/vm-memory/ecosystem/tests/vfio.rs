// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `vfio_user` and `vfio-ioctls` on this memory: a device gets at it.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex};

use vfio_ioctls::VfioContainer;
use vfio_user::{Client, DmaMapFlags, DmaUnmapFlags, Server, ServerBackend};
use vm_memory::bitmap::AtomicBitmap;
use vm_memory::mmap::MmapRegionBuilder;
use vm_memory::{
    Bytes, FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion,
    GuestRegionMmap, MmapRegion,
};

/// Guest memory behind a memory file, which can be given to another process.
fn shared(start: u64, len: usize) -> GuestMemoryMmap<AtomicBitmap> {
    let mapping = MmapRegionBuilder::new(len)
        .with_memfd("guest")
        .build()
        .unwrap();
    let region = GuestRegionMmap::new(mapping, GuestAddress(start)).unwrap();
    GuestMemoryMmap::from_regions(vec![region]).unwrap()
}

/// A device: it maps what it is given and answers a register write by writing to the guest.
#[derive(Default)]
struct Device(Arc<Mutex<GuestMemoryMmap>>);

impl ServerBackend for Device {
    fn region_read(&mut self, _region: u32, _offset: u64, _data: &mut [u8]) -> io::Result<()> {
        Ok(())
    }

    fn region_write(&mut self, _region: u32, _offset: u64, _data: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn dma_map(
        &mut self,
        _flags: DmaMapFlags,
        offset: u64,
        address: u64,
        size: u64,
        fd: Option<File>,
    ) -> io::Result<()> {
        let file = FileOffset::new(fd.ok_or(io::ErrorKind::InvalidInput)?, offset);
        let mapping = MmapRegion::from_file(file, size as usize).map_err(io::Error::other)?;
        let region = GuestRegionMmap::new(mapping, GuestAddress(address))
            .ok_or(io::ErrorKind::InvalidInput)?;
        let mut memory = self.0.lock().unwrap();
        *memory = memory
            .insert_region(Arc::new(region))
            .map_err(io::Error::other)?;
        memory
            .write_obj(0x600d_u32, GuestAddress(address))
            .map_err(io::Error::other)
    }

    fn dma_unmap(&mut self, _flags: DmaUnmapFlags, address: u64, size: u64) -> io::Result<()> {
        let mut memory = self.0.lock().unwrap();
        *memory = memory
            .remove_region(GuestAddress(address), size)
            .map_err(io::Error::other)?
            .0;
        Ok(())
    }

    fn reset(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn set_irqs(&mut self, _: u32, _: u32, _: u32, _: u32, _: Vec<File>) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_vfio_user_device_maps_the_guests_memory_and_writes_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let server = Server::new(&path, true, vec![], vec![]).unwrap();
    let mapped = Arc::new(Mutex::new(GuestMemoryMmap::new()));
    let mut device = Device(mapped.clone());
    let thread =
        std::thread::spawn(move || server.run(&mut device).map_err(|error| error.to_string()));

    let memory = shared(0x10_0000, 0x2_0000);
    let region = memory.find_region(GuestAddress(0x10_0000)).unwrap();
    let backing = region.file_offset().unwrap();
    let mut client = Client::new(&path).unwrap();
    client
        .dma_map(
            backing.start(),
            region.start_addr().0,
            region.len(),
            backing.file().as_raw_fd(),
        )
        .unwrap();
    assert_eq!(
        memory.read_obj::<u32>(GuestAddress(0x10_0000)).unwrap(),
        0x600d
    );
    assert_eq!(mapped.lock().unwrap().num_regions(), 1);
    client
        .dma_unmap(region.start_addr().0, region.len())
        .unwrap();
    assert_eq!(mapped.lock().unwrap().num_regions(), 0);
    client.shutdown().unwrap();
    drop(client);
    assert_eq!(thread.join().unwrap(), Ok(()));
}

#[test]
fn vfio_containers_take_this_memory() {
    // Before anything can be skipped: it compiles with this memory.
    let map: unsafe fn(&VfioContainer, &GuestMemoryMmap<AtomicBitmap>) -> _ =
        VfioContainer::vfio_map_guest_memory;
    let container = match VfioContainer::new(None) {
        Ok(container) => container,
        Err(error) => {
            println!("skipped: no VFIO container here: {error}");
            return;
        }
    };
    // A container without a group has no IOMMU yet: the kernel refuses, and nothing stays mapped.
    let memory = shared(0, 0x1000);
    #[expect(unsafe_code, reason = "hands memory to the kernel")]
    // SAFETY: `memory` outlives the container's use of it: no group, hence no device, is attached.
    let refused = unsafe { map(&container, &memory) };
    assert!(refused.is_err());
}
