//! An image of real files: every fifth file below /usr in the order of their paths, which gives
//! the mix of a large application image (thousands of small files, some of many megabytes).

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;

use cricket_harness::image::{Image, digest};
use flate2::Compression;
use flate2::write::GzEncoder;

/// Of how many files one is taken.
const EVERY: usize = 5;

/// A packed layer.
#[derive(Debug, Clone)]
pub struct Packed {
    /// As it travels.
    pub gzip: Vec<u8>,
    /// Digest of the tar.
    pub diff_id: String,
    /// Bytes of the tar.
    pub bytes: u64,
    /// Files in it.
    pub files: u64,
}

/// `layers` layers of at least `bytes` bytes of files each, or as many as there are.
pub fn layers(bytes: u64, layers: usize) -> Vec<Packed> {
    let mut files = Vec::new();
    collect(Path::new("/usr"), &mut files);
    files.sort();
    let chosen: Vec<_> = files.into_iter().step_by(EVERY).collect();
    let (mut groups, mut group, mut sum) = (Vec::new(), Vec::new(), 0);
    for (path, size) in chosen {
        if groups.len() == layers {
            break;
        }
        sum += size;
        group.push(path);
        if sum >= bytes {
            groups.push(std::mem::take(&mut group));
            sum = 0;
        }
    }
    if !group.is_empty() {
        groups.push(group);
    }
    thread::scope(|scope| {
        let packing: Vec<_> = groups
            .iter()
            .map(|group| scope.spawn(|| pack(group)))
            .collect();
        packing
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    })
}

/// The image of these layers.
pub fn image(layers: &[Packed]) -> Image {
    let ids: Vec<&str> = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
    let mut builder = Image::builder().diff_ids(&ids);
    for layer in layers {
        builder = builder.gzip(layer.gzip.clone());
    }
    builder.build()
}

/// One layer of these files, with their directories, packed as docker's builder does.
fn pack(paths: &[PathBuf]) -> Packed {
    let mut tar = tar::Builder::new(Vec::new());
    let mut files = 0;
    let mut made = std::collections::BTreeSet::new();
    for path in paths {
        // Gone or unreadable since the listing: another image, but a whole one.
        let Ok(content) = std::fs::read(path) else {
            continue;
        };
        let name = path.strip_prefix("/").unwrap();
        let mut parents: Vec<&Path> = name.ancestors().skip(1).collect();
        parents.reverse();
        for dir in parents {
            if !dir.as_os_str().is_empty() && made.insert(dir.to_owned()) {
                let mut header = header(0, 0o755);
                header.set_entry_type(tar::EntryType::Directory);
                tar.append_data(&mut header, dir, [].as_slice()).unwrap();
            }
        }
        let mut header = header(content.len() as u64, 0o644);
        tar.append_data(&mut header, name, content.as_slice())
            .unwrap();
        files += 1;
    }
    let tar = tar.into_inner().unwrap();
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    std::io::Write::write_all(&mut gzip, &tar).unwrap();
    Packed {
        gzip: gzip.finish().unwrap(),
        diff_id: digest(&tar),
        bytes: tar.len() as u64,
        files,
    }
}

fn header(size: u64, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(mode);
    header.set_mtime(1_700_000_000);
    header
}

fn collect(dir: &Path, files: &mut Vec<(PathBuf, u64)>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.metadata() {
            Ok(meta) if meta.is_dir() => collect(&entry.path(), files),
            Ok(meta) if meta.is_file() && meta.nlink() == 1 => {
                files.push((entry.path(), meta.len()));
            }
            _ => {}
        }
    }
}
