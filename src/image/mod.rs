//! Images: references, registries.conf, the registry client, trust, pull, load, list and remove.
