//! Operations in flight: work that a retry joins and that outlives the caller who asked for it.
//!
//! A kubelet that gives up after its deadline makes the same call again with the same identity. So
//! the work runs in a task of its own under a key made of that identity; whoever calls with the
//! key while it runs gets its result, and a caller that goes away cancels nothing. A key is taken
//! only while its task runs: nothing that is dead can hold a name.

use std::collections::HashMap;
use std::fmt::Display;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::watch;

/// What operations of one kind are in flight, by the identity that a caller retries with.
#[derive(Debug)]
pub struct Operations<K, T, E> {
    kind: &'static str,
    running: Arc<Mutex<HashMap<K, Running<T, E>>>>,
}

#[derive(Debug)]
struct Running<T, E> {
    result: watch::Receiver<Option<Result<T, Arc<E>>>>,
    stage: Stage,
}

/// The named stage that an operation is in: what it waits for now, and since when.
#[derive(Debug, Clone)]
pub struct Stage {
    operation: &'static str,
    started: Instant,
    current: Arc<Mutex<Current>>,
}

/// One stage of an operation.
#[derive(Debug)]
struct Current {
    name: &'static str,
    since: Instant,
    /// Whom or what it waits for: a program and its process, a path; empty for the daemon's own
    /// work. In people's words.
    waits_for: String,
}

impl Stage {
    /// A stage keeper for an operation that begins now.
    pub fn begin(operation: &'static str) -> Self {
        let now = Instant::now();
        Self {
            operation,
            started: now,
            current: Arc::new(Mutex::new(Current {
                name: "begin",
                since: now,
                waits_for: String::new(),
            })),
        }
    }

    /// Ends the stage before and names the next one, in which the daemon does something itself.
    pub fn enter(&self, name: &'static str) {
        self.enter_for(name, String::new());
    }

    /// Ends the stage before and names the next one, and whom or what it waits for.
    pub fn enter_for(&self, name: &'static str, waits_for: String) {
        let now = Instant::now();
        let next = Current {
            name,
            since: now,
            waits_for,
        };
        let previous = std::mem::replace(&mut *self.lock(), next);
        tracing::trace!(
            operation = self.operation,
            stage = previous.name,
            micros = (now - previous.since).as_micros(),
            "stage ended"
        );
    }

    /// Says whom or what the stage waits for now.
    pub fn waits_for(&self, what: String) {
        self.lock().waits_for = what;
    }

    /// The stage's name and how long it has lasted.
    pub fn current(&self) -> (&'static str, Duration) {
        let current = self.lock();
        (current.name, current.since.elapsed())
    }

    /// Whom or what the stage waits for; empty: the daemon's own work.
    pub fn waited_for(&self) -> String {
        self.lock().waits_for.clone()
    }

    // A panic aborts the process, so a poisoned lock cannot be seen.
    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long the whole operation has lasted.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

/// An operation that runs, for those who ask what the daemon waits for.
#[derive(Debug, Clone, Serialize)]
pub struct InFlight {
    /// Its kind, "run sandbox" for example.
    pub operation: &'static str,
    /// What it is about.
    pub key: String,
    /// The stage that it is in.
    pub stage: &'static str,
    /// Whom or what it waits for; empty: the daemon's own work.
    pub waits_for: String,
    /// How long it has been in that stage, in seconds.
    pub stage_seconds: f64,
    /// How long it has run, in seconds.
    pub seconds: f64,
}

impl<K, T, E> Operations<K, T, E>
where
    K: Clone + Eq + Hash + Display + Send + Sync + 'static,
    T: Clone + Send + Sync + 'static,
    E: Display + Send + Sync + 'static,
{
    /// No operations yet; `kind` names them in logs, "run sandbox" for example.
    pub fn new(kind: &'static str) -> Self {
        Self {
            kind,
            running: Arc::default(),
        }
    }

    /// Runs `work` under `key` and waits for its result; joins the operation that already runs
    /// under the key instead, if there is one.
    ///
    /// `work` runs in a task of its own: dropping the returned future does not stop it.
    ///
    /// # Errors
    /// What the work ended with, shared by all who waited for it.
    pub async fn run<W, F>(&self, key: K, work: W) -> Result<T, Arc<E>>
    where
        W: FnOnce(Stage) -> F,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        let mut result = self.join_or_spawn(key, work);
        loop {
            if let Some(outcome) = result.borrow_and_update().as_ref() {
                return outcome.clone();
            }
            if result.changed().await.is_err() {
                // The sender goes without a value only with the async runtime, at shutdown, which
                // drops this future too.
                return std::future::pending().await;
            }
        }
    }

    /// Waits for the end of the operation under `key`; at once when there is none.
    pub async fn ended(&self, key: &K) {
        let running = {
            let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            running.get(key).map(|operation| operation.result.clone())
        };
        if let Some(mut result) = running {
            // The sender goes with the operation, with or without a value.
            let _ended = result.wait_for(Option::is_some).await;
        }
    }

    /// Whether there is one under `key`.
    pub fn is_running(&self, key: &K) -> bool {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.contains_key(key)
    }

    /// What runs now.
    pub fn in_flight(&self) -> Vec<InFlight> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let told = |(key, operation): (&K, &Running<T, E>)| {
            let (stage, since) = operation.stage.current();
            InFlight {
                operation: self.kind,
                key: key.to_string(),
                stage,
                waits_for: operation.stage.waited_for(),
                stage_seconds: since.as_secs_f64(),
                seconds: operation.stage.elapsed().as_secs_f64(),
            }
        };
        running.iter().map(told).collect()
    }

    fn join_or_spawn<W, F>(&self, key: K, work: W) -> watch::Receiver<Option<Result<T, Arc<E>>>>
    where
        W: FnOnce(Stage) -> F,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(operation) = running.get(&key) {
            let (stage, since) = operation.stage.current();
            tracing::info!(
                operation = self.kind,
                %key,
                stage,
                stage_ms = since.as_millis(),
                "joining the operation in flight"
            );
            return operation.result.clone();
        }
        let (sender, result) = watch::channel(None);
        let stage = Stage::begin(self.kind);
        let future = work(stage.clone());
        let entry = Running {
            result: result.clone(),
            stage: stage.clone(),
        };
        running.insert(key.clone(), entry);
        let (table, kind) = (Arc::clone(&self.running), self.kind);
        tokio::spawn(async move {
            let outcome = future.await;
            let millis = stage.elapsed().as_millis();
            match &outcome {
                Ok(_) => tracing::debug!(operation = kind, %key, millis, "done"),
                Err(error) => {
                    let (at, _) = stage.current();
                    tracing::warn!(operation = kind, %key, millis, stage = at, %error, "failed");
                }
            }
            table
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&key);
            sender.send_replace(Some(outcome.map_err(Arc::new)));
        });
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Notify;

    type Numbers = Operations<&'static str, usize, String>;

    #[tokio::test]
    async fn two_at_once_do_the_work_once_and_get_the_same_result() {
        let operations = Arc::new(Numbers::new("count"));
        let (runs, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let call = || {
            let (operations, runs, go) = (operations.clone(), runs.clone(), go.clone());
            async move {
                operations
                    .run("key", |_| async move {
                        go.notified().await;
                        Ok(runs.fetch_add(1, Ordering::SeqCst) + 1)
                    })
                    .await
            }
        };
        let (one, other) = (tokio::spawn(call()), tokio::spawn(call()));
        while operations.running.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        go.notify_one();
        assert_eq!(one.await.unwrap().unwrap(), 1);
        assert_eq!(other.await.unwrap().unwrap(), 1);
        go.notify_one();
        assert_eq!(
            call().await.unwrap(),
            2,
            "a finished operation holds no key"
        );
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_cancels_nothing() {
        let operations = Arc::new(Numbers::new("count"));
        let (go, done) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let work = {
            let (go, done) = (go.clone(), done.clone());
            move |_| async move {
                go.notified().await;
                done.notify_one();
                Ok(7)
            }
        };
        let mut caller = Box::pin(operations.run("key", work));
        assert!(futures_util::poll!(&mut caller).is_pending());
        drop(caller);
        go.notify_one();
        done.notified().await;
    }

    #[tokio::test]
    async fn what_runs_is_told_with_its_stage() {
        let operations = Numbers::new("count");
        let work = |stage: Stage| async move {
            stage.enter_for("wait for ever", "nobody".to_owned());
            std::future::pending().await
        };
        let mut caller = Box::pin(operations.run("key", work));
        while operations
            .in_flight()
            .first()
            .is_none_or(|one| one.stage == "begin")
        {
            assert!(futures_util::poll!(&mut caller).is_pending());
            tokio::task::yield_now().await;
        }
        let [one] = &operations.in_flight()[..] else {
            panic!("one operation runs")
        };
        assert_eq!(
            (one.operation, one.key.as_str(), one.stage, &*one.waits_for),
            ("count", "key", "wait for ever", "nobody")
        );
    }

    #[tokio::test]
    async fn a_failure_reaches_all_and_frees_the_key() {
        let operations = Numbers::new("count");
        let error = operations
            .run("key", |_| async { Err("no".to_owned()) })
            .await
            .unwrap_err();
        assert_eq!(*error, "no");
        assert_eq!(operations.run("key", |_| async { Ok(1) }).await.unwrap(), 1);
    }
}
