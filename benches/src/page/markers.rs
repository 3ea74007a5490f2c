// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Comments in a page between which something is put.

const START: &str = "<!-- table: ";
const START_END: &str = " -->";
const END: &str = "<!-- end -->";

/// Puts between each pair of comments what `content` gives for the name in the first one.
pub(super) fn fill(
    page: &str,
    mut content: impl FnMut(&str) -> Result<String, String>,
) -> Result<String, String> {
    let mut filled = String::new();
    let mut rest = page;
    while let Some((before, after)) = rest.split_once(START) {
        let (name, after) = after
            .split_once(START_END)
            .ok_or("a comment is not closed")?;
        let (old, after) = after
            .split_once(END)
            .ok_or_else(|| format!("the table {name} has no end"))?;
        if old.contains(START) {
            return Err(format!("the table {name} has no end"));
        }
        let content = content(name)?;
        filled += &format!(
            "{before}{START}{name}{START_END}\n\n{}\n\n{END}",
            content.trim_end()
        );
        rest = after;
    }
    if rest.contains(END) {
        return Err("an end has no table".to_owned());
    }
    Ok(filled + rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# One\n\n<!-- table: a -->\nold\n<!-- end -->\n\nProse.\n\n<!-- table: b --><!-- end -->\n";

    fn number(name: &str) -> Result<String, String> {
        match name {
            "a" => Ok("| 1 |\n".to_owned()),
            "b" => Ok("| 2 |\n".to_owned()),
            _ => Err(format!("no table {name}")),
        }
    }

    #[test]
    fn tables_are_filled_and_prose_stays() {
        let filled = fill(PAGE, number).unwrap();
        assert_eq!(
            filled,
            "# One\n\n<!-- table: a -->\n\n| 1 |\n\n<!-- end -->\n\nProse.\n\n<!-- table: b -->\n\n| 2 |\n\n<!-- end -->\n"
        );
        assert_eq!(fill(&filled, number).as_ref(), Ok(&filled));
    }

    #[test]
    fn a_page_that_is_not_well_marked_is_refused() {
        for page in [
            "<!-- table: a -->\n",
            "<!-- table: a\n",
            "<!-- end -->\n",
            "<!-- table: a -->\n<!-- table: b -->\n<!-- end -->\n",
            "<!-- table: c -->\n<!-- end -->\n",
        ] {
            assert!(fill(page, number).is_err(), "{page}");
        }
    }
}
