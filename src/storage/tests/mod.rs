//! The store through its door, on the real file system and the real overlayfs. Needs root.

mod artifacts;
mod comparing;
mod crash;
mod fixture;
mod hostile;
mod images;
mod property;
mod roots;
mod tars;
mod unpacking;
mod volumes;
