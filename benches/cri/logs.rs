//! How fast a container can log: 256 MiB in lines of 83 bytes.

use std::time::Instant;

use cricket_harness::cri::ContainerState;
use cricket_harness::memory;

use crate::table::Table;
use crate::target::Target;

/// Bytes that the container writes.
const BYTES: u64 = 256 << 20;

/// One container that writes and ends.
pub async fn measure(target: &Target, image: &str, table: &mut Table) {
    let (pod_config, mut config) = target.configs("log", image);
    let line = "x".repeat(82);
    // The writer is a dd of a file in memory: `yes` alone would be the bottleneck.
    let script = format!(
        "yes {line} | head -c 8388608 > /dev/shm/lines; until [ -e /dev/shm/go ]; do sleep 0.01; \
         done; for i in $(seq 32); do cat /dev/shm/lines; done"
    );
    config.command = vec!["sh".into(), "-c".into(), script];
    let pod = target.cri.run_pod(&pod_config).await.unwrap();
    let container = target.cri.create(&pod, &config, &pod_config).await.unwrap();
    target.cri.start(&container).await.unwrap();
    let helpers = target.helpers(std::slice::from_ref(&container));
    let used = || {
        helpers
            .iter()
            .filter_map(|pid| memory::cpu_seconds(*pid))
            .sum::<f64>()
    };
    let begin = used();
    let begun = Instant::now();
    target
        .cri
        .exec(&container, &["touch", "/dev/shm/go"], 10)
        .await
        .unwrap();
    let exited = i32::from(ContainerState::ContainerExited);
    let mut cpu = 0.0;
    // A monitor ends with its container: what it has used must be read while it is there.
    while target.cri.container(&container).await.unwrap().state != exited {
        cpu = f64::max(cpu, used() - begin);
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let rate = BYTES as f64 / 1e6 / seconds;
    let each = cpu / (BYTES as f64 / 1e9);
    table.add(
        "log, 256 MiB in 83-byte lines",
        format!("{rate:.0} MB/s, {each:.1} s/GB"),
    );
    target.end(&pod, &container).await;
}
