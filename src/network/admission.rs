//! Who may run plugins when: one operation per sandbox at a time, so many ADDs and so many DELs
//! at once, all in the order they came. A pod holds at most one place, and only while its plugins
//! run, which has a deadline; DELs have places of their own. So a stuck plugin delays others by
//! its deadline at most, and never a DEL by an ADD.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, timeout, timeout_at},
};

use super::error::{Command, NetworkError};

/// An operation that is under way, for those who ask what the daemon waits for.
#[derive(Debug, Clone)]
pub struct InFlight {
    /// The pod sandbox.
    pub sandbox_id: String,
    /// ADD or DEL.
    pub command: Command,
    /// The plugin that runs, with its process id; `None` between plugins.
    pub plugin: Option<(String, u32)>,
    /// When it got its place.
    pub since: Instant,
}

impl fmt::Display for InFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.plugin {
            Some((name, pid)) => write!(f, "CNI {} of plugin `{name}`, pid {pid}", self.command),
            None => write!(f, "CNI {}", self.command),
        }
    }
}

/// The most places there can be of a kind.
const MOST: u32 = 1 << 16;

/// The places, and who has them.
#[derive(Debug)]
pub(super) struct Admission {
    concurrency: u32,
    adds: Arc<Semaphore>,
    dels: Arc<Semaphore>,
    /// One lock per sandbox that has an operation under way or waiting.
    sandboxes: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    in_flight: Mutex<BTreeMap<u64, InFlight>>,
    /// How many wait for a place.
    waiting: watch::Sender<usize>,
}

/// The right to run plugins for one sandbox. Ends when dropped.
#[derive(Debug)]
pub(super) struct Turn {
    admission: Arc<Admission>,
    sandbox_id: String,
    number: u64,
    _place: OwnedSemaphorePermit,
    lock: Option<OwnedMutexGuard<()>>,
}

impl Admission {
    pub(super) fn new(concurrency: usize) -> Arc<Self> {
        let concurrency = u32::try_from(concurrency).unwrap_or(MOST).clamp(1, MOST);
        let places = || Arc::new(Semaphore::new(concurrency as usize));
        Arc::new(Self {
            concurrency,
            adds: places(),
            dels: places(),
            sandboxes: Mutex::default(),
            in_flight: Mutex::default(),
            waiting: watch::Sender::new(0),
        })
    }

    /// What is under way, oldest first.
    pub(super) fn in_flight(&self) -> Vec<InFlight> {
        locked(&self.in_flight).values().cloned().collect()
    }

    /// Waits for the sandbox's own operations, then for a place.
    pub(super) async fn enter(
        self: &Arc<Self>,
        sandbox_id: &str,
        command: Command,
        patience: Duration,
    ) -> Result<Turn, NetworkError> {
        let deadline = Instant::now() + patience;
        let busy = |waits_for: String| NetworkError::Busy {
            sandbox_id: sandbox_id.to_owned(),
            command,
            waited: patience,
            waits_for,
        };
        let lock = Arc::clone(
            locked(&self.sandboxes)
                .entry(sandbox_id.to_owned())
                .or_default(),
        );
        let Ok(lock) = timeout_at(deadline, lock.lock_owned()).await else {
            self.forget(sandbox_id);
            return Err(busy(
                self.describe(|running| running.sandbox_id == sandbox_id),
            ));
        };
        let mut turn = SandboxLock {
            admission: self,
            sandbox_id,
            lock: Some(lock),
        };
        let places = match command {
            Command::Del => &self.dels,
            _ => &self.adds,
        };
        let waits = Waits::begin(self);
        let place = timeout_at(deadline, Arc::clone(places).acquire_owned()).await;
        drop(waits);
        let Ok(Ok(place)) = place else {
            return Err(busy(self.describe(|running| {
                running.command == command || running.command == Command::Gc
            })));
        };
        Ok(Turn {
            admission: Arc::clone(self),
            sandbox_id: sandbox_id.to_owned(),
            number: self.register(sandbox_id, command),
            _place: place,
            lock: turn.lock.take(),
        })
    }

    /// Takes all places, when nothing has one: while a network's garbage is collected, no pod may be
    /// attached to it or detached (CNI specification, section 2, GC). `None` when something runs.
    pub(super) fn alone(self: &Arc<Self>) -> Option<Alone> {
        let all = |places: &Arc<Semaphore>| {
            let all = Arc::clone(places).try_acquire_many_owned(self.concurrency);
            all.ok()
        };
        Some(Alone {
            _places: (all(&self.adds)?, all(&self.dels)?),
            number: self.register("", Command::Gc),
            admission: Arc::clone(self),
        })
    }

    fn register(&self, sandbox_id: &str, command: Command) -> u64 {
        let mut in_flight = locked(&self.in_flight);
        let number = in_flight.last_key_value().map_or(0, |(last, _)| last + 1);
        let sandbox_id = sandbox_id.to_owned();
        in_flight.insert(
            number,
            InFlight {
                sandbox_id,
                command,
                plugin: None,
                since: Instant::now(),
            },
        );
        number
    }

    /// The oldest operation in the way, in words.
    fn describe(&self, in_the_way: impl Fn(&InFlight) -> bool) -> String {
        let in_flight = locked(&self.in_flight);
        let Some(oldest) = in_flight.values().find(|running| in_the_way(running)) else {
            return "an operation that is just ending".to_owned();
        };
        let InFlight {
            sandbox_id,
            command,
            plugin,
            since,
        } = oldest;
        let plugin = plugin.as_ref().map_or(String::new(), |(name, pid)| {
            format!(", in plugin {name:?} (process {pid})")
        });
        let others = in_flight
            .values()
            .filter(|running| in_the_way(running))
            .count()
            - 1;
        let others = if others == 0 {
            String::new()
        } else {
            format!(" and {others} more")
        };
        let seconds = since.elapsed().as_secs();
        format!("{command} of sandbox {sandbox_id}, running for {seconds} s{plugin}{others}")
    }

    /// Drops the sandbox's lock from the table when nobody has or wants it.
    fn forget(&self, sandbox_id: &str) {
        let mut sandboxes = locked(&self.sandboxes);
        if sandboxes
            .get(sandbox_id)
            .is_some_and(|lock| Arc::strong_count(lock) == 1)
        {
            sandboxes.remove(sandbox_id);
        }
    }
}

impl Turn {
    /// Notes which plugin runs now.
    pub(super) fn running(&self, plugin: &str, pid: u32) {
        if let Some(entry) = locked(&self.admission.in_flight).get_mut(&self.number) {
            entry.plugin = Some((plugin.to_owned(), pid));
        }
    }

    /// Notes that the plugin has ended.
    pub(super) fn between_plugins(&self) {
        if let Some(entry) = locked(&self.admission.in_flight).get_mut(&self.number) {
            entry.plugin = None;
        }
    }
}

/// All places. Ends when dropped.
#[derive(Debug)]
pub(super) struct Alone {
    _places: (OwnedSemaphorePermit, OwnedSemaphorePermit),
    number: u64,
    admission: Arc<Admission>,
}

impl Alone {
    /// Ends when for `patience` there was always somebody who waits for a place that this has.
    pub(super) async fn waited_for(&self, patience: Duration) {
        let mut waiting = self.admission.waiting.subscribe();
        loop {
            // The sender lives as long as we do.
            drop(waiting.wait_for(|waiting| *waiting > 0).await);
            // Whoever has given up needs no place.
            let none = waiting.wait_for(|waiting| *waiting == 0);
            if timeout(patience, none).await.is_err() {
                return;
            }
        }
    }
}

/// Somebody who waits for a place, until dropped.
struct Waits<'a>(&'a Admission);

impl<'a> Waits<'a> {
    fn begin(admission: &'a Admission) -> Self {
        admission.waiting.send_modify(|waiting| *waiting += 1);
        Self(admission)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.waiting.send_modify(|waiting| *waiting -= 1);
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        locked(&self.admission.in_flight).remove(&self.number);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        locked(&self.admission.in_flight).remove(&self.number);
        drop(self.lock.take());
        self.admission.forget(&self.sandbox_id);
    }
}

/// A sandbox's lock while a place is waited for, which may be cancelled.
struct SandboxLock<'a> {
    admission: &'a Admission,
    sandbox_id: &'a str,
    lock: Option<OwnedMutexGuard<()>>,
}

impl Drop for SandboxLock<'_> {
    fn drop(&mut self) {
        if let Some(lock) = self.lock.take() {
            drop(lock);
            self.admission.forget(self.sandbox_id);
        }
    }
}

/// A panic elsewhere leaves these tables whole: every change is one call.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);
    const NONE: Duration = Duration::ZERO;

    #[tokio::test]
    async fn dels_have_places_when_adds_have_taken_all_of_theirs() {
        let admission = Admission::new(1);
        let add = admission.enter("a", Command::Add, LONG).await.unwrap();
        add.running("slow", 7);
        let error = admission
            .enter("b", Command::Add, NONE)
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("ADD of sandbox a") && error.contains("\"slow\" (process 7)"),
            "{error}"
        );
        admission.enter("b", Command::Del, LONG).await.unwrap();
        drop(add);
        admission.enter("b", Command::Add, LONG).await.unwrap();
    }

    #[tokio::test]
    async fn who_is_alone_waits_for_nobody_and_everybody_waits_for_it() {
        let admission = Admission::new(2);
        let add = admission.enter("a", Command::Add, LONG).await.unwrap();
        assert!(admission.alone().is_none());
        drop(add);
        let alone = admission.alone().unwrap();
        for command in [Command::Add, Command::Del] {
            let error = admission.enter("b", command, NONE).await.unwrap_err();
            assert!(error.to_string().contains("GC of sandbox"), "{error}");
        }
        drop(alone);
        admission.enter("b", Command::Del, NONE).await.unwrap();
        assert!(admission.in_flight().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_given_up_has_not_waited() {
        let admission = Admission::new(1);
        let alone = admission.alone().unwrap();
        let patience = Duration::from_secs(1);
        let begun = Instant::now();
        let enter = |sandbox_id: &'static str, patience| {
            let admission = Arc::clone(&admission);
            async move { admission.enter(sandbox_id, Command::Add, patience).await }
        };
        let gives_up = tokio::spawn(enter("a", Duration::from_millis(900)));
        tokio::select! {
            () = alone.waited_for(patience) => panic!("nobody has waited so long"),
            () = tokio::time::sleep(LONG) => {}
        }
        assert!(gives_up.await.unwrap().is_err());
        // one who comes while another waits does not begin the second anew
        let first = tokio::spawn(enter("a", Duration::from_millis(700)));
        let later = enter("b", LONG);
        let second = tokio::spawn(async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            later.await
        });
        alone.waited_for(patience).await;
        let waited = begun.elapsed().saturating_sub(LONG);
        // timers have milliseconds
        assert_eq!(waited.as_millis() / 100, 10, "{waited:?}");
        drop(alone);
        second.await.unwrap().unwrap();
        assert!(first.await.unwrap().is_err());
    }

    #[tokio::test]
    async fn one_sandbox_has_one_operation_at_a_time() {
        let admission = Admission::new(8);
        let add = admission.enter("a", Command::Add, LONG).await.unwrap();
        let error = admission
            .enter("a", Command::Del, NONE)
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("sandbox a: CNI DEL") && error.contains("ADD of sandbox a"),
            "{error}"
        );
        let waiting = Arc::clone(&admission);
        let del = tokio::spawn(async move { waiting.enter("a", Command::Del, LONG).await });
        drop(add);
        drop(del.await.unwrap().unwrap());
    }

    #[tokio::test]
    async fn nothing_is_kept_of_sandboxes_that_are_done() {
        let admission = Admission::new(1);
        let turn = admission.enter("a", Command::Add, LONG).await.unwrap();
        assert!(admission.enter("a", Command::Add, NONE).await.is_err());
        assert!(admission.enter("b", Command::Add, NONE).await.is_err());
        assert_eq!(admission.in_flight().len(), 1);
        drop(turn);
        assert!(locked(&admission.sandboxes).is_empty() && admission.in_flight().is_empty());
    }
}
