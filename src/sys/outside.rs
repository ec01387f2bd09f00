//! Looking at what may never answer: a path on a network file system whose server is gone keeps a
//! system call for ever, and no signal ends it.
//!
//! So the look is on a thread of its own, which is waited for until a deadline and then left to
//! itself. It gives up the daemon's descriptors first: a thread that the kernel holds keeps its
//! process from ending, and with these it would keep the daemon's locks from the next one. Without
//! them it cannot wake the async runtime either; one thread for all does that.

use std::sync::{Arc, OnceLock, mpsc};
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;

/// Most threads at once, the stuck ones included. Those that work take a moment.
const MAX_THREADS: usize = 64;

/// What is to be done with an answer where descriptors are.
type Deliver = Box<dyn FnOnce() + Send>;

/// Where such threads come from.
#[derive(Debug)]
pub struct Outside {
    free: Arc<Semaphore>,
    /// To the thread that delivers answers, once there is one.
    answers: OnceLock<mpsc::Sender<Deliver>>,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// The look itself is stuck.
    #[error("its file system has not answered for {} s", .0.as_secs_f32())]
    Stuck(Duration),
    /// All threads are stuck already.
    #[error("{MAX_THREADS} earlier looks at file systems are stuck, and none ended within {} s", .0.as_secs_f32())]
    Full(Duration),
    /// The kernel gave no thread.
    #[error("no thread could be started to look at its file system")]
    NoThread,
}

impl Default for Outside {
    fn default() -> Self {
        Self {
            free: Arc::new(Semaphore::new(MAX_THREADS)),
            answers: OnceLock::new(),
        }
    }
}

impl Outside {
    /// Runs `look` on a thread of its own and waits for it, at most for `patience`. It must not use
    /// descriptors that are open already: its thread has none of them.
    ///
    /// # Errors
    /// When there was no answer in time; the thread then ends when the kernel lets it.
    pub async fn look<T: Send + 'static>(
        &self,
        patience: Duration,
        look: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NoAnswer> {
        self.work(patience, || 0, look).await
    }

    /// As [`look`](Self::look), for work that may take long by right: it is left to itself when
    /// `done` has not changed for as long as `patience`. `work` tells `done` what it does by means
    /// of its own.
    ///
    /// # Errors
    /// As [`look`](Self::look).
    pub async fn work<T: Send + 'static>(
        &self,
        patience: Duration,
        done: impl Fn() -> u64,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NoAnswer> {
        let deadline = Instant::now() + patience;
        let free = Arc::clone(&self.free).acquire_owned();
        let Ok(Ok(place)) = tokio::time::timeout_at(deadline, free).await else {
            return Err(NoAnswer::Full(patience));
        };
        let (tell, mut told) = oneshot::channel();
        let answers = self.answers.get_or_init(deliver).clone();
        let thread = std::thread::Builder::new().name("outside".into());
        let started = thread.spawn(move || {
            forget_descriptors();
            let answer = work();
            // It fails only when the daemon ends.
            let _ended = answers.send(Box::new(move || {
                drop(place);
                // Nobody listens any more after the deadline.
                let _late = tell.send(answer);
            }));
        });
        if started.is_err() {
            return Err(NoAnswer::NoThread);
        }
        let (mut before, mut deadline) = (done(), deadline);
        loop {
            match tokio::time::timeout_at(deadline, &mut told).await {
                Ok(Ok(answer)) => return Ok(answer),
                Err(_) if done() != before => {
                    (before, deadline) = (done(), Instant::now() + patience);
                }
                _ => return Err(NoAnswer::Stuck(patience)),
            }
        }
    }
}

/// Starts the thread that delivers answers, which ends with the last who could send one. Where the
/// kernel gives no thread, every look ends as one that is stuck.
fn deliver() -> mpsc::Sender<Deliver> {
    let (send, receive) = mpsc::channel::<Deliver>();
    let thread = std::thread::Builder::new().name("outside-answers".into());
    let started = thread.spawn(move || receive.into_iter().for_each(|deliver| deliver()));
    if let Err(error) = started {
        tracing::error!(%error, "no thread to deliver what is looked at from outside");
    }
    send
}

/// Gives this thread a table of descriptors of its own, with nothing in it (close_range(2)). A
/// kernel before 5.9 cannot: the thread then shares the daemon's, and works all the same.
#[allow(unsafe_code, reason = "no crate has close_range(2) for one thread")]
fn forget_descriptors() {
    // SAFETY: with CLOSE_RANGE_UNSHARE the calling thread gets a table of its own and closes only
    // what is in that. Nothing on this thread uses a descriptor of the old table: `look` must not,
    // and the way of its answer is by a lock in memory.
    unsafe {
        libc::syscall(
            libc::SYS_close_range,
            0,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_UNSHARE,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn an_answer_comes_and_a_stuck_look_is_left_behind() {
        let outside = Outside::default();
        assert_eq!(outside.look(LONG, || 7).await, Ok(7));
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let stuck = outside.look(SHORT, move || wait.recv().is_ok()).await;
        assert_eq!(stuck, Err(NoAnswer::Stuck(SHORT)));
        assert_eq!(outside.free.available_permits(), MAX_THREADS - 1);
        assert_eq!(outside.look(LONG, || 8).await, Ok(8));
        drop(go);
    }

    #[tokio::test]
    async fn work_may_last_as_long_as_it_goes_on() {
        use std::sync::atomic::{AtomicU64, Ordering};
        let outside = Outside::default();
        let steps = Arc::new(AtomicU64::new(0));
        let (told, (go, wait)) = (Arc::clone(&steps), std::sync::mpsc::channel::<()>());
        // It goes on whenever it is asked about, ten times, and is stuck then.
        let done = move || {
            let step = steps.load(Ordering::Relaxed);
            steps.store((step + 1).min(10), Ordering::Relaxed);
            step
        };
        let stuck = outside.work(SHORT, done, move || wait.recv().is_ok()).await;
        assert_eq!(stuck, Err(NoAnswer::Stuck(SHORT)));
        assert_eq!(told.load(Ordering::Relaxed), 10);
        drop(go);
    }

    #[tokio::test]
    async fn stuck_looks_are_bounded_and_the_bound_is_told() {
        let outside = Outside {
            free: Arc::new(Semaphore::new(1)),
            ..Outside::default()
        };
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let first = outside.look(SHORT, move || wait.recv().is_ok()).await;
        assert_eq!(first, Err(NoAnswer::Stuck(SHORT)));
        assert_eq!(outside.look(SHORT, || ()).await, Err(NoAnswer::Full(SHORT)));
        drop(go);
        assert_eq!(outside.look(LONG, || 1).await, Ok(1), "it came free");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn an_answer_wakes_a_runtime_that_sleeps() {
        let outside = Outside::default();
        for _ in 0..200 {
            let answer = outside.look(LONG, || std::thread::sleep(Duration::from_micros(300)));
            assert_eq!(answer.await, Ok(()));
        }
    }

    #[tokio::test]
    async fn a_look_has_none_of_the_daemons_descriptors_and_takes_none_away() {
        let file = tempfile::tempfile().unwrap();
        let number = file.as_raw_fd();
        let seen = move || std::fs::metadata(format!("/proc/thread-self/fd/{number}")).is_ok();
        assert!(seen());
        assert_eq!(Outside::default().look(LONG, seen).await, Ok(false));
        assert!(seen());
    }
}
