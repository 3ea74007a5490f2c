// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! linux-loader on this memory.

#![cfg(target_arch = "x86_64")]

use std::fs::File;
use std::io::Cursor;
use std::path::PathBuf;

use linux_loader::cmdline::Cmdline;
use linux_loader::configurator::{BootConfigurator, BootParams, linux::LinuxBootConfigurator};
use linux_loader::loader::bootparam::boot_params;
use linux_loader::loader::{BzImage, Elf, KernelLoader, load_cmdline};
use vm_memory::bitmap::AtomicBitmap;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

fn memory(len: usize) -> GuestMemoryMmap<AtomicBitmap> {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), len)]).unwrap()
}

/// A 64-bit ELF file with one segment, to be loaded at `address`, entered at its start.
fn elf(address: u64, segment: &[u8]) -> Vec<u8> {
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let halves = |file: &mut Vec<u8>, values: &[u16]| {
        values.iter().for_each(|v| file.extend(v.to_le_bytes()))
    };
    let words = |file: &mut Vec<u8>, values: &[u32]| {
        values.iter().for_each(|v| file.extend(v.to_le_bytes()))
    };
    let longs = |file: &mut Vec<u8>, values: &[u64]| {
        values.iter().for_each(|v| file.extend(v.to_le_bytes()))
    };
    halves(&mut file, &[2, 62]); // executable, x86-64
    words(&mut file, &[1]);
    longs(&mut file, &[address, 64, 0]); // entry, program headers, no sections
    words(&mut file, &[0]);
    halves(&mut file, &[64, 56, 1, 0, 0, 0]);
    words(&mut file, &[1, 5]); // load; readable and executable
    let len = segment.len() as u64;
    longs(&mut file, &[120, address, address, len, len, 0x1000]);
    file.extend(segment);
    file
}

#[test]
fn an_elf_image_is_loaded_and_logged() {
    let memory = memory(0x40_0000);
    let segment: Vec<u8> = (0..0x2345u32).map(|at| (at % 251) as u8).collect();
    let mut image = Cursor::new(elf(0x10_0000, &segment));
    let loaded = Elf::load(&memory, None, &mut image, Some(GuestAddress(0x10_0000))).unwrap();
    assert_eq!(loaded.kernel_load, GuestAddress(0x10_0000));
    assert_eq!(loaded.kernel_end, 0x10_2345);
    let mut back = vec![0; segment.len()];
    memory
        .read_slice(&mut back, GuestAddress(0x10_0000))
        .unwrap();
    assert_eq!(back, segment);
    let bitmap = memory.find_region(GuestAddress(0)).unwrap().bitmap();
    let pages: Vec<usize> = (0..0x400).filter(|page| bitmap.is_bit_set(*page)).collect();
    assert_eq!(pages, [0x100, 0x101, 0x102]);
}

#[test]
fn an_elf_image_that_does_not_fit_is_refused() {
    let memory = memory(0x10_1000);
    let segment = [0x90; 0x1001];
    let mut image = Cursor::new(elf(0x10_0000, &segment));
    assert!(Elf::load(&memory, None, &mut image, None).is_err());
    let whole = elf(0x10_0000, &segment[..0x1000]);
    assert!(Elf::load(&memory, None, &mut Cursor::new(&whole), None).is_ok());
    let mut cut_off = Cursor::new(&whole[..0x800]);
    assert!(Elf::load(&memory, None, &mut cut_off, None).is_err());
}

#[test]
fn command_line_and_boot_parameters_are_written() {
    let memory = memory(0x10_0000);
    let mut line = Cmdline::new(64).unwrap();
    line.insert_str("console=ttyS0").unwrap();
    load_cmdline(&memory, GuestAddress(0x2_0000), &line).unwrap();
    assert_eq!(
        &memory.read_obj::<[u8; 14]>(GuestAddress(0x2_0000)).unwrap(),
        b"console=ttyS0\0"
    );
    assert!(load_cmdline(&memory, GuestAddress(0xf_fffd), &line).is_err());

    let mut zero_page = boot_params::default();
    zero_page.hdr.boot_flag = 0xaa55;
    let parameters = BootParams::new(&zero_page, GuestAddress(0x7000));
    LinuxBootConfigurator::write_bootparams(&parameters, &memory).unwrap();
    assert_eq!(
        memory.read_obj::<u16>(GuestAddress(0x71fe)).unwrap(),
        0xaa55
    );
    let past_the_end = BootParams::new(&zero_page, GuestAddress(0xf_f800));
    assert!(LinuxBootConfigurator::write_bootparams(&past_the_end, &memory).is_err());
}

/// `$GUEST_KERNEL`, or Debian's cloud kernel where its package is installed.
fn kernel() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("GUEST_KERNEL") {
        return Some(path.into());
    }
    let is_cloud = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("vmlinuz-") && name.ends_with("-cloud-amd64")
    };
    std::fs::read_dir("/boot")
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(is_cloud)
}

#[test]
fn a_kernel_is_loaded_as_bzimage() {
    let Some(path) = kernel() else {
        println!(
            "skipped: no $GUEST_KERNEL and no /boot/vmlinuz-*-cloud-amd64 (package linux-image-cloud-amd64)"
        );
        return;
    };
    let file = std::fs::read(&path).unwrap();
    let memory = memory(0x400_0000);
    let high = GuestAddress(0x10_0000);
    let loaded = BzImage::load(&memory, None, &mut File::open(&path).unwrap(), Some(high)).unwrap();
    let setup = (usize::from(file[0x1f1]) + 1) * 512;
    let start = loaded.kernel_load;
    assert_eq!(loaded.kernel_end, start.0 + (file.len() - setup) as u64);
    let mut back = vec![0; file.len() - setup];
    memory.read_slice(&mut back, start).unwrap();
    assert!(
        back == file[setup..],
        "the kernel's bytes are in memory as in the file"
    );
    let bitmap = memory.find_region(start).unwrap().bitmap();
    let dirty = (0..0x4000).filter(|page| bitmap.is_bit_set(*page)).count();
    assert_eq!(
        dirty,
        (file.len() - setup).div_ceil(0x1000),
        "the kernel's pages and no others"
    );
    println!("loaded {} bytes of {}", back.len(), path.display());

    // From a memory that is too small nothing is loaded silently.
    let small = self::memory(0x20_0000);
    assert!(BzImage::load(&small, None, &mut File::open(&path).unwrap(), Some(high)).is_err());
}
