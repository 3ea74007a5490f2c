// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A table in Markdown that can be read as it is, too.

/// Makes a table; a column whose head begins with `>` is one of figures, which end at the right.
///
/// # Panics
///
/// If a row has not one field for each column.
pub(crate) fn table<const N: usize>(heads: [&str; N], rows: &[[String; N]]) -> String {
    let names = heads.map(|head| head.trim_start_matches('>').to_owned());
    let mut widths = names.each_ref().map(|name| width(name).max(3));
    for row in rows {
        for (column, field) in widths.iter_mut().zip(row) {
            *column = width(field).max(*column);
        }
    }
    let mut text = line(&names, &heads, &widths);
    let rules = std::array::from_fn(|column| {
        let colon = if is_right(heads[column]) { ":" } else { "" };
        format!("{}{colon}", "-".repeat(widths[column] - colon.len()))
    });
    text += &line(&rules, &heads, &widths);
    for row in rows {
        text += &line(row, &heads, &widths);
    }
    text
}

fn line<const N: usize>(fields: &[String; N], heads: &[&str; N], widths: &[usize; N]) -> String {
    let mut text = "|".to_owned();
    for ((field, head), width) in fields.iter().zip(heads).zip(widths) {
        text += &match is_right(head) {
            true => format!(" {field:>width$} |"),
            false => format!(" {field:<width$} |"),
        };
    }
    text + "\n"
}

fn is_right(head: &str) -> bool {
    head.starts_with('>')
}

fn width(field: &str) -> usize {
    field.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let rows = [
            ["read".to_owned(), "1.5 µs".to_owned()],
            ["a".to_owned(), String::new()],
        ];
        assert_eq!(
            table(["case", ">ours"], &rows),
            "| case |   ours |\n| ---- | -----: |\n| read | 1.5 µs |\n| a    |        |\n"
        );
    }
}
