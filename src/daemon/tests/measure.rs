//! How fast a command's output comes, without a protocol around it.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::io::AsyncWrite;

use super::{Node, words};
use crate::container::Streams;

/// Takes everything and counts it.
struct Sink(std::sync::Arc<std::sync::atomic::AtomicU64>);

impl AsyncWrite for Sink {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let count = data.len() as u64;
        self.0
            .fetch_add(count, std::sync::atomic::Ordering::Relaxed);
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// `cargo test --release --bin cricket measure::output -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn output() {
    let node = Node::start().await;
    let id = node.run("exec sleep 1000", |_| ()).await;
    for _ in 0..5 {
        let seen = std::sync::Arc::default();
        let streams = Streams {
            stdout: Some(Box::new(Sink(std::sync::Arc::clone(&seen)))),
            ..Streams::default()
        };
        let command = words(&["dd", "if=/dev/zero", "bs=1M", "count=2000"]);
        let begun = Instant::now();
        let exec = node.containers().exec_stream(&id, &command, false, streams);
        assert_eq!(exec.await.unwrap(), 0);
        let bytes = seen.load(std::sync::atomic::Ordering::Relaxed);
        let rate = bytes as f64 / 1e6 / begun.elapsed().as_secs_f64();
        println!("{bytes} bytes, {rate:.0} MB/s");
    }
    node.finish().await;
}
