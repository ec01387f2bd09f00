//! Pods one by one, and in a burst.

use std::time::Instant;

use cricket_harness::memory;

use crate::table::{Samples, Table};
use crate::target::Target;

/// Each call of a pod's start, and its end, one pod after the other.
pub async fn one_by_one(target: &Target, image: &str, rounds: usize, table: &mut Table) {
    let [mut whole, mut run, mut create, mut start, mut end]: [Samples; 5] = Default::default();
    let cpu = memory::machine_cpu_seconds();
    for round in 0..rounds {
        let (pod_config, config) = target.configs(&format!("serial{round}"), image);
        let begun = Instant::now();
        let pod = target.cri.run_pod(&pod_config).await.unwrap();
        run.since(begun);
        let middle = Instant::now();
        let container = target.cri.create(&pod, &config, &pod_config).await.unwrap();
        create.since(middle);
        let middle = Instant::now();
        target.cri.start(&container).await.unwrap();
        start.since(middle);
        whole.since(begun);
        let begun = Instant::now();
        target.end(&pod, &container).await;
        end.since(begun);
    }
    let cpu = (memory::machine_cpu_seconds() - cpu) * 1e3 / rounds as f64;
    table.add("pod start", whole.spread());
    if let Some(floor) = table.floor {
        table.add(
            "times the floor, p50",
            format!("{:.2}", whole.percentile(50) / floor),
        );
    }
    table.add("RunPodSandbox", run.spread());
    table.add("CreateContainer", create.spread());
    table.add("StartContainer", start.spread());
    table.add("pod end", end.spread());
    table.add("CPU of the machine a pod", format!("{cpu:.0} ms"));
}

/// `pods` pods, `at_once` at a time.
pub async fn burst(target: &Target, image: &str, pods: usize, at_once: usize, table: &mut Table) {
    let begun = Instant::now();
    let lanes = (0..at_once).map(|lane| async move {
        let mut started = Vec::new();
        for round in 0..pods / at_once {
            started.push(target.run(&format!("burst{lane}-{round}"), image).await);
        }
        started
    });
    let started = futures_util::future::join_all(lanes).await;
    let rate = pods as f64 / begun.elapsed().as_secs_f64();
    table.add(
        &format!("burst of {pods}, {at_once} at once"),
        format!("{rate:.1} pods/s"),
    );
    for (pod, container) in started.into_iter().flatten() {
        target.end(&pod, &container).await;
    }
}
