// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The system's pools of huge pages: they are one for all processes, so tests take turns and put them back.

use std::env;
use std::fs::{self, File};
use std::path::PathBuf;

/// The system's pool of pages of one size, ours alone among the tests that do the same.
pub(crate) struct Pool {
    folder: PathBuf,
    before: usize,
    _turn: File,
}

impl Pool {
    /// Waits for its turn, then sees to `free` pages that nobody uses.
    pub(crate) fn with_free(page_size: usize, free: usize) -> Result<Self, String> {
        let lock = env::temp_dir().join("guest-memory-huge-page-pool.lock");
        let turn = File::create(lock)
            .and_then(|file| file.lock().map(|()| file))
            .map_err(|error| format!("no lock for the pool: {error}"))?;
        let folder = format!("/sys/kernel/mm/hugepages/hugepages-{}kB", page_size >> 10);
        let mut pool = Self {
            folder: folder.into(),
            before: 0,
            _turn: turn,
        };
        pool.before = pool.count("nr_hugepages")?;
        let missing = free.saturating_sub(pool.free()?);
        if missing > 0 {
            pool.resize(pool.before + missing)?;
        }
        match pool.free()? {
            enough if enough >= free => Ok(pool),
            _ => Err(format!(
                "the system has no {free} huge pages of {page_size} bytes to spare"
            )),
        }
    }

    /// Returns how many pages are neither used nor reserved.
    pub(crate) fn free(&self) -> Result<usize, String> {
        let reserved = self.count("resv_hugepages")?;
        Ok(self.count("free_hugepages")?.saturating_sub(reserved))
    }

    fn count(&self, name: &str) -> Result<usize, String> {
        let text = fs::read_to_string(self.folder.join(name)).map_err(|error| error.to_string())?;
        let count = text.trim().parse();
        count.map_err(|error| format!("{name}: {error}"))
    }

    fn resize(&self, pages: usize) -> Result<(), String> {
        fs::write(self.folder.join("nr_hugepages"), pages.to_string())
            .map_err(|error| format!("cannot resize the pool: {error}"))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Err(error) = self.resize(self.before) {
            println!("{error}");
        }
    }
}

/// Takes the pool or says why the test cannot run.
macro_rules! pool_or_skip {
    ($page_size:expr, $free:expr) => {
        match $crate::pool::Pool::with_free($page_size, $free) {
            Ok(pool) => pool,
            Err(reason) => {
                println!("skipped: {reason}");
                return;
            }
        }
    };
}

pub(crate) use pool_or_skip;
