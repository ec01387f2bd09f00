//! `make soak`: pods, containers, commands, log rotations, pulls and removals, as many as go, while the
//! daemon and monitors are killed at random. At the end nothing may be left, a container that ran all
//! the time has lost no line of its log, and the daemon holds what it held before.
//!
//! ```text
//! soak [--minutes N] [--seed N] [PROGRAM]
//! ```
//!
//! The first half kills (`chaos`); in the second, `steady`, nothing is killed and no call may fail, and
//! the daemon's memory and descriptors are compared after a third of it and at its end. Nothing is
//! asserted of times: a slow machine only does less. The seed decides what is done, and not how the
//! threads of the machine meet; it is printed, and makes a failure likelier again.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a soak that fails says so and ends"
)]

mod figures;
mod life;
mod random;
mod witness;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use cricket_harness::faults::Row;
use cricket_harness::{Node, leaks, sweep};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::RwLock;

use figures::Figures;
use life::Lives;
use random::Random;
use witness::Witness;

/// How many pods live at a time.
const WORKERS: u64 = 4;
/// Longest time between two kills, in milliseconds.
const BETWEEN_KILLS: u64 = 4000;
/// How often the witness' log is rotated.
const ROTATION: Duration = Duration::from_secs(3);

/// Lines of the daemon's log that are shown with a failure.
const SHOWN: usize = 200;

/// The daemon's log, once there is one.
static LOG: OnceLock<PathBuf> = OnceLock::new();

/// What the command line says.
struct Asked {
    minutes: u64,
    seed: u64,
    program: PathBuf,
}

/// What the workers and the killer share.
pub(crate) struct Shared {
    /// Held by each life, taken whole to have none.
    living: RwLock<()>,
    /// Whether calls may fail, because something is killed meanwhile.
    chaos: AtomicBool,
    over: AtomicBool,
    lives: AtomicU64,
    failed: AtomicU64,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 4)]
async fn main() {
    show_log_on_panic();
    sweep::on_panic();
    let asked = asked();
    println!(
        "soak: {} minutes, seed {} (--seed {})",
        asked.minutes, asked.seed, asked.seed
    );
    let mut row =
        Row::new("kill -9 of the daemon and of monitors in a churn of pods (`make soak`)");
    let mut node = Node::start(&asked.program).await;
    LOG.get_or_init(|| node.dir().join("daemon.log"));
    let lives = Lives::prepare(&mut node, WORKERS).await;
    let mut random = Random::new(asked.seed);
    let mut witness = Witness::start(&node, lives.image(0)).await;
    let shared = Arc::new(Shared {
        living: RwLock::new(()),
        chaos: AtomicBool::new(true),
        over: AtomicBool::new(false),
        lives: AtomicU64::new(0),
        failed: AtomicU64::new(0),
    });
    let workers: Vec<_> = (0..WORKERS)
        .map(|number| {
            let worker = lives.worker(number, random.fork(), &node, Arc::clone(&shared));
            tokio::spawn(worker.run())
        })
        .collect();
    let half = Duration::from_secs(asked.minutes * 30);
    let (daemons, monitors) = chaos(&mut node, &mut witness, &mut random, half).await;
    rest(&shared).await;
    shared.chaos.store(false, Ordering::SeqCst);
    for _ in 0..daemons + monitors {
        row.tried();
    }
    println!("chaos is over: the daemon was killed {daemons} times, monitors {monitors} times");
    steady(&mut witness, half / 3).await;
    let warm = at_rest(&node, &shared).await;
    println!("warm:   {warm}");
    steady(&mut witness, half * 2 / 3).await;
    shared.over.store(true, Ordering::SeqCst);
    for worker in workers {
        worker.await.unwrap();
    }
    let end = at_rest(&node, &shared).await;
    println!("at end: {end}");
    end.must_be_flat_since(&warm);
    let lines = witness.finish().await;
    println!("the witness wrote {lines} lines, none is lost");
    must_be_in_order(&node);
    let lived = shared.lives.load(Ordering::SeqCst);
    let failed = shared.failed.load(Ordering::SeqCst);
    node.finish().await;
    row.end();
    println!("soak: {lived} pods lived, {failed} of them into a kill; nothing is left");
}

/// Kills the daemon and monitors for so long. Returns how many of each.
async fn chaos(
    node: &mut Node,
    witness: &mut Witness,
    random: &mut Random,
    how_long: Duration,
) -> (u64, u64) {
    let (mut daemons, mut monitors) = (0, 0);
    let end = Instant::now() + how_long;
    while Instant::now() < end {
        let pause = Duration::from_millis(random.below(BETWEEN_KILLS));
        tokio::time::sleep(pause).await;
        witness.look().await;
        if random.below(2) == 0 {
            monitors += u64::from(kill_a_monitor(node, witness, random));
        } else {
            tokio::task::block_in_place(|| {
                node.daemon.kill();
                node.daemon.launch();
            });
            daemons += 1;
        }
    }
    (daemons, monitors)
}

/// Lets the workers work for so long.
async fn steady(witness: &mut Witness, how_long: Duration) {
    let end = Instant::now() + how_long;
    while Instant::now() < end {
        tokio::time::sleep(ROTATION.min(end - Instant::now())).await;
        witness.look().await;
    }
}

/// Kills the monitor of any container but the witness; `false`: there is none now.
fn kill_a_monitor(node: &Node, witness: &Witness, random: &mut Random) -> bool {
    let bundles = node
        .daemon
        .runroot()
        .join("containers")
        .display()
        .to_string();
    let all = leaks::processes_with(&[format!("cwd={bundles}/")]);
    let others: Vec<u32> = all
        .into_iter()
        .filter(|(_, facts)| facts.contains("conmon") && !facts.contains(witness.id()))
        .map(|(pid, _)| pid)
        .collect();
    if others.is_empty() {
        return false;
    }
    let at = random.below(others.len() as u64);
    let pid = others[usize::try_from(at).unwrap()];
    // It may have ended since it was listed.
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGKILL).is_ok()
}

/// Waits until no pod but the witness' lives, and lets them go on.
async fn rest(shared: &Shared) {
    drop(shared.living.write().await);
}

/// The daemon's figures while no pod but the witness' lives.
async fn at_rest(node: &Node, shared: &Shared) -> Figures {
    let _none = shared.living.write().await;
    assert_eq!(
        node.cri.pods().await.unwrap().len(),
        1,
        "only the witness' pod is left"
    );
    Figures::least(node.daemon.pid()).await
}

/// The daemon finds no leak, and nothing in its store is broken.
fn must_be_in_order(node: &Node) {
    for arguments in [["doctor", "leaks"].as_slice(), &["check"]] {
        let output = node.daemon.command().args(arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let name = arguments.join(" ");
        assert!(
            output.status.success(),
            "cricket {name}: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        println!("cricket {name}: {}", text.trim_end());
    }
}

/// A failure is of no use without what the daemon has to say.
fn show_log_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        let log = LOG
            .get()
            .and_then(|path| std::fs::read_to_string(path).ok())
            .unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let from = lines.len().saturating_sub(SHOWN);
        eprintln!(
            "--- end of the daemon's log ---\n{}\n---",
            lines[from..].join("\n")
        );
    }));
}

fn asked() -> Asked {
    let mut asked = Asked {
        minutes: 5,
        seed: u64::from(std::process::id()),
        program: beside(),
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || {
            let text = arguments.next().unwrap_or_default();
            text.parse()
                .unwrap_or_else(|_| panic!("{argument} {text:?}: not a number"))
        };
        match argument.as_str() {
            "--minutes" => asked.minutes = number(),
            "--seed" => asked.seed = number(),
            program => asked.program = program.into(),
        }
    }
    asked
}

fn beside() -> PathBuf {
    std::env::current_exe().unwrap().with_file_name("cricket")
}
