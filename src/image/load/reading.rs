//! Reading that ends with the call that asked for it.
//!
//! An archive may be hundreds of gigabytes, and packed ones are read from their beginning. A thread
//! cannot be ended from outside, so each read of a file looks whether anybody still wants it.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::image::zstd_frames::{LargeWindow, Windows};

/// How one load reads its files.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    windows: Arc<Windows>,
    stop: CancellationToken,
}

impl Reading {
    /// Until `stop` is cancelled.
    pub(super) fn new(windows: Arc<Windows>, stop: CancellationToken) -> Reading {
        Reading { windows, stop }
    }

    pub(super) fn file(&self, file: File) -> Stoppable {
        let stop = self.stop.clone();
        Stoppable { file, stop }
    }

    /// For the layers of the archive.
    pub(super) fn layer_window(&self) -> LargeWindow {
        self.windows.of_layer(self.stop.clone())
    }

    /// For the archive itself.
    pub(super) fn archive_window(&self) -> LargeWindow {
        self.windows.of_archive(self.stop.clone())
    }
}

/// A file that nobody may want any more.
#[derive(Debug)]
pub(super) struct Stoppable {
    file: File,
    stop: CancellationToken,
}

impl Stoppable {
    pub(super) fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}

impl Read for Stoppable {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.is_cancelled() {
            return Err(io::Error::other("the load was cancelled"));
        }
        self.file.read(buffer)
    }
}

impl Seek for Stoppable {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}
