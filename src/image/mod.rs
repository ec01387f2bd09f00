//! Images: references, registries.conf, the registry client, trust, pull, load, list and remove.

mod credentials;
mod error;
mod manifest;
mod platform;
mod reference;
mod registries;
mod trust;
