//! Work that nobody waits for: making durable, deleting, freeing layers, measuring.
//!
//! Each kind has at most one thread, which lives while there is work; asked for again while it runs,
//! it runs once more. An idle store has no thread.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// A kind of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    /// `syncfs`, then the images that were there before it are durable.
    Sync,
    /// Delete what is in the trash.
    EmptyTrash,
    /// Free the layers that nothing refers to.
    Collect,
    /// Measure the writable layers that were asked about.
    Measure,
}

const TASKS: [(Task, &str); 4] = [
    (Task::Sync, "storage-sync"),
    (Task::EmptyTrash, "storage-trash"),
    (Task::Collect, "storage-collect"),
    (Task::Measure, "storage-usage"),
];

#[derive(Debug, Default)]
pub(super) struct Background {
    state: Mutex<[State; TASKS.len()]>,
    changed: Condvar,
}

#[derive(Debug, Default, Clone, Copy)]
struct State {
    wanted: bool,
    running: bool,
}

impl Background {
    /// Has `run` called on the task's thread, soon and at least once from now on. `run` must reach
    /// this same `Background` by `of`.
    pub(super) fn want<S: Send + Sync + 'static>(
        shared: &std::sync::Arc<S>,
        of: fn(&S) -> &Background,
        task: Task,
        run: fn(&std::sync::Arc<S>, Task),
    ) {
        let background = of(shared);
        {
            let mut state = background.lock();
            let state = &mut state[task as usize];
            state.wanted = true;
            if state.running {
                return;
            }
            state.running = true;
        }
        let worker = std::sync::Arc::clone(shared);
        let (_, name) = TASKS[task as usize];
        let spawned = thread::Builder::new().name(name.into()).spawn(move || {
            while of(&worker).take(task) {
                run(&worker, task);
            }
        });
        if let Err(error) = spawned {
            // Still wanted: the next one who wants it tries again.
            tracing::warn!(task = name, %error, "no thread for background work; put off");
            background.lock()[task as usize].running = false;
            background.changed.notify_all();
        }
    }

    /// Whether to run once more; if not, the task counts as ended.
    fn take(&self, task: Task) -> bool {
        let mut state = self.lock();
        let state = &mut state[task as usize];
        let wanted = std::mem::take(&mut state.wanted);
        if !wanted {
            state.running = false;
            self.changed.notify_all();
        }
        wanted
    }

    /// Waits until nothing runs; `false`: the deadline came first.
    pub(super) fn settle(&self, deadline: Duration) -> bool {
        let end = Instant::now() + deadline;
        let mut state = self.lock();
        while state.iter().any(|task| task.running) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, [State; TASKS.len()]> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
