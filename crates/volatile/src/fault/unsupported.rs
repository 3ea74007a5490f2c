// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Targets whose faults are not caught.

use super::InstallError;
use crate::fault_kind::FaultKind;

pub(super) fn install() -> Result<(), InstallError> {
    Err(InstallError::Unsupported)
}

pub(super) fn is_installed() -> bool {
    false
}

pub(super) fn last_kind() -> FaultKind {
    FaultKind::Other
}
