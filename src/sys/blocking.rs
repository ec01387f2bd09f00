//! Work that makes blocking system calls, on threads for that.

/// The daemon ends, and with it the threads that the work would run on.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the daemon is shutting down")]
pub struct ShuttingDown;

/// Runs `work` on a thread where it may block, and waits for its result.
///
/// # Errors
/// Those of `work`, or [`ShuttingDown`] when it was not begun any more.
pub async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, E>
where
    T: Send + 'static,
    E: From<ShuttingDown> + Send + 'static,
{
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err(ShuttingDown.into()))
}
