//! What the daemon remembers: identities, records on disk, operations in flight.
