// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Prints the public API that a file of rustdoc's JSON describes, one item a line.

use std::error::Error;

/// What all types have, or what says nothing to a user of this library.
const LEFT_OUT: [&str; 4] = ["Freeze", "Unpin", "UnsafeUnpin", "UnwindSafe"];

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os()
        .nth(1)
        .ok_or("usage: api-listing FILE")?;
    let api = public_api::Builder::from_rustdoc_json(path)
        .omit_blanket_impls(true)
        .omit_auto_derived_impls(true)
        .build()?;
    for item in api.items().map(ToString::to_string) {
        let is_left_out = |name: &&str| item.starts_with("impl") && names_trait(&item, name);
        if !LEFT_OUT.iter().any(|name| is_left_out(&name)) {
            println!("{item}");
        }
    }
    Ok(())
}

/// Says whether an implementation is one of the trait, or of the one with the same end.
fn names_trait(item: &str, name: &str) -> bool {
    item.split(" for ")
        .next()
        .is_some_and(|head| head.ends_with(name))
}
