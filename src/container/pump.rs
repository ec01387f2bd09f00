//! Copying between a process's ends and a client's, each direction at its own pace.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::{Input, Output};

/// Bytes of one read of output.
const CHUNK_BYTES: usize = 256 << 10;
/// Bytes of one read of input.
const INPUT_BYTES: usize = 64 << 10;
/// Most bytes that are still read when the drain has ended: as much as the largest pipe or a
/// terminal's buffers hold, so that nothing is lost of what the process wrote before its end,
/// however slow the client, and something that writes for ever is not followed.
const LEFT_BYTES: usize = 1 << 20;

/// When the drain ends: told once the process has ended.
pub(super) type DrainEnd = watch::Receiver<Option<Instant>>;

/// Copies output to the client until its end, or until the drain's, and half-closes the client's
/// end. Without a client the output is read and dropped. A client that takes no more ends it too:
/// the process then writes to nobody.
pub(super) async fn output(
    mut from: impl AsyncRead + Unpin,
    mut to: Option<Output>,
    mut drain_end: DrainEnd,
) {
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut left = None;
    loop {
        let count = tokio::select! {
            // What is there comes before the end of the drain.
            biased;
            count = from.read(&mut buffer) => count,
            () = drained(&mut drain_end) => break,
        };
        let Ok(mut count @ 1..) = count else { break };
        if drain_end.borrow().is_some_and(|end| end <= Instant::now()) {
            let room = left.unwrap_or(LEFT_BYTES);
            count = count.min(room);
            left = Some(room - count);
        }
        if let Some(to) = &mut to
            && to.write_all(&buffer[..count]).await.is_err()
        {
            return;
        }
        if left == Some(0) {
            break;
        }
    }
    if let Some(mut to) = to {
        // A client that has gone needs no end.
        let _gone = to.shutdown().await;
    }
}

async fn drained(end: &mut DrainEnd) {
    // Whoever would tell has gone: then nobody waits for this either.
    let end = end.wait_for(Option::is_some).await.map(|end| *end);
    match end {
        Ok(Some(end)) => sleep_until(end).await,
        Ok(None) | Err(_) => std::future::pending().await,
    }
}

/// Copies the client's bytes to the process until either does not go on; the process's end is
/// then closed.
pub(super) async fn input(mut from: Input, mut to: impl AsyncWrite + Unpin) {
    let mut buffer = vec![0; INPUT_BYTES];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if to.write_all(&buffer[..count]).await.is_err() {
            break;
        }
    }
}

/// Does `extra` besides `main`, as long as that lasts.
pub(super) async fn besides<T>(
    main: impl Future<Output = T>,
    extra: impl Future<Output = ()>,
) -> T {
    tokio::pin!(main);
    tokio::select! {
        done = &mut main => return done,
        () = extra => {}
    }
    main.await
}
