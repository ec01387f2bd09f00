//! Whether files have changed since they were read, without reading them.

use std::path::PathBuf;

use super::{Sources, drop_ins};
use crate::sys::stamp::Stamp;

/// What changes when one of the files is written, replaced, added or removed. Two that are equal
/// have the same content.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stamps(Vec<(PathBuf, Option<Stamp>)>);

impl Stamps {
    /// Asks the kernel about each file. To be taken before the files are read: what changes in
    /// between is then read once more. Blocks.
    pub(super) fn take(sources: &Sources) -> Stamps {
        let mut paths = vec![sources.file.clone(), sources.alias_cache.clone()];
        // what is wrong with the directory, the reading tells
        paths.extend(drop_ins(&sources.drop_ins).unwrap_or_default());
        let stamped = paths.into_iter().map(|path| {
            let stamp = Stamp::of(&path).ok();
            (path, stamp)
        });
        Stamps(stamped.collect())
    }
}
