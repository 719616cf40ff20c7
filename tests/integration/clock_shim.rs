//! A wall clock that a test can step, for the servers it starts. Knows nothing of locks.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::support::compile::shared_object;
use crate::support::Setup;

pub(crate) const HOUR: i64 = 3600;
pub(crate) const DAY: i64 = 24 * HOUR;

/// One wall clock, shared by all servers that were set up with it.
pub(crate) struct WallClock {
    dir: TempDir,
    shim: PathBuf,
    offset: File,
}

impl WallClock {
    /// A clock that shows the true time; nothing, said aloud, where there is no C compiler.
    pub(crate) fn new(case: &str) -> Option<WallClock> {
        let dir = tempfile::Builder::new().prefix("lock-clock-").tempdir().expect("a directory for the shim");
        let shim = shared_object(case, "clockshim/clock.c", dir.path())?;
        let offset = File::create(dir.path().join("offset")).expect("make the offset file");
        let clock = WallClock { dir, shim, offset };
        clock.set(0);
        Some(clock)
    }

    /// The server under test on this clock.
    pub(crate) fn setup(&self) -> Setup {
        let offset = self.dir.path().join("offset");
        Setup::new()
            .env("LD_PRELOAD", &self.shim.display().to_string())
            .env("CLOCK_OFFSET_FILE", &offset.display().to_string())
    }

    /// Makes the clock differ from the true time by so many seconds, at once.
    pub(crate) fn set(&self, seconds: i64) {
        self.offset.write_all_at(&(seconds * 1_000_000).to_ne_bytes(), 0).expect("write the offset");
    }
}
