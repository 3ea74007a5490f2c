// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Numbers for people to read.

/// Formats a number of bytes in the largest unit that divides it.
pub(crate) fn bytes_text(bytes: u128) -> String {
    for (shift, unit) in [
        (50, "PiB"),
        (40, "TiB"),
        (30, "GiB"),
        (20, "MiB"),
        (10, "KiB"),
    ] {
        if bytes >= 1 << shift && bytes.trailing_zeros() >= shift {
            return format!("{} {unit}", bytes >> shift);
        }
    }
    format!("{bytes} B")
}

/// Formats a number of things.
pub(crate) fn count_text(count: usize, one: &str) -> String {
    match count {
        1 => format!("1 {one}"),
        _ => format!("{count} {one}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_is_the_largest_that_divides() {
        let table = [
            (0, "0 B"),
            (1023, "1023 B"),
            (4096, "4 KiB"),
            (3 << 19, "1536 KiB"),
            (1 << 30, "1 GiB"),
            (u128::from(u64::MAX) + 1, "16384 PiB"),
        ];
        for (bytes, text) in table {
            assert_eq!(bytes_text(bytes), text);
        }
    }
}
