//! Objects by id, in memory: what every read of the CRI is answered from.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::Id;

/// A map from ids to shared objects.
///
/// The lock is held for the time of a map operation and never across a wait, so reads take time in
/// proportion to their answer whatever else the daemon does.
#[derive(Debug)]
pub struct Table<T> {
    objects: RwLock<BTreeMap<Id, Arc<T>>>,
}

/// An id or a unique prefix of one, as people and tools type it.
pub type Lookup<T> = Result<Arc<T>, LookupError>;

/// Why an id prefix names no object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// No id begins so.
    #[error("`{0}` not found")]
    Missing(String),
    /// Several ids begin so.
    #[error("`{0}` is the beginning of several ids: type more of it")]
    Ambiguous(String),
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            objects: RwLock::new(BTreeMap::new()),
        }
    }
}

impl<T> Table<T> {
    /// Adds or replaces the object of `id`.
    pub fn insert(&self, id: Id, object: Arc<T>) {
        self.write().insert(id, object);
    }

    /// Takes the object of `id` out.
    pub fn remove(&self, id: &Id) -> Option<Arc<T>> {
        self.write().remove(id)
    }

    /// The object of exactly this id.
    pub fn get(&self, id: &Id) -> Option<Arc<T>> {
        self.read().get(id).cloned()
    }

    /// All objects, ordered by id.
    pub fn all(&self) -> Vec<Arc<T>> {
        self.read().values().cloned().collect()
    }

    /// The one object whose id is `prefix` or begins with it.
    ///
    /// # Errors
    /// When there is none or more than one; the empty prefix names nothing.
    pub fn find(&self, prefix: &str) -> Lookup<T> {
        let missing = || LookupError::Missing(prefix.chars().take(Id::LENGTH).collect());
        if prefix.is_empty() || prefix.len() > Id::LENGTH {
            return Err(missing());
        }
        let objects = self.read();
        let mut matching = objects
            .range::<str, _>((
                std::ops::Bound::Included(prefix),
                std::ops::Bound::Unbounded,
            ))
            .take_while(|(id, _)| id.as_str().starts_with(prefix))
            .map(|(_, object)| object);
        match (matching.next(), matching.next()) {
            (Some(only), None) => Ok(only.clone()),
            (Some(_), Some(_)) => Err(LookupError::Ambiguous(prefix.to_owned())),
            (None, _) => Err(missing()),
        }
    }

    // A panic aborts the process, so a poisoned lock cannot be seen.
    fn read(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<Id, Arc<T>>> {
        self.objects.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<Id, Arc<T>>> {
        self.objects.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::borrow::Borrow<str> for Id {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(prefix: &str) -> Id {
        format!("{prefix:0<64}").parse().unwrap()
    }

    #[test]
    fn a_prefix_finds_its_object_only_when_it_is_unique() {
        let table = Table::default();
        for prefix in ["abc1", "abc2", "f"] {
            table.insert(id(prefix), Arc::new(prefix.to_owned()));
        }
        assert_eq!(*table.find("abc1").unwrap(), "abc1");
        assert_eq!(*table.find("f").unwrap(), "f");
        assert_eq!(*table.find(id("abc2").as_str()).unwrap(), "abc2");
        assert_eq!(
            table.find("abc").unwrap_err(),
            LookupError::Ambiguous("abc".into())
        );
        for missing in ["", "b", "zz", "ab/../c", &"f".repeat(65)] {
            assert!(
                matches!(table.find(missing), Err(LookupError::Missing(_))),
                "{missing}"
            );
        }
    }

    #[test]
    fn a_removed_object_is_gone_from_list_and_lookup() {
        let table = Table::default();
        table.insert(id("a"), Arc::new(1));
        assert_eq!(table.remove(&id("a")).as_deref(), Some(&1));
        assert!(
            table.all().is_empty() && table.find("a").is_err() && table.get(&id("a")).is_none()
        );
    }
}
