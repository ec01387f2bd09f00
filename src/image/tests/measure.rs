//! What a pull costs. Printed, not asserted: run with `--release -- --ignored --nocapture measure`.

use super::content::{Pack, image};
use super::real::Registry;
use super::*;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement, not a test"]
async fn measure_a_pull_of_97_mb_in_7_layers() {
    let registry = Registry::start();
    let content = image(&bulk_layers());
    println!("compressed: {:.1} MB", content.size() as f64 / 1e6);
    registry.push("bulk", &["1"], &content).await;
    // in turns, so that what else the machine does hits all alike
    let mut results = [1, 2, 3, 6].map(|parallel| (parallel, Vec::new(), Vec::new()));
    for _ in 0..9 {
        for (parallel, walls, cpus) in &mut results {
            let node = Node::with(&insecure(&registry.address), |settings| {
                settings.parallel_layers = *parallel;
            });
            let (cpu, wall) = (cpu_seconds(), std::time::Instant::now());
            node.pull(&format!("{}/bulk:1", registry.address))
                .await
                .unwrap();
            walls.push(wall.elapsed().as_secs_f64() * 1e3);
            cpus.push((cpu_seconds() - cpu) * 1e3);
            node.on_disk().await;
        }
    }
    for (parallel, mut walls, mut cpus) in results {
        walls.sort_by(f64::total_cmp);
        cpus.sort_by(f64::total_cmp);
        println!(
            "{parallel} at once: wall best {:.0} ms, p50 {:.0} ms; cpu best {:.0} ms, p50 {:.0} ms",
            walls[0], walls[4], cpus[0], cpus[4]
        );
    }
}

fn cpu_seconds() -> f64 {
    use nix::sys::resource::{UsageWho, getrusage};
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    let seconds =
        |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    seconds(usage.user_time()) + seconds(usage.system_time())
}

/// Seven gzip layers of about 97 MB in all, of files that every machine with a compiler has.
fn bulk_layers() -> Vec<(Vec<u8>, Pack)> {
    const LAYERS: usize = 7;
    const LAYER_BYTES: usize = 97_000_000 / LAYERS;
    let mut files = Vec::new();
    collect(Path::new("/usr/lib"), &mut files);
    files.sort();
    let mut layers = Vec::new();
    let mut next = files.into_iter();
    for _ in 0..LAYERS {
        let mut builder = tar::Builder::new(Vec::new());
        while builder.get_ref().len() < LAYER_BYTES {
            let Some(path) = next.next() else { break };
            let Ok(content) = std::fs::read(&path) else {
                continue;
            };
            if content.len() < 4 << 20 {
                let mut header = tar::Header::new_gnu();
                header.set_size(content.len() as u64);
                header.set_mode(0o644);
                let name = path.strip_prefix("/").unwrap();
                builder
                    .append_data(&mut header, name, content.as_slice())
                    .unwrap();
            }
        }
        layers.push((builder.into_inner().unwrap(), Pack::Gzip));
    }
    layers
}

fn collect(dir: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => collect(&entry.path(), files),
            Ok(kind) if kind.is_file() => files.push(entry.path()),
            _ => {}
        }
    }
}
