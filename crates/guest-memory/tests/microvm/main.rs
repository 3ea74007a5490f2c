// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Guest code under KVM on memory that this library maps, and the example monitor's manners.
//!
//! Tests that need /dev/kvm, or the example's executable, print `skipped: <reason>` without it.

#![cfg(all(feature = "mmap", target_os = "linux", target_arch = "x86_64"))]
#![expect(
    clippy::unwrap_used,
    reason = "the helpers of tests may unwrap as tests do"
)]
#![expect(
    unsafe_code,
    reason = "KVM is told where guest memory lies in this process"
)]

mod memory;
mod pool;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;

use guest_memory::bitmap::AtomicBitmap;
use guest_memory::{
    Bytes, GuestAddress, GuestMemory, GuestMemoryError, GuestMemoryMmap, GuestMemoryRegion,
    GuestRegionMmap, MmapRegionBuilder, VolatileMemory, VolatileMemoryError,
};
use kvm_bindings::{KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};

const PAGE_BYTES: u64 = 4096;
/// Where guest code is loaded and started.
const CODE: GuestAddress = GuestAddress(0x1000);

type Region = GuestRegionMmap<AtomicBitmap>;
type Memory = GuestMemoryMmap<AtomicBitmap>;

/// What a guest did outside its memory.
#[derive(Debug, Default, PartialEq, Eq)]
struct Exits {
    unmapped_writes: Vec<u64>,
    port_writes: Vec<(u16, u8)>,
}

/// A machine with one vCPU. KVM's descriptors are declared before the memory, so they are closed first.
struct Machine {
    vcpu: VcpuFd,
    vm: VmFd,
    memory: Memory,
}

impl Machine {
    /// Makes a machine with one slot per region that starts `code` in real mode; `None` without KVM.
    fn new(memory: Memory, code: &[u8]) -> Option<Machine> {
        let kvm = match Kvm::new() {
            Ok(kvm) => kvm,
            Err(error) => {
                println!("skipped: /dev/kvm cannot be opened: {error}");
                return None;
            }
        };
        let vm = kvm.create_vm().unwrap();
        for (slot, region) in (0..).zip(memory.iter()) {
            let is_read_only = region.prot() & libc::PROT_WRITE == 0;
            let access = if is_read_only { KVM_MEM_READONLY } else { 0 };
            let slot = kvm_userspace_memory_region {
                slot,
                flags: KVM_MEM_LOG_DIRTY_PAGES | access,
                guest_phys_addr: region.start_addr().0,
                memory_size: region.len(),
                userspace_addr: region.as_ptr() as u64,
            };
            // SAFETY:
            // - valid memory: address and length are those of the region's own mapping.
            // - long enough: `memory` goes into the machine, where it is dropped after KVM's descriptors.
            // - no overlap: the regions of one collection do not overlap.
            unsafe { vm.set_user_memory_region(slot) }.unwrap();
        }
        memory.write_slice(code, CODE).unwrap();
        let vcpu = vm.create_vcpu(0).unwrap();
        let mut segments = vcpu.get_sregs().unwrap();
        segments.cs.base = 0;
        segments.cs.selector = 0;
        vcpu.set_sregs(&segments).unwrap();
        let mut registers = vcpu.get_regs().unwrap();
        registers.rip = CODE.0;
        registers.rflags = 2;
        vcpu.set_regs(&registers).unwrap();
        Some(Machine { vcpu, vm, memory })
    }

    fn run_to_halt(&mut self) -> Exits {
        let mut exits = Exits::default();
        loop {
            match self.vcpu.run().unwrap() {
                VcpuExit::MmioWrite(address, _) => exits.unmapped_writes.push(address),
                VcpuExit::IoOut(port, bytes) => {
                    exits
                        .port_writes
                        .extend(bytes.iter().map(|&byte| (port, byte)));
                }
                VcpuExit::Hlt => return exits,
                exit => panic!("unexpected exit: {exit:?}"),
            }
        }
    }

    /// Takes the page addresses in KVM's logs.
    fn take_logged(&self) -> BTreeSet<u64> {
        (0..)
            .zip(self.memory.iter())
            .flat_map(|(slot, region)| {
                let log = self.vm.get_dirty_log(slot, region.size()).unwrap();
                page_addresses(region, &log)
            })
            .collect()
    }

    /// Takes the page addresses in the library's bitmaps.
    fn take_marked(&self) -> BTreeSet<u64> {
        self.memory
            .iter()
            .flat_map(|region| page_addresses(region, &region.bitmap().get_and_reset()))
            .collect()
    }
}

/// Returns the guest addresses of the pages in a log of one bit per page.
fn page_addresses(region: &Region, log: &[u64]) -> Vec<u64> {
    let start = region.start_addr().0;
    (0..log.len() * 64)
        .filter(|page| log[page / 64] >> (page % 64) & 1 == 1)
        .map(|page| start + page as u64 * PAGE_BYTES)
        .collect()
}

#[test]
fn dirty_log_and_bitmap_hold_exactly_what_guest_and_host_wrote() {
    #[rustfmt::skip]
    let code = [
        0x31, 0xc0,                         // xor ax, ax
        0x8e, 0xd8,                         // mov ds, ax
        0xc6, 0x06, 0x00, 0x30, 0x5a,       // mov byte [0x3000], 0x5a
        0xc7, 0x06, 0xff, 0x4f, 0x5a, 0xa5, // mov word [0x4fff], 0xa55a: two pages
        0xc6, 0x06, 0xff, 0xff, 0x11,       // mov byte [0xffff], 0x11: the first region's end
        0xa0, 0x00, 0x80,                   // mov al, [0x8000]: only read
        0xb8, 0x00, 0x18,                   // mov ax, 0x1800
        0x8e, 0xd8,                         // mov ds, ax
        0xc6, 0x06, 0x00, 0x00, 0x77,       // mov byte [0], 0x77: the hole
        0xb8, 0x00, 0x20,                   // mov ax, 0x2000
        0x8e, 0xd8,                         // mov ds, ax
        0xc6, 0x06, 0x00, 0x00, 0x22,       // mov byte [0], 0x22: the second region's start
        0xb8, 0x00, 0x30,                   // mov ax, 0x3000
        0x8e, 0xd8,                         // mov ds, ax
        0xc6, 0x06, 0xff, 0xff, 0x33,       // mov byte [0xffff], 0x33: its end
        0xb8, 0x00, 0x22,                   // mov ax, 0x2200
        0x8e, 0xc0,                         // mov es, ax
        0x31, 0xff,                         // xor di, di
        0xb9, 0x00, 0x30,                   // mov cx, 0x3000
        0xb0, 0x44,                         // mov al, 0x44
        0xfc,                               // cld
        0xf3, 0xaa,                         // rep stosb: three pages
        0xf4,                               // hlt
    ];
    let ranges = [
        (GuestAddress(0), 0x1_0000),
        (GuestAddress(0x2_0000), 0x2_0000),
    ];
    let memory = Memory::from_ranges(&ranges).unwrap();
    let Some(mut machine) = Machine::new(memory, &code) else {
        return;
    };
    machine
        .memory
        .write_obj(0x1122_3344_u32, GuestAddress(0x9ffe))
        .unwrap();
    machine
        .memory
        .write_slice(&[7; 0x1001], GuestAddress(0x2_8000))
        .unwrap();

    let exits = machine.run_to_halt();
    assert_eq!(
        exits,
        Exits {
            unmapped_writes: vec![0x1_8000],
            port_writes: vec![]
        }
    );

    let read = |address| {
        machine
            .memory
            .read_obj::<u8>(GuestAddress(address))
            .unwrap()
    };
    let addresses = [
        0x3000, 0x4fff, 0x5000, 0xffff, 0x2_0000, 0x2_2000, 0x2_4fff, 0x2_5000, 0x3_ffff,
    ];
    assert_eq!(
        addresses.map(read),
        [0x5a, 0x5a, 0xa5, 0x11, 0x22, 0x44, 0x44, 0, 0x33]
    );

    let by_guest = [
        0x3000, 0x4000, 0x5000, 0xf000, 0x2_0000, 0x2_2000, 0x2_3000, 0x2_4000, 0x3_f000,
    ];
    assert_eq!(machine.take_logged(), BTreeSet::from(by_guest));
    let by_host = [CODE.0, 0x9000, 0xa000, 0x2_8000, 0x2_9000];
    assert_eq!(machine.take_marked(), BTreeSet::from(by_host));
    assert_eq!(machine.take_logged(), BTreeSet::new());
    assert_eq!(machine.take_marked(), BTreeSet::new());
}

#[test]
fn read_only_memory_keeps_its_content_under_guest_and_host() {
    #[rustfmt::skip]
    let code = [
        0xb8, 0x00, 0x20,             // mov ax, 0x2000
        0x8e, 0xd8,                   // mov ds, ax
        0xc6, 0x06, 0x10, 0x00, 0x99, // mov byte [0x10], 0x99
        0xa0, 0x10, 0x00,             // mov al, [0x10]
        0xba, 0xf8, 0x03,             // mov dx, 0x3f8
        0xee,                         // out dx, al
        0xf4,                         // hlt
    ];
    let builder = MmapRegionBuilder::<AtomicBitmap>::new;
    let writable = builder(0x1000).with_memfd("rom").build().unwrap();
    writable
        .as_volatile_slice()
        .write_slice(&[0x42; 0x1000], 0)
        .unwrap();
    let file = writable.file_offset().unwrap().clone();
    let read_only = builder(0x1000)
        .with_file_offset(file)
        .with_mmap_prot(libc::PROT_READ)
        .build()
        .unwrap();
    let ram = Region::new(builder(0x1_0000).build().unwrap(), GuestAddress(0)).unwrap();
    let rom = Region::new(read_only, GuestAddress(0x2_0000)).unwrap();
    let memory = Memory::from_arc_regions(vec![Arc::new(ram), Arc::new(rom)]).unwrap();
    let Some(mut machine) = Machine::new(memory, &code) else {
        return;
    };

    let exits = machine.run_to_halt();
    assert_eq!(
        exits,
        Exits {
            unmapped_writes: vec![0x2_0010],
            port_writes: vec![(0x3f8, 0x42)]
        }
    );

    let rom_byte = GuestAddress(0x2_0010);
    match machine.memory.write_obj(0x99_u8, rom_byte) {
        Err(GuestMemoryError::Access {
            address, source, ..
        }) => {
            assert_eq!(address, rom_byte);
            assert!(
                matches!(source, VolatileMemoryError::ReadOnly { .. }),
                "{source:?}"
            );
        }
        outcome => panic!("a write to read-only memory gave {outcome:?}"),
    }
    assert_eq!(machine.memory.read_obj::<u8>(rom_byte).unwrap(), 0x42);
    assert_eq!(machine.take_logged(), BTreeSet::new());
    assert_eq!(machine.take_marked(), BTreeSet::from([CODE.0]));
}

/// Returns the example monitor's executable; `None` when it was not built.
fn executable() -> Option<PathBuf> {
    // Cargo builds examples next to the directory of the test executables.
    let test = std::env::current_exe().unwrap();
    let executable = test.parent()?.parent()?.join("examples/microvm");
    if !executable.is_file() {
        println!(
            "skipped: the example is not built at {}",
            executable.display()
        );
        return None;
    }
    Some(executable)
}

/// Runs the example monitor; `None` when it was not built.
fn microvm(arguments: &[&str]) -> Option<Output> {
    // On a busy machine KVM may take seconds to change a memory slot.
    let patient = ["--timeout", "120"];
    let is_set = arguments.contains(&"--timeout");
    let command = &mut Command::new(executable()?);
    let command = command.args(if is_set { &[][..] } else { &patient });
    Some(command.args(arguments).output().unwrap())
}

#[test]
fn example_passes_its_own_checks() {
    for arguments in [
        &["--no-kvm"][..],
        &[],
        &["--backing", "memfd", "--memory", "2MiB"],
    ] {
        let Some(output) = microvm(arguments) else {
            return;
        };
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(
            output.status.code(),
            Some(0),
            "{arguments:?} printed:\n{text}"
        );
        assert!(
            text.contains("result: all"),
            "{arguments:?} printed:\n{text}"
        );
        assert_eq!(output.stderr, b"", "{arguments:?}");
    }
}

/// Runs the example, which has to succeed; returns what it printed.
fn microvm_passes(arguments: &[&str]) -> Option<String> {
    let output = microvm(arguments)?;
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{arguments:?}:\n{text}");
    assert_eq!(output.stderr, b"", "{arguments:?}");
    Some(text)
}

/// Returns the pages of each round that the example printed.
fn rounds_of(text: &str) -> Vec<u64> {
    let rounds = text.lines().skip_while(|line| *line != "migration:");
    let rounds = rounds.filter(|line| line.ends_with(" MiB/s"));
    let numbers = rounds.map(|line| {
        let words = line
            .split_whitespace()
            .filter(|word| !word.starts_with('('));
        words.map(str::to_owned).nth(1).unwrap().parse().unwrap()
    });
    numbers.collect()
}

#[test]
fn example_migrates_its_guest() {
    for arguments in [
        &["--migrate"][..],
        &["--migrate", "--bandwidth", "256M"],
        &["--migrate", "--bandwidth", "256M", "--no-kvm"],
        &[
            "--migrate",
            "--backing",
            "memfd",
            "--memory",
            "4M",
            "--bandwidth",
            "64M",
        ],
    ] {
        let Some(text) = microvm_passes(arguments) else {
            return;
        };
        let rounds = rounds_of(&text);
        assert!(rounds.len() >= 3, "{arguments:?}:\n{text}");
        let (first, later) = rounds.split_first().unwrap();
        assert!(*first > 0, "{text}");
        // A migration that waits for its network leaves a busy machine to the guest.
        let is_written = later.iter().any(|&pages| pages > 2);
        assert!(is_written || !arguments.contains(&"--bandwidth"), "{text}");
        for line in [
            "both memories were equal at the switch-over",
            "nothing was written to the first memory any more",
            "the second machine's logs hold what was written there",
            "the area of its work holds those numbers",
        ] {
            assert!(
                text.contains(&format!("  passed  {line}")),
                "{line}:\n{text}"
            );
        }
        assert!(
            !text.contains(['\r', '\x1b']),
            "a bar without a terminal:\n{text}"
        );
        assert!(!text.contains("heat map"), "{text}");
    }
}

#[test]
fn example_draws_a_heat_map() {
    for arguments in [
        &["--heatmap"][..],
        &["--heatmap", "--no-kvm"],
        &["--heatmap", "--migrate", "--bandwidth", "256M"],
    ] {
        let Some(text) = microvm_passes(arguments) else {
            return;
        };
        let rows: Vec<(u64, &str)> = text
            .lines()
            .filter_map(|line| line.trim_start().strip_prefix("0x")?.split_once(" |"))
            .map(|(address, cells)| {
                let address = u64::from_str_radix(address, 16).unwrap();
                (address, cells.strip_suffix('|').unwrap())
            })
            .collect();
        // 64 MiB of RAM in rows of 4 MiB and the module; the guest works in the upper half of the RAM.
        let starts: Vec<u64> = rows.iter().map(|row| row.0).collect();
        let expected: Vec<u64> = (0..16).map(|row| row << 22).chain([3 << 30]).collect();
        assert_eq!(starts, expected, "{text}");
        let is_blank = |row: &(u64, &str)| row.1.trim().is_empty();
        assert!(rows[1..8].iter().all(is_blank), "{text}");
        assert!(!is_blank(&rows[0]) && !is_blank(&rows[8]), "{text}");
        assert!(
            text.lines()
                .all(|line| line.len() <= 80 || !line.contains(" |")),
            "{text}"
        );
        let is_moved = arguments.contains(&"--migrate");
        let shared = "  passed  the heat map shows what the migration copied";
        assert_eq!(text.contains(shared), is_moved, "{text}");
    }
}

#[test]
fn example_refuses_bad_arguments_with_one_line_and_status_2() {
    for arguments in [
        &["--memory", "lots"][..],
        &["--memory", "0"],
        &["--memory", "1M"],
        &["--memory", "2097153"],
        &["--memory", "9999T"],
        &["--memory", "99999999999999999999"],
        &["--memory"],
        &["--backing", "paper"],
        &["--backing", "hugetlb", "--memory", "2052K"],
        &["--backing", "hugetlb-1g", "--memory", "1023M"],
        &["--backing", "hugetlbfs"],
        &["--backing", "hugetlbfs", "--path", "/proc"],
        &["--backing", "file"],
        &["--backing", "file", "--path", "/proc/no/such/directory"],
        &["--backing", "file-private"],
        &["--backing", "memfd", "--path", "/tmp"],
        &["--numa-node", "1023"],
        &["--numa-node", "-1"],
        &["--huge-pages", "always"],
        &["--prefault", "0"],
        &["--plan", "--prefault", "1025"],
        &["--timeout", "0"],
        &["--timeout", "soon"],
        &["--bandwidth", "1M"],
        &["--migrate", "--bandwidth", "1"],
        &["--migrate", "--firmware", "image"],
        &["--no-such-option"],
        &["surplus"],
    ] {
        let Some(output) = microvm(arguments) else {
            return;
        };
        assert_refused(arguments, &output);
    }
}

#[test]
fn example_refuses_images_that_do_not_fit_with_one_line_and_status_2() {
    let directory = tempfile::tempdir().unwrap();
    let image = |name: &str, len_bytes: u64| {
        let path = directory.path().join(name);
        std::fs::File::create(&path)
            .unwrap()
            .set_len(len_bytes)
            .unwrap();
        path.to_str().unwrap().to_owned()
    };
    for path in [
        image("empty", 0),
        image("odd", 4097),
        image("large", (16 << 20) + 4096),
        directory.path().to_str().unwrap().to_owned(),
        directory
            .path()
            .join("missing")
            .to_str()
            .unwrap()
            .to_owned(),
        "/dev/zero".to_owned(),
    ] {
        let arguments = ["--timeout", "5", "--firmware", &path];
        let Some(output) = microvm(&arguments) else {
            return;
        };
        assert_refused(&arguments, &output);
    }
}

fn assert_refused(arguments: &[&str], output: &Output) {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {errors}");
    assert_eq!(errors.lines().count(), 1, "{arguments:?}: {errors}");
    assert!(errors.starts_with("microvm: "), "{arguments:?}: {errors}");
}
