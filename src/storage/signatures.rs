//! `images/<id>/signatures`: texts that trust in an image rests on, which the image room writes and
//! understands. They stay with the image, so that the decision can be made again without a network.

use serde::{Deserialize, Serialize};

use super::dir::Dir;
use super::record;
use super::store::Shared;
use super::{StorageError, Store};

pub(super) const SIGNATURES: &str = "signatures";

/// Bytes of all texts of one image together. A signature has about 1 KB; a registry may send more.
const MAX_BYTES: usize = 6 << 20;
/// Texts of one image.
const MAX_TEXTS: usize = 512;
/// Bytes of the file: JSON at most doubles the texts, which are JSON themselves.
const MAX_FILE_BYTES: u64 = 16 << 20;

#[derive(Debug, Serialize, Deserialize)]
struct SignaturesFile {
    version: u32,
    signatures: Vec<String>,
}

impl Store {
    /// What was given with the image at all its puts as [`super::NewImage::signatures`], each text
    /// once, the newest last; of a very long list the newest. Reads the disk.
    pub fn signatures(&self, id: &str) -> Result<Vec<String>, StorageError> {
        let known = self.image(id).is_some();
        self.shared.read_signatures(id, known)
    }
}

impl Shared {
    pub(super) fn read_signatures(
        &self,
        id: &str,
        exists: bool,
    ) -> Result<Vec<String>, StorageError> {
        match exists {
            true => read(&self.places.images.sub(id)?),
            false => Ok(Vec::new()),
        }
    }
}

/// The union, the newest last. What is too much leaves the oldest out.
pub(super) fn merged(known: Vec<String>, new: &[String]) -> Vec<String> {
    let kept = known.into_iter().filter(|text| !new.contains(text));
    let mut all: Vec<String> = kept.collect();
    for (index, text) in new.iter().enumerate() {
        if !new[..index].contains(text) {
            all.push(text.clone());
        }
    }
    let mut bytes = 0;
    let room = all.iter().rev().take_while(|text| {
        bytes += text.len();
        bytes <= MAX_BYTES
    });
    let count = room.take(MAX_TEXTS).count();
    all.split_off(all.len() - count)
}

pub(super) fn encode(
    signatures: Vec<String>,
    dir: &std::path::Path,
) -> Result<Vec<u8>, StorageError> {
    let file = SignaturesFile {
        version: record::VERSION,
        signatures,
    };
    record::encode(&file, &dir.join(SIGNATURES))
}

/// The texts of an image's directory; none where nothing was ever given.
pub(super) fn read(dir: &Dir) -> Result<Vec<String>, StorageError> {
    if !dir.has(SIGNATURES) {
        return Ok(Vec::new());
    }
    let bytes = dir.read(SIGNATURES, MAX_FILE_BYTES)?;
    let file: SignaturesFile = record::parse(&bytes, &dir.path().join(SIGNATURES))?;
    Ok(file.signatures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_kept_once_and_the_oldest_go_first() {
        let texts = |range: std::ops::Range<usize>| -> Vec<String> {
            range.map(|number| number.to_string()).collect()
        };
        assert_eq!(merged(texts(0..3), &texts(1..5)), texts(0..5));
        assert_eq!(merged(vec![], &["a".into(), "a".into()]), ["a"]);
        let many = merged(texts(0..MAX_TEXTS), &texts(MAX_TEXTS..MAX_TEXTS + 2));
        assert_eq!(many, texts(2..MAX_TEXTS + 2));
        let huge = "x".repeat(MAX_BYTES);
        assert_eq!(merged(texts(0..3), std::slice::from_ref(&huge)), [huge]);
    }
}
