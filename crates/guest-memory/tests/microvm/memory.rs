// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The example monitor's memory: every backing, the plan, policies, population.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::pool::pool_or_skip;
use crate::{assert_refused, executable, microvm, microvm_passes};

const MIB: usize = 1 << 20;
const TWO_MIB: usize = 2 * MIB;
/// Pages of 2 MiB that the RAM and the module need.
const HUGE_PAGES: usize = 33;
/// Where the built-in guest leaves its results.
const RESULTS: usize = 0x8000;

/// Returns the words of a region's line in the memory map.
fn row<'a>(text: &'a str, label: &str) -> Vec<&'a str> {
    let rows = text.lines().skip_while(|line| *line != "memory map:");
    let mut rows = rows.map(|line| line.split_whitespace().collect::<Vec<_>>());
    let found = rows.find(|words| words.get(5) == Some(&label));
    found.unwrap_or_else(|| panic!("no region {label}:\n{text}"))
}

/// Runs the example on memory of a backing, which has to succeed; its map must say `kind` and the size of its pages.
fn passes_on(arguments: &[&str], kind: &str, page: &str) -> Option<String> {
    let text = microvm_passes(arguments)?;
    let passed = text
        .lines()
        .any(|line| line.starts_with("result: all ") && line.ends_with(" checks passed"));
    assert!(passed, "{arguments:?}:\n{text}");
    let low = row(&text, "low").join(" ");
    assert!(
        low.contains(&format!(" RAM low {kind} {page} ")),
        "{arguments:?}: {low}"
    );
    Some(text)
}

#[test]
fn memory_of_ordinary_pages_carries_the_guest() {
    for (backing, kind) in [
        ("anonymous", "anonymous, private"),
        ("shared", "anonymous"),
        ("memfd", "memfd"),
        ("shm", "shm"),
    ] {
        if backing == "shm" && !Path::new("/dev/shm").is_dir() {
            println!("skipped: there is no /dev/shm");
            continue;
        }
        for further in [&[][..], &["--migrate"]] {
            let arguments = [&["--backing", backing], further].concat();
            if passes_on(&arguments, kind, "4 KiB").is_none() {
                return;
            }
        }
    }
}

/// Reads what the guest left in a file that is its RAM.
fn results_in(path: &Path) -> Vec<u8> {
    let mut bytes = vec![0; RESULTS + 24];
    File::open(path).unwrap().read_exact(&mut bytes).unwrap();
    bytes.split_off(RESULTS)
}

#[test]
fn a_file_holds_the_memory_and_one_with_content_is_like_a_new_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ram");
    let name = path.to_str().unwrap();
    let arguments = ["--backing", "file", "--path", name];
    // Each run finds what those before left; a migration puts a second memory behind the first.
    let migrate = &["--migrate"][..];
    for (further, len_mib) in [(&[][..], 66), (&[], 66), (migrate, 132), (migrate, 132)] {
        let arguments = [&arguments, further].concat();
        if passes_on(&arguments, "file", "4 KiB").is_none() {
            return;
        }
        assert_eq!(path.metadata().unwrap().len(), len_mib * MIB as u64);
        assert_ne!(results_in(&path), [0; 24]);
    }

    // A private copy leaves the file as it is, and the guest does not see what is in it.
    let other = directory.path().join("other");
    std::fs::write(&other, vec![0xee; 3 * MIB]).unwrap();
    for (path, before, len_mib) in [(&path, results_in(&path), 132), (&other, vec![0xee; 24], 4)] {
        let name = path.to_str().unwrap();
        let arguments = ["--backing", "file-private", "--path", name];
        let work = ["--memory", "2M", "--heatmap"];
        passes_on(
            &[arguments.as_slice(), &work].concat(),
            "file, private",
            "4 KiB",
        )
        .unwrap();
        assert_eq!(results_in(path), before);
        assert_eq!(path.metadata().unwrap().len(), len_mib * MIB as u64);
    }
}

#[test]
fn huge_pages_with_and_without_a_file_carry_the_guest() {
    let pool = pool_or_skip!(TWO_MIB, 2 * HUGE_PAGES);
    let free = pool.free().unwrap();
    for (backing, kind) in [
        ("hugetlb", "memfd"),
        ("hugetlb-anonymous", "anonymous, private"),
    ] {
        for further in [&["--prefault"][..], &["--migrate"]] {
            let arguments = [&["--backing", backing], further].concat();
            if passes_on(&arguments, kind, "2 MiB").is_none() {
                return;
            }
        }
    }
    assert_eq!(pool.free().unwrap(), free, "pages are missing in the pool");
}

#[test]
fn huge_pages_of_one_gibibyte_carry_the_guest_beside_a_module_of_ordinary_pages() {
    let _pool = pool_or_skip!(1 << 30, 1);
    let arguments = ["--backing", "hugetlb-1g", "--memory", "1G"];
    let Some(text) = passes_on(&arguments, "memfd", "1 GiB") else {
        return;
    };
    assert_eq!(row(&text, "module")[6..9], ["memfd", "4", "KiB"], "{text}");
}

/// A mounted hugetlbfs, unmounted on drop.
struct Mount(tempfile::TempDir);

impl Mount {
    fn new() -> Result<Self, String> {
        let directory = tempfile::tempdir().unwrap();
        let mount = Command::new("mount")
            .args(["-t", "hugetlbfs", "-o", "pagesize=2M", "none"])
            .arg(directory.path())
            .output();
        match mount {
            Ok(output) if output.status.success() => Ok(Self(directory)),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Err(format!("mount cannot be run: {error}")),
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let unmount = Command::new("umount").arg(self.0.path()).status();
        if !unmount.is_ok_and(|status| status.success()) {
            println!("{} stays mounted", self.0.path().display());
        }
    }
}

#[test]
fn a_directory_on_hugetlbfs_carries_the_guest() {
    let _pool = pool_or_skip!(TWO_MIB, 2 * HUGE_PAGES);
    let mount = match Mount::new() {
        Ok(mount) => mount,
        Err(reason) => {
            println!("skipped: no hugetlbfs: {reason}");
            return;
        }
    };
    let path = mount.0.path();
    let arguments = ["--backing", "hugetlbfs", "--path", path.to_str().unwrap()];
    for further in [&[][..], &["--migrate"]] {
        let arguments = [&arguments, further].concat();
        if passes_on(&arguments, "hugetlbfs", "2 MiB").is_none() {
            return;
        }
    }
    assert_eq!(path.read_dir().unwrap().count(), 0, "a file stayed there");
}

#[test]
fn the_firmware_is_read_only_once_it_is_loaded() {
    let Some(text) = microvm_passes(&[]) else {
        return;
    };
    let planned = text
        .lines()
        .find(|line| line.starts_with("  firmware  map "));
    assert!(planned.unwrap().contains("read-write"), "{text}");
    let firmware = row(&text, "firmware");
    assert!(firmware.contains(&"ROM"), "{text}");
    assert!(firmware.contains(&"read"), "{text}");
    assert!(row(&text, "low").contains(&"read-write"), "{text}");
    for line in [
        "the guest's write to the image was refused once",
        "the image's byte after the guest wrote to it is 0xfa",
    ] {
        assert!(text.contains(&format!("  passed  {line}")), "{text}");
    }
}

#[test]
fn a_plan_is_shown_and_nothing_is_done() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ram");
    let name = path.to_str().unwrap();
    let arguments = ["--plan", "--migrate", "--backing", "file", "--path", name];
    let Some(text) = microvm_passes(&arguments) else {
        return;
    };
    assert!(!path.exists());
    let starts = ["0x0, shared", "0x4000000, shared", "0x4200000, shared"];
    for start in starts {
        assert!(text.contains(&format!("{name} at {start}")), "{text}");
    }
    assert!(
        !text.contains("memory map:") && !text.contains("run"),
        "{text}"
    );
    assert!(!text.contains("problem"), "{text}");
}

#[test]
fn a_plan_with_problems_names_region_field_value_and_what_is_valid() {
    let pool = pool_or_skip!(TWO_MIB, 0);
    let (free, needed) = (pool.free().unwrap(), 1536);
    let arguments = ["--plan", "--backing", "hugetlb", "--memory", "1T"];
    let Some(output) = microvm(&arguments) else {
        return;
    };
    assert_refused(&arguments, &output);
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    let (region, pages, left) = match free {
        enough if enough > needed => ("high", 1021 * 512, enough - needed - 1),
        free => ("low", needed, free),
    };
    let problem = format!(
        "region {region:?}: backing of {pages} huge pages of 2 MiB: the pool has {left} left for it"
    );
    assert!(text.contains(&format!("  problem: {problem}\n")), "{text}");
    assert!(errors.contains(&problem), "{errors}");

    let arguments = ["--plan", "--backing", "hugetlb-1g", "--memory", "64M"];
    let output = microvm(&arguments).unwrap();
    assert_refused(&arguments, &output);
    let problem = "region \"low\": size 67108864: a multiple of 1073741824 bytes";
    assert!(String::from_utf8(output.stderr).unwrap().contains(problem));
}

#[test]
fn what_became_of_the_policies_is_printed() {
    let arguments = ["--numa-node", "0", "--no-dump", "--huge-pages", "never"];
    let Some(text) = microvm_passes(&arguments) else {
        return;
    };
    for label in ["low     ", "module  "] {
        for line in [
            "NUMA bind:0 (required): applied",
            "transparent huge pages never (wished): applied",
            "core dump exclude (wished): applied",
        ] {
            let line = format!("  {label}  {line}\n");
            assert!(text.contains(&line), "{line}:\n{text}");
        }
    }
    // The system may refuse what is wished, and says so.
    let text = microvm_passes(&["--lock", "--merge", "--huge-pages", "collapse"]).unwrap();
    for policy in [
        "locking now",
        "page merging merge",
        "transparent huge pages collapse",
        "population by 1 thread",
    ] {
        let is_answer = |line: &str| {
            let answer = line.split_once(&format!("  {policy} (wished): "));
            answer.is_some_and(|(_, answer)| answer == "applied" || answer.starts_with("refused: "))
        };
        assert_eq!(
            text.lines().filter(|line| is_answer(line)).count(),
            2,
            "{text}"
        );
    }
}

#[test]
fn a_required_policy_that_does_not_hold_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ram");
    let name = path.to_str().unwrap();
    // A shared file's pages are placed by whoever reads the file.
    let arguments = ["--numa-node", "0", "--backing", "file", "--path", name];
    let Some(output) = microvm(&arguments) else {
        return;
    };
    assert_refused(&arguments, &output);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains("region \"low\""), "{errors}");
    assert!(errors.contains("NUMA bind:0"), "{errors}");
}

#[test]
fn all_memory_is_populated_before_the_guest_starts() {
    let Some(text) = microvm_passes(&["--prefault", "2"]) else {
        return;
    };
    let lines: Vec<&str> = text.lines().collect();
    let place = |start: &str| lines.iter().position(|line| line.starts_with(start));
    let at = place("prefault: ").unwrap();
    assert!(at < place("run:").unwrap(), "{text}");
    // RAM, module and firmware.
    let start = format!("prefault: {} KiB by 2 threads in ", (66 << 10) + 64);
    assert!(lines[at].starts_with(&start), "{}", lines[at]);
    assert!(lines[at].ends_with(" MiB/s"), "{}", lines[at]);
    for (label, resident) in [
        ("low", ["64", "MiB"]),
        ("module", ["2", "MiB"]),
        ("firmware", ["64", "KiB"]),
    ] {
        let words = row(&text, label);
        // Before the column of KVM's slots.
        assert_eq!(words[words.len() - 3..words.len() - 1], resident, "{text}");
    }
    assert!(
        !text.contains(['\r', '\x1b']),
        "a bar without a terminal:\n{text}"
    );
}

#[test]
fn a_bar_is_drawn_on_a_terminal_while_memory_is_populated() {
    let Some(executable) = executable() else {
        return;
    };
    let microvm = format!("'{}' --prefault 2 --timeout 120", executable.display());
    let script = Command::new("script")
        .args(["-qec", &microvm, "/dev/null"])
        .stdin(Stdio::null())
        .output();
    let output = match script {
        Ok(output) => output,
        Err(error) => {
            println!("skipped: script, which makes a terminal, cannot be run: {error}");
            return;
        }
    };
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let pictures: Vec<&str> = text
        .split("\r\x1b[K")
        .filter(|picture| picture.starts_with("  prefault ["))
        .collect();
    assert!(!pictures.is_empty(), "{text}");
    for picture in pictures {
        let (bar, rest) = picture.split_once(']').unwrap();
        let cells = bar.strip_prefix("  prefault [").unwrap();
        assert_eq!(cells.trim_start_matches('#').trim_start_matches('.'), "");
        let (percent, rate) = rest.split_once('%').unwrap();
        let percent: usize = percent.trim().parse().unwrap();
        assert_eq!(cells.matches('#').count(), cells.len() * percent / 100);
        let rate = rate.trim().strip_suffix(" MiB/s").unwrap();
        assert!(rate.parse::<u64>().is_ok(), "{picture:?}");
    }
    // The bar is gone when the last line comes.
    assert!(
        text.contains("\r\x1b[Kprefault: 67648 KiB by 2 threads in "),
        "{text}"
    );
}
