//! The container's life: create, start, stop, exec, remove, restore.
