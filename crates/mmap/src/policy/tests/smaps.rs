// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the kernel says of this process's memory at an address. Integration tests include this file as well.

use std::collections::HashSet;
use std::fs;

/// An entry of `/proc/self/smaps`: the mapping at an address, with what the kernel has joined to it because it is
/// next to it and treated alike. Sizes are in bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct SmapsEntry {
    /// First address.
    pub(crate) start: usize,
    /// First address after it.
    pub(crate) end: usize,
    /// What it shows: a path, a name in brackets, or nothing.
    pub(crate) name: String,
    /// The two-letter flags of the line `VmFlags`.
    pub(crate) flags: HashSet<String>,
    /// Size of the pages that it is made of.
    pub(crate) kernel_page_size_bytes: usize,
    /// What is in memory.
    pub(crate) rss_bytes: usize,
    /// What of it is locked, shares of shared pages counted in proportion.
    pub(crate) locked_bytes: usize,
    /// What of it is anonymous memory in transparent huge pages.
    pub(crate) anon_huge_pages_bytes: usize,
    /// What of it is shared memory mapped by transparent huge pages.
    pub(crate) shmem_pmd_mapped_bytes: usize,
}

impl SmapsEntry {
    /// Returns the mapping that has the address.
    pub(crate) fn at(address: usize) -> Option<Self> {
        let text = fs::read_to_string("/proc/self/smaps").expect("smaps");
        Self::find(&text, address)
    }

    /// Says whether the kernel has set a flag.
    pub(crate) fn has(&self, flag: &str) -> bool {
        self.flags.contains(flag)
    }

    fn find(text: &str, address: usize) -> Option<Self> {
        let mut lines = text.lines();
        let mut entry = lines.by_ref().find_map(|line| {
            let entry = Self::header(line)?;
            (entry.start..entry.end).contains(&address).then_some(entry)
        })?;
        for line in lines.take_while(|line| Self::header(line).is_none()) {
            let (key, value) = line.split_once(':').expect("a key");
            let bytes = || {
                let number = value.trim().strip_suffix(" kB").expect("kilobytes");
                number.parse::<usize>().expect("a number") << 10
            };
            match key {
                "VmFlags" => entry.flags = value.split_whitespace().map(String::from).collect(),
                "KernelPageSize" => entry.kernel_page_size_bytes = bytes(),
                "Rss" => entry.rss_bytes = bytes(),
                "Locked" => entry.locked_bytes = bytes(),
                "AnonHugePages" => entry.anon_huge_pages_bytes = bytes(),
                "ShmemPmdMapped" => entry.shmem_pmd_mapped_bytes = bytes(),
                _ => {}
            }
        }
        Some(entry)
    }

    /// Parses the first line of an entry: `start-end rights offset device inode name`.
    fn header(line: &str) -> Option<Self> {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let hex = |digits| usize::from_str_radix(digits, 16).ok();
        let name: Vec<&str> = rest.split_whitespace().skip(4).collect();
        Some(Self {
            start: hex(start)?,
            end: hex(end)?,
            name: name.join(" "),
            flags: HashSet::new(),
            kernel_page_size_bytes: 0,
            rss_bytes: 0,
            locked_bytes: 0,
            anon_huge_pages_bytes: 0,
            shmem_pmd_mapped_bytes: 0,
        })
    }
}

/// Returns the protections, as `/proc/self/maps` writes them (`rw-p`), of the mappings that touch a range, in order.
pub(crate) fn protections_in(start: usize, len_bytes: usize) -> Vec<String> {
    let maps = fs::read_to_string("/proc/self/maps").expect("the list of mappings");
    let touching = maps.lines().filter_map(|line| {
        let entry = SmapsEntry::header(line)?;
        let (_, rest) = line.split_once(' ')?;
        (entry.start < start + len_bytes && start < entry.end).then(|| rest[..4].to_owned())
    });
    touching.collect()
}

/// Returns the NUMA policy of the mapping that has the address, as `/proc/self/numa_maps` writes it: `bind:0`.
///
/// Nothing if the kernel has no NUMA. The file has no ends: for an address that is not mapped the answer is
/// that of the mapping before it.
pub(crate) fn numa_policy_at(address: usize) -> Option<String> {
    let text = fs::read_to_string("/proc/self/numa_maps").ok()?;
    find_policy(&text, address)
}

fn find_policy(text: &str, address: usize) -> Option<String> {
    let parse = |line: &str| {
        let mut words = line.split(' ');
        let start = usize::from_str_radix(words.next()?, 16).ok()?;
        Some((start, words.next()?.to_owned()))
    };
    let at_or_below = text
        .lines()
        .filter_map(parse)
        .take_while(|(start, _)| *start <= address);
    at_or_below.last().map(|(_, policy)| policy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_pointer_width = "64")]
    const SMAPS: &str = "\
7f0000000000-7f0000002000 rw-p 00000000 00:00 0 
Size:                  8 kB
KernelPageSize:        4 kB
Rss:                   4 kB
Locked:                0 kB
AnonHugePages:         0 kB
VmFlags: rd wr mr 
7f0000200000-7f0000400000 rw-s 00000000 00:01 3029   /memfd:guest ram (deleted)
KernelPageSize:     2048 kB
Rss:                2048 kB
Locked:               12 kB
ShmemPmdMapped:     2048 kB
VmFlags: rd wr sh lo ht 
";

    // Its addresses have more than 32 bits.
    #[cfg(target_pointer_width = "64")]
    #[test]
    fn an_entry_has_its_own_lines_only() {
        let first = SmapsEntry::find(SMAPS, 0x7f00_0000_1fff).unwrap();
        assert_eq!(
            (first.rss_bytes, first.kernel_page_size_bytes),
            (4096, 4096)
        );
        assert_eq!(first.name, "");
        assert!(first.has("mr") && !first.has("lo"));
        let second = SmapsEntry::find(SMAPS, 0x7f00_0020_0000).unwrap();
        assert_eq!(second.end - second.start, 2 << 20);
        assert_eq!(second.name, "/memfd:guest ram (deleted)");
        assert_eq!(second.locked_bytes, 12 << 10);
        assert_eq!(second.shmem_pmd_mapped_bytes, 2 << 20);
        assert_eq!(second.anon_huge_pages_bytes, 0);
        assert!(second.has("ht") && !second.has("mr"));
        for hole in [0, 0x7f00_0000_2000, 0x7f00_0040_0000] {
            assert_eq!(SmapsEntry::find(SMAPS, hole), None);
        }
    }

    #[test]
    fn a_policy_is_that_of_the_mapping_which_starts_last_before_the_address() {
        let text = "1000 default file=/bin/sh\n3000 bind:0-1 anon=1 N0=1\n9000 prefer:2\n";
        let policy = |address| find_policy(text, address);
        assert_eq!(policy(0xfff), None);
        assert_eq!(policy(0x1000).as_deref(), Some("default"));
        assert_eq!(policy(0x8fff).as_deref(), Some("bind:0-1"));
        assert_eq!(policy(0x9000).as_deref(), Some("prefer:2"));
    }

    #[test]
    fn the_stack_is_known() {
        let here = 0u8;
        let entry = SmapsEntry::at((&raw const here).addr()).unwrap();
        assert!(entry.has("rd") && entry.has("wr"));
        assert!(entry.rss_bytes > 0);
    }
}
