//! Objects by id and by name, in memory: what every read of the CRI is answered from.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::Id;

/// A map from ids to shared objects, each of which also has a name of its own.
///
/// The lock is held for the time of a map operation and never across a wait, so reads take time in
/// proportion to their answer whatever else the daemon does.
#[derive(Debug)]
pub struct Table<N, T> {
    maps: RwLock<Maps<N, T>>,
}

#[derive(Debug)]
struct Maps<N, T> {
    objects: BTreeMap<Id, Arc<T>>,
    names: HashMap<N, Id>,
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

impl<N, T> Default for Table<N, T> {
    fn default() -> Self {
        Self {
            maps: RwLock::new(Maps {
                objects: BTreeMap::new(),
                names: HashMap::new(),
            }),
        }
    }
}

impl<N: Eq + Hash, T> Table<N, T> {
    /// Adds an object under its id and, if it has one that counts, its name.
    pub fn insert(&self, id: Id, name: Option<N>, object: Arc<T>) {
        let mut maps = self.write();
        if let Some(name) = name {
            maps.names.insert(name, id.clone());
        }
        maps.objects.insert(id, object);
    }

    /// Takes an object out, and its name, unless another object has that meanwhile.
    pub fn remove(&self, id: &Id, name: &N) {
        let mut maps = self.write();
        maps.objects.remove(id);
        if maps.names.get(name) == Some(id) {
            maps.names.remove(name);
        }
    }

    /// The object of this name.
    pub fn named(&self, name: &N) -> Option<Arc<T>> {
        let maps = self.read();
        maps.objects.get(maps.names.get(name)?).cloned()
    }

    /// All objects, ordered by id.
    pub fn all(&self) -> Vec<Arc<T>> {
        self.read().objects.values().cloned().collect()
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
        let maps = self.read();
        let mut matching = maps
            .objects
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(|(id, _)| id.as_str().starts_with(prefix))
            .map(|(_, object)| object);
        match (matching.next(), matching.next()) {
            (Some(only), None) => Ok(only.clone()),
            (Some(_), Some(_)) => Err(LookupError::Ambiguous(prefix.to_owned())),
            (None, _) => Err(missing()),
        }
    }

    // A panic aborts the process, so a poisoned lock cannot be seen.
    fn read(&self) -> RwLockReadGuard<'_, Maps<N, T>> {
        self.maps.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Maps<N, T>> {
        self.maps.write().unwrap_or_else(PoisonError::into_inner)
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
            table.insert(id(prefix), Some(prefix), Arc::new(prefix.to_owned()));
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
    fn a_removed_object_is_gone_by_id_and_by_name_and_takes_no_one_elses_name() {
        let table = Table::default();
        table.insert(id("a"), Some("web"), Arc::new(1));
        assert_eq!(table.named(&"web").as_deref(), Some(&1));
        table.insert(id("b"), Some("web"), Arc::new(2));
        table.insert(id("c"), None, Arc::new(3));
        table.remove(&id("c"), &"web");
        table.remove(&id("a"), &"web");
        assert_eq!(table.all(), [Arc::new(2)]);
        assert_eq!(table.named(&"web").as_deref(), Some(&2));
        table.remove(&id("b"), &"web");
        assert!(table.all().is_empty() && table.find("b").is_err());
        assert_eq!(table.named(&"web"), None);
    }
}
