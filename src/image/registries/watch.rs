//! Telling of a changed registries.conf when it changes (`auto_reload_registries`), by inotify.
//!
//! A pull looks at the files by itself, so nothing depends on this: it is for the log and the status,
//! which then say at once that a file was written wrongly, and not with the next pull.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
use tokio::io::Interest;

use super::{Current, Sources};
use crate::image::error::ImageError;
use crate::sys::{blocking, readiness};

/// An editor or an installer writes several times: what follows within this long is one change.
const QUIET: Duration = Duration::from_millis(100);

impl Current {
    /// Looks at the files when they change, for as long as it is polled. Where they are and whether
    /// their changes count may be changed by [`Current::reload`] meanwhile.
    pub async fn watch(self: Arc<Self>) {
        let fault = |error: std::io::Error| {
            tracing::warn!(
                %error,
                "registries.conf is not watched, a change is noticed by the next pull; raising \
                 fs.inotify.max_user_instances may help"
            );
        };
        loop {
            let reloaded = self.reloaded().notified();
            let Some(sources) = self.watched() else {
                reloaded.await;
                continue;
            };
            tokio::select! {
                () = reloaded => {}
                end = self.follow(&sources) => match end {
                    Ok(()) => return,
                    Err(error) => {
                        fault(error);
                        self.reloaded().notified().await;
                    }
                },
            }
        }
    }

    /// Ends only with the daemon, or when the files cannot be watched.
    async fn follow(self: &Arc<Self>, sources: &Sources) -> std::io::Result<()> {
        let flags = CreateFlags::CLOEXEC | CreateFlags::NONBLOCK;
        let eyes = readiness::watch(inotify::init(flags)?, Interest::READABLE)?;
        loop {
            for directory in directories(sources) {
                match inotify::add_watch(eyes.get_ref(), &directory, events()) {
                    // one that comes is seen in the directory above it
                    Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            let current = Arc::clone(self);
            // what is wrong it tells by itself
            let read = blocking(move || current.for_pull().map(drop)).await;
            if matches!(read, Err(ImageError::ShuttingDown(_))) {
                return Ok(());
            }
            let mut ready = eyes.readable().await?;
            tokio::time::sleep(QUIET).await;
            // which file it was does not matter: all are looked at
            let mut events = [0; 4096];
            while rustix::io::read(eyes.get_ref(), &mut events).is_ok_and(|bytes| bytes > 0) {}
            ready.clear_ready();
        }
    }
}

/// Those in which the files come, change and go.
fn directories(sources: &Sources) -> BTreeSet<PathBuf> {
    let above = [&sources.file, &sources.drop_ins].map(|path| path.parent());
    let directories = above.into_iter().flatten();
    directories
        .chain([sources.drop_ins.as_path()])
        .map(Path::to_owned)
        .collect()
}

fn events() -> WatchFlags {
    WatchFlags::CLOSE_WRITE
        | WatchFlags::CREATE
        | WatchFlags::DELETE
        | WatchFlags::MOVE
        | WatchFlags::ONLYDIR
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_is_noticed_without_a_pull_also_in_a_directory_that_comes_later() {
        let dir = tempfile::tempdir().unwrap();
        let current = Arc::new(Current::new(Sources {
            file: dir.path().join("registries.conf"),
            drop_ins: dir.path().join("registries.conf.d"),
            alias_cache: dir.path().join("aliases"),
            ..Sources::usual()
        }));
        let watching = tokio::spawn(Arc::clone(&current).watch());
        let told = async |broken: bool| {
            // it is told within a fraction of a second, or never
            let waited = async {
                while current.state().trouble.is_empty() == broken {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(60), waited)
                .await
                .unwrap();
        };
        std::fs::write(dir.path().join("registries.conf"), "[").unwrap();
        told(true).await;
        std::fs::write(dir.path().join("new"), "").unwrap();
        std::fs::rename(dir.path().join("new"), dir.path().join("registries.conf")).unwrap();
        told(false).await;
        let drop_ins = dir.path().join("registries.conf.d");
        std::fs::create_dir(&drop_ins).unwrap();
        std::fs::write(drop_ins.join("1.conf"), "[").unwrap();
        told(true).await;
        std::fs::remove_file(drop_ins.join("1.conf")).unwrap();
        told(false).await;
        watching.abort();
    }
}
