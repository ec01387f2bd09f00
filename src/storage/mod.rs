//! Layers, image records and root filesystems on disk.
