// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The system's pool of huge pages: it is one for all processes, so tests take turns and put it back.

use std::env;
use std::fs::{self, File};
use std::path::PathBuf;

/// Size of the smaller huge pages, in bytes.
pub(crate) const TWO_MIB: usize = 2 << 20;

/// Our turn with what all tests share. A child process has it too: for a moment it holds the pages that we have.
#[derive(Debug)]
pub(crate) struct Turn {
    _lock: File,
}

impl Turn {
    /// Waits for it.
    pub(crate) fn wait() -> Result<Self, String> {
        let path = env::temp_dir().join("guest-memory-huge-page-pool.lock");
        let lock = File::create(path).and_then(|file| file.lock().map(|()| file));
        match lock {
            Ok(lock) => Ok(Self { _lock: lock }),
            Err(error) => Err(format!("no lock for the pool: {error}")),
        }
    }
}

/// The system's pool of pages of one size, ours alone among the tests that do the same.
pub(crate) struct Pool {
    folder: PathBuf,
    before: usize,
    turn: Turn,
}

impl Pool {
    /// Waits for its turn, then sees to `free` pages that nobody uses.
    pub(crate) fn with_free(page_size: usize, free: usize) -> Result<Self, String> {
        let turn = Turn::wait()?;
        let folder = format!("/sys/kernel/mm/hugepages/hugepages-{}kB", page_size / 1024);
        let mut pool = Self {
            folder: folder.into(),
            before: 0,
            turn,
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

    /// Returns our turn, for tests that also make child processes.
    pub(crate) fn turn(&self) -> &Turn {
        &self.turn
    }

    pub(crate) fn count(&self, name: &str) -> Result<usize, String> {
        let text = fs::read_to_string(self.folder.join(name)).map_err(|error| error.to_string())?;
        text.trim()
            .parse()
            .map_err(|error| format!("{name}: {error}"))
    }

    /// Returns how many pages are neither used nor reserved.
    pub(crate) fn free(&self) -> Result<usize, String> {
        Ok(self
            .count("free_hugepages")?
            .saturating_sub(self.count("resv_hugepages")?))
    }

    /// Returns how many pages nobody uses, reserved or not.
    pub(crate) fn free_pages(&self) -> Result<usize, String> {
        self.count("free_hugepages")
    }

    fn resize(&self, pages: usize) -> Result<(), String> {
        let path = self.folder.join("nr_hugepages");
        fs::write(path, pages.to_string())
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
