// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a figure depends on besides the code: the machine, its kernel, the compiler, the profile and the day.

use std::env;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

/// The keys in the head of a record that say where it was made, and must agree within one.
pub const KEYS: [&str; 4] = ["cpu", "kernel", "compiler", "profile"];

/// Returns the values of [`KEYS`], in their order.
pub fn here() -> [String; KEYS.len()] {
    [cpu(), kernel(), env!("COMPILER").to_owned(), profile()]
}

/// Returns the date of today in UTC, as `2026-12-01`.
pub fn today() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    date(since.map_or(0, |since| since.as_secs() / 86_400))
}

/// Returns the load average as the kernel prints it.
pub fn load_average() -> String {
    fs::read_to_string("/proc/loadavg")
        .ok()
        .and_then(|text| text.split(' ').next().map(str::to_owned))
        .unwrap_or_else(|| "unknown".to_owned())
}

fn cpu() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    cpu_of(&text).unwrap_or_else(|| env::consts::ARCH.to_owned())
}

/// Returns the processor that `/proc/cpuinfo` describes, and how many there are; nothing where it names none.
fn cpu_of(text: &str) -> Option<String> {
    let field = |name: &str| {
        text.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == name).then(|| value.trim())
        })
    };
    let name = field("model name").or_else(|| field("CPU part"))?;
    let count = text
        .lines()
        .filter(|line| line.split(':').next().map(str::trim) == Some("processor"))
        .count();
    let which = match (field("cpu family"), field("model")) {
        (Some(family), Some(model)) => format!(" (family {family}, model {model})"),
        _ => String::new(),
    };
    let is_virtual =
        field("flags").is_some_and(|flags| flags.split(' ').any(|it| it == "hypervisor"));
    let place = if is_virtual {
        " of a virtual machine"
    } else {
        ""
    };
    let plural = if count == 1 { "" } else { "s" };
    Some(format!("{name}{which}, {count} processor{plural}{place}"))
}

/// The kernel's name and version, without what its builder appended.
fn kernel() -> String {
    let read = |name: &str| fs::read_to_string(format!("/proc/sys/kernel/{name}"));
    match (read("ostype"), read("osrelease")) {
        (Ok(name), Ok(release)) => {
            let version = release.trim().split('-').next().unwrap_or_default();
            format!("{} {version}", name.trim())
        }
        _ => env::consts::OS.to_owned(),
    }
}

/// The profile, which cargo names the program's folder after.
fn profile() -> String {
    env::current_exe()
        .ok()
        .and_then(|path| Some(path.parent()?.file_name()?.to_str()?.to_owned()))
        .unwrap_or_else(|| "unknown".to_owned())
}

/// Returns the date of a day, counted from 1970-01-01.
fn date(days: u64) -> String {
    let (mut year, mut rest) = (1970, days);
    loop {
        let len = if is_leap(year) { 366 } else { 365 };
        if rest < len {
            break;
        }
        rest -= len;
        year += 1;
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for len in months {
        if rest < len {
            break;
        }
        rest -= len;
        month += 1;
    }
    format!("{year}-{month:02}-{:02}", rest + 1)
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_dates() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(59), "1970-03-01");
        assert_eq!(date(11_016), "2000-02-29");
        assert_eq!(date(11_017), "2000-03-01");
        assert_eq!(date(20_788), "2026-12-01");
        assert_eq!(date(20_818), "2026-12-31");
        assert_eq!(date(20_819), "2027-01-01");
    }

    #[test]
    fn a_processor_is_named_with_what_tells_it_from_others() {
        let text = "processor\t: 0\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\nflags\t\t: fpu hypervisor sse\n\
                    \nprocessor\t: 1\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\n";
        assert_eq!(
            cpu_of(text).as_deref(),
            Some("AMD EPYC (family 25, model 17), 2 processors of a virtual machine")
        );
        let text = "processor\t: 0\nCPU part\t: 0xd0c\n";
        assert_eq!(cpu_of(text).as_deref(), Some("0xd0c, 1 processor"));
        assert_eq!(cpu_of(""), None);
    }

    #[test]
    fn the_compiler_of_this_build_is_known() {
        let [_, _, compiler, _] = here();
        assert!(compiler.starts_with("rustc 1."), "{compiler}");
    }
}
