// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The command line.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use clap::Parser;

use crate::backing::BackingChoice;
use crate::failure::Failure;
use crate::layout::PAGE_BYTES;
use crate::policies::PolicyOptions;

/// The least memory a machine gets: the built-in program works below 1 MiB, a firmware needs a little more.
const LEAST_MEMORY_BYTES: u64 = 2 << 20;
/// The most memory a machine gets: the CMOS registers that tell a firmware about it count to 1 TiB.
const MOST_MEMORY_BYTES: u64 = 1 << 40;
/// The most threads that populate memory.
const MOST_THREADS: usize = 1024;

/// Runs a small guest on memory mapped by the guest-memory library.
#[derive(Debug, Parser)]
#[command(name = "microvm")]
pub(crate) struct Options {
    /// Guest memory, a number of bytes or with a suffix: K, M, G, T or KiB, MiB, GiB, TiB (powers of 1024)
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = memory_bytes)]
    pub(crate) memory: u64,

    /// What the guest's memory is made of
    #[arg(long, value_enum, default_value_t = BackingChoice::Anonymous)]
    pub(crate) backing: BackingChoice,

    /// The file or directory that some backings are made of
    #[arg(long, value_name = "PATH")]
    pub(crate) path: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) policies: PolicyOptions,

    /// Populates all memory before the guest starts, by so many threads or as many as there are processors
    #[arg(long, value_name = "THREADS", value_parser = threads)]
    pub(crate) prefault: Option<Option<NonZeroUsize>>,

    /// Shows what would be done for the memory and what stands in its way, and ends. A run would try to enlarge the pools of
    /// huge pages first
    #[arg(long)]
    pub(crate) plan: bool,

    /// A firmware image to boot instead of the built-in program
    #[arg(long, value_name = "PATH")]
    pub(crate) firmware: Option<PathBuf>,

    /// Seconds after which the guest is stopped
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,

    /// Lets a host thread play the built-in guest even where KVM is available
    #[arg(long, conflicts_with = "firmware")]
    pub(crate) no_kvm: bool,

    /// Moves the built-in guest, while it works, to a second machine with a memory of its own
    #[arg(long, conflicts_with = "firmware")]
    pub(crate) migrate: bool,

    /// Bytes per second that a migration copies at most, as over a network
    #[arg(long, value_name = "SIZE", requires = "migrate", value_parser = bandwidth)]
    pub(crate) bandwidth: Option<u64>,

    /// Shows which parts of memory the built-in guest writes how often
    #[arg(long, conflicts_with = "firmware")]
    pub(crate) heatmap: bool,
}

impl Options {
    /// Returns after how long the guest is stopped.
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }

    /// Returns how many threads populate memory.
    pub(crate) fn threads(&self) -> NonZeroUsize {
        match self.prefault {
            Some(None) => thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            Some(Some(threads)) => threads,
            None => NonZeroUsize::MIN,
        }
    }

    /// Checks that there is a path if and only if the backing needs one.
    pub(crate) fn check_path(&self) -> Result<(), Failure> {
        let backing = self.backing;
        match (backing.path_meaning(), &self.path) {
            (Some(meaning), None) => Err(Failure::setup(format!(
                "the backing {backing} needs --path: {meaning}"
            ))),
            (None, Some(_)) => Err(Failure::setup(format!(
                "the backing {backing} has no use for --path"
            ))),
            _ => Ok(()),
        }
    }
}

/// Squeezes an error of the command-line parser into one line.
pub(crate) fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let parts: Vec<&str> = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"))
        .filter(|line| !line.is_empty())
        .collect();
    let line = parts.join(" ");
    line.strip_prefix("error: ").unwrap_or(&line).to_owned()
}

/// Parses a size of guest memory and checks that a machine can have it.
fn memory_bytes(text: &str) -> Result<u64, String> {
    let bytes = parse_size(text)?;
    if bytes < LEAST_MEMORY_BYTES {
        return Err(format!(
            "{bytes} bytes are too little, a guest needs at least 2 MiB"
        ));
    }
    if bytes > MOST_MEMORY_BYTES {
        return Err(format!(
            "{bytes} bytes are too much, a guest gets at most 1 TiB"
        ));
    }
    if !bytes.is_multiple_of(PAGE_BYTES) {
        return Err(format!(
            "{bytes} bytes are no multiple of a page of {PAGE_BYTES} bytes"
        ));
    }
    Ok(bytes)
}

/// Parses a number of threads that a host can be expected to start.
fn threads(text: &str) -> Result<NonZeroUsize, String> {
    let threads = text.parse().ok().filter(|&threads| threads <= MOST_THREADS);
    threads
        .and_then(NonZeroUsize::new)
        .ok_or_else(|| format!("from 1 to {MOST_THREADS} threads can populate memory"))
}

/// Parses a number of bytes per second that lets a copy end some day.
fn bandwidth(text: &str) -> Result<u64, String> {
    match parse_size(text)? {
        bytes if bytes >= PAGE_BYTES => Ok(bytes),
        bytes => Err(format!("{bytes} bytes per second are less than a page")),
    }
}

/// Parses `4096`, `64M`, `64MiB`, `1g`.
fn parse_size(text: &str) -> Result<u64, String> {
    let digits_end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, suffix) = text.split_at(digits_end);
    if digits.is_empty() {
        return Err("a size starts with a decimal number".to_owned());
    }
    let shift = match suffix.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        "t" | "tib" => 40,
        _ => {
            return Err(format!(
                "unknown suffix '{suffix}', use K, M, G, T or KiB, MiB, GiB, TiB"
            ));
        }
    };
    digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or_else(|| "the size does not fit in 64 bits".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_take_binary_suffixes_in_both_spellings() {
        assert_eq!(parse_size("4096"), Ok(4096));
        assert_eq!(parse_size("64M"), Ok(64 << 20));
        assert_eq!(parse_size("64MiB"), Ok(64 << 20));
        assert_eq!(parse_size("1g"), Ok(1 << 30));
        assert_eq!(parse_size("8192k"), Ok(8 << 20));
        assert_eq!(parse_size("1TiB"), Ok(1 << 40));
    }

    #[test]
    fn malformed_sizes_are_refused() {
        for text in [
            "",
            "M",
            "-1",
            "1.5G",
            "64MB",
            "64 M",
            "0x1000",
            "M64",
            "99999999999999999999",
            "18446744073709551615K",
        ] {
            assert!(parse_size(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn memory_must_be_whole_pages_between_the_bounds() {
        assert_eq!(memory_bytes("2M"), Ok(2 << 20));
        assert_eq!(memory_bytes("1T"), Ok(1 << 40));
        for text in ["0", "1M", "2097153", "1025G", "16383T"] {
            assert!(memory_bytes(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn a_path_is_for_those_backings_that_need_one() {
        let parse = |arguments: &[&str]| {
            let arguments = ["microvm"].iter().chain(arguments);
            Options::try_parse_from(arguments).unwrap().check_path()
        };
        for backing in ["hugetlbfs", "file", "file-private"] {
            let message = parse(&["--backing", backing]).unwrap_err().message;
            let start = format!("the backing {backing} needs --path: a ");
            assert!(message.starts_with(&start), "{message}");
            assert!(parse(&["--backing", backing, "--path", "x"]).is_ok());
        }
        assert!(parse(&["--path", "x"]).is_err());
        assert!(parse(&["--backing", "hugetlb-1g"]).is_ok());
    }

    #[test]
    fn threads_are_those_asked_for_or_one_per_processor() {
        let threads = |arguments: &[&str]| {
            let arguments = ["microvm"].iter().chain(arguments);
            Options::try_parse_from(arguments).unwrap().threads().get()
        };
        assert_eq!(threads(&[]), 1);
        assert_eq!(threads(&["--prefault", "3"]), 3);
        let processors = thread::available_parallelism().unwrap().get();
        assert_eq!(threads(&["--prefault", "--plan"]), processors);
    }

    #[test]
    fn parser_errors_become_one_line() {
        for arguments in [
            &["microvm", "--memory", "lots"][..],
            &["microvm", "--backing", "paper"],
            &["microvm", "--timeout", "0"],
            &["microvm", "--what"],
            &["microvm", "surplus"],
            &["microvm", "--memory"],
            &["microvm", "--no-kvm", "--firmware", "x"],
            &["microvm", "--migrate", "--firmware", "x"],
            &["microvm", "--bandwidth", "1M"],
            &["microvm", "--prefault", "0"],
            &["microvm", "--prefault", "1025"],
            &["microvm", "--numa-node", "first"],
            &["microvm", "--huge-pages", "always"],
            &["microvm", "--migrate", "--bandwidth", "0"],
        ] {
            let error = Options::try_parse_from(arguments).unwrap_err();
            let line = one_line(&error);
            assert!(
                !line.is_empty() && !line.contains('\n'),
                "{arguments:?} gives {line:?}"
            );
        }
    }
}
