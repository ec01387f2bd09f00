//! ExecSync of `true`: one by one, and eight at once.

use std::time::Instant;

use crate::table::{Samples, Table};
use crate::target::Target;

/// Rounds one by one, and of each of eight lanes.
const ROUNDS: usize = 50;

/// Both, in one container.
pub async fn measure(target: &Target, image: &str, table: &mut Table) {
    let (pod, container) = target.run("exec", image).await;
    let mut times = Samples::default();
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        target.cri.exec(&container, &["true"], 10).await.unwrap();
        times.since(begun);
    }
    table.add("ExecSync", times.spread());
    let begun = Instant::now();
    let container_id = &container;
    let lanes = (0..8).map(|_| async move {
        for _ in 0..ROUNDS {
            target.cri.exec(container_id, &["true"], 10).await.unwrap();
        }
    });
    futures_util::future::join_all(lanes).await;
    let rate = (8 * ROUNDS) as f64 / begun.elapsed().as_secs_f64();
    table.add("ExecSync, 8 at once", format!("{rate:.0}/s"));
    target.end(&pod, &container).await;
}
