// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A vhost-user front end and back end, each with its own mapping of one guest's memory, and the log between them.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};

use vhost::vhost_user::message::{VhostUserHeaderFlag, VhostUserProtocolFeatures};
use vhost::vhost_user::{Frontend, Listener, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserDirtyLogRegion, VhostUserMemoryRegionInfo, VringConfigData};
use vhost_user_backend::bitmap::BitmapMmapRegion;
use vhost_user_backend::{VhostUserBackendMut, VhostUserDaemon, VringRwLock, VringT};
use virtio_bindings::virtio_ring::{VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};
use virtio_queue::QueueOwnedT;
use virtio_queue::desc::{RawDescriptor, split::Descriptor};
use virtio_queue::mock::MockSplitQueue;
use vm_memory::mmap::MmapRegionBuilder;
use vm_memory::{
    Bytes, GuestAddress, GuestAddressSpace, GuestMemoryAtomic, GuestMemoryBackend, GuestMemoryMmap,
    GuestMemoryRegion, GuestRegionMmap,
};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::event::{
    EventConsumer, EventFlag, EventNotifier, new_event_consumer_and_notifier,
};
use vmm_sys_util::eventfd::EventFd;

/// The memory of a back end: what it writes goes to a log that the front end gives.
type Logged = GuestMemoryMmap<BitmapMmapRegion>;
type Space = GuestMemoryAtomic<Logged>;

const LOG_ALL: u64 = 1 << 26;
const PROTOCOL_FEATURES: u64 = 1 << 30;
const VERSION_1: u64 = 1 << 32;

/// Start and length of each region, after each change of the memory map.
type Maps = Arc<Mutex<Vec<Vec<(u64, u64)>>>>;

/// A device that answers each request with the same bytes in upper case.
struct Shouter {
    space: Space,
    maps: Maps,
}

impl Shouter {
    fn answer_all(&self, vring: &VringRwLock<Space>) -> io::Result<()> {
        let memory = self.space.memory();
        let mut state = vring.get_mut();
        let queue = state.get_queue_mut();
        let chains: Vec<_> = queue
            .iter(memory.clone())
            .map_err(io::Error::other)?
            .collect();
        if chains.is_empty() {
            return Ok(());
        }
        for chain in chains {
            let head = chain.head_index();
            let mut text = Vec::new();
            chain
                .clone()
                .reader(&memory)
                .map_err(io::Error::other)?
                .read_to_end(&mut text)?;
            chain
                .writer(&memory)
                .map_err(io::Error::other)?
                .write_all(&text.to_ascii_uppercase())?;
            state
                .add_used(head, text.len() as u32)
                .map_err(io::Error::other)?;
        }
        state.signal_used_queue()
    }
}

impl VhostUserBackendMut for Shouter {
    type Bitmap = BitmapMmapRegion;
    type Vring = VringRwLock<Space>;

    fn num_queues(&self) -> usize {
        1
    }

    fn max_queue_size(&self) -> usize {
        64
    }

    fn features(&self) -> u64 {
        VERSION_1 | PROTOCOL_FEATURES | LOG_ALL
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        VhostUserProtocolFeatures::LOG_SHMFD
            | VhostUserProtocolFeatures::MQ
            | VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS
    }

    fn set_event_idx(&mut self, _enabled: bool) {}

    fn update_memory(&mut self, space: Space) -> io::Result<()> {
        let map = space
            .memory()
            .iter()
            .map(|region| (region.start_addr().0, region.len()))
            .collect();
        self.maps.lock().unwrap().push(map);
        self.space = space;
        Ok(())
    }

    fn exit_event(&self, _thread: usize) -> Option<(EventConsumer, EventNotifier)> {
        new_event_consumer_and_notifier(EventFlag::empty()).ok()
    }

    fn handle_event(
        &mut self,
        event: u16,
        _set: EventSet,
        vrings: &[VringRwLock<Space>],
        _thread: usize,
    ) -> io::Result<()> {
        self.answer_all(&vrings[usize::from(event)])
    }
}

/// A region of the guest, shared with whoever gets its file.
fn shared(start: u64, len: usize) -> GuestRegionMmap {
    let mapping = MmapRegionBuilder::new(len)
        .with_memfd("guest")
        .build()
        .unwrap();
    GuestRegionMmap::new(mapping, GuestAddress(start)).unwrap()
}

/// The pages that are set in a log.
fn pages(log: &File) -> Vec<usize> {
    let mut bytes = [0; 64];
    log.read_exact_at(&mut bytes, 0).unwrap();
    (0..512)
        .filter(|page| bytes[page / 8] & (1 << (page % 8)) != 0)
        .collect()
}

/// A front end that has agreed on features with a new back end on `Shouter`.
fn connect(maps: &Maps) -> (Frontend, impl Sized + use<>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let space = GuestMemoryAtomic::new(Logged::new());
    let device = Arc::new(Mutex::new(Shouter {
        space: space.clone(),
        maps: maps.clone(),
    }));
    let mut daemon = VhostUserDaemon::new("shouter".to_owned(), device, space).unwrap();
    let mut listener = Listener::new(&path, false).unwrap();
    let connecting = std::thread::spawn(move || Frontend::connect(path, 1).unwrap());
    daemon.start(&mut listener).unwrap();
    let mut frontend = connecting.join().unwrap();

    frontend.set_owner().unwrap();
    let features = frontend.get_features().unwrap();
    assert_eq!(
        features & (LOG_ALL | PROTOCOL_FEATURES),
        LOG_ALL | PROTOCOL_FEATURES
    );
    frontend.set_features(features).unwrap();
    let protocol = frontend.get_protocol_features().unwrap();
    frontend.set_protocol_features(protocol).unwrap();
    frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
    (frontend, (daemon, folder))
}

#[test]
fn a_back_end_answers_in_the_front_ends_memory_and_logs_what_it_wrote() {
    let maps = Arc::default();
    let (mut frontend, _daemon) = connect(&maps);

    // Two regions with a hole between them; the request crosses a page, the answer lies in the second region.
    let memory =
        GuestMemoryMmap::from_regions(vec![shared(0, 0x2_0000), shared(0x4_0000, 0x2_0000)])
            .unwrap();
    let table: Vec<_> = memory
        .iter()
        .map(|region| VhostUserMemoryRegionInfo::from_guest_region(region).unwrap())
        .collect();
    frontend.set_mem_table(&table).unwrap();
    assert_eq!(
        *maps.lock().unwrap(),
        [[(0, 0x2_0000), (0x4_0000, 0x2_0000)]]
    );

    let log = tempfile::tempfile().unwrap();
    log.set_len(0x1000).unwrap();
    let region = VhostUserDirtyLogRegion {
        mmap_size: 0x1000,
        mmap_offset: 0,
        mmap_handle: log.as_raw_fd(),
    };
    frontend.set_log_base(0, Some(region)).unwrap();

    let mock = MockSplitQueue::new(&memory, 16);
    let (from, to, text) = (
        GuestAddress(0x1_0ff8),
        GuestAddress(0x4_3ff0),
        b"quiet request, please",
    );
    memory.write_slice(text, from).unwrap();
    let len = text.len() as u32;
    let chain = [
        Descriptor::new(from.0, len, VRING_DESC_F_NEXT as u16, 1),
        Descriptor::new(to.0, len, VRING_DESC_F_WRITE as u16, 0),
    ];

    let host = |addr: GuestAddress| memory.get_host_address(addr).unwrap() as u64;
    let (kick, call) = (EventFd::new(0).unwrap(), EventFd::new(0).unwrap());
    frontend.set_vring_num(0, 16).unwrap();
    frontend.set_vring_base(0, 0).unwrap();
    let config = VringConfigData {
        queue_max_size: 64,
        queue_size: 16,
        flags: 0,
        desc_table_addr: host(mock.desc_table_addr()),
        used_ring_addr: host(mock.used_addr()),
        avail_ring_addr: host(mock.avail_addr()),
        log_addr: None,
    };
    frontend.set_vring_addr(0, &config).unwrap();
    frontend.set_vring_call(0, &call).unwrap();
    frontend.set_vring_kick(0, &kick).unwrap();
    frontend.set_vring_enable(0, true).unwrap();
    assert_eq!(pages(&log), [] as [usize; 0]);
    mock.add_desc_chains(&chain.map(RawDescriptor::from), 0)
        .unwrap();
    kick.write(1).unwrap();
    assert_eq!(call.read().unwrap(), 1);

    assert_eq!(mock.used().idx().load(), 1);
    let mut answer = [0; 21];
    memory.read_slice(&mut answer, to).unwrap();
    assert_eq!(&answer, b"QUIET REQUEST, PLEASE");
    // The log has the pages of the guest that the back end wrote: the used ring, and both pages of the answer.
    let used = usize::try_from(mock.used_addr().0).unwrap() >> 12;
    assert_eq!(pages(&log), [used, 0x43, 0x44]);
}

#[test]
fn regions_come_and_go_while_the_back_end_runs() {
    let maps = Arc::default();
    let (mut frontend, _daemon) = connect(&maps);
    let (first, second) = (shared(0, 0x1_0000), shared(0x10_0000, 0x1_0000));
    let table = [&first, &second]
        .map(|region| VhostUserMemoryRegionInfo::from_guest_region(region).unwrap());
    frontend.set_mem_table(&table[..1]).unwrap();
    assert!(frontend.get_max_mem_slots().unwrap() > 1);
    frontend.add_mem_region(&table[1]).unwrap();
    frontend.remove_mem_region(&table[0]).unwrap();
    let expected = [
        vec![(0, 0x1_0000)],
        vec![(0, 0x1_0000), (0x10_0000, 0x1_0000)],
        vec![(0x10_0000, 0x1_0000)],
    ];
    assert_eq!(*maps.lock().unwrap(), expected);
    // A region on top of another is refused.
    let overlapping = shared(0x10_8000, 0x1_0000);
    let info = VhostUserMemoryRegionInfo::from_guest_region(&overlapping).unwrap();
    assert!(frontend.add_mem_region(&info).is_err());
}

#[test]
fn a_log_that_is_too_short_is_refused() {
    let (frontend, _daemon) = connect(&Arc::default());
    let region = shared(0x100_0000, 0x1_0000);
    let info = VhostUserMemoryRegionInfo::from_guest_region(&region).unwrap();
    frontend.set_mem_table(&[info]).unwrap();
    let log = tempfile::tempfile().unwrap();
    log.set_len(0x100).unwrap();
    let base = VhostUserDirtyLogRegion {
        mmap_size: 0x100,
        mmap_offset: 0,
        mmap_handle: log.as_raw_fd(),
    };
    assert!(frontend.set_log_base(0, Some(base)).is_err());
}
