//! What is known of an object: a snapshot in memory, and its record on disk.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::{Id, RecordError, Records, Versioned};

/// A record that is replaced as a whole, so that a reader sees no half of a change.
#[derive(Debug)]
pub struct Recorded<R> {
    current: watch::Sender<Arc<R>>,
    /// Held while the record is changed, so that no change is lost; never while waiting. Whether the
    /// record was removed: a change that comes late must not make it again.
    removed: Mutex<bool>,
}

impl<R: Versioned + Clone> Recorded<R> {
    /// An object with this record.
    pub fn new(record: R) -> Self {
        Self {
            current: watch::Sender::new(Arc::new(record)),
            removed: Mutex::default(),
        }
    }

    /// What is known now.
    pub fn get(&self) -> Arc<R> {
        Arc::clone(&self.current.borrow())
    }

    /// Changes what is known, on disk first.
    ///
    /// # Errors
    /// When the record cannot be written: nothing has changed then.
    pub fn update(
        &self,
        records: &Records<R>,
        id: &Id,
        change: impl FnOnce(&mut R),
    ) -> Result<(), RecordError> {
        let removed = self.lock();
        let mut record = R::clone(&self.get());
        change(&mut record);
        if !*removed {
            records.write(id, &record)?;
        }
        self.current.send_replace(Arc::new(record));
        Ok(())
    }

    /// Makes a fact known whether or not it can be written down: a process that has ended has
    /// ended, also when the disk is full.
    ///
    /// # Errors
    /// When the record cannot be written: it is known in memory alone then.
    pub fn note(
        &self,
        records: &Records<R>,
        id: &Id,
        change: impl FnOnce(&mut R),
    ) -> Result<(), RecordError> {
        let removed = self.lock();
        let mut record = R::clone(&self.get());
        change(&mut record);
        let written = match *removed {
            true => Ok(()),
            false => records.write(id, &record),
        };
        self.current.send_replace(Arc::new(record));
        written
    }

    /// Removes the record with the object's directory. Later changes are known in memory alone, to
    /// those who have the object still: on disk it is gone.
    ///
    /// # Errors
    /// As [`Records::remove`]: the object is there still, and so are its changes.
    pub fn remove(&self, records: &Records<R>, id: &Id) -> Result<(), RecordError> {
        let mut removed = self.lock();
        records.remove(id)?;
        *removed = true;
        Ok(())
    }

    /// Waits until what is known is as wanted.
    pub async fn until(&self, wanted: impl FnMut(&Arc<R>) -> bool) {
        let mut current = self.current.subscribe();
        // The sender lives as long as `self`, so the wait ends only with the condition.
        let _reached = current.wait_for(wanted).await;
    }

    // A panic aborts the process, so a poisoned lock cannot be seen.
    fn lock(&self) -> MutexGuard<'_, bool> {
        self.removed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::{Deserialize, Serialize};

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Number(u32);

    impl Versioned for Number {
        const KIND: &'static str = "number";
        const VERSION: u32 = 1;

        fn version(&self) -> u32 {
            1
        }
    }

    fn scratch() -> (tempfile::TempDir, Records<Number>, Id) {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let records = Records::open(path("numbers"), path("quarantine")).unwrap();
        (directory, records, Id::random())
    }

    /// A directory in the record's place, which no rename replaces.
    fn make_unwritable(directory: &tempfile::TempDir, id: &Id) {
        let path = directory.path().join("numbers").join(id.as_str());
        std::fs::create_dir_all(path.join("record.json/in-the-way")).unwrap();
    }

    #[test]
    fn a_change_that_cannot_be_written_is_none_but_a_fact_is_known_all_the_same() {
        let (directory, records, id) = scratch();
        let number = Recorded::new(Number(1));
        number.update(&records, &id, |number| number.0 = 2).unwrap();
        assert_eq!(records.load().unwrap(), [Number(2)]);
        records.remove(&id).unwrap();
        make_unwritable(&directory, &id);
        assert!(number.update(&records, &id, |number| number.0 = 3).is_err());
        assert_eq!(*number.get(), Number(2));
        assert!(number.note(&records, &id, |number| number.0 = 4).is_err());
        assert_eq!(*number.get(), Number(4));
    }

    #[test]
    fn a_change_that_comes_after_the_removal_makes_no_record() {
        let (directory, records, id) = scratch();
        let number = Recorded::new(Number(1));
        number.update(&records, &id, |number| number.0 = 2).unwrap();
        number.remove(&records, &id).unwrap();
        number.update(&records, &id, |number| number.0 = 3).unwrap();
        number.note(&records, &id, |number| number.0 += 1).unwrap();
        assert_eq!(*number.get(), Number(4));
        assert!(!directory.path().join("numbers").join(id.as_str()).exists());
    }

    #[tokio::test]
    async fn whoever_waits_sees_the_change() {
        let (_directory, records, id) = scratch();
        let number = Arc::new(Recorded::new(Number(1)));
        let waiting = tokio::spawn({
            let number = Arc::clone(&number);
            async move { number.until(|number| number.0 == 2).await }
        });
        number.update(&records, &id, |number| number.0 = 2).unwrap();
        waiting.await.unwrap();
    }
}
