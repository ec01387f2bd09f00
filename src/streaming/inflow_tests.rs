use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use super::*;

fn take(queue: &mut Queue, inflow: &Inflow, most: usize) -> Vec<u8> {
    let mut space = vec![0; most];
    let mut buffer = ReadBuf::new(&mut space);
    queue.take(inflow, &mut buffer);
    buffer.filled().to_vec()
}

proptest! {
    #[test]
    fn what_is_put_comes_out_in_order_and_its_room_comes_back(
        steps in prop::collection::vec((0_usize..40_000, 0_usize..40_000), 1..40),
    ) {
        let inflow = Inflow::new(4 * CHUNK);
        let mut queue = Queue::default();
        let (mut sent, mut received) = (Vec::new(), Vec::new());
        for (put, taken) in steps {
            let data: Vec<u8> = (0..put).map(|at| u8::try_from((sent.len() + at) % 251).unwrap()).collect();
            let accepted = queue.put(&inflow, &data);
            sent.extend_from_slice(&data[..accepted]);
            prop_assert!(sent.len() - received.len() <= 5 * CHUNK);
            received.extend(take(&mut queue, &inflow, taken));
            prop_assert_eq!(queue.taken(), received.len() as u64);
        }
        received.extend(take(&mut queue, &inflow, 5 * CHUNK));
        prop_assert!(queue.is_empty() && received == sent);
        prop_assert_eq!(inflow.free(), 4);
    }
}

#[test]
fn a_stream_has_a_chunk_of_its_own_when_another_has_taken_all_the_room() {
    let inflow = Inflow::new(4 * CHUNK);
    let [mut full, mut other] = [Queue::default(), Queue::default()];
    assert_eq!(full.put(&inflow, &vec![1; 9 * CHUNK]), 5 * CHUNK);
    assert_eq!(full.put(&inflow, b"more"), 0);
    assert_eq!(other.put(&inflow, &vec![2; 9 * CHUNK]), CHUNK);
    assert_eq!(take(&mut other, &inflow, 9 * CHUNK).len(), CHUNK);
    assert_eq!(other.put(&inflow, b"more"), 4);
    full.clear(&inflow);
    assert_eq!(inflow.free(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_stalled_when_nothing_of_it_is_taken_for_so_long() {
    let inflow = Arc::new(Inflow::new(0));
    let queue = Arc::new(Mutex::new(Queue::default()));
    let reading = tokio::spawn({
        let (inflow, queue) = (Arc::clone(&inflow), Arc::clone(&queue));
        async move {
            let put = || {
                let mut queue = queue.lock().unwrap();
                match queue.put(&inflow, &[0; CHUNK]) {
                    0 => Err(queue.taken()),
                    count => Ok(count),
                }
            };
            for _ in 0..2 {
                std::future::poll_fn(|context| inflow.poll_room(context, 7, put)).await;
            }
        }
    });
    let limit = Duration::from_secs(10);
    let started = Instant::now();
    let long = Duration::from_secs(8);
    for _ in 0..5 {
        assert!(
            tokio::time::timeout(long, inflow.stalled(limit))
                .await
                .is_err()
        );
        // A byte is little, but no standstill; and no room yet.
        take(&mut queue.lock().unwrap(), &inflow, 1);
        inflow.wake();
        tokio::task::yield_now().await;
    }
    assert_eq!(inflow.stalled(limit).await, 7);
    assert_eq!(started.elapsed(), 5 * long + limit);
    assert_eq!(inflow.stalled(limit).await, 7, "the time begins anew");
    assert_eq!(started.elapsed(), 5 * long + 2 * limit);
    take(&mut queue.lock().unwrap(), &inflow, CHUNK);
    inflow.wake();
    reading.await.unwrap();
    assert!(
        tokio::time::timeout(2 * limit, inflow.stalled(limit))
            .await
            .is_err()
    );
}
