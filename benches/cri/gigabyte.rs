//! A pull of at least 1 GB in 8 gzip layers from the registry on loopback, in turns with containerd's;
//! with it beside, the bounds that cricket has to keep are checked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cricket_harness::net::Net;
use cricket_harness::{Client, memory};

use crate::containerd::Containerd;
use crate::table::{Samples, Table};
use crate::target::Target;
use crate::tree::{self, Packed};

/// Files' bytes before compression, at least.
const BYTES: u64 = 1_000_000_000;
const LAYERS: usize = 8;
/// What is taken of containerd's wall and CPU time at most.
const MOST_WALL: f64 = 0.5;
const MOST_CPU: f64 = 0.7;
/// Most bytes that our daemon has resident.
const MOST_MEMORY: u64 = 60_000_000;

/// How long a daemon must have used no CPU to count as done with what a removal left to do.
const QUIET: Duration = Duration::from_millis(300);

/// Who is measured, and what came out.
struct Puller {
    cri: Client,
    pid: u32,
    wall: Samples,
    cpu: Samples,
    peak: u64,
}

impl Puller {
    fn new(cri: Client, pid: u32) -> Puller {
        Puller {
            cri,
            pid,
            wall: Samples::default(),
            cpu: Samples::default(),
            peak: 0,
        }
    }

    /// Pulls `name`, and removes it again untimed.
    async fn round(&mut self, name: &str) {
        // What the last round left dirty is not for this one to write
        nix::unistd::sync();
        memory::forget_peak(self.pid);
        let cpu = memory::cpu_seconds(self.pid).unwrap();
        let begun = Instant::now();
        let id = self.cri.pull(name).await.unwrap();
        self.wall.since(begun);
        self.settle().await;
        self.cpu
            .push((memory::cpu_seconds(self.pid).unwrap() - cpu) * 1e3);
        self.peak = self.peak.max(memory::peak(self.pid).unwrap());
        self.cri.remove_image(&id).await.unwrap();
        self.settle().await;
    }

    /// Waits until the daemon is idle: what a pull puts off (a sync) counts as its cost, and what a
    /// removal puts off must not fall into the next pull.
    async fn settle(&self) {
        let mut last = (memory::cpu_seconds(self.pid), Instant::now());
        while last.1.elapsed() < QUIET {
            tokio::time::sleep(QUIET / 10).await;
            let now = memory::cpu_seconds(self.pid);
            if now != last.0 {
                last = (now, Instant::now());
            }
        }
    }
}

/// `rounds` rounds of each, and then the image that shares all layers but one. Returns the bounds that
/// were missed.
pub async fn measure(target: &mut Target, rounds: usize, table: &mut Table) -> Vec<String> {
    let layers = tree::layers(BYTES / LAYERS as u64, LAYERS + 1);
    if let Some(reason) = too_little(&layers) {
        return vec![reason];
    }
    let (first, second) = push(target, &layers);
    describe(&layers[..layers.len() - 1], table);
    let peer = Containerd::start(&target.dir().join("containerd"), target.net()).await;
    let mut ours = Puller::new(target.cri.clone(), target.pid());
    let mut theirs = peer
        .as_ref()
        .map(|peer| Puller::new(peer.cri.clone(), peer.pid()));
    let mut missed = Vec::new();
    for _ in 0..rounds {
        ours.round(&first).await;
        if let Some(theirs) = &mut theirs {
            theirs.round(&first).await;
        }
    }
    report(&target.name().await, &ours, table);
    if let (Some(peer), Some(theirs)) = (&peer, &theirs) {
        report(&peer.name, theirs, table);
        let ratio = |of: fn(&Puller) -> f64| of(&ours) / of(theirs);
        let wall = ratio(|puller| puller.wall.percentile(50));
        let cpu = ratio(|puller| puller.cpu.percentile(50));
        table.add(
            "gigabyte: ratio of wall; of CPU",
            format!("{wall:.2}; {cpu:.2}"),
        );
        missed = beyond(wall, cpu, ours.peak);
    }
    moved(target, (&first, &second), table).await;
    missed
}

/// Why these are not what is to be measured, if they are not.
fn too_little(layers: &[Packed]) -> Option<String> {
    let bytes: u64 = layers.iter().take(LAYERS).map(|layer| layer.bytes).sum();
    (layers.len() <= LAYERS || bytes < BYTES).then(|| {
        format!(
            "gigabyte: every fifth file below /usr makes {} layers of {} MB; {} and at least {} MB \
             are needed",
            layers.len(),
            bytes / 1_000_000,
            LAYERS + 1,
            BYTES / 1_000_000
        )
    })
}

/// The bounds that these figures miss.
fn beyond(wall: f64, cpu: f64, peak: u64) -> Vec<String> {
    let table = [
        ("wall time to containerd's", wall, MOST_WALL),
        ("CPU time to containerd's", cpu, MOST_CPU),
        ("MB resident", peak as f64 / 1e6, MOST_MEMORY as f64 / 1e6),
    ];
    let missed = table.into_iter().filter(|(_, is, most)| is > most);
    missed
        .map(|(what, is, most)| format!("gigabyte: {what}: {is:.2}, at most {most}"))
        .collect()
}

/// The image of all layers but the last, and one with the last in the place of the one before it.
fn push(target: &mut Target, layers: &[Packed]) -> (String, String) {
    let last = layers.len() - 1;
    let first = tree::image(&layers[..last]);
    let mut other = layers[..last - 1].to_vec();
    other.push(layers[last].clone());
    let second = tree::image(&other);
    let registry = target.registry();
    (
        registry.push("gigabyte", "1", &first),
        registry.push("gigabyte", "2", &second),
    )
}

fn describe(layers: &[Packed], table: &mut Table) {
    let sum = |of: fn(&Packed) -> u64| layers.iter().map(of).sum::<u64>();
    let (files, bytes) = (sum(|layer| layer.files), sum(|layer| layer.bytes));
    let packed = sum(|layer| layer.gzip.len() as u64);
    table.add(
        &format!("gigabyte: {} gzip layers", layers.len()),
        format!(
            "{files} files, {} MB ({} MB packed)",
            bytes / 1_000_000,
            packed / 1_000_000
        ),
    );
}

fn report(name: &str, puller: &Puller, table: &mut Table) {
    let (wall, cpu) = (&puller.wall, &puller.cpu);
    table.add(
        &format!("gigabyte by {name}"),
        format!(
            "{:.2} s (CPU {:.2} s)",
            wall.percentile(50) / 1e3,
            cpu.percentile(50) / 1e3
        ),
    );
    table.add(
        &format!("gigabyte by {name}, best"),
        format!(
            "{:.2} s (CPU {:.2} s)",
            wall.percentile(0) / 1e3,
            cpu.percentile(0) / 1e3
        ),
    );
    table.add(
        &format!("gigabyte by {name}, peak RSS"),
        crate::target::mb(puller.peak),
    );
}

/// What comes over loopback for the second image when the first is there.
async fn moved(target: &Target, (first, second): (&str, &str), table: &mut Table) {
    let mut figures = Vec::new();
    for name in [first, second] {
        let before = received(target.net());
        target.cri.pull(name).await.unwrap();
        figures.push((received(target.net()) - before) / 1_000_000);
    }
    table.add(
        "gigabyte: bytes moved; for a second of 7 shared",
        format!("{} MB; {} MB", figures[0], figures[1]),
    );
    for name in [first, second] {
        target.cri.remove_image(name).await.unwrap();
    }
}

/// Bytes that the loopback device of `net` has carried.
fn received(net: &Arc<Net>) -> u64 {
    let text = net.enter(|| std::fs::read_to_string("/proc/thread-self/net/dev").unwrap());
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("lo:"))
        .unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
