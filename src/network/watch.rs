//! Noticing changes of configurations and plugins, by inotify in a thread of its own.
//!
//! Watched are the configuration directory, the networks' folders and the plugin directories;
//! where one is missing, the deepest directory above it that exists; and where the way to it goes
//! through a symbolic link, the directory of that link (some distributions upgrade plugins by
//! turning a link to another directory). So directories may come, go, be replaced and return.
//! Without inotify (its limits are per user and small), and as long as there is no network, the
//! directory is also read every five seconds.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ffi::OsString,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor},
};
use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll},
    io::Errno as PollErrno,
};

use super::current::Current;

/// A change counts when nothing followed for this long: installers write many files.
const QUIET: Duration = Duration::from_millis(50);

/// But under constant changes, the directory is read at least this often.
const MOST_DELAY: Duration = Duration::from_millis(500);

/// How often the directory is read when changes are not, or may not be, seen.
const POLL: Duration = Duration::from_secs(5);

/// Runs until dropped.
#[derive(Debug)]
pub(super) struct Watcher {
    stop: Arc<OwnedFd>,
}

impl Watcher {
    /// Starts the thread. Without it, changes are only seen when a pod asks for its network.
    pub(super) fn start(current: Arc<Current>) -> Option<Self> {
        let start = || -> std::io::Result<Self> {
            let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
            let heard = Arc::clone(&stop);
            thread::Builder::new()
                .name("cni-watch".into())
                // Parsing a nested configuration takes most of it: 128 levels, then an error.
                .stack_size(1 << 20)
                .spawn(move || Eyes::open().watch(&current, &heard))?;
            Ok(Self { stop })
        };
        start()
            .inspect_err(|e| tracing::warn!("CNI configuration is not watched: {e}"))
            .ok()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // Writing 1 to a fresh eventfd cannot fail.
        let _ = rustix::io::write(&*self.stop, &1_u64.to_ne_bytes());
    }
}

/// Which events of a directory count.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Filter {
    /// All.
    All,
    /// Those of these names.
    Names(BTreeSet<OsString>),
}

impl Filter {
    fn merge(&mut self, other: Self) {
        match (self, other) {
            (Self::Names(names), Self::Names(more)) => names.extend(more),
            (this, Self::All) => *this = Self::All,
            (Self::All, Self::Names(_)) => {}
        }
    }

    fn passes(&self, event: &InotifyEvent) -> bool {
        match (self, &event.name) {
            (Self::Names(names), Some(name)) => names.contains(name),
            // An event without a name is about the directory itself.
            (Self::All, _) | (Self::Names(_), None) => true,
        }
    }
}

/// The inotify instance and what it looks at.
struct Eyes {
    inotify: Option<Inotify>,
    watches: HashMap<WatchDescriptor, Filter>,
    /// Some directory could not be watched.
    partly_blind: bool,
    /// How often to read without a reason.
    poll: Duration,
}

/// What ended a wait.
#[derive(PartialEq, Eq)]
enum Woken {
    Stop,
    Events,
    Timeout,
}

impl Eyes {
    fn open() -> Self {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)
            .inspect_err(|e| {
                tracing::warn!(
                    "no inotify for CNI configuration, reading it every {} s instead: {e}; \
                     raising fs.inotify.max_user_instances helps",
                    POLL.as_secs()
                );
            })
            .ok();
        Self {
            inotify,
            watches: HashMap::new(),
            partly_blind: false,
            poll: POLL,
        }
    }

    fn watch(mut self, current: &Current, stop: &OwnedFd) {
        loop {
            self.look(current);
            let blind = self.inotify.is_none() || self.partly_blind;
            let sure = !blind && current.default_network().is_ok();
            match self.wait(stop, if sure { None } else { Some(self.poll) }) {
                Woken::Stop => return,
                Woken::Timeout => {}
                Woken::Events => {
                    if self.relevant() && self.settle(stop) == Woken::Stop {
                        return;
                    }
                }
            }
        }
    }

    /// Sets the watches, then reads: what changes after the reading raises an event. Repeats
    /// while there was something new to watch, as that may have changed before it was watched.
    fn look(&mut self, current: &Current) {
        for _ in 0..4 {
            let folders = current.catalog();
            let dirs = std::iter::once(&current.conf_dir)
                .chain(&current.plugin_dirs)
                .chain(&folders.folders);
            let new = self.set_watches(&targets(dirs.map(PathBuf::as_path)));
            current.refresh();
            if !new {
                return;
            }
        }
    }

    /// Watches these directories and no others. Whether one was not watched before.
    fn set_watches(&mut self, targets: &BTreeMap<PathBuf, Filter>) -> bool {
        let Some(inotify) = &self.inotify else {
            return false;
        };
        let mut watches: HashMap<WatchDescriptor, Filter> = HashMap::new();
        let mut blind_for = None;
        for (dir, filter) in targets {
            // Adding a directory again gives its descriptor; so do two names of one directory.
            match inotify.add_watch(dir, watched_events()) {
                Ok(watch) => match watches.get_mut(&watch) {
                    Some(known) => known.merge(filter.clone()),
                    None => drop(watches.insert(watch, filter.clone())),
                },
                // It has gone since; the event of that is on its way.
                Err(Errno::ENOENT | Errno::ENOTDIR) => {}
                Err(e) => blind_for = Some((dir, e)),
            }
        }
        for gone in self
            .watches
            .keys()
            .filter(|watch| !watches.contains_key(watch))
        {
            // The kernel has removed it already when the directory was deleted.
            let _ = inotify.rm_watch(*gone);
        }
        if let Some((dir, e)) = blind_for.filter(|_| !self.partly_blind) {
            tracing::warn!(
                dir = %dir.display(),
                "cannot be watched, reading CNI configuration every {} s instead: {e}; \
                 raising fs.inotify.max_user_watches may help",
                self.poll.as_secs()
            );
        }
        let new = watches
            .keys()
            .any(|watch| !self.watches.contains_key(watch));
        self.watches = watches;
        self.partly_blind = blind_for.is_some();
        new
    }

    /// Reads the events that are there. Whether one of them counts.
    fn relevant(&mut self) -> bool {
        let mut relevant = false;
        // Read until there is nothing: the buffer holds some dozens of events.
        while let Some(Ok(events)) = self.inotify.as_ref().map(Inotify::read_events) {
            for event in events {
                let lost = event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW);
                let counts = self
                    .watches
                    .get(&event.wd)
                    .is_some_and(|f| f.passes(&event));
                relevant |= lost || counts;
                if event.mask.contains(AddWatchFlags::IN_IGNORED) {
                    self.watches.remove(&event.wd);
                }
            }
        }
        relevant
    }

    /// Waits until the changes have come to a rest.
    fn settle(&mut self, stop: &OwnedFd) -> Woken {
        let begun = Instant::now();
        while let Some(left) = MOST_DELAY.checked_sub(begun.elapsed()) {
            match self.wait(stop, Some(QUIET.min(left))) {
                Woken::Stop => return Woken::Stop,
                Woken::Timeout => break,
                Woken::Events => drop(self.relevant()),
            }
        }
        Woken::Timeout
    }

    fn wait(&self, stop: &OwnedFd, patience: Option<Duration>) -> Woken {
        let mut fds = vec![PollFd::new(stop, PollFlags::IN)];
        fds.extend(self.inotify.iter().map(|i| PollFd::new(i, PollFlags::IN)));
        let patience = patience.and_then(|p| Timespec::try_from(p).ok());
        match poll(&mut fds, patience.as_ref()) {
            // Looking once too often does no harm.
            Err(PollErrno::INTR) => Woken::Events,
            // Cannot happen with two open descriptors; a thread that spins would be worse.
            Err(_) => Woken::Stop,
            Ok(_) if !fds[0].revents().is_empty() => Woken::Stop,
            Ok(0) => Woken::Timeout,
            Ok(_) => Woken::Events,
        }
    }
}

/// Everything that can make a file appear, change, be executable, or go.
fn watched_events() -> AddWatchFlags {
    AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_MOVE
        | AddWatchFlags::IN_ATTRIB
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_MOVE_SELF
        | AddWatchFlags::IN_ONLYDIR
}

/// What to watch so that every change of these directories is seen.
fn targets<'a>(dirs: impl Iterator<Item = &'a Path>) -> BTreeMap<PathBuf, Filter> {
    let mut targets = BTreeMap::new();
    let mut add = |dir: &Path, filter: Filter| match targets.get_mut(dir) {
        None => drop(targets.insert(dir.to_owned(), filter)),
        Some(known) => Filter::merge(known, filter),
    };
    for dir in dirs {
        if dir.is_dir() {
            add(dir, Filter::All);
        }
        let mut way: Vec<&Path> = dir.ancestors().collect();
        way.reverse();
        for step in way {
            let (Some(parent), Some(name)) = (step.parent(), step.file_name()) else {
                continue;
            };
            let is_link = step.symlink_metadata().is_ok_and(|meta| meta.is_symlink());
            let is_dir = step.is_dir();
            if is_link || !is_dir {
                add(parent, Filter::Names(BTreeSet::from([name.to_owned()])));
            }
            if !is_dir {
                break;
            }
        }
    }
    targets
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
