//! Which reading of registries.conf counts now, and what is wrong with the files since.
//!
//! Files that have become wrong change nothing: the last good reading goes on to count, and the
//! trouble is told in the log, once, and by [`Current::state`]. Where there has been no good one, a
//! pull fails with the reason, and the next one looks again.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;
use tokio::sync::Notify;

use super::stamp::Stamps;
use super::{Registries, Sources};
use crate::image::error::ImageError;

/// The room's view of registries.conf.
#[derive(Debug)]
pub struct Current {
    good: ArcSwapOption<Registries>,
    /// Held while files are read, so that two pulls do not read them both.
    last: Mutex<Last>,
    reloaded: Notify,
}

/// The last reading.
#[derive(Debug)]
struct Last {
    sources: Sources,
    stamps: Option<Stamps>,
    trouble: Option<ImageError>,
}

/// What a person who looks after the node wants to know of registries.conf.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// Why the files as they are now are not used; empty: they are, as far as is known.
    pub trouble: String,
    /// What in the files that are used means nothing.
    pub warnings: Vec<String>,
}

impl Current {
    /// Nothing is read yet.
    pub fn new(sources: Sources) -> Current {
        Current {
            good: ArcSwapOption::empty(),
            last: Mutex::new(Last {
                sources,
                stamps: None,
                trouble: None,
            }),
            reloaded: Notify::new(),
        }
    }

    /// For questions, which must not wait for files: the last good reading. Read once where there
    /// was none; a broken file is a pull's error to report, and is here as if it were empty.
    pub fn known(&self) -> Arc<Registries> {
        if let Some(good) = self.good.load_full() {
            return good;
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let read = match last.stamps {
            None => {
                let stamps = Stamps::take(&last.sources);
                self.read(&mut last, stamps).ok()
            }
            Some(_) => self.good.load_full(),
        };
        read.unwrap_or_else(|| Arc::new(Registries::empty(&last.sources)))
    }

    /// For a pull: the files as they are now where changes count at once, else as they were read
    /// last. Blocks.
    ///
    /// # Errors
    /// When they are wrong and there is no good reading of before.
    pub fn for_pull(&self) -> Result<Arc<Registries>, ImageError> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let good = self.good.load_full();
        if let Some(good) = good.as_ref().filter(|_| !last.sources.on_change) {
            return Ok(Arc::clone(good));
        }
        let stamps = Stamps::take(&last.sources);
        if last.stamps.as_ref() == Some(&stamps) {
            return match (good, &last.trouble) {
                (Some(good), _) => Ok(good),
                (None, Some(trouble)) => Err(trouble.clone()),
                (None, None) => self.read(&mut last, stamps),
            };
        }
        let read = self.read(&mut last, stamps);
        good.map_or(read, |good| Ok(self.good.load_full().unwrap_or(good)))
    }

    /// Reads the files anew, from where these sources say. Blocks.
    ///
    /// # Errors
    /// When they are wrong; then the last good reading counts, and the sources are those of before.
    pub fn reload(&self, sources: Sources) -> Result<(), ImageError> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut last.sources, sources);
        let stamps = Stamps::take(&last.sources);
        let read = self.read(&mut last, stamps).map(drop);
        if read.is_err() {
            last.sources = before;
            // stamps of other files would say that nothing has changed
            last.stamps = None;
        }
        self.reloaded.notify_one();
        read
    }

    /// Told after each [`Current::reload`].
    pub(super) fn reloaded(&self) -> &Notify {
        &self.reloaded
    }

    /// What is wrong with the files.
    pub fn state(&self) -> State {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let trouble = last.trouble.as_ref().map(ToString::to_string);
        let warnings = self.good.load().as_ref().map(|good| good.warnings().into());
        State {
            trouble: trouble.unwrap_or_default(),
            warnings: warnings.unwrap_or_default(),
        }
    }

    /// The files whose changes count at once.
    pub(super) fn watched(&self) -> Option<Sources> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.sources.on_change.then(|| last.sources.clone())
    }

    fn read(&self, last: &mut Last, stamps: Stamps) -> Result<Arc<Registries>, ImageError> {
        let again = last.stamps.replace(stamps).is_some();
        match Registries::load(&last.sources) {
            Ok(read) => {
                for warning in read.warnings() {
                    tracing::warn!("{warning}");
                }
                if again {
                    tracing::info!(
                        file = %last.sources.file.display(),
                        registries = read.registries.len(),
                        "registries.conf read anew"
                    );
                }
                let read = Arc::new(read);
                last.trouble = None;
                self.good.store(Some(Arc::clone(&read)));
                Ok(read)
            }
            Err(error) => {
                let remains = match self.good.load().is_some() {
                    true => "what it said before goes on to count",
                    false => "no image can be pulled until it is mended",
                };
                tracing::error!(%error, "registries.conf not read: {remains}");
                last.trouble = Some(error.clone());
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::reference::Reference;
    use std::str::FromStr;

    const GOOD: &str = "[[registry]]\nlocation = \"x.io\"\nblocked = true\n";
    const BROKEN: &str = "[[registry]]\nlocation = 7\n";

    struct Node {
        dir: tempfile::TempDir,
        current: Current,
    }

    impl Node {
        fn new(on_change: bool) -> Node {
            let dir = tempfile::tempdir().unwrap();
            let current = Current::new(Node::sources(dir.path(), on_change));
            Node { dir, current }
        }

        fn sources(dir: &std::path::Path, on_change: bool) -> Sources {
            Sources {
                file: dir.join("registries.conf"),
                drop_ins: dir.join("registries.conf.d"),
                alias_cache: dir.join("aliases"),
                on_change,
                ..Sources::usual()
            }
        }

        fn write(&self, name: &str, text: &str) {
            let path = self.dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }

        /// Whether x.io is blocked for a pull now.
        fn blocked(&self) -> Result<bool, ImageError> {
            let reference = Reference::from_str("x.io/a:1").unwrap();
            let registries = self.current.for_pull()?;
            Ok(registries.endpoints(&reference).is_err())
        }
    }

    #[test]
    fn a_change_counts_at_once_where_that_is_configured() {
        let node = Node::new(true);
        assert!(!node.blocked().unwrap());
        node.write("registries.conf", GOOD);
        assert!(node.blocked().unwrap());
        let drop_in = GOOD.replace("true", "false");
        node.write("registries.conf.d/1.conf", &drop_in);
        assert!(!node.blocked().unwrap());
        std::fs::remove_file(node.dir.path().join("registries.conf.d/1.conf")).unwrap();
        assert!(node.blocked().unwrap());
    }

    #[test]
    fn a_change_waits_for_a_reload_where_it_is_not() {
        let node = Node::new(false);
        node.write("registries.conf", GOOD);
        assert!(node.blocked().unwrap());
        node.write("registries.conf", "");
        assert!(node.blocked().unwrap());
        let sources = Node::sources(node.dir.path(), false);
        node.current.reload(sources).unwrap();
        assert!(!node.blocked().unwrap());
    }

    #[test]
    fn broken_files_leave_what_they_said_before_and_are_told() {
        let node = Node::new(true);
        node.write("registries.conf", GOOD);
        assert!(node.blocked().unwrap());
        assert_eq!(node.current.state(), State::default());
        node.write("registries.conf", BROKEN);
        assert!(node.blocked().unwrap());
        let trouble = node.current.state().trouble;
        assert!(trouble.contains("registries.conf: line 2"), "{trouble}");
        node.write("registries.conf", "short-nam-mode = \"disabled\"\n");
        assert!(!node.blocked().unwrap());
        let state = node.current.state();
        assert_eq!(state.trouble, "");
        assert!(
            state.warnings[0].contains("did you mean `short-name-mode`?"),
            "{state:?}"
        );
    }

    #[test]
    fn files_that_were_never_right_fail_each_pull_until_they_are_mended() {
        for on_change in [true, false] {
            let node = Node::new(on_change);
            node.write("registries.conf", BROKEN);
            assert!(node.blocked().is_err());
            assert!(node.blocked().is_err());
            assert!(node.current.known().candidates("short").is_err());
            node.write("registries.conf", GOOD);
            assert!(node.blocked().unwrap(), "on_change {on_change}");
        }
    }

    #[test]
    fn a_reload_of_broken_files_changes_nothing() {
        let node = Node::new(false);
        node.write("registries.conf", GOOD);
        assert!(node.blocked().unwrap());
        let other = tempfile::tempdir().unwrap();
        std::fs::write(other.path().join("registries.conf"), BROKEN).unwrap();
        let error = node.current.reload(Node::sources(other.path(), true));
        assert!(error.is_err());
        assert!(node.blocked().unwrap());
        assert!(node.current.watched().is_none());
        assert!(node.current.state().trouble.contains("line 2"));
    }
}
