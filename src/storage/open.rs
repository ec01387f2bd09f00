//! Opening a store: what is there, what a crash or a power cut has left, and what of it stays.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::sync::Arc;
use std::time::Instant;

use rustix::fs::{Mode, OFlags};

use super::background::Task;
use super::dir::Dir;
use super::image_file;
use super::index::{ImageEntry, Index, LayerEntry, RootEntry};
use super::layer::DIFF;
use super::names;
use super::record::{self, IMAGE_FILE, LAYER_FILE, LayerRecord, ROOT_FILE, RootRecord};
use super::store::{Places, Shared, check_hex_id};
use super::trash::{Trash, unique_name};
use super::{Settings, StorageError, Store};
use crate::sys::lock;

impl Store {
    /// [`Store::open`] with the boot's id given.
    pub(super) fn open_in_boot(settings: Settings, boot_id: &str) -> Result<Store, StorageError> {
        let started = Instant::now();
        let places = open_places(&settings)?;
        sweep_staging(&places)?;
        let mut index = Index {
            layers: load_layers(&places)?,
            ..Index::default()
        };
        load_images(&places, &mut index, boot_id)?;
        load_roots(&places, &mut index, boot_id)?;
        tracing::info!(
            images = index.images.len(),
            layers = index.layers.len(),
            roots = index.roots.len(),
            elapsed_ms = started.elapsed().as_secs_f64() * 1000.0,
            "storage is open"
        );
        let unsettled = |image: &ImageEntry| !image.durable || !image.lost.is_empty();
        let volatile = index.images.values().any(unsettled);
        let shared = Arc::new(Shared::new(settings, boot_id.to_owned(), places, index));
        shared.collect()?;
        if volatile {
            shared.want(Task::Sync);
        }
        shared.want(Task::EmptyTrash);
        Ok(Store { shared })
    }
}

fn open_places(settings: &Settings) -> Result<Places, StorageError> {
    // Searchable by all, because the root of a container in a user namespace walks through here.
    let own = Dir::open_or_create(&settings.root)?.ensure("cricket", 0o711)?;
    let containers = own.ensure("containers", 0o711)?;
    let rootless = own.ensure("rootless", 0o755)?;
    rootless.ensure(DIFF, 0o755)?;
    let containers_trash = Arc::new(Trash::new(own.ensure("trash", 0o700)?));
    let mut locks = vec![lock(&own)?];
    let (base, trash) = match &settings.imagestore {
        Some(path) if path != &settings.root => {
            let base = Dir::open_or_create(path)?.ensure("cricket", 0o711)?;
            locks.push(lock(&base)?);
            let trash = Arc::new(Trash::new(base.ensure("trash", 0o700)?));
            (base, trash)
        }
        _ => (own, Arc::clone(&containers_trash)),
    };
    Ok(Places {
        layers: base.ensure("layers", 0o700)?,
        images: base.ensure("images", 0o700)?,
        staging: base.ensure("staging", 0o700)?,
        quarantine: base.ensure("quarantine", 0o700)?,
        empty: base.ensure("empty", 0o755)?,
        base,
        trash,
        containers,
        rootless,
        containers_trash,
        _locks: locks,
    })
}

fn lock(dir: &Dir) -> Result<File, StorageError> {
    let path = dir.path().join("lock");
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(dir, "lock", flags, Mode::from_raw_mode(0o600))
        .map_err(StorageError::io(&path, "open"))?;
    let file = File::from(fd);
    match lock::take(&file) {
        Ok(true) => Ok(file),
        Ok(false) => Err(StorageError::Locked { path }),
        Err(source) => Err(StorageError::Io {
            path,
            step: "lock",
            source,
        }),
    }
}

fn sweep_staging(places: &Places) -> Result<(), StorageError> {
    for name in places.staging.names()? {
        places.trash.take(&places.staging, &name)?;
    }
    Ok(())
}

fn load_layers(places: &Places) -> Result<HashMap<String, LayerEntry>, StorageError> {
    let mut layers = HashMap::new();
    for name in places.layers.names()? {
        match load_layer(&places.layers, &name) {
            Ok(entry) => {
                layers.insert(entry.info.diff_id.clone(), entry);
            }
            Err(error) => set_aside(places, &places.layers, &name, LAYER_FILE, error)?,
        }
    }
    Ok(layers)
}

pub(super) fn load_layer(layers: &Dir, name: &OsStr) -> Result<LayerEntry, StorageError> {
    let name = name.to_string_lossy();
    check_hex_id("layer", &name)?;
    let dir = layers.sub(&name)?;
    let record: LayerRecord = record::read(&dir, LAYER_FILE)?;
    if record.diff_id != name {
        return Err(record::mismatch(dir.path(), LAYER_FILE));
    }
    Ok(record.into())
}

fn load_images(places: &Places, index: &mut Index, boot_id: &str) -> Result<(), StorageError> {
    for name in places.images.names()? {
        let file = match image_file::read_record(&places.images, &name) {
            Ok(file) => file,
            Err(error) => {
                set_aside(places, &places.images, &name, IMAGE_FILE, error)?;
                continue;
            }
        };
        // Before anything else of it is read: the other files may be empty.
        if !file.durable && file.boot_id != boot_id {
            tracing::warn!(image = %file.id, names = ?file.names,
                "image was not on disk for certain when the machine went down; dropped, pull it again");
            places.trash.take(&places.images, &name)?;
            continue;
        }
        let entry = match image_file::load(&places.images, file) {
            Ok(entry) => entry,
            Err(error) if error.is_want() => return Err(error),
            Err(error) => {
                quarantine(places, &places.images, &name, &error)?;
                continue;
            }
        };
        let id = &entry.record.id;
        let layers = &entry.record.layers;
        if let Some(lost) = layers
            .iter()
            .find(|layer| !index.layers.contains_key(layer.digest()))
        {
            tracing::warn!(image = %id, names = ?entry.record.names, layer = %lost,
                "image lacks a layer; dropped, pull it again");
            places.trash.take(&places.images, &name)?;
            continue;
        }
        index.images.insert(id.clone(), entry);
    }
    names::settle(&mut index.images);
    Ok(())
}

fn load_roots(places: &Places, index: &mut Index, boot_id: &str) -> Result<(), StorageError> {
    for name in places.containers.names()? {
        let name = name.to_string_lossy().into_owned();
        let record = places
            .containers
            .sub(&name)
            .and_then(|dir| record::read::<RootRecord>(&dir, ROOT_FILE));
        let layers = match record {
            Ok(record) if record.boot_id == boot_id => record.layers,
            // Nothing of another boot is mounted or needed.
            Ok(_) => Vec::new(),
            // Without its record its layers would count as nobody's.
            Err(error) if error.is_want() => return Err(error),
            // The record is whole before a root is mounted, so this one never was, unless a newer
            // cricket made it. It stays until it is judged by its owner (`leaks`).
            Err(error) => {
                tracing::warn!(container = %name, %error, "root filesystem without a readable record");
                Vec::new()
            }
        };
        index.roots.insert(
            name,
            RootEntry {
                layers,
                bytes: 0,
                inodes: 0,
                measured: None,
            },
        );
    }
    Ok(())
}

/// Deals with a directory whose record cannot be read. An empty record is what a power cut leaves of a
/// file that had not been written back; nothing durable has one, so it goes. All else is kept aside.
///
/// # Errors
/// Among others the one given, if it says nothing of the record.
fn set_aside(
    places: &Places,
    from: &Dir,
    name: &OsStr,
    record: &str,
    why: StorageError,
) -> Result<(), StorageError> {
    if why.is_want() {
        return Err(why);
    }
    let name_text = name.to_string_lossy();
    let lost = check_hex_id("record", &name_text)
        .and_then(|()| from.sub(&name_text))
        .is_ok_and(|dir| record::is_blank(&dir, record));
    if !lost {
        return quarantine(places, from, name, &why);
    }
    tracing::warn!(path = %from.path().join(name).display(), "lost in a power cut; dropped");
    places.trash.take(from, name)
}

/// Sets aside what cannot be understood, whole.
fn quarantine(
    places: &Places,
    from: &Dir,
    name: &OsStr,
    why: &StorageError,
) -> Result<(), StorageError> {
    let stem: String = name.to_string_lossy().chars().take(64).collect();
    let aside = unique_name(&stem);
    let path = places.quarantine.path().join(&aside);
    tracing::warn!(path = %path.display(), error = %why, "not understood; set aside, not deleted");
    from.move_to(name, &places.quarantine, &aside)
        .map_err(StorageError::io(
            from.path().join(name),
            "set aside in quarantine",
        ))
}
