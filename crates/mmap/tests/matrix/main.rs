// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Every backing against everything that can be done to memory, as a table: `cargo test --test matrix -- --nocapture`.

mod backings;
mod cells;
#[path = "../mmap/child.rs"]
mod child;
mod foreign;
mod fork;
mod guest_memfd;
#[path = "../mmap/mount.rs"]
mod mount;
mod pages;
#[expect(
    unused_imports,
    unused_macros,
    reason = "nothing here is skipped as a whole"
)]
#[path = "../mmap/pool.rs"]
mod pool;
mod subject;
mod table;

use std::any::Any;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::backings::{ROWS, Row};
use crate::cells::{COLUMNS, Column};
use crate::pool::{Pool, TWO_MIB, Turn};
use crate::subject::{Ground, Skip};
use crate::table::{Cell, Table};

#[test]
fn every_backing_does_all_that_memory_does() {
    let mut table = Table::new(COLUMNS.iter().map(|column| column.name).collect());
    for row in ROWS {
        table.push(row.name, run_row(row));
    }
    println!("{table}");
    assert_eq!(table.failures(), 0, "{table}");
    if can_have_everything() {
        assert_eq!(table.unexcused(), 0, "{table}");
    }
}

/// Says whether whoever runs this may have huge pages, so that a test without them is not excused.
fn can_have_everything() -> bool {
    let is_root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    is_root && fs::exists("/sys/kernel/mm/hugepages/hugepages-2048kB").unwrap_or(false)
}

fn run_row(row: &Row) -> Vec<Cell> {
    let ground = match row.pool {
        Some((page_size, pages)) => Pool::with_free(page_size, pages)
            .map(Ground::Pool)
            .map_err(|reason| no_pages(page_size, reason)),
        None => Turn::wait().map(Ground::Turn).map_err(Skip::refused),
    };
    let run = |column| match &ground {
        Ok(ground) => run_cell(row, column, ground),
        Err(skip) => Cell::Skipped(skip.clone()),
    };
    COLUMNS.iter().map(run).collect()
}

/// Says why there are no pages of a size: a system that has run for a while may have no larger ones left in one piece.
fn no_pages(page_size: usize, reason: String) -> Skip {
    match page_size {
        TWO_MIB => Skip::refused(reason),
        _ => Skip::lacking(reason),
    }
}

/// Runs one cell with a region of its own, and checks that its pages are back in the pool.
fn run_cell(row: &Row, column: &Column, ground: &Ground) -> Cell {
    let run = || -> Result<(), Skip> {
        let free = ground.free_pages();
        let mut subject = (row.make)()?;
        cells::is_as_described(&subject);
        (column.check)(&mut subject, ground);
        drop(subject);
        assert_eq!(ground.free_pages(), free, "pages are back in the pool");
        Ok(())
    };
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(())) => Cell::Passed,
        Ok(Err(skip)) => Cell::Skipped(skip),
        Err(panic) => Cell::Failed(message(&*panic)),
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
        (Some(text), _) => text.clone(),
        (None, Some(text)) => (*text).to_owned(),
        (None, None) => "a panic".to_owned(),
    }
}
