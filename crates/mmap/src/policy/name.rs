// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The name of memory without a file.

use std::ffi::{CStr, CString};
use std::fmt;
use std::str::FromStr;

use super::page_source::PageSource;
use super::{Policy, PolicyKind, Refusal};
use crate::extent::Extent;
use crate::sys;

/// Longest name in bytes: the kernel takes 80 with the zero at the end.
const LONGEST: usize = 79;

/// A name for private memory without a file, which shows in `/proc/PID/maps` as `[anon:NAME]`.
///
/// It is for people: kernels without `CONFIG_ANON_VMA_NAME` refuse it.
///
/// # Examples
///
/// ```
/// use guest_memory_mmap::MemoryName;
///
/// assert_eq!("guest-ram".parse::<MemoryName>().unwrap().as_str(), "guest-ram");
/// assert!("no [brackets]".parse::<MemoryName>().is_err());
/// ```
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(feature = "serde", serde(try_from = "String", into = "String"))]
pub struct MemoryName(CString);

impl MemoryName {
    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // It was made of a string, so that the alternative is never taken.
        self.0.to_str().unwrap_or("")
    }

    fn as_c_str(&self) -> &CStr {
        &self.0
    }
}

impl FromStr for MemoryName {
    type Err = MemoryNameError;

    /// Takes 1 to 79 printable ASCII characters but `\`, `` ` ``, `$`, `[` and `]`.
    ///
    /// # Errors
    ///
    /// If the name is something else; the error has it.
    fn from_str(name: &str) -> Result<Self, MemoryNameError> {
        let is_allowed = |byte: u8| (b' '..=b'~').contains(&byte) && !b"\\`$[]".contains(&byte);
        let fits = (1..=LONGEST).contains(&name.len()) && name.bytes().all(is_allowed);
        let refused = || MemoryNameError { name: name.into() };
        match CString::new(name) {
            Ok(name) if fits => Ok(Self(name)),
            _ => Err(refused()),
        }
    }
}

impl Policy for MemoryName {
    const KIND: PolicyKind = PolicyKind::Name;

    fn apply(&self, extent: Extent<'_>) -> Result<(), Refusal> {
        if PageSource::of(extent)? != PageSource::Anonymous {
            return Err(Refusal::NotPrivateAnonymous);
        }
        sys::set_name(extent, self.as_c_str()).map_err(|error| {
            let hint = match error.raw_os_error() {
                Some(libc::EINVAL) => "needs a kernel with CONFIG_ANON_VMA_NAME",
                _ => "prctl failed",
            };
            Refusal::kernel(&error, hint)
        })
    }
}

impl fmt::Display for MemoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl TryFrom<String> for MemoryName {
    type Error = MemoryNameError;

    fn try_from(name: String) -> Result<Self, MemoryNameError> {
        name.parse()
    }
}

impl From<MemoryName> for String {
    fn from(name: MemoryName) -> Self {
        name.as_str().to_owned()
    }
}

/// Error of a name that the kernel would not take.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("name {name:?} is not 1 to {LONGEST} printable ASCII characters without \\, `, $, [ and ]")]
pub struct MemoryNameError {
    name: String,
}

impl MemoryNameError {
    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_the_kernel_takes() {
        let longest = "n".repeat(LONGEST);
        for name in ["guest-ram", "a b~!", &longest] {
            assert_eq!(name.parse::<MemoryName>().unwrap().as_str(), name);
        }
        let too_long = "n".repeat(LONGEST + 1);
        for name in [
            "", "a[", "]", "$", "`", "\\", "\n", "\0", "é", "\x7f", &too_long,
        ] {
            let error = name.parse::<MemoryName>().unwrap_err();
            assert_eq!(error.name(), name);
        }
    }
}
