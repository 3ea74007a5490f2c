// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Lines of comma-separated values.

/// Joins fields; one with anything but letters, digits, dots, signs and underscores is quoted.
pub(super) fn line(fields: &[String]) -> String {
    let plain = |it: char| it.is_alphanumeric() || matches!(it, '.' | '-' | '+' | '_');
    let fields: Vec<String> = fields
        .iter()
        .map(|field| match field.chars().all(plain) {
            true => field.clone(),
            false => format!("\"{}\"", field.replace('"', "\"\"")),
        })
        .collect();
    fields.join(",")
}

/// Takes a line apart.
pub(super) fn fields(line: &str) -> Result<Vec<String>, String> {
    let mut fields = vec![String::new()];
    let mut is_quoted = false;
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if is_quoted && letters.next_if_eq(&'"').is_some() => push(&mut fields, '"'),
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => fields.push(String::new()),
            _ => push(&mut fields, letter),
        }
    }
    match is_quoted {
        true => Err(format!("a quote is not closed: {line}")),
        false => Ok(fields),
    }
}

fn push(fields: &mut [String], letter: char) {
    if let Some(field) = fields.last_mut() {
        field.push(letter);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_back_with_commas_quotes_and_nothing_in_them() {
        let row = ["mark 4 KiB", "a, b", "say \"so\"", "", "1.500"].map(str::to_owned);
        let text = line(&row);
        assert_eq!(text, "\"mark 4 KiB\",\"a, b\",\"say \"\"so\"\"\",,1.500");
        assert_eq!(fields(&text).unwrap(), row);
        assert!(fields("1,\"open").is_err());
    }
}
